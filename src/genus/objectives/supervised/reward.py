"""Reward model: one number for a text, learned from which of several responses people prefer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from genus.objectives.supervised.choice import ChoiceHead, MultipleChoice

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.model import Model


class RewardModel(MultipleChoice):
    """Reward model: r(x, y) = w · d(h) + b at the last token of prompt x and response y, with d dropout.

    The loss of K responses of which b is the best is -log softmax_k(r(x, y_k))[b]; of two it is that of Bradley and
    Terry, -log sigmoid(r(x, y_best) - r(x, y_other)).

    w starts from a normal distribution of variance 1 / (H + 1), b from 0.

    Source: Ziegler et al. 2019, equation 1; initialization: released code, language/model.py, fc_layer. Deviation: the
    scale of r is left as it is learned; who uses it for reinforcement learning normalizes it (`Rollouts.normalize`).
    """

    def build(self, model: Model, vocab_size: int) -> ChoiceHead:
        """Build the head, whose linear layer scores a response."""
        return RewardHead(self, model)

    def rewards(self, outputs: NDArray[np.float32], label: str | None) -> NDArray[np.float64]:
        """Return the scores (N,) of single texts; there is no class to name."""
        self.refuse_class(label)
        return np.asarray(outputs[:, 0], np.float64)

    def explain(self, outputs: NDArray[np.float32]) -> tuple[str | float | list[str], dict[str, float]]:
        """Return the number of the best response and the reward of each; of a single text its reward alone."""
        found = outputs[np.isfinite(outputs)].tolist()
        if len(found) == 1:
            return float(found[0]), {}
        return str(int(outputs.argmax())), {str(number): value for number, value in enumerate(found)}


class RewardHead(ChoiceHead):
    """Linear layer on the state of the last token, which starts with the variance of the paper's."""

    def __init__(self, choice: RewardModel, model: Model) -> None:
        super().__init__(choice, model)
        nn.init.normal_(self.classes.weight, std=(self.classes.in_features + 1) ** -0.5)
        if self.classes.bias is not None:
            nn.init.zeros_(self.classes.bias)
