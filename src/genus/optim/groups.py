"""Parameter groups: weight decay per parameter, and layer-wise learning-rate decay."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Any, Literal

from genus.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn
    from torch.optim import Optimizer as TorchOptimizer


def groups(
    module: nn.Module, lr: float, weight_decay: float, decayed: Literal["matrices", "all"] = "matrices"
) -> list[dict[str, Any]]:
    """Return parameter groups: matrices and embeddings with weight decay, biases and norms without, or all with.

    BERT's released code (optimization.py, exclude_from_weight_decay) excludes parameters named LayerNorm or bias: these
    are the parameters with one axis, and biases with several. fairseq's (trainer.py) has one group, which decays. A
    group has the peak learning rate, which the schedule scales, as `base_lr`, and `is_matrix`, which is False for the
    last group. Matrices with a rate of their own (`Initialization.rate`) have groups of their own, whose weight decay
    is divided by it, as the rate multiplies the decay.
    """
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (decaying if parameter.ndim > 1 and not name.endswith("bias") else others).append(parameter)
    rates = _rates(module)
    slowed = {rate: [one for one in decaying if rates.get(id(one)) == rate] for rate in sorted(set(rates.values()))}
    made = [
        ([one for one in decaying if id(one) not in rates], weight_decay, True, 1.0),
        *((own, weight_decay / rate, True, rate) for rate, own in slowed.items()),
        (others, weight_decay if decayed == "all" else 0.0, False, 1.0),
    ]
    return [
        {"params": own, "weight_decay": decay, "lr": rate * lr, "base_lr": rate * lr, "is_matrix": matrices}
        for own, decay, matrices, rate in made
        if own
    ]


def _rates(module: nn.Module) -> dict[int, float]:
    """Return the factors on the learning rate of weights that have one (`Initialization.rate`), by identity."""
    found = {}
    for name, parameter in module.named_parameters():
        path, _, last = name.rpartition(".")
        rate = getattr(module.get_submodule(path), "rate", None)
        if last == "weight" and isinstance(rate, float):
            found[id(parameter)] = rate
    return found


def frozen(module: nn.Module, updated: Sequence[str] | None) -> list[nn.Parameter]:
    """Return the parameters that are not updated where only those of some names are.

    Args:
        module: holds the parameters.
        updated: names, with * for any text; None: all are updated.

    Raises:
        UsageError: no parameter has a name of one of the patterns.
    """
    if updated is None:
        return []
    names = dict(module.named_parameters())
    if unknown := [pattern for pattern in updated if not fnmatch.filter(names, pattern)]:
        raise UsageError(f"stages.trainable: no parameter is called {unknown[0]!r}; names are such as "
                         f"{', '.join([*names][:3])}")  # fmt: skip
    return [weight for name, weight in names.items() if not any(fnmatch.fnmatchcase(name, one) for one in updated)]


def by_depth(optimizer: TorchOptimizer, levels: Sequence[nn.Module], decay: float) -> None:
    """Apply layer-wise learning-rate decay: level d of D (0 at the bottom) gets the peak rate x decay^(D + 1 - d).

    Parameters outside the levels (pooler, heads) keep the peak rate. The embeddings under n layers get decay^(n + 2),
    and the top layer gets decay^2, as in ELECTRA's released code (optimization.py, _get_layer_lrs).

    Args:
        optimizer: a newly built optimizer, whose groups are split in place.
        levels: the modules of the network in the order of the forward pass.
        decay: the factor from one level to the one below it.
    """
    exponent = {id(weight): len(levels) + 1 - d for d, level in enumerate(levels) for weight in level.parameters()}
    parted = []
    for group in optimizer.param_groups:
        split: dict[int, list[nn.Parameter]] = {}
        for weight in group["params"]:
            split.setdefault(exponent.get(id(weight), 0), []).append(weight)
        for power, own in sorted(split.items()):
            peak = group["base_lr"] * decay**power
            parted.append({**group, "params": own, "lr": peak, "base_lr": peak})
    optimizer.param_groups[:] = parted
