"""Transformer-XL against what Hugging Face's class gave when there was one (`tests/golden/transformer_xl/make.py`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from genus import catalog
from genus.batch import IGNORE, Batch, Targets
from genus.errors import UsageError
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.model.activation import Relu
from genus.model.attention.masks import Causal
from genus.model.attention.relative import RelativeAttention
from genus.model.embedding import Embedding
from genus.model.embedding.adaptive import AdaptiveEmbedding
from genus.model.feedforward.mlp import MLP
from genus.model.head.adaptive_softmax import AdaptiveSoftmax
from genus.model.norm import Identity, LayerNorm
from genus.model.position import NoPosition
from genus.model.segment_recurrence import SegmentRecurrentTransformer
from genus.model.skeleton import skeleton
from genus.objectives import Learner
from genus.objectives.pretraining.causal_lm import CausalLM

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "transformer_xl"
FLOAT32 = 1e-5
"""Relative; the golden values are of float32, 24 bits, 6e-8, and lost two digits in a few layers; ours are float64."""
SEGMENTS, ROWS, LENGTH, MEMORY, VOCABULARY = 3, 2, 4, 6, 40
CHOICES = {"plain": {"ratio": 1, "longest": None}, "narrow": {"ratio": 2, "longest": 5}}

models = pytest.mark.parametrize("name", CHOICES)


def golden(name: str) -> dict[str, Tensor]:
    found = load_file(GOLDEN / "values.safetensors")
    return {key.removeprefix(f"{name}."): tensor for key, tensor in found.items() if key.startswith(f"{name}.")}


def learner(name: str) -> Learner:
    """Build the model of the golden values, with its weights."""
    model = SegmentRecurrentTransformer(
        layers=3, hidden=8,
        attention=RelativeAttention(heads=2, dropout=0.0, mask=Causal(), clamp_len=CHOICES[name]["longest"]),
        feedforward=MLP(size=12, activation=Relu()),
        embedding=AdaptiveEmbedding(
            cutoffs=(10, 20, 30), ratio=CHOICES[name]["ratio"] or 1,
            segments=0, position=NoPosition(), norm=Identity(), dropout=0.0,
        ),
        norm=LayerNorm(eps=1e-5), dropout=0.0, memory=MEMORY,
    )  # fmt: skip
    head = CausalLM(output=AdaptiveSoftmax()).build(model, VOCABULARY)
    built = Learner(model.build(VOCABULARY), {"causal_lm": head})
    built.load(translated(golden(name)))
    return built.eval()


def translated(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under our names."""
    theirs = {key.removeprefix("weights."): tensor for key, tensor in values.items() if key.startswith("weights.")}
    ours = {}
    for cluster in range(4):
        if (table := f"transformer.word_emb.emb_layers.{cluster}.weight") in theirs:
            ours[f"network.embed.tokens.tables.{cluster}.weight"] = theirs[table]
        if f"transformer.word_emb.emb_projs.{cluster}" in theirs:
            ours[f"network.embed.tokens.maps.{cluster}.weight"] = theirs[f"transformer.word_emb.emb_projs.{cluster}"]
    for layer in range(3):
        of, into = f"transformer.layers.{layer}.", f"network.layers.{layer}."
        maps = zip(("query", "key", "value"), theirs[of + "dec_attn.qkv_net.weight"].chunk(3), strict=True)
        ours |= {f"{into}attention.{name}.weight": weight for name, weight in maps}
        ours[into + "attention.relative.weight"] = theirs[of + "dec_attn.r_net.weight"]
        ours[into + "attention.out.weight"] = theirs[of + "dec_attn.o_net.weight"]
        ours[into + "attention.content_bias"] = theirs[of + "dec_attn.r_w_bias"]
        ours[into + "attention.position_bias"] = theirs[of + "dec_attn.r_r_bias"]
        for own, name in {
            "attention_norm": "dec_attn.layer_norm",
            "feedforward.inner": "pos_ff.CoreNet.0",
            "feedforward.out": "pos_ff.CoreNet.3",
            "feedforward_norm": "pos_ff.layer_norm",
        }.items():
            ours |= {f"{into}{own}.{leaf}": theirs[f"{of}{name}.{leaf}"] for leaf in ("weight", "bias")}
    head = "heads.causal_lm.lm_head."
    ours[head + "further.weight"] = theirs["crit.cluster_weight"]
    ours[head + "further.bias"] = theirs["crit.cluster_bias"]
    biases = [theirs[f"crit.out_layers.{c}.bias"] for c in range(4) if f"crit.out_layers.{c}.bias" in theirs]
    ours[head + "bias"] = torch.cat(biases)
    if "crit.out_projs.0" in theirs:
        ours[head + "map.weight"] = theirs["crit.out_projs.0"].T
    return ours


