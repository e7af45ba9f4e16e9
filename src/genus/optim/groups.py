"""Parameter groups: which parameters decay, and at which peak rate they learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def groups(module: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Return two groups: matrices and embeddings, which decay, and biases and norms, which do not.

    BERT's released code (optimization.py, exclude_from_weight_decay) leaves out what is named LayerNorm or bias: these
    are the parameters of one axis, and biases of several. A group holds the peak rate, which the schedule scales, as
    `peak`.
    """
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (decaying if parameter.ndim > 1 and not name.endswith("bias") else others).append(parameter)
    made = ((decaying, weight_decay), (others, 0.0))
    return [{"params": own, "weight_decay": decay, "lr": lr, "peak": lr} for own, decay in made if own]
