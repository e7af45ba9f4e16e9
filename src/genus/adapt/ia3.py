"""(IA)³: learned factors of keys, values and inner activations (Liu et al. 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn

from genus.adapt import Adaptation, attach, detach, refuse_shared
from genus.errors import UsageError
from genus.model.roles import linear_maps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genus.objectives import Learner

NAME = "ia3"
"""Name of the factors as a child of their linear map."""


class IA3(Adaptation):
    """Factors l, 1 at first, of keys l * (W x + b), values l * (W x + b) and inner activations W_out (l * f(...)).

    Source: Liu et al. 2022, section 3.3.
    """

    merges: ClassVar[bool] = True

    def maps(self, learner: Learner) -> Iterator[tuple[str, nn.Linear, bool]]:
        """Yield name and module of each map that has factors, by its name in the learner, and whether of its input."""
        for name, role, module in linear_maps(learner.network):
            last = name.rpartition(".")[2]
            if last in ("key", "value") and role in ("key", "value"):
                yield f"network.{name}", module, False
            elif role == "feedforward" and last == "out":
                yield f"network.{name}", module, True

    def extend(self, learner: Learner) -> None:
        """Attach factors to the maps.

        Raises:
            UsageError: the network has no such maps.
        """
        maps = list(self.maps(learner))
        if not maps:
            raise UsageError(
                "the network has no keys, values and feed-forward networks of which there could be factors"
            )
        for _, module, of_input in maps:
            attach(module, NAME, Factors(module.in_features if of_input else module.out_features))
            if of_input:
                module.register_forward_pre_hook(scaled_input)
            else:
                module.register_forward_hook(scaled_output)

    @torch.no_grad()
    def merge(self, learner: Learner) -> None:
        """Multiply the weights by the factors, and remove these."""
        maps = list(self.maps(learner))
        refuse_shared(learner.network, [module for _, module, _ in maps])
        for _, module, of_input in maps:
            factors = cast("Factors", detach(module, NAME, scaled_input if of_input else scaled_output)).factors
            weight = module.get_parameter("weight")
            weight.mul_(factors if of_input else factors[:, None])
            if module.bias is not None and not of_input:
                module.bias.mul_(factors)


class Factors(nn.Module):
    """The module of learned factors."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """Forward pass: return x times the factors of its last dimension."""
        return x * self.factors.to(x.dtype)


def scaled_input(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Forward pre-hook of a linear map: multiply its input by its factors."""
    return (module.get_submodule(NAME)(given[0]), *given[1:])


def scaled_output(module: nn.Module, given: tuple[Any, ...], output: Tensor) -> Tensor:
    """Forward hook of a linear map: multiply its output by its factors."""
    return module.get_submodule(NAME)(output)  # type: ignore[no-any-return]
