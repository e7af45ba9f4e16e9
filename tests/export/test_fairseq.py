"""A RoBERTa as fairseq saves it, by either of the names it has used, gives what the same weights give elsewhere."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import oracle
import pytest
import torch
from oracle import FLOAT32, Shape, token_logits

from genus.errors import GenusError
from genus.export import fairseq

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = Shape("roberta", 2, 24, 3, 40, 30, 20, "gelu", 1, 1e-5)

LAYER = {
    "attention.self.query": "self_attn.q_proj",
    "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj",
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "self_attn_layer_norm",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
    "output.LayerNorm": "final_layer_norm",
}
"""fairseq's TransformerSentenceEncoderLayer, as its code names it."""


def write(folder: Path, model: Any, *, old: bool) -> Path:
    """Write a Hugging Face model as a fairseq checkpoint, by the names of 2019 or of 2020."""
    top = "decoder." if old else "encoder."
    encoder, state = f"{top}sentence_encoder.", {}
    embeddings = {"word_embeddings": "embed_tokens", "position_embeddings": "embed_positions"}
    embeddings["LayerNorm"] = "emb_layer_norm" if old else "layernorm_embedding"
    for name, tensor in model.state_dict().items():
        module, leaf = name.rsplit(".", 1)
        match module.split("."):
            case ["roberta", "embeddings", which] if which in embeddings:
                state[f"{encoder}{embeddings[which]}.{leaf}"] = tensor
            case ["roberta", "encoder", "layer", number, *rest]:
                state[f"{encoder}layers.{number}.{LAYER['.'.join(rest)]}.{leaf}"] = tensor
            case ["lm_head", "decoder"] if leaf == "weight":
                state[f"{top}lm_head.weight"] = tensor
            case ["lm_head"] | ["lm_head", "dense" | "layer_norm"]:
                state[f"{top}{name}"] = tensor
    if old:
        for number in range(SHAPE.layers):
            for leaf in ("weight", "bias"):
                parts = [state.pop(f"{encoder}layers.{number}.self_attn.{x}_proj.{leaf}") for x in "qkv"]
                state[f"{encoder}layers.{number}.self_attn.in_proj_{leaf}"] = torch.cat(parts)
    args = argparse.Namespace(
        encoder_layers=SHAPE.layers,
        encoder_embed_dim=SHAPE.hidden,
        encoder_ffn_embed_dim=SHAPE.inner,
        encoder_attention_heads=SHAPE.heads,
        activation_fn="gelu",
        dropout=0.1,
        attention_dropout=0.1,
    )
    torch.save({"args": args, "model": state}, folder / "model.pt")
    (folder / "dict.txt").write_text("".join(f"w{number} 1\n" for number in range(SHAPE.vocab - 5)))
    return folder / "model.pt"


@pytest.fixture
def model() -> Any:
    model = oracle.build(SHAPE, "RobertaForMaskedLM")
    torch.nn.init.zeros_(model.roberta.embeddings.token_type_embeddings.weight)  # fairseq has none
    return model


@pytest.mark.parametrize("old", [True, False])
def test_the_same_logits(tmp_path: Path, model: Any, old: bool) -> None:
    found = fairseq.load(write(tmp_path, model, old=old))
    with torch.no_grad():
        expected = oracle.live(model(**oracle.padded(SHAPE)).logits)
        learner = found.learner.eval()
        logits = token_logits(learner, learner.network(oracle.packed(SHAPE))["tokens"])
    assert oracle.relative(logits, expected) <= FLOAT32
    assert found.tokenizer.encode(["w0 w3 nothing <mask>"]) == [[4, 7, 3, SHAPE.vocab - 1]]


def test_wrong_files_are_one_line(tmp_path: Path, model: Any) -> None:
    path = write(tmp_path, model, old=False)
    dictionary = (tmp_path / "dict.txt").read_text()
    (tmp_path / "dict.txt").unlink()
    with pytest.raises(GenusError, match=r"dict\.txt: there is no fairseq dictionary"):
        fairseq.load(path)
    (tmp_path / "dict.txt").write_text(dictionary + "more 1\n")
    with pytest.raises(GenusError, match="the tokenizer has 31 pieces, the model 30"):
        fairseq.load(path)
    with pytest.raises(GenusError, match=r"other\.pt: there is no such file"):
        fairseq.load(tmp_path / "other.pt")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(GenusError, match=r"model\.pt: is damaged"):
        fairseq.load(path)
    torch.save({"args": argparse.Namespace(), "model": {}}, path)
    with pytest.raises(GenusError, match=r"model\.pt: is no RoBERTa of fairseq's"):
        fairseq.load(path)
