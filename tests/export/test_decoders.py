"""Hugging Face's random decoders, read and written back: states, logits, loss, gradients; and ours, read by theirs."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
import torch
from oracle import FLOAT32, FLOAT64, Shape, reading, transformers

from genus import catalog
from genus.batch import Targets
from genus.errors import GenusError
from genus.export.folder import load, save
from genus.export.layouts import layout_for
from genus.export.native import is_native
from genus.export.verify import verify
from small import documents, shrunk

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Learner

OPENAI = {"layers": "n_layer", "hidden": "n_embd", "heads": "n_head", "positions": "n_positions"}
THEIRS: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "gpt2": (
        "GPT2",
        "GPT2Model",
        "GPT2LMHeadModel",
        {**OPENAI, "inner": "n_inner", "activation": "activation_function"},
    ),
    "openai-gpt": ("OpenAIGPT", "OpenAIGPTModel", "OpenAIGPTLMHeadModel", {**OPENAI, "activation": "afn"}),
    "gptj": (
        "GPTJ",
        "GPTJModel",
        "GPTJForCausalLM",
        {**OPENAI, "inner": "n_inner", "activation": "activation_function"},
    ),
    "ctrl": ("CTRL", "CTRLModel", "CTRLLMHeadModel", {**OPENAI, "inner": "dff"}),
    "llama": (
        "Llama",
        "LlamaModel",
        "LlamaForCausalLM",
        {
            "layers": "num_hidden_layers",
            "hidden": "hidden_size",
            "heads": "num_attention_heads",
            "inner": "intermediate_size",
            "positions": "max_position_embeddings",
            "activation": "hidden_act",
        },
    ),
}
"""By model type: stem of the classes, the bare class, that with a head, and the keys of sizes."""


@dataclass(frozen=True)
class Decoder(Shape):
    """A decoder with BERT's tokenizer."""

    theirs: str = "gpt2"
    more: tuple[tuple[str, Any], ...] = ()

    def config(self, **more: Any) -> Any:
        stem, _, _, keys = THEIRS[self.theirs]
        given: dict[str, Any] = {key: getattr(self, ours) for ours, key in keys.items()}
        norm = "rms_norm_eps" if self.theirs == "llama" else "layer_norm_epsilon"
        eps = 1e-6 if self.theirs == "ctrl" else self.eps
        given |= {"vocab_size": self.vocab, norm: eps, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 3}
        return getattr(transformers, f"{stem}Config")(**(given | dict(self.more) | more))

    def __str__(self) -> str:
        return f"{self.theirs}-{self.layers}"


def shapes(theirs: str, *activations: str, more: tuple[tuple[str, Any], ...] = ()) -> list[Decoder]:
    """Return three shapes; the second one has further settings."""
    inner = (32, 96, 128) if theirs == "openai-gpt" else (16, 40, 96)
    return [
        Decoder("bert", 1, 8, 2, inner[0], 30, 12, activations[0], 0, 1e-5, theirs),
        Decoder("bert", 2, 24, 3, inner[1], 101, 40, activations[1], 0, 1e-6, theirs, more),
        Decoder("bert", 3, 32, 4, inner[2], 64, 16, activations[0], 0, 1e-5, theirs),
    ]


GROUPED = (("num_key_value_heads", 1), ("attention_bias", True), ("mlp_bias", True), ("head_dim", 6))
GROUPED += (("rope_parameters", {"rope_type": "default", "rope_theta": 500.0}),)
RESCALED = {"rope_type": "llama3", "rope_theta": 100.0, "factor": 4.0, "low_freq_factor": 0.5, "high_freq_factor": 3.0}
RESCALED |= {"original_max_position_embeddings": 16}
MODERN = (("tie_word_embeddings", True), ("rope_parameters", RESCALED), ("num_key_value_heads", 1))
SHAPES = [
    *shapes("gpt2", "gelu_new", "relu"),
    *shapes("openai-gpt", "gelu", "silu"),
    *(replace(one, more=(("rotary_dim", 2 * one.layers),)) for one in shapes("gptj", "gelu_new", "relu")),
    *shapes("ctrl", "relu", "relu"),
    *shapes("llama", "silu", "gelu", more=GROUPED),
    Decoder("bert", 4, 24, 3, 40, 101, 40, "silu", 0, 1e-6, "llama", MODERN),
]
each = pytest.mark.parametrize("shape", SHAPES, ids=str)
EXACT = ["gpt2", "openai-gpt"]
"""Classes that compute all of it in the precision asked for; the others take angles or norms in float32."""


def plain(shape: Shape) -> dict[str, torch.Tensor]:
    """Return the padded sequences without segments, which have embeddings of their own in these classes."""
    return {name: value for name, value in oracle.padded(shape).items() if name != "token_type_ids"}