def batch(ids: Tensor, goes_on: bool) -> Batch:
    """Return rows of one sequence each, with the last token followed by the first."""
    rows = []
    for row in ids.numpy():
        tokens = Sequence(row, 0 * row, row < 0, following=int(row[0]), continues=goes_on)
        rows.append([CausalLM().prepare_example(Example({"tokens": tokens}, {}), None, None)])  # type: ignore[arg-type]
    return pack(rows, LENGTH, 0)


def relative(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@models
@torch.no_grad()
def test_three_segments_in_a_row(name: str) -> None:
    """Hidden states, log-probabilities of all tokens, the loss, and what is remembered in the end."""
    values, own = golden(name), learner(name).double()
    network, output, memory = own.network, own.heads["causal_lm"].lm_head, own.network.initial_memory(ROWS)
    for segment in range(SEGMENTS):
        given = batch(values[f"{segment}.ids"], segment > 0)
        given = Batch(given.streams, given.targets, memory=memory)
        found = network(given)
        step = own(given)
        sums, memory = step.sums, step.memory
        scores = output(found["tokens"]).view(ROWS, LENGTH, -1)
        assert relative(found["tokens"].view(ROWS, LENGTH, -1), values[f"{segment}.hidden"]) <= FLOAT32
        assert relative(scores, values[f"{segment}.scores"]) <= FLOAT32
        label = given.targets["causal_lm"].label.view(ROWS, LENGTH, 1)
        assert relative(sums["causal_lm"], -values[f"{segment}.scores"].gather(2, label).sum()) <= FLOAT32
    assert relative(memory["memory"], values["memory"].transpose(1, 2)) <= FLOAT32
    assert memory["remembered"].all()


@models
def test_the_adaptive_softmax_is_a_distribution(name: str) -> None:
    own = learner(name)
    hidden = torch.randn(5, 8)
    scores = own.heads["causal_lm"].lm_head(hidden)
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(5))
    label = torch.tensor([3, 15, 25, 39, IGNORE])
    loss = own.heads["causal_lm"].lm_head.loss(hidden, Targets(torch.arange(5), label))["loss"]
    torch.testing.assert_close(loss, -scores[:4].gather(1, label[:4, None]).sum())


@models
def test_one_embedding_of_all_clusters(name: str) -> None:
    """What answers as an embedding's weight is what tokens become, before scaling."""
    table = learner(name).network.token_embedding
    torch.testing.assert_close(table(torch.arange(VOCABULARY)), table.weight * 8**0.5)


@models
def test_every_parameter_is_counted(name: str) -> None:
    own = learner(name)
    model = SegmentRecurrentTransformer(
        layers=3, hidden=8, attention=RelativeAttention(heads=2), feedforward=MLP(size=12), memory=MEMORY,
        embedding=AdaptiveEmbedding(
            cutoffs=(10, 20, 30), ratio=CHOICES[name]["ratio"] or 1, segments=0, position=NoPosition(), norm=Identity()
        ),
    )  # fmt: skip
    counted = (
        model.parameters(VOCABULARY),
        CausalLM(output=AdaptiveSoftmax()).cost(model, VOCABULARY, {"tokens": 4}).parameters,
    )
    network, whole = (sum(weight.numel() for weight in module.parameters()) for module in (own.network, own))
    assert counted == (network, whole - network)


@pytest.mark.parametrize("size", ["base", "large"])
def test_published_sizes_have_as_many_parameters(size: str) -> None:
    with skeleton():
        own = catalog.load(f"transformer-xl/{size}").learner()
    assert sum(weight.numel() for weight in own.parameters()) == json.loads((GOLDEN / "counts.json").read_text())[size]


def test_the_adaptive_softmax_wants_adaptive_embeddings() -> None:
    model = SegmentRecurrentTransformer(
        layers=1, hidden=8, attention=RelativeAttention(heads=2), feedforward=MLP(size=8), embedding=Embedding()
    )
    with pytest.raises(UsageError, match=r"set model\.embedding=AdaptiveEmbedding"):
        AdaptiveSoftmax().build(model, VOCABULARY)
