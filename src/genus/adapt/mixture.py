"""Mixtures: several learners that differ in low-rank updates of one base answer in one forward pass.

Legend: r ranks of all updates of a map together.
"""

from __future__ import annotations

import copy
import functools
import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from genus.adapt import detach
from genus.adapt.lora import NAME, LowRankUpdate, updated
from genus.model.roles import linear_maps, reads_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from genus.batch import Batch
    from genus.model import Model, Network, States
    from genus.objectives import Learner

Updates = dict[str, LowRankUpdate]
"""The updates of a network by the names of their maps."""
Term = tuple[Tensor, Tensor, Tensor]
"""Of a map: A of all updates (r, in), B of all (out, r), and for each token their scales (T, r), 0 of others'."""


class Unmixable(Exception):
    """A network's maps are not given the tokens of the batch, so that no update can be chosen for each."""


class Mixture:
    """One network with the weights of a base, in which each sequence gets the updates of its own learner, or none.

    The updates of a map stand side by side: W x + b + B (s * A x), with the rows of all A, the columns of all B, and
    the scales s of those that the token's learner has, 0 of all others.

    Source: Chen et al. 2023 (Punica, arXiv:2310.18547), section 4: a batch of several adapters on one backbone. There a
    kernel gathers each token's A and B; here products are dense, as ranks are small.
    """

    def __init__(self, first: Learner) -> None:
        """Begin with a learner, the base or an adapted one; it alone is in the mixture if it cannot be mixed."""
        self.first, self.lock = network_of(first), threading.Lock()
        self.members: dict[nn.Module, Updates] = {}
        self.terms: dict[str, Term] = {}
        """Of the pass that is computed, by the names of maps."""
        if self.first is not None and (updates := _updates(self.first)) is not None:
            self.members[self.first] = updates

    def add(self, learner: Learner) -> bool:
        """Take a learner into the mixture; return whether it can be mixed with the others.

        It can if its network has the architecture and the very tensors of theirs, but for low-rank updates of maps over
        tokens and for what tasks add.
        """
        network = network_of(learner)
        if network is None or not self.members:
            return False
        updates = _updates(network)
        if updates is None or _base(network) != _base(next(iter(self.members))):
            return False
        self.members[network] = updates
        return True

    def remove(self, learner: Learner) -> None:
        """Forget a learner that was taken."""
        self.members.pop(cast("nn.Module", network_of(learner)), None)

    def __contains__(self, learner: Learner) -> bool:
        """Return whether passes of a learner may be shared with others."""
        return len(self.members) > 1 and network_of(learner) in self.members

    @cached_property
    def network(self) -> Network:
        """The network, which shares its tensors with the first learner's."""
        first = cast("Network", self.first)
        shared = {id(tensor): tensor for tensor in (*first.parameters(), *first.buffers())}
        made = copy.deepcopy(first, shared)
        for name, _, module in [*linear_maps(made)]:
            if hasattr(module, NAME):
                detach(module, NAME, updated)
            module.register_forward_hook(functools.partial(self._updated, name))
        return made

    def states(self, batch: Batch, learners: Sequence[Learner], owner_T: Tensor, *, layers: bool = False) -> States:
        """Return the hidden states of a batch; a mixture computes one pass at a time.

        Args:
            batch: of one stream, on the device of the learners.
            learners: whose sequences are in the batch.
            owner_T: (T,) for each token the number of its learner among these.
            layers: also return the hidden states of every layer.

        Raises:
            Unmixable: the network's maps are not given the tokens of the batch.
        """
        if batch.streams.keys() != {"tokens"}:
            raise Unmixable
        members = [self.members[cast("nn.Module", network_of(learner))] for learner in learners]
        with self.lock:
            self.terms = _terms(members, owner_T)
            try:
                return self.network(batch, layers=layers)  # type: ignore[no-any-return]
            finally:
                self.terms = {}

    def _updated(self, name: str, module: nn.Module, given: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """Forward hook of a linear map: add the updates of the pass."""
        if name not in self.terms:
            return None
        down, up, scale_Tr = self.terms[name]
        (x_TH,) = given
        if x_TH.shape[:-1] != scale_Tr.shape[:1]:
            raise Unmixable
        return output + F.linear(F.linear(x_TH, down) * scale_Tr, up).to(output.dtype)


def mixtures_of(learners: Sequence[Learner]) -> list[Mixture]:
    """Return mixtures of those learners that can be mixed; others are in none."""
    found: list[Mixture] = []
    for learner in learners:
        if not any(mixture.add(learner) for mixture in found):
            found.append(Mixture(learner))
    return [mixture for mixture in found if len(mixture.members) > 1]


def network_of(learner: Learner) -> nn.Module | None:
    """Return the network of a learner; None of one that is computed elsewhere, as a graph is."""
    return dict(learner.named_children()).get("network")


def _base(network: nn.Module) -> Any:
    """Return the architecture of a network and where its tensors lie, without updates and what tasks add."""
    apart = tuple(f"{name}." for name in cast("Network", network).task_modules)
    tensors = (*network.named_parameters(), *network.named_buffers())
    choice: Model | None = getattr(network, "choice", None)
    return choice if choice is None else choice.unpooled(), {
        name: (tensor.data_ptr(), tensor.shape)
        for name, tensor in tensors
        if f".{NAME}." not in name and not name.startswith(apart)
    }


def _updates(network: nn.Module) -> Updates | None:
    """Return the updates of a network; None: some map of them is not given the tokens of the batch."""
    maps = [(name, role, module) for name, role, module in linear_maps(network) if hasattr(module, NAME)]
    if not all(reads_tokens(name, role) for name, role, _ in maps):
        return None
    return {name: cast("LowRankUpdate", module.get_submodule(NAME)) for name, _, module in maps}


def _terms(members: Sequence[Updates], owner_T: Tensor) -> dict[str, Term]:
    """Return what is added to each map that any of these updates."""
    found: dict[str, Term] = {}
    scales: dict[tuple[tuple[int, int, float], ...], Tensor] = {}
    for name in dict.fromkeys(name for updates in members for name in updates):
        own = {number: updates[name] for number, updates in enumerate(members) if name in updates}
        factors = [update.factors() for update in own.values()]
        columns = tuple((number, len(down), update.scale) for (number, update), (down, _) in
                        zip(own.items(), factors, strict=True))  # fmt: skip
        if columns not in scales:
            scales[columns] = _scales(columns, len(members), factors[0][0])[owner_T]
        found[name] = torch.cat([down for down, _ in factors]), torch.cat([up for _, up in factors], 1), scales[columns]
    return found


def _scales(columns: Sequence[tuple[int, int, float]], members: int, like: Tensor) -> Tensor:
    """Return for each member (members, r) the scales of its own update's ranks, 0 of the others'."""
    rows = [[scale if owner == member else 0.0 for owner, rank, scale in columns for _ in range(rank)]
            for member in range(members)]  # fmt: skip
    return like.new_tensor(rows)