def build(shape: Decoder, number: int, **more: Any) -> Any:
    return oracle.build(shape, THEIRS[shape.theirs][number], **more)


def logits(learner: Learner, hidden: torch.Tensor) -> torch.Tensor:
    return learner.heads["causal_lm"].lm_head(oracle.in_order(hidden))


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_states(tmp_path: Path, shape: Decoder, dtype: torch.dtype) -> None:
    if dtype == torch.float64 and shape.theirs not in EXACT:
        pytest.skip("takes angles or norms in float32")
    model = build(shape, 1)
    learner = reading(tmp_path, model, shape).learner.to(dtype).eval()
    with torch.no_grad():
        expected = oracle.live(model.to(dtype)(**plain(shape)).last_hidden_state)
        found = oracle.in_order(learner.network(oracle.packed(shape))["tokens"])
    assert oracle.relative(found, expected) <= (FLOAT32 if dtype == torch.float32 else FLOAT64)


@each
def test_logits_loss_and_gradients(tmp_path: Path, shape: Decoder) -> None:
    model = build(shape, 2)
    found = reading(tmp_path, model, shape)
    learner, inputs = found.learner.eval(), plain(shape)
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    expected = model(**inputs, labels=labels)
    expected.loss.backward()
    following = [{"causal_lm": (np.arange(len(ids) - 1), ids[1:])} for ids in oracle.sequences(shape)]
    batch = oracle.packed(shape, following)
    with torch.no_grad():
        given = logits(learner, learner.network(batch)["tokens"])
        assert oracle.relative(given, oracle.live(expected.logits)) <= FLOAT32
    loss = learner.objective(learner(batch).sums, learner.counts(batch))
    loss.backward()
    assert oracle.relative(loss.detach(), expected.loss.detach()) <= FLOAT32
    oracle.same_gradients(found, model, still=("Wk.bias", "k_proj.bias"))


@each
@pytest.mark.parametrize("number", [1, 2], ids=["bare", "with a head"])
def test_there_and_back_is_the_identity(tmp_path: Path, shape: Decoder, number: int) -> None:
    model = build(shape, number)
    found = reading(tmp_path / "theirs", model, shape)
    assert list(found.learner.heads) == (["causal_lm"] if number == 2 else [])
    free = {"tie_word_embeddings"} if number == 1 else set()  # without a head, it is of nothing
    oracle.there_and_back(tmp_path / "ours", found, model, free=free)


@pytest.mark.parametrize(
    ("theirs", "architecture"), [("gpt2", "GPT2ForTokenClassification"), ("llama", "LlamaForTokenClassification")]
)
def test_tags_of_words(tmp_path: Path, theirs: str, architecture: str) -> None:
    shape = next(one for one in SHAPES if one.theirs == theirs and one.layers == 2)
    model = oracle.build(shape, architecture, num_labels=3)
    found = reading(tmp_path / "theirs", model, shape)
    with torch.no_grad():
        hidden = found.learner.eval().network(oracle.packed(shape))["tokens"]
        given = found.learner.heads["token_classification"].classes(oracle.in_order(hidden))
        assert oracle.relative(given, oracle.live(model(**plain(shape)).logits)) <= FLOAT32
    oracle.there_and_back(tmp_path / "ours", found, model, free={"classifier_dropout"})


@pytest.mark.parametrize("labels", [3, 1], ids=["classes", "numbers"])
@pytest.mark.parametrize(
    ("theirs", "architecture"), [("gpt2", "GPT2ForSequenceClassification"), ("llama", "LlamaForSequenceClassification")]
)
@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
def test_classes_of_sequences(tmp_path: Path, theirs: str, architecture: str, labels: int, named: bool) -> None:
    shape = [one for one in SHAPES if one.theirs == theirs][-1]
    model = oracle.build(shape, architecture, num_labels=labels)
    found = reading(tmp_path / "theirs", model, shape)
    if not named:
        config = json.loads((tmp_path / "theirs" / "config.json").read_text())
        config |= {"architectures": ["OurModel"], "problem_type": None if labels > 1 else "regression"}
        (tmp_path / "theirs" / "config.json").write_text(json.dumps(config))
        found = load(tmp_path / "theirs")
    (name,) = found.learner.heads
    assert name == ("sequence_classification" if labels > 1 else "sequence_regression")
    batch = oracle.packed(shape)
    last = torch.tensor([end - 1 for _, end in batch.tokens.spans()])
    head = found.learner.heads[name]
    batch = replace(batch, targets={head.target: Targets(last, torch.zeros_like(last))})
    with torch.no_grad():
        learner = found.learner.eval()
        (given,) = head.outputs(learner.network, learner.network(batch), batch).values()
        expected = model(**plain(shape)).logits
    assert oracle.relative(given, expected[[0, 1, 4, 2, 3]]) <= FLOAT32  # the order in the rows of `packed`
    save(tmp_path / "ours", found.recipe, found.learner, found.tokenizer)
    assert verify(tmp_path / "ours", found.learner)[f"transformers/{name}"] <= FLOAT32
    free = {"problem_type", "tie_word_embeddings"}  # theirs finds out in training
    oracle.there_and_back(tmp_path / "again", found, model, free=free)


