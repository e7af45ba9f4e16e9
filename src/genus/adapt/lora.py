"""LoRA: updates of low rank beside frozen linear maps (Hu et al. 2021)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn

from genus.adapt import Adaptation, attach, detach, refuse_shared
from genus.errors import UsageError
from genus.model.roles import MAP_ROLES, MapRole, linear_maps
from genus.part import Count, Fraction, Positive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genus.objectives import Learner

NAME = "lora"
"""Name of the update as a child of its linear map."""


class LoRA(Adaptation):
    """Low-rank updates: W x + b + s B A d(x) with d dropout, s = alpha / r; A (r, in) begins random, B (out, r) as 0.

    Source: Hu et al. 2021, section 4.1; targets of section 4.2. Deviation: A is drawn as in the authors' released code
    (U(-1/√in, 1/√in), PyTorch's default), in the paper from a Gaussian.
    """

    merges: ClassVar[bool] = True

    rank: Count = 8
    """r (table 9: 8 of RoBERTa)."""
    alpha: Positive = 8.0
    """The update is multiplied by alpha / r (table 9: 8 of RoBERTa base)."""
    dropout: Fraction = 0.0
    targets: tuple[MapRole, ...] = ("query", "value")
    """The roles of the maps that have an update."""
    stabilized: bool = False
    """Whether s = alpha / √r, so that updates of high rank learn as fast (rsLoRA; Kalajdzievski 2023, section 3)."""

    def __post_init__(self) -> None:
        """Check that there are targets (ValueError)."""
        if not self.targets:
            raise ValueError(f"targets: expected roles of linear maps, such as {', '.join(MAP_ROLES)}")

    @property
    def scale(self) -> float:
        """s, the factor on the update."""
        return self.alpha / (math.sqrt(self.rank) if self.stabilized else self.rank)

    def maps(self, learner: Learner) -> Iterator[tuple[str, nn.Linear]]:
        """Yield name and module of each linear map that has an update, by its name in the learner."""
        for name, role, module in linear_maps(learner.network):
            if role in self.targets and not name.endswith((f".{NAME}.down", f".{NAME}.up")):
                yield f"network.{name}", module

    def extend(self, learner: Learner) -> None:
        """Attach an update to every linear map of the targets' roles.

        Raises:
            UsageError: the network has no map of these roles.
        """
        maps = list(self.maps(learner))
        if not maps:
            there = sorted({role for _, role, _ in linear_maps(learner.network)}, key=MAP_ROLES.index)
            raise UsageError(f"targets: the network has no map of the role {' or '.join(self.targets)}; it has "
                             f"{', '.join(there) or 'none at all'}")  # fmt: skip
        for _, module in maps:
            attach(module, NAME, LowRankUpdate(self, module.in_features, module.out_features))
            module.register_forward_hook(updated)

    @torch.no_grad()
    def merge(self, learner: Learner) -> None:
        """Add every update to the weight of its map, and remove it."""
        maps = [module for _, module in self.maps(learner)]
        refuse_shared(learner.network, maps)
        for module in maps:
            update, weight = cast("LowRankUpdate", detach(module, NAME, updated)), module.get_parameter("weight")
            weight.add_(update.matrix().to(weight.dtype))


class LowRankUpdate(nn.Module):
    """The module of an update: s B A d(x)."""

    def __init__(self, choice: LoRA, inputs: int, outputs: int) -> None:
        super().__init__()
        self.scale = choice.scale
        self.dropout = nn.Dropout(choice.dropout)
        self.down = nn.Linear(inputs, choice.rank, bias=False)
        self.up = nn.Linear(choice.rank, outputs, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Forward pass: return (..., out) for (..., in)."""
        return self.up(self.down(self.dropout(x))) * self.scale  # type: ignore[no-any-return]

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return A (r, in) and B (out, r)."""
        return self.down.get_parameter("weight"), self.up.get_parameter("weight")

    def matrix(self) -> Tensor:
        """Return s B A (out, in)."""
        down, up = self.factors()
        return up @ down * self.scale


def updated(module: nn.Module, given: tuple[Any, ...], output: Tensor) -> Tensor:
    """Forward hook of a linear map: add its update."""
    update = cast("LowRankUpdate", module.get_submodule(NAME))
    more: Tensor = update(given[0])
    return output + more.to(output.dtype)
