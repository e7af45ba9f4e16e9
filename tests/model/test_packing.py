"""Packing changes nothing: not a loss, not a gradient, and not one bit of a neighbor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from genus.batch import Batch, Targets
from genus.model.attention.masks import AttentionMask, Causal, Full
from genus.model.compile import compile_learner
from genus.model.transformer import Transformer
from genus.objectives import Learner
from hand import alone as only

DOUBLE = 1e-10
"""Relative; float64 has 53 bits, 1e-16: sums of a few hundred terms in another order, magnified by a few layers."""
LOSS = 1e-6
"""Relative; losses are taken and summed in float32, of 24 bits, 6e-8."""
ROWS = [[12, 20, 5], [30], [1, 2, 3, 26], [9, 23]]
LENGTH = 40
LONG = 600
"""Rows past the length up to which a CPU writes probabilities out, so that the fused kernel is taken."""
MakeBatch = Callable[..., Batch]
MakeEncoder = Callable[..., Transformer]
MakeLearner = Callable[..., Learner]


def one_by_one(batch: Batch) -> list[Batch]:
    """Return every sequence of a batch as a batch of its own, with its own targets; dead ones are left out."""
    packed, alone = batch.tokens, []
    for start, stop in packed.spans():
        stream = only(packed, start, stop)
        targets = {}
        for name, all_targets in batch.targets.items():
            mine = (all_targets.index >= start) & (all_targets.index < stop) & all_targets.counted()
            targets[name] = Targets(all_targets.index[mine] - start, all_targets.label[mine])
        alone.append(Batch({"tokens": stream}, targets))
    return alone


def summed(learner: Learner, batches: list[Batch]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return every sum over the batches, and the gradient of the sum of the losses by parameter."""
    learner.zero_grad()
    total: dict[str, Tensor] = {}
    for batch in batches:
        sums = learner(batch).sums
        (sums["masked_lm"] + sums["next_sentence"]).backward()
        total = {name: total.get(name, 0) + value.detach() for name, value in sums.items()}
    return total, {name: p.grad.clone() for name, p in learner.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("length", [LENGTH, LONG])
@pytest.mark.parametrize("visibility", [Full(), Causal()], ids=lambda rule: type(rule).__name__)
def test_packed_equals_one_by_one(
    make_batch: MakeBatch, make_encoder: MakeEncoder, make_learner: MakeLearner, length: int, visibility: AttentionMask
) -> None:
    learner = make_learner(make_encoder(visibility=visibility)).double()
    batch = make_batch(ROWS, length)
    packed_sums, packed_gradients = summed(learner, [batch])
    sums, gradients = summed(learner, one_by_one(batch))
    assert packed_gradients.keys() == dict(learner.named_parameters()).keys()
    torch.testing.assert_close(packed_sums, sums, rtol=LOSS, atol=0)
    largest = max(gradient.abs().max().item() for gradient in gradients.values())
    for name, gradient in gradients.items():
        scale = largest if name.endswith("key.bias") else gradient.abs().max().item()  # which are 0 but for rounding
        torch.testing.assert_close(packed_gradients[name], gradient, rtol=DOUBLE, atol=DOUBLE * scale, msg=name)


def changed(batch: Batch, start: int, stop: int) -> Batch:
    """Return the batch with other ids in the cells from start to stop."""
    ids = batch.tokens.ids.clone()
    ids[start:stop] = ids[start:stop] % 60 + 3
    return replace(batch, streams={"tokens": replace(batch.tokens, ids=ids)})


def losses(learner: Learner, hidden: Tensor, batch: Batch) -> Tensor:
    """Return (M,) the masked loss of every target."""
    targets = batch.targets["masked_lm"]
    logits = learner.heads["masked_lm"].lm_head(hidden[targets.index])  # type: ignore[operator, union-attr]
    return torch.nn.functional.cross_entropy(logits.float(), targets.label, reduction="none")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler imports what it deprecates
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("length", [LENGTH, LONG])
def test_no_document_reaches_another(
    make_batch: MakeBatch,
    make_encoder: MakeEncoder,
    make_learner: MakeLearner,
    length: int,
    half: bool,
    compiled: bool,
) -> None:
    learner = make_learner(make_encoder()).eval()
    network = learner.network
    if compiled:
        assert compile_learner(network, [])
    batch = make_batch(ROWS, length)
    start, stop = batch.tokens.spans()[1]
    other = changed(batch, start, stop)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        before, after = network(batch)["tokens"], network(other)["tokens"]
        moved = torch.ones(len(before), dtype=torch.bool)
        moved[start:stop] = False
        assert torch.equal(before[moved], after[moved])
        assert not torch.equal(before[~moved], after[~moved])
        own = (batch.targets["masked_lm"].index >= start) & (batch.targets["masked_lm"].index < stop)
        assert torch.equal(losses(learner, before, batch)[~own], losses(learner, after, batch)[~own])


def test_what_lies_in_dead_cells_reaches_nobody(
    make_batch: MakeBatch, make_encoder: MakeEncoder, make_learner: MakeLearner
) -> None:
    learner = make_learner(make_encoder())
    batch = make_batch(ROWS, LENGTH)
    dead = batch.tokens.ids == 0
    ids = batch.tokens.ids.masked_fill(dead, 5)
    other = replace(batch, streams={"tokens": replace(batch.tokens, ids=ids)})
    with torch.no_grad():
        before, after = learner.network(batch)["tokens"], learner.network(other)["tokens"]
    assert torch.equal(before[~dead], after[~dead])


def test_dropout_is_active_in_training_only(
    make_batch: MakeBatch, make_encoder: MakeEncoder, make_learner: MakeLearner
) -> None:
    learner = make_learner(make_encoder(dropout=0.1))
    batch = make_batch(ROWS, LENGTH)
    first, second = (learner.network(batch)["tokens"] for _ in range(2))
    assert not torch.equal(first, second)
    learner.eval()
    first, second = (learner.network(batch)["tokens"] for _ in range(2))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, make_learner(make_encoder()).network(batch)["tokens"])
