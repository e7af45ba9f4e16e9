"""The modules of an LSTM's layers: linear maps whose matrices the recurrence takes, and ELMo's mixture of layers.

Legend: F inner size of a feed-forward network or of an LSTM; O tokens in time-major order, without padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from genus.model.recurrence import Recurrence, step_by_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.model.initialization import Initialization
    from genus.model.lstm import LSTM
    from genus.model.recurrence import State, Steps


class LSTMDirection(nn.Module):
    """One direction of a layer: the linear maps `input`, `recurrent` and `out`, or none in its place."""

    def __init__(self, choice: LSTM, inputs: int) -> None:
        super().__init__()
        self.cells, self.forget_bias = choice.size or choice.hidden, choice.forget_bias
        self.input = nn.Linear(inputs, 4 * self.cells)
        self.recurrent = nn.Linear(choice.hidden, 4 * self.cells, bias=False)
        self.out = None if choice.size is None else nn.Linear(self.cells, choice.hidden, bias=False)

    def forward(self, x: Tensor, begin: State, steps: Steps) -> State:
        """Forward pass in time-major order: return hidden states (O, H) and cells (O, F).

        The matrices of the maps are what they make of the unit vectors, so that whatever stands in the place of a
        linear map has one. That costs as much as so many tokens: fewer are given to the maps themselves.
        """
        gates, (h, c) = self.input(x), begin
        if len(x) < max(h.shape[-1], c.shape[-1]):
            return step_by_step(gates, begin, steps, self.recurrent, self.out or nn.Identity())
        matrix = self.recurrent(torch.eye(h.shape[-1], dtype=x.dtype, device=x.device))
        out = None if self.out is None else self.out(torch.eye(self.cells, dtype=x.dtype, device=x.device))
        return Recurrence.apply(gates, h, c, matrix, out, steps)  # type: ignore[no-any-return, no-untyped-call]

    def init_weights(self, initialization: Initialization) -> None:
        """Initialize the bias of the forget gate."""
        with torch.no_grad():
            self.input.bias[self.cells : 2 * self.cells] = self.forget_bias


class LSTMLayer(nn.Module):
    """A layer: its `directions`, each with dropout before it, and a residual connection if it has one."""

    def __init__(self, choice: LSTM, number: int) -> None:
        super().__init__()
        sizes = [choice.inputs_of(number)] * choice.directions
        self.directions = nn.ModuleList(LSTMDirection(choice, inputs) for inputs in sizes)
        self.dropout = nn.Dropout(choice.dropout)
        self.residual = choice.residual and number > 0

    def forward(
        self, given: Sequence[Tensor], begin: Sequence[State], steps: Sequence[Steps]
    ) -> tuple[list[Tensor], list[State]]:
        """Forward pass, each direction in its own order: return outputs (O, H), and hidden states and cells, of each.

        Args:
            given: the inputs of each direction.
            begin: hidden states (N, H) and cells (N, F) before the first step.
            steps: the order of each direction.
        """
        outputs, states = [], []
        for direction, x, state, order in zip(self.directions, given, begin, steps, strict=True):
            x = self.dropout(x)
            states.append(direction(x, state, order))
            outputs.append(states[-1][0] + x if self.residual else states[-1][0])
        return outputs, states


class LayerMix(nn.Module):
    """gamma Σ_j softmax(s)_j h_j over the layers j, with learned gamma = 1 and s = 0 at first (ELMo, equation 1)."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(layers))
        self.gamma = nn.Parameter(torch.ones(1))

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """Forward pass: return (T, H) for the states (T, H) of each layer."""
        weights = self.gamma * self.scores.softmax(0)
        return torch.stack(list(layers), -1) @ weights.to(layers[0].dtype)
