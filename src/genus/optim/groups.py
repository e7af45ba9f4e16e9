"""Parameter groups: which parameters decay, and at which peak rate they learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def groups(module: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Return two groups: matrices and embeddings, which decay, and biases and norms, which do not.

    BERT's released code (optimization.py, exclude_from_weight_decay) leaves out what is named LayerNorm or bias; these are the
    parameters of one axis, and the biases of several. Each group holds the peak rate that the schedule scales as `peak`.
    """
    parameters = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    decays = [parameter.ndim > 1 and not name.endswith("bias") for name, parameter in parameters]
    made = [
        {"params": [parameter for (_, parameter), d in zip(parameters, decays, strict=True) if d is decay], "weight_decay": rate}
        for decay, rate in ((True, weight_decay), (False, 0.0))
    ]
    return [group | {"lr": lr, "peak": lr} for group in made if group["params"]]
