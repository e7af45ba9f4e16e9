"""ELECTRA's discriminator head: one logit per token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from genus.model.cost import ComponentCost, linear_cost

if TYPE_CHECKING:
    from genus.model.activation import Activation


class BinaryHead(nn.Module):
    """Binary classifier: logit w · f(W h + b) + c (Clark et al. 2020, released code, _get_discriminator_output)."""

    def __init__(self, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)
        self.activation = activation.build()
        self.out = nn.Linear(hidden, 1)

    def forward(self, hidden_MH: Tensor) -> Tensor:
        """Forward pass: return logits (M,) of hidden states (M, H)."""
        return self.out(self.activation(self.dense(hidden_MH)))[:, 0]  # type: ignore[no-any-return]


def binary_head_cost(hidden: int) -> ComponentCost:
    """Return the cost per hidden state of a `BinaryHead`."""
    return linear_cost(hidden, hidden) + ComponentCost(activations=hidden) + linear_cost(hidden, 1)
