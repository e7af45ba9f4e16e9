"""RoBERTa checkpoints of fairseq: one `.pt` file with arguments and weights, and the dictionary beside it."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any

import torch

from genus.errors import GenusError
from genus.export.folder import LoadedModel, assemble
from genus.tokens import SpecialTokens
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from genus.part import Json

NAMES = (
    (r"^(de|en)coder\.sentence_encoder\.", "roberta."),
    (r"^(de|en)coder\.lm_head\.weight$", "lm_head.decoder.weight"),
    (r"^(de|en)coder\.lm_head\.", "lm_head."),
    (r"\.embed_tokens\.", ".embeddings.word_embeddings."),
    (r"\.embed_positions\.", ".embeddings.position_embeddings."),
    (r"\.(emb_layer_norm|layernorm_embedding)\.", ".embeddings.LayerNorm."),
    (r"\.layers\.", ".encoder.layer."),
    (r"\.self_attn\.([qkv])_proj\.", r".attention.self.\1."),
    (r"\.self_attn\.out_proj\.", ".attention.output.dense."),
    (r"\.self_attn_layer_norm\.", ".attention.output.LayerNorm."),
    (r"\.fc1\.", ".intermediate.dense."),
    (r"\.fc2\.", ".output.dense."),
    (r"(?<!embeddings)\.final_layer_norm\.", ".output.LayerNorm."),
    (r"\.self\.q\.", ".self.query."),
    (r"\.self\.k\.", ".self.key."),
    (r"\.self\.v\.", ".self.value."),
)
"""Regular expressions from fairseq's parameter names to Hugging Face's, applied in order."""

SPECIALS = SpecialTokens(
    pad="<pad>", unk="<unk>", bos="<s>", eos="</s>", cls="<s>", sep="</s>", mask="<mask>",
    single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
)  # fmt: skip
"""Special tokens of fairseq's Dictionary: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, the file's lines, `<mask>` last."""


def load(path: Path, dictionary: Path | None = None) -> LoadedModel:
    """Load a RoBERTa checkpoint of fairseq.

    The tokenizer expects text whose symbols are separated by spaces, as fairseq's dictionary does.

    Args:
        path: the `.pt` file.
        dictionary: `dict.txt`, by default the one beside the checkpoint.

    Raises:
        GenusError: a file is missing or damaged, or the checkpoint is not of a RoBERTa.
    """
    tokenizer = read_dictionary(dictionary or path.parent / "dict.txt")
    args, tensors = _read(path)
    weights = {name: tensor for old, given in tensors.items() for name, tensor in _renamed(old, given).items()}
    table = weights.get("roberta.embeddings.position_embeddings.weight")
    if table is None:
        raise GenusError(f"{path}: is no RoBERTa of fairseq's, the only model of fairseq's that can be read")
    weights["roberta.embeddings.token_type_embeddings.weight"] = torch.zeros(1, table.shape[1])  # fairseq has none
    try:
        return assemble(_config(args, len(table)), weights, tokenizer)
    except GenusError as error:
        raise GenusError(f"{path}: {error}") from None


def read_dictionary(path: Path) -> Tokenizer:
    """Return the tokenizer of a fairseq dictionary.

    Raises:
        GenusError: the file is missing.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        raise GenusError(f"{path}: there is no fairseq dictionary") from None
    symbols = ["<s>", "<pad>", "</s>", "<unk>", *(line.rsplit(" ", 1)[0] for line in lines), "<mask>"]
    part = WordPiece(vocab_size=len(symbols), lowercase=False, split_cjk=False, special_tokens=SPECIALS)
    return Tokenizer.of(part, part.of_vocabulary({symbol: number for number, symbol in enumerate(symbols)}))


def _read(path: Path) -> tuple[argparse.Namespace, dict[str, Tensor]]:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # the type of `args`; unpickling it runs no code
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
        return loaded["args"], loaded["model"]
    except FileNotFoundError:
        raise GenusError(f"{path}: there is no such file") from None
    except Exception:  # torch.load raises errors of many types, with messages of many lines
        raise GenusError(f"{path}: is damaged, or no fairseq checkpoint of tensors and settings alone") from None


def _renamed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Return a tensor under its Hugging Face name, or three: the first releases stacked queries, keys and values."""
    if ".in_proj_" in name:
        parts = zip("qkv", tensor.chunk(3), strict=True)
        names = {re.sub(r"in_proj_(weight|bias)$", rf"{letter}_proj.\1", name): part for letter, part in parts}
        return {new: part for old, split in names.items() for new, part in _renamed(old, split).items()}
    for pattern, replacement in NAMES:
        name = re.sub(pattern, replacement, name)
    return {name: tensor}


def _config(args: argparse.Namespace, positions: int) -> Json:
    """Return the Hugging Face configuration that corresponds to a checkpoint's arguments."""
    return {
        "model_type": "roberta",
        "num_hidden_layers": args.encoder_layers,
        "hidden_size": args.encoder_embed_dim,
        "intermediate_size": args.encoder_ffn_embed_dim,
        "num_attention_heads": args.encoder_attention_heads,
        "hidden_act": args.activation_fn,
        "hidden_dropout_prob": args.dropout,
        "attention_probs_dropout_prob": args.attention_dropout,
        "max_position_embeddings": positions,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,  # PyTorch's default, which fairseq uses
    }