def changed(folder: Path, theirs: str, changes: dict[str, Any], tensors: str = "") -> None:
    """Write a folder of theirs, with other settings."""
    shape = next(one for one in SHAPES if one.theirs == theirs)
    reading(folder, build(shape, 2), shape)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


@pytest.mark.parametrize(
    ("theirs", "changes", "key"),
    [
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("gpt2", {"tie_word_embeddings": False}, "tie_word_embeddings"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
        ("openai-gpt", {"afn": "gelu_new"}, "afn"),
        ("ctrl", {"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon"),
        ("llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "rope_parameters"),
        ("llama", {"rope_parameters": None, "rope_theta": 1e4, "rope_scaling": {"type": "linear"}}, "rope_parameters"),
    ],
)
def test_others_are_refused_by_the_key(tmp_path: Path, theirs: str, changes: dict[str, Any], key: str) -> None:
    changed(tmp_path, theirs, changes)
    with pytest.raises(GenusError, match=key):
        load(tmp_path)


def test_an_older_llama_names_its_base_apart(tmp_path: Path) -> None:
    changed(tmp_path, "llama", {"rope_parameters": ..., "rope_theta": 700.0, "rope_scaling": None})
    assert load(tmp_path).recipe.to_json()["model"]["embedding"]["position"]["base"] == 700.0


def test_an_inner_size_that_is_null_is_four_times_the_hidden_size(tmp_path: Path) -> None:
    shape = replace(SHAPES[1], inner=96)
    found = reading(tmp_path, build(shape, 2, n_inner=None), shape)
    assert found.recipe.to_json()["model"]["feedforward"]["size"] == 96


def test_old_files_of_gpt2_hold_masks_and_no_prefix(tmp_path: Path) -> None:
    shape = SHAPES[1]
    model = build(shape, 2)
    reading(tmp_path, model, shape)
    tensors = {name.removeprefix("transformer."): x.contiguous() for name, x in model.state_dict().items()}
    tensors |= {f"h.{n}.attn.bias": torch.ones(1, 1, 40, 40) for n in range(2)}
    tensors |= {f"h.{n}.attn.masked_bias": torch.tensor(-1e4) for n in range(2)}
    (tmp_path / "model.safetensors").unlink()
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    found = load(tmp_path).learner
    assert list(found.heads) == ["causal_lm"]
    assert torch.equal(found.network.token_embedding.weight, model.transformer.wte.weight)


HELD = [
    "gpt/tiny",
    "gpt2/tiny",
    "gpt-j/tiny",
    "ctrl/tiny",
    "llama/tiny",
    "llama/2-70b",
    "gpt3/mini-dense",
    "turing-nlg/tiny",
]


@pytest.mark.parametrize("name", [*HELD, "gpt3/tiny", "codex/tiny", "chinchilla/tiny"])
def test_our_rows_are_read_by_transformers_where_a_class_holds_them(tmp_path: Path, name: str) -> None:
    recipe = shrunk(catalog.load(name)).overlay({"model": {"feedforward": {"size": 128}}})
    assert recipe.to_json()["model"]["hidden"] == 32
    tokenizer = recipe.tokens.train(documents())
    recipe = replace(recipe, tokens=tokenizer.tokens)
    torch.manual_seed(0)
    learner = recipe.learner()
    save(tmp_path / "model", recipe, learner, tokenizer)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert is_native(config) == (name not in HELD)
    assert ("transformers/causal_lm" in verify(tmp_path / "model", learner)) == (name in HELD)
    assert load(tmp_path / "model").recipe == recipe


def test_alternating_layers_fit_no_class() -> None:
    recipe = catalog.load("gpt3/175b")
    assert layout_for(recipe, ["causal_lm"]) is None
    dense = recipe.override("model.attention", recipe.to_json()["model"]["attention"]["attentions"][0])
    fitting = layout_for(dense, ["causal_lm"])
    assert fitting is not None
    assert fitting[0].model_type == "gpt2"


@pytest.mark.parametrize("inner", [12, 256, 500, 513])
def test_an_inner_size_that_the_first_gpt_has_not_fits_no_class(inner: int) -> None:
    """One key is hidden size and inner size, though another hidden size could have no such heads."""
    recipe = catalog.load("gpt/tiny").overlay({"model": {"feedforward": {"size": inner}}})
    assert layout_for(recipe, ["causal_lm"]) is None
