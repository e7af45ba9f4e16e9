"""Token prediction: examples of which a language-model head predicts tokens, and its logits for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self, cast

import numpy as np

from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.inference import Work
from genus.objectives import answering, device_of
from genus.train.precision import autocast

if TYPE_CHECKING:
    from collections.abc import Sequence as Several

    from numpy.typing import NDArray
    from torch import Tensor

    from genus.batch import Batch, Targets
    from genus.objectives import Head, Learner, Prediction
    from genus.tokens.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Predictor:
    """A head that predicts tokens of a text, and the learner that it belongs to."""

    learner: Learner
    name: str
    """Name of the head."""

    @classmethod
    def find(cls, learner: Learner, *ways: Prediction) -> Self | None:
        """Return the head that `Learner.predicting` finds, None without one."""
        found = learner.predicting(*ways)
        return None if found is None else cls(*found)

    @property
    def head(self) -> Head:
        """The head of that name."""
        return cast("Head", self.learner.heads[self.name])

    def hide(self, sequence: Sequence, at_M: NDArray[np.int64], vocabulary: Vocabulary) -> Example:
        """Return the example in which the tokens `at_M` of a sequence are predicted from all others.

        A masked language model gets the mask token in their places. Of a permutation language model they come last in
        the order: no token attends to them, and their query-stream states attend to all others.
        """
        original_M = sequence.ids[at_M]
        if self.head.predicts == "permuted":
            order = np.zeros(len(sequence.ids), np.int64)
            order[at_M] = 1
            sequence = replace(sequence, order=order)
        else:
            ids = sequence.ids.copy()
            ids[at_M] = vocabulary.mask
            sequence = replace(sequence, ids=ids)
        return Example({"tokens": sequence}, {self.head.target: (at_M, original_M)})

    def read_on(self, ids: NDArray[np.int64], start: int) -> Example:
        """Return the example in which the tokens from `start` on are predicted, each from all before it.

        For a causal model; `start` is at least 1, and what stands before it is given.
        """
        before, nothing = ids[:-1], np.zeros(len(ids) - 1, np.int64)
        sequence = Sequence(before, nothing, nothing.astype(np.bool_))
        return Example({"tokens": sequence}, {self.head.target: (np.arange(start - 1, len(before)), ids[start:])})

    def logits(self, rows: Several[Several[Example]], length: int, pad: int, precision: str) -> tuple[Tensor, Tensor]:
        """Return the logits (M, V) for the targets of packed examples, in their order, and the targets' labels (M,).

        There is no dropout, no gradient and no memory of other batches.

        Args:
            rows: the examples of each row.
            length: of a row.
            pad: the id of padding.
            precision: dtype of the forward pass, as in `Run.precision`.
        """
        device = device_of(self.learner)
        batch = replace(pack(rows, length, pad, streams=False), heads=frozenset({self.name})).to(device)
        with answering(self.learner), autocast(precision, device):
            batch, _ = self.head.prepare(self.learner.network, batch)
            logits_MV = self.learner.outputs(batch)[self.name]["logits"]
        targets = batch.targets[self.head.target]
        real_M = targets.counted()
        return logits_MV[real_M], targets.label[real_M]


@dataclass(frozen=True, kw_only=True, slots=True)
class HiddenTokens(Work):
    """A text of which tokens are predicted that `Predictor.hide` has hidden: the answer is their logits (M, V)."""

    changes_batch: ClassVar[bool] = True

    example: Example

    @classmethod
    def of(cls, predictor: Predictor, example: Example, pad: int) -> Self:
        """Return what is asked of a predictor."""
        lengths = {"tokens": [len(example.tokens.ids)]}
        return cls(
            learner=predictor.learner, head=predictor.name, target=predictor.head.target, pad=pad, lengths=lengths,
            example=example,
        )  # fmt: skip

    def examples(self) -> list[Example]:
        """Return the text."""
        return [self.example]

    def prepared(self, batch: Batch) -> Batch:
        """Return the batch as the head wants it."""
        return Predictor(self.learner, self.head).head.prepare(self.learner.network, batch)[0]

    def answer(self, outputs: dict[str, Tensor], targets: Targets) -> Tensor:
        """Return the logits (M, V)."""
        return outputs["logits"]
