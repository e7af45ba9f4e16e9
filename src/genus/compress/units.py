"""Units that can be pruned: heads of attention, and units of feed-forward networks, found by the roles of linear maps.

Legend: U units of a module, W inputs of its output map that belong to a unit, F inner size.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import nn

from genus.errors import UsageError
from genus.model.attention import Attention, AttentionLayer
from genus.model.feedforward import FeedForward
from genus.model.position.bias import PositionBias
from genus.part import rebuilt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from genus.model import Model, Network
    from genus.model.initialization import ResidualBranch
    from genus.part import Part

Kind = Literal["heads", "feedforward"]
ATTENTION, FEEDFORWARD, GATED = {"query", "key", "value", "out"}, {"inner", "out"}, {"gate", "inner", "out"}
"""Roles of the linear maps of modules that can be pruned; they have no other parameters."""


@dataclass(frozen=True)
class Units:
    """The units of one module: unit u is inputs [u W, (u + 1) W) of its output map `out`."""

    name: str
    """Name of the module in the network."""
    module: ResidualBranch
    kind: Kind
    count: int
    """U."""
    heads: int = 1
    """Heads of a unit: with fewer heads of keys, those that share one are pruned together."""

    @property
    def width(self) -> int:
        """W."""
        return self.module.out.in_features // self.count

    def kept(self, asked: str) -> int:
        """Return the number of units to keep: a fraction with a point, or a number of heads or feed-forward units.

        Raises:
            UsageError: none would be left, there are fewer, or heads that share keys would be parted.
        """
        option, there = f"--{self.kind} {asked}", self.count * self.heads
        try:
            share = float(asked) if "." in asked else None
            number = int(asked) if share is None else round(share * self.count) * self.heads
        except ValueError:
            raise UsageError(f"{option}: expected a fraction such as 0.5, or a number of those to keep") from None
        if share is not None and not 0 < share <= 1:
            raise UsageError(f"{option}: expected a fraction above 0 and up to 1")
        if number < 1:
            raise UsageError(f"{option}: leaves nothing of the {there} of {self.name}; keep at least one")
        if number > there:
            raise UsageError(f"{option}: {self.name} has {there}, and pruning adds none; keep fewer")
        if number % self.heads:
            raise UsageError(f"{option}: each {self.heads} heads share their keys, and stay or go together; keep a "
                             f"multiple of {self.heads}")  # fmt: skip
        return number // self.heads

    @torch.no_grad()
    def cut(self, kept_U: Tensor) -> None:
        """Keep these units, given by their indices in ascending order, and remove the others from the maps in place."""
        maps = {role: child for role, child in self.module.named_children() if isinstance(child, nn.Linear)}
        for role, linear in maps.items():
            width = (linear.in_features if role == "out" else linear.out_features) // self.count
            index = (kept_U[:, None] * width + torch.arange(width)).flatten()
            if role == "out":
                linear.in_features = len(index)
            else:
                linear.out_features = len(index)
            for name, whole in [*linear.named_parameters(recurse=False)]:
                columns = role == "out"
                if columns and whole.dim() == 1:
                    continue  # the bias of what all units add to
                setattr(linear, name, nn.Parameter((whole[:, index] if columns else whole[index]).contiguous()))
        if isinstance(self.module, AttentionLayer):
            self.module.choice = smaller_attention(self.module.choice, len(kept_U) * self.heads, self.module.head_size)


def units_of(network: Network, kind: Kind) -> list[Units]:
    """Return the units of every attention, or of every feed-forward network; shared modules once.

    Raises:
        UsageError: one has other maps, or what it computes depends on the number of its heads otherwise.
    """
    found: list[Units] = []
    biases = any(isinstance(module, PositionBias) for module in network.modules())
    for name, module in network.named_modules():
        attends = isinstance(module, AttentionLayer)
        if not (attends if kind == "heads" else name.rpartition(".")[2] == "feedforward"):
            continue
        roles = {
            child for child, _ in module.named_children() if any(True for _ in getattr(module, child).parameters())
        }
        own = [parameter for parameter, _ in module.named_parameters(recurse=False)]
        expected = (ATTENTION,) if kind == "heads" else (FEEDFORWARD, GATED)
        plain = not own and roles in expected and cast("ResidualBranch", module).divisible
        plain = plain and all(isinstance(getattr(module, role), nn.Linear) for role in roles)
        if not plain or (kind == "heads" and (biases or not _sized(cast("AttentionLayer", module).choice))):
            what = "its position bias has a value for each head" if biases and plain else type(module).__name__
            raise UsageError(f"--{kind}: {name} cannot be pruned ({what}); those can whose parameters are linear maps "
                             f"{', '.join(sorted(expected[0]))}, of any number of them")  # fmt: skip
        found.append(_units(name, cast("ResidualBranch", module), kind))
    if not found:
        raise UsageError(f"--{kind}: this network has none")
    return found


def _units(name: str, module: ResidualBranch, kind: Kind) -> Units:
    if not isinstance(module, AttentionLayer):
        return Units(name, module, kind, module.out.in_features)
    count = cast("nn.Linear", module.key).out_features // module.head_size
    return Units(name, module, kind, count, module.out.in_features // module.head_size // count)


def _sized(choice: Attention) -> bool:
    """Return whether a choice says its number of heads, and their size by itself."""
    names = {field.name for field in fields(cast("Any", choice))}
    return "heads" in names and bool(names & {"size", "head_size"})


def smaller_attention(choice: Attention, heads: int, size: int) -> Attention:
    """Return a choice of attention with fewer heads of the same size; those of keys in proportion."""
    changes: dict[str, Any] = {"heads": heads}
    known = {field.name for field in fields(cast("Any", choice))}
    if "size" in known:
        changes["size"] = size
    if (groups := getattr(choice, "key_heads", None)) is not None:
        changes["key_heads"] = groups * heads // choice.heads  # type: ignore[attr-defined]
    return cast("Attention", replace(cast("Any", choice), **changes))


def smaller_model(
    model: Model, attention: Mapping[Attention, tuple[int, int]], feedforward: Mapping[int, int]
) -> Model:
    """Return the model with fewer heads and units.

    Args:
        model: the model.
        attention: for choices of attention, how many heads of which size are left.
        feedforward: for inner sizes, how many units are left.
    """

    def change(part: Part) -> Part:
        if isinstance(part, Attention) and part in attention:
            return smaller_attention(part, *attention[part])
        if isinstance(part, FeedForward) and (size := getattr(part, "size", None)) in feedforward:
            return cast("Part", replace(cast("Any", part), size=feedforward[cast("int", size)]))
        return part

    return rebuilt(model, change)
