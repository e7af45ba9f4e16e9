"""Encoded texts whose targets are tokens: those of a completion, or of what is written from a source.

Legend: N rows, M targets.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from genus.examples.keys import CORRUPT, generator
from genus.tasks.encode import EncodedTexts

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from genus.batch import Targets
    from genus.examples import Example
    from genus.objectives.supervised import FineTuned
    from genus.tasks.answer import Outputs


@dataclass(frozen=True)
class EncodedTokens(EncodedTexts):
    """Tokenized rows of which each has several targets: tokens, and the end token after them."""

    tokens_at_once: ClassVar[int] = 1024
    """A batch of inference has logits over the vocabulary at each of its targets."""

    objective: FineTuned
    size: NDArray[np.float64]
    """(N,) UTF-8 bytes of what each row's targets stand for."""

    @abstractmethod
    def streams(self, index: int) -> Example:
        """Return one row's sequences without targets; tokens that are given are not learned."""

    def example(self, index: int) -> Example:
        """Return one row, with its tokens as targets."""
        return self.objective.prepare_example(self.streams(index), self.vocabulary, generator(0, CORRUPT, 0, index))

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """(N + 1,) index of each row's first target."""
        numbers = [len(self.example(index).targets[self.target][0]) for index in range(len(self))]
        return np.cumsum([0, *numbers])

    def max_targets(self, examples: int, tokens: int) -> int:
        """Return the maximum number of targets of so many examples with so many tokens: a token each."""
        return tokens

    def target_slices(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the target indices of the chosen rows, concatenated."""
        return np.concatenate([chosen[:0], *(np.arange(*self.offsets[i : i + 2]) for i in chosen)])

    def answer(self, outputs: dict[str, Tensor], targets: Targets) -> Tensor:
        """Return (M, 2): -log p(target) in nats, and 1 where no token is more probable than the target, else 0."""
        logits_MV = outputs["logits"].float()
        loss_M = F.cross_entropy(logits_MV, targets.label, reduction="none")
        return torch.stack([loss_M, (logits_MV.argmax(-1) == targets.label).float()], dim=1)

    def likelihoods(self, outputs: Outputs) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return (N, 2) tokens and bytes of the labeled rows, and (N, 2) their nats and right tokens."""
        found = np.array([outputs.values[slice(*self.offsets[i : i + 2])].sum(0, np.float64) for i in range(len(self))])
        return np.stack([np.diff(self.offsets), self.size], axis=1)[self.labels], found[self.labels]

    def for_metrics(self, objective: FineTuned, outputs: Outputs, judges: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return what `likelihoods` returns."""
        return self.likelihoods(outputs)

    def answers(self, objective: FineTuned, outputs: Outputs) -> list[tuple[Any, Any]]:
        """Return the loss per token of each row, with its nats and its number of tokens."""
        return [objective.explain(outputs.values[slice(*self.offsets[i : i + 2])]) for i in range(len(self))]
