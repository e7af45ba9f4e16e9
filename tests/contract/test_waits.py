"""No step waits for the device: nothing in a forward and a backward pass depends on what a tensor there holds.

Tensors without content stand in for those of a device (PyTorch's fake tensors): to read a number from one, or to make a
tensor whose size depends on what one holds, raises an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from genus.batch import Packed, Targets
from kinds import members_by_kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Small


def on_device(value: Any, mode: FakeTensorMode) -> Any:
    """Return a copy without content, at any depth of dataclasses and mappings, which keeps what it was copied from."""
    if is_dataclass(value) and not isinstance(value, type):
        made = {one.name: on_device(getattr(value, one.name), mode) for one in fields(value)}
        return replace(value, **made | ({"original": value} if isinstance(value, Packed | Targets) else {}))
    if isinstance(value, Mapping):
        return {name: on_device(one, mode) for name, one in value.items()}
    return mode.from_tensor(value) if isinstance(value, torch.Tensor) else value


@members_by_kind
def test_no_step_waits_for_the_device(name: str, small: Callable[[str], Small]) -> None:
    made, mode = small(name), FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        learner = made.recipe.learner()
    for batch in made.batches:
        there = replace(on_device(batch, mode), memory=learner.network.initial_memory(batch.tokens.rows))
        losses = [loss.sum() for loss in learner(there).sums.values() if loss.requires_grad]
        torch.stack(losses).sum().backward()


def test_a_wait_is_seen(small: Callable[[str], Small]) -> None:
    """Without what it was copied from, a batch's lengths can be read from the device alone."""
    batch, mode = small("lstm/tiny").batches[0], FakeTensorMode()
    with mode, pytest.raises(DataDependentOutputException):
        replace(on_device(batch.tokens, mode), original=None).spans()
