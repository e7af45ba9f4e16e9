"""Feed-forward networks that are chosen for each token among several, the experts: mixtures, and the Switch layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from genus.model.compile import uncompiled
from genus.model.cost import ComponentCost, linear_cost
from genus.model.feedforward import FeedForward, RoutedBranch, Routing
from genus.part import Count, NotNegative, Positive

if TYPE_CHECKING:
    from genus.model.initialization import Initialization, ResidualBranch

BALANCE = "load_balance"
"""Name of the loss that balances the load of the experts."""


class Experts(FeedForward, ABC):
    """Experts: Σ_i g_i E_i(x) over the k experts with the largest router probabilities p = softmax(W x).

    The load-balancing loss of a micro-batch and a layer is balance · E · Σ_i f_i P_i, where f_i is the share of tokens
    whose first choice is expert i, and P_i the mean of p_i (Fedus et al. 2021, equations 4 to 6). Layers are summed.
    The router computes in float32.

    Without a capacity every token reaches its experts, so that no document depends on another. With one, an expert
    takes capacity · T / E tokens in training, earlier tokens and first choices before others: what it cannot take is
    dropped (its sum has 0 there), which depends on the other documents of the batch. Nothing is dropped in evaluation.
    """

    expert: FeedForward
    """The network of one expert; each has weights of its own."""
    experts: Count
    """E."""
    capacity: Positive | None = None
    """Tokens that an expert takes in training, as a multiple of an even share of all; None: as many as there are."""
    balance: NotNegative = 0.01
    """Weight of the load-balancing loss (Fedus et al. 2021, section 2.2: alpha = 10⁻²)."""

    def __post_init__(self) -> None:
        """Check that there are as many experts as are chosen, and that they are plain networks (ValueError)."""
        if self.number > self.experts:
            raise ValueError(f"feedforward.experts: {self.number} are chosen, and there are {self.experts}")
        if self.expert.losses or self.expert.of_layer(1) != self.expert:
            raise ValueError("feedforward.expert: an expert is one plain network; take MLP or GatedMLP")

    @property
    @abstractmethod
    def number(self) -> int:
        """k, the number of experts of a token."""

    @abstractmethod
    def gates(self, chances: Tensor) -> Tensor:
        """Return g (T, k) of the k largest probabilities (T, k), the largest first."""

    @property
    def in_words(self) -> str:
        """How many of how many experts, and of what kind."""
        return f"{self.number} of {self.experts} experts ({self.expert.in_words})"

    @property
    def losses(self) -> frozenset[str]:
        """The load-balancing loss."""
        return frozenset({BALANCE})

    def build(self, hidden: int) -> ResidualBranch:
        """Return the module for hidden states of size H = `hidden`."""
        return ExpertsLayer(self, hidden)

    def cost(self, hidden: int) -> ComponentCost:
        """Return the cost per token: the parameters of all experts, the work of k, and the router."""
        one = self.expert.cost(hidden)
        chosen = replace(one.scaled(self.number), parameters=self.experts * one.parameters)
        return chosen + linear_cost(hidden, self.experts, bias=False) + ComponentCost(activations=self.experts)


class MixtureOfExperts(Experts):
    """Mixture of experts: g_i = p_i / Σ p_j over the k chosen ones.

    Sources: Shazeer et al. 2017, equations 1 to 5, without noise: a softmax over the k largest logits;
    mesh_tensorflow/transformer/moe.py, top_2, for the loss.
    """

    chosen: Count = 2
    """k (mesh_tensorflow: top_2)."""

    @property
    def number(self) -> int:
        """k, the number of experts of a token."""
        return self.chosen

    def gates(self, chances: Tensor) -> Tensor:
        """Return the k largest probabilities, divided by their sum."""
        return chances / chances.sum(-1, keepdim=True)


class Switch(Experts):
    """Switch layer: p_i E_i(x) of the expert i with the largest probability (Fedus et al. 2021, section 2.1).

    Left out: the noise on the router's input, dropout within experts in fine-tuning, and smaller initial weights.
    """

    @property
    def number(self) -> int:
        """One expert a token."""
        return 1

    def gates(self, chances: Tensor) -> Tensor:
        """Return the largest probability."""
        return chances


class ExpertsLayer(RoutedBranch):
    """The module of experts and their router."""

    def __init__(self, choice: Experts, hidden: int) -> None:
        super().__init__()
        self.choice, self.hidden = choice, hidden
        self.router = nn.Linear(hidden, choice.experts, bias=False)
        self.experts = nn.ModuleList(choice.expert.build(hidden) for _ in range(choice.experts))

    @property
    def width(self) -> int:
        """H, the size of its output."""
        return self.hidden

    def init_weights(self, initialization: Initialization) -> None:
        """Initialize the experts' output projections, as those of one branch."""
        for expert in cast("list[ResidualBranch]", list(self.experts)):
            expert.residual_scale = self.residual_scale
            expert.init_weights(initialization)

    @uncompiled
    def forward(self, x: Tensor, routing: Routing | None = None) -> Tensor:
        """Forward pass: return (T, H); 0 for padding."""
        real = x.new_ones(len(x), dtype=torch.bool) if routing is None else routing.real
        chances = self.chances(x)
        top, expert = chances.topk(self.choice.number, dim=-1)
        kept = self.kept(expert, real)
        out = self.sent(x, expert.masked_fill(~kept, self.choice.experts))
        if routing is not None:
            routing.losses[BALANCE] = self.imbalance(chances, expert[:, 0], real)
            if self.choice.capacity is not None:
                routing.losses[f"{BALANCE}/dropped"] = (real[:, None] & ~kept).sum()
        return (out * self.choice.gates(top).to(out.dtype)[:, :, None]).sum(1)

    def chances(self, x: Tensor) -> Tensor:
        """Return the router's probabilities (T, E), in float32 at least."""
        with torch.autocast(x.device.type, enabled=False):
            logits: Tensor = self.router(x.to(torch.promote_types(torch.float32, x.dtype)))
        return logits.softmax(-1)

    def kept(self, expert: Tensor, real: Tensor) -> Tensor:
        """Return (T, k) bool: which tokens reach which of their experts."""
        taken = real[:, None].expand_as(expert)
        if self.choice.capacity is None or not self.training:
            return taken
        most = max(1, int(self.choice.capacity * len(expert) / self.choice.experts))
        wanted = expert.masked_fill(~taken, self.choice.experts).t().flatten()  # first choices first
        asked = nn.functional.one_hot(wanted, self.choice.experts + 1)
        place = ((asked.cumsum(0) - 1) * asked).sum(-1)
        return taken & (place < most).view(expert.t().shape).t()

    def sent(self, x: Tensor, expert: Tensor) -> Tensor:
        """Return what its experts (T, k) make of each token, (T, k, H); 0 where the number is E, which is none."""
        number = self.choice.number
        whose = expert.flatten()
        order = whose.argsort(stable=True)
        sizes = whose.bincount(minlength=self.choice.experts + 1).tolist()
        parts = torch.split(x.index_select(0, order // number), sizes)
        found = [one(part) for one, part in zip(self.experts, parts, strict=False)]
        found.append(torch.zeros_like(parts[-1], dtype=found[0].dtype))
        return torch.cat(found).index_select(0, order.argsort()).view(len(x), number, -1)

    def imbalance(self, chances: Tensor, first: Tensor, real: Tensor) -> Tensor:
        """Return the load-balancing loss, times the number of real tokens."""
        weight = real.to(chances.dtype)[:, None]
        mean = (chances * weight).sum(0) / weight.sum().clamp(min=1)
        tokens = (nn.functional.one_hot(first, self.choice.experts) * weight).sum(0)
        return self.choice.balance * self.choice.experts * (tokens * mean).sum()
