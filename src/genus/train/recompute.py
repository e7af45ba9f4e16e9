"""Activation recomputation: the backward pass computes again what the forward pass does not keep (Chen et al. 2016)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from genus.errors import UsageError
from genus.model.roles import LAYERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default}
"""Products with weights: most of a layer's FLOPs. Those of attention are batched, and grow with the row length."""


def recompute(learner: nn.Module, what: Literal["nothing", "layers", "selected"]) -> None:
    """Let the layers of all stacks keep fewer activations, in place; numbers and random draws stay the same.

    Args:
        learner: network and heads.
        what: `layers`: of a layer only its input is kept; `selected`: the outputs of its products with weights too, so
            that attention and functions of single numbers are computed again (Korthikanti et al. 2022, section 5).

    Raises:
        UsageError: the model has no stack of layers.
    """
    if what == "nothing":
        return
    stacks = [module for name, module in learner.named_modules() if name.rpartition(".")[2] == LAYERS]
    layers = dict.fromkeys(layer for stack in stacks for layer in stack.children())
    if not layers:
        raise UsageError("run.recompute: this model has no stack of layers to compute again; leave it out")
    options: dict[str, Any] = {"use_reentrant": False}
    if what == "selected":
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _kept)
    for layer in layers:
        layer.forward = _again(layer.forward, options)


def _again(forward: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    """Return a forward pass of which the activations are computed again."""

    def forward_again(*given: Any) -> Any:
        return checkpoint(forward, *given, **options) if torch.is_grad_enabled() else forward(*given)

    return forward_again


def _kept(context: Any, operator: Any, *given: Any, **named: Any) -> CheckpointPolicy:
    """Return whether the output of an operator is kept."""
    return CheckpointPolicy.MUST_SAVE if operator in PRODUCTS else CheckpointPolicy.PREFER_RECOMPUTE
