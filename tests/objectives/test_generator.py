"""A generator on the embeddings of the model that judges it: what is shared, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from replacing import VOCABULARY, made, packed, recipe, sums_of

from genus import catalog
from genus.cost import cost
from genus.errors import GenusError, UsageError
from genus.model.generator import GeneratorConfig, fitted
from genus.optim.adamw import AdamW
from genus.optim.groups import groups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

TOLERANCE = 1e-6
"""Heads take the softmax in float32, which has 24 bits; all before it is float64 here."""


def names(optimizer: Any) -> Iterator[int]:
    return (id(parameter) for group in optimizer.param_groups for parameter in group["params"])


def test_shared_embeddings_are_there_once() -> None:
    learner = made()
    state, parameters = learner.tensors(), list(learner.parameters())
    tied = "heads.masked_lm_generator.masked.lm_head.weight"
    assert learner.state_dict().keys() - state.keys() == {tied}
    assert learner.first_names()[tied] == "network.embed.tokens.weight"
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)
    assert not [name for name in state if name.startswith("heads.") and "embed" in name]
    optimizer = AdamW(lr=1.0).build(learner)
    assert sorted(names(optimizer)) == sorted(map(id, parameters))
    assert sum(len(group["params"]) for group in groups(learner, 1.0, 0.0)) == len(parameters)
    assert cost(recipe()).parameters == sum(parameter.numel() for parameter in parameters)


def test_both_losses_teach_the_embeddings(still: Tensor) -> None:
    for loss in ("masked_lm", "replaced_token_detection"):
        learner, batch = made(), packed()
        learner(batch).sums[loss].backward()
        embed = learner.network.embed
        for table in (embed.tokens, embed.positions.table, embed.segments, embed.norm):
            assert table.weight.grad is not None, loss
            assert bool(table.weight.grad.any()), loss


def test_the_generator_is_a_model_of_the_same_tensors(still: Tensor) -> None:
    """Its states and loss as a model of its own, with the masked language model as BERT's rows have it."""
    learner, batch = made(), packed()
    companion = learner.auxiliary_models()["generator"]
    whole = companion.learner.network.state_dict()
    assert whole["embed.tokens.weight"].data_ptr() == learner.network.token_embedding.weight.data_ptr()
    assert not [name for name, tensor in companion.learner.state_dict().items() if tensor.is_meta]
    with torch.no_grad():
        found = companion.learner(batch).sums
    assert float(found["masked_lm"]) == pytest.approx(sums_of(learner, batch)["masked_lm"], rel=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "sizes"), [("small", (12, 64, 1, 256)), ("base", (12, 256, 4, 1024)), ("large", (24, 256, 4, 1024))]
)
def test_generators_of_published_sizes(name: str, sizes: tuple[int, ...]) -> None:
    """As in the released code, get_generator_config."""
    row = catalog.load(f"electra/{name}")
    encoder = row.objectives[0].generator.encoder(row.model)  # type: ignore[attr-defined]
    choices = encoder.to_json()
    assert (encoder.layers, encoder.hidden, choices["attention"]["heads"], choices["feedforward"]["size"]) == sizes
    assert encoder.embedding_width == row.model.embedding_width
    assert fitted(encoder, row.model).encoder(row.model) == encoder


def test_odd_generators_are_told_from_their_encoder() -> None:
    model = recipe().model
    for choice in (
        GeneratorConfig(),
        GeneratorConfig(width=0.3, depth=0.5, heads=5, inner=7),
        GeneratorConfig(width=1.0, heads=2, inner=24),
    ):
        assert fitted(choice.encoder(model), model).encoder(model) == choice.encoder(model)
    with pytest.raises(UsageError, match="differs from the model it generates for in more than its size"):
        fitted(model.overlay({"dropout": 0.5, "pooler": None}), model)
    with pytest.raises(UsageError, match="may not be larger than the model"):
        fitted(model.overlay({"hidden": 32}), model)


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["width=2", "width=1.5", "depth=3", "width=0", "depth=-1"])
def test_a_generator_larger_than_the_discriminator_is_refused(setting: str) -> None:
    with pytest.raises(UsageError, match="may not be larger than the model that judges it") as error:
        recipe(f"objectives.0.generator.{setting}")
    assert "\n" not in str(error.value)


def test_detection_needs_something_that_replaces() -> None:
    alone = {"kind": "ReplacedTokenDetection"}
    for objectives in ([alone], [{"kind": "MaskedLM"}, alone], [alone, {"kind": "MaskedLMGenerator"}]):
        with pytest.raises(UsageError, match="ReplacedTokenDetection needs original"):
            recipe().overlay({"objectives": objectives})


def test_two_objectives_that_mask_are_refused() -> None:
    with pytest.raises(UsageError, match="MaskedLMGenerator gives masked_lm, which is given already"):
        recipe().overlay({"objectives": [{"kind": "MaskedLM"}, {"kind": "MaskedLMGenerator"}]})


def test_a_learner_without_its_generator_is_not_measured() -> None:
    learner = made()
    del learner.heads["masked_lm_generator"]
    with pytest.raises(GenusError, match="nothing replaces tokens here"):
        sums_of(learner, packed())


def test_embeddings_that_cannot_be_shared_are_refused() -> None:
    row = catalog.load("ernie2/tiny").overlay(
        {"objectives": [{"kind": "MaskedLMGenerator"}], "stages": [recipe().stages[0].to_json()]}
    )
    with pytest.raises(UsageError, match="cannot share the embeddings of this model"):
        row.learner()


def test_any_encoder_can_be_a_discriminator(still: Tensor) -> None:
    objectives = [{"kind": "MaskedLMGenerator"}, {"kind": "ReplacedTokenDetection"}]
    for member in ("bert", "albert"):
        changes = {"objectives": objectives, "examples": {"kind": "HalvedChunks"}, "tokens": {"vocab_size": VOCABULARY}}
        learner = catalog.load(f"{member}/tiny").overlay(changes).learner()
        assert sums_of(learner, packed()).keys() >= {"masked_lm", "replaced_token_detection"}
        companion = learner.auxiliary_models()["generator"].learner
        assert sums_of(companion, packed())["masked_lm"] == pytest.approx(
            sums_of(learner, packed())["masked_lm"], rel=1e-5
        )
