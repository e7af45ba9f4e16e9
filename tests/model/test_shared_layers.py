"""An encoder and a decoder whose layers share their weights (T5's table 2): what they compute, count and save."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
import torch

from genus import pipeline
from genus.batch import Batch, Targets
from genus.cost import cost
from genus.errors import UsageError
from genus.export.folder import load, save
from genus.export.native import is_native
from genus.export.verify import verify
from genus.files import read_json
from genus.model.skeleton import skeleton
from genus.recipes import t5
from hand import equal_rows
from small import documents

if TYPE_CHECKING:
    from pathlib import Path

    from genus.model.encoder_decoder import EncoderDecoder, EncoderDecoderNetwork
    from genus.objectives import Learner
    from genus.recipe import Recipe

DOUBLE = 1e-12
"""Relative; of float64, in which the weights of both are computed in the same order."""
TINY = {"layers": 2, "hidden": 32}


def shared(row: Recipe = t5.BASE) -> Recipe:
    """Return a row with shared layers."""
    return row.overlay({"model": {"shared": "layers"}})


def small(row: Recipe) -> Recipe:
    """Return a row with two narrow layers on either side, and without dropout."""
    plain = {
        "dropout": 0.0,
        "attention": {"dropout": 0.0},
        "embedding": {"dropout": 0.0},
        "feedforward": {"dropout": 0.0},
    }
    model = {"encoder": {**TINY, **plain}, "decoder": {**TINY, **plain, "cross": {"dropout": 0.0}}}
    return row.overlay({"tokens": {"vocab_size": 300}, "model": model})


def batch() -> Batch:
    """Return three rows of source and tokens, each token but a row's last with the next one as its target."""
    torch.manual_seed(3)
    source, tokens = torch.randint(3, 190, (3, 11)), torch.randint(3, 190, (3, 7))
    index = torch.arange(21).view(3, 7)[:, :-1].flatten()
    streams = {"tokens": equal_rows(tokens), "source": equal_rows(source)}
    return Batch(streams, {"denoising": Targets(index, tokens[:, 1:].flatten())})


def apart(learner: Learner, row: Recipe) -> Learner:
    """Return a learner without shared layers, with the weights of one with them on either side."""
    other = replace(row, model=replace(cast("EncoderDecoder", row.model), shared="embeddings")).learner().double()
    other.load_state_dict(learner.state_dict())
    return other


def test_the_paper_counts_half_the_parameters() -> None:
    """P for 2 P of the baseline, but for cross-attention, about a tenth of all (section 3.2.2)."""
    both, one = cost(t5.BASE).network, cost(shared()).network
    embedding, crossing = 32_100 * 768, 12 * (4 * 768 * 768 + 768)
    assert both - embedding == 2 * (one - embedding) - crossing
    assert crossing / both == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("kind", ["nothing", "embeddings", "layers"])
def test_parameters_are_counted(kind: str) -> None:
    row = t5.V11_SMALL.overlay({"model": {"shared": kind}})
    with skeleton():
        learner = row.learner()
    assert cost(row).parameters == sum(weight.numel() for weight in learner.parameters())


def test_states_and_gradients_are_those_of_equal_weights_on_either_side() -> None:
    """The gradient of a shared weight is the sum of both."""
    row = small(shared())
    torch.manual_seed(0)
    learner = row.learner().double()
    other, given = apart(learner, row), batch()
    for one in (learner, other):
        one(given).sums["denoising"].backward()
    network = cast("EncoderDecoderNetwork", learner.network)
    mine, theirs = dict(learner.named_parameters()), dict(other.named_parameters())
    torch.testing.assert_close(learner(given).sums, other(given).sums, rtol=DOUBLE, atol=0)
    for name, weight in mine.items():
        twin = name.replace("network.encoder.", "network.decoder.")
        both = [theirs[one].grad for one in dict.fromkeys((name, twin)) if one in theirs]
        expected = sum(both[1:], both[0])  # type: ignore[arg-type]
        torch.testing.assert_close(weight.grad, expected, rtol=1e-9, atol=1e-12, msg=name)
        assert bool(weight.grad.any()), name  # type: ignore[union-attr]
    own = {name for name, _ in network.decoder.named_parameters()} - {
        name for name, _ in network.encoder.named_parameters()
    }
    assert {name.split(".")[2] for name in own} == {"cross", "cross_norm"}
    assert len(mine) == len(theirs) - len(dict(network.encoder.named_parameters())) + 1  # the embedding is one in both


def test_distances_are_told_apart_by_direction_with_one_table() -> None:
    """An encoder's buckets are of both directions, a decoder's of one (released code, compute_bias)."""
    network = cast("EncoderDecoderNetwork", small(shared()).learner().network)
    encoder, decoder = network.encoder.position_bias, network.decoder.position_bias
    assert encoder is not None
    assert decoder is not None
    ahead = torch.tensor([3])
    assert encoder.table.weight is decoder.table.weight
    assert not torch.equal(encoder.added(ahead), decoder.added(ahead))


def test_a_folder_of_its_own_goes_out_and_comes_back(tmp_path: Path) -> None:
    """No class of Hugging Face has it; each shared weight is written once."""
    row = small(shared())
    tokenizer = row.tokens.train(documents())
    recipe, learner = pipeline.new_learner(row, tokenizer)
    save(tmp_path / "model", recipe, learner, tokenizer)
    assert is_native(read_json(tmp_path / "model" / "config.json"))
    assert max(verify(tmp_path / "model", learner).values()) == 0
    again = load(tmp_path / "model").learner
    network = cast("EncoderDecoderNetwork", again.network)
    assert network.encoder.layers[1].attention.query.weight is network.decoder.layers[1].attention.query.weight
    assert again.tensors().keys() == learner.tensors().keys()
    assert not any(name.startswith("network.decoder.layers.0.attention.") for name in again.tensors())


def test_what_differs_cannot_be_shared() -> None:
    for changes, words in (
        ({"decoder": {"layers": 3}}, "encoder and decoder differ in layers"),
        ({"decoder": {"feedforward": {"size": 64}}}, "encoder and decoder differ in feedforward.size"),
        ({"decoder": {"attention": {"key_heads": 1}}}, "encoder and decoder differ in attention.key_heads"),
    ):
        with pytest.raises(UsageError, match=words):
            shared().overlay({"model": changes})
