"""Importance of heads and feed-forward units: the change of the loss, to first order, if a unit's output were zero.

Legend: T token positions, J entries of a packed batch, U units of a module, W inputs of a unit.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genus.errors import GenusError
from genus.objectives import device_of, evaluating

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from genus.batch import Batch, Packed
    from genus.compress.units import Units
    from genus.objectives import Learner


def importances(learner: Learner, loss: str, batches: Iterable[Batch], units: Sequence[Units]) -> list[Tensor]:
    """Return the importance (U,) of the units of each module.

        I_u = mean over sequences x of |dL(x)/dg_u|, with g_u = 1 a gate on the inputs of `out` that are unit u's,
            = mean over x of |Σ over tokens of x and inputs w of the unit: y_w dL(x)/dy_w|

    For heads: Michel et al. 2019, equation 2, who measure the same head in other layers by the norm of a layer's
    importances, which changes nothing here, where each layer loses as many. For feed-forward units: the first-order
    Taylor expansion of Molchanov et al. 2017, equation 8, on activations.

    Args:
        learner: the learner, which is left as it is, without dropout meanwhile.
        loss: name of the task's loss.
        batches: labeled sequences.
        units: modules of the learner's network.

    Raises:
        GenusError: a module does not see the tokens of a stream in their order.
    """
    totals = [torch.zeros(one.count, dtype=torch.float64) for one in units]
    device, sequences = device_of(learner), 0
    for given in batches:
        batch = given.to(device)
        with evaluating(learner), torch.enable_grad(), _inputs(units) as seen:
            total = learner(batch).sums[loss]
            flat = [y for calls in seen for y in calls]
            slopes = iter(torch.autograd.grad(total, flat))
        for number, (one, calls) in enumerate(zip(units, seen, strict=True)):
            parts = [_by_sequence(y.detach() * next(slopes), one, batch) for y in calls]
            totals[number] += sum(parts[1:], parts[0]).abs().sum(0).double().cpu()
        sequences += len(batch.tokens.spans())
    return [total / max(1, sequences) for total in totals]


@contextmanager
def _inputs(units: Sequence[Units]) -> Iterator[list[list[Tensor]]]:
    """Collect the inputs (T, U W) of every module's output map, of each of its calls."""
    seen: list[list[Tensor]] = [[] for _ in units]

    def keep(number: int) -> Any:
        def hook(module: Any, given: tuple[Tensor, ...]) -> None:
            seen[number].append(given[0])

        return hook

    handles = [one.module.out.register_forward_pre_hook(keep(number)) for number, one in enumerate(units)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _by_sequence(products: Tensor, units: Units, batch: Batch) -> Tensor:
    """Return (J, U) the sums over the tokens of each entry and the inputs of each unit."""
    flat = products.flatten(0, -2) if products.dim() > 2 else products
    packed = _stream(len(flat), units, batch)
    each_TU = torch.unflatten(flat, -1, (units.count, units.width)).sum(-1)
    entries = packed.entries()
    found = each_TU.new_zeros(len(packed.offsets), units.count)
    return found.index_add(0, entries, each_TU.masked_fill((packed.sequence < 0)[:, None], 0.0))


def _stream(tokens: int, units: Units, batch: Batch) -> Packed:
    """Return the stream with so many token positions."""
    for packed in batch.streams.values():
        if packed.ids.numel() == tokens:
            return packed
    raise GenusError(f"{units.name}: computes on other positions than those of the tokens, and cannot be pruned")


@contextmanager
def gated(units: Sequence[Units], kept: Sequence[Tensor]) -> Iterator[None]:
    """Multiply the outputs of all units but the kept ones by 0, for the time of the context: what pruning computes."""

    def close(one: Units, kept_U: Tensor) -> Any:
        gate_U = torch.zeros(one.count).index_fill(0, kept_U, 1.0)

        def hook(module: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (given[0] * gate_U.repeat_interleave(one.width).to(given[0]),)

        return hook

    handles = [one.module.out.register_forward_pre_hook(close(one, k)) for one, k in zip(units, kept, strict=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def only(batch: Batch, head: str) -> Batch:
    """Return the batch for one head."""
    return replace(batch, heads=frozenset({head}))
