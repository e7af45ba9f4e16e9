"""The roles of a network's modules by their names: what adapts a network from outside finds its places here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from torch import nn

from genus.model.initialization import ResidualBranch

if TYPE_CHECKING:
    from collections.abc import Iterator

MapRole = Literal["query", "key", "value", "output", "feedforward", "recurrent"]
"""Roles of the linear maps of layers: of attention, of feed-forward networks, and of an LSTM's gates and states."""
MAP_ROLES: tuple[MapRole, ...] = get_args(MapRole)
OF_ATTENTION: dict[str, MapRole] = {
    "query": "query", "query_key": "query", "key": "key", "relative": "key", "value": "value", "out": "output",
}  # fmt: skip
"""Maps of attention by name. LSH's one map for queries and keys counts as a query's, W_r of distances as a key's."""
SUBLAYERS = ("attention", "cross", "feedforward")
"""Names of the sub-layers of a layer."""
LAYERS = "layers"
"""Name of a network's stack."""


def linear_maps(network: nn.Module) -> Iterator[tuple[str, MapRole, nn.Linear]]:
    """Yield name, role and module of each linear map of the layers, each once: shared ones by their first name."""
    for name, module in network.named_modules():
        steps = name.split(".")
        if not isinstance(module, nn.Linear) or LAYERS not in steps:
            continue
        if "feedforward" in steps:
            yield name, "feedforward", module
        elif "directions" in steps:
            yield name, "recurrent", module
        elif steps[-1] in OF_ATTENTION:
            yield name, OF_ATTENTION[steps[-1]], module


def reads_tokens(name: str, role: MapRole) -> bool:
    """Return whether a map of `linear_maps` is given the tokens of the batch (T, H) in their order.

    An LSTM's are given the tokens in time-major order, the map of distances has no tokens.
    """
    return role != "recurrent" and name.rpartition(".")[2] != "relative"


def in_half_precision(name: str, role: MapRole) -> bool:
    """Return whether autocast multiplies a map of `linear_maps` in its dtype; routers and LSTMs have float32 states."""
    return role != "recurrent" and name.rpartition(".")[2] != "router"


def sublayers(network: nn.Module) -> Iterator[tuple[str, ResidualBranch]]:
    """Yield name and module of each sub-layer on a residual connection, each once."""
    for name, module in network.named_modules():
        if isinstance(module, ResidualBranch) and name.rpartition(".")[2] in SUBLAYERS:
            yield name, module


def stacks(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of each stack of layers."""
    for name, module in network.named_modules():
        if name.rpartition(".")[2] == LAYERS:
            yield name, module


def norms(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the normalizations with parameters."""
    for module in network.modules():
        if isinstance(module, nn.LayerNorm | nn.RMSNorm):
            yield module
