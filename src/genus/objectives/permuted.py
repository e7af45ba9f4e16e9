"""The permutation language model (Yang et al. 2019).

Legend: L sequence length, R rows, P predicted cells of a row at most, M targets.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from genus.batch import IGNORE, Batch, Targets
from genus.errors import UsageError
from genus.examples import Example
from genus.model.demand import Demand
from genus.model.output import Output, Tied
from genus.model.recurrent import Recurrent
from genus.objectives import Head, Objective, Sums
from genus.objectives.partial import ContextSpans, Partial

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from genus.examples import Sequence
    from genus.model import Model, Network, States
    from genus.tokens.vocabulary import Vocabulary


class Permuted(Objective):
    """-Σ log p(x_t | all tokens that come before t in a random order), over the last 1/K of the order.

    Those before the last 1/K see each other whatever their order, as in the released code (data_utils.py, _local_perm):
    the paper's sum over orders does not tell them apart. What the stream comes through is ordered before what only
    looks ahead, so that what is remembered of it knows nothing of what comes.

    Source: Yang et al. 2019, sections 2.2 and 2.3.
    """

    over_tokens: ClassVar[bool] = True
    gives_facts: ClassVar[frozenset[str]] = frozenset({"order"})

    partial: Partial = ContextSpans()
    output: Output = Tied()

    @property
    def in_words(self) -> str:
        """What is predicted."""
        return f"{super().in_words} order ({self.partial.in_words})"

    def corrupt(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example with an order, and the tokens to predict as the target `permuted`; none is replaced."""
        tokens = example.tokens
        middle = len(tokens.ids) if tokens.through is None else tokens.through
        order, chosen = np.zeros(len(tokens.ids), dtype=np.int64), np.zeros(len(tokens.ids), dtype=np.bool_)
        number = [middle // self.partial.one_in, (len(order) - middle) // self.partial.one_in]
        if not any(number):
            number[int(tokens.fixed[:middle].all())] = 1
        for predicted, stretch in zip(number, (slice(0, middle), slice(middle, len(order))), strict=True):
            chosen[stretch] = self._choose(predicted, tokens, stretch, vocabulary, rng)
            order[stretch] = 2 * stretch.start + _order(chosen[stretch] | tokens.fixed[stretch], rng)
        index = np.flatnonzero(chosen)
        streams = example.streams | {"tokens": replace(tokens, order=order)}
        return Example(streams, example.targets | {"permuted": (index, tokens.ids[index])})

    def _choose(
        self, number: int, tokens: Sequence, stretch: slice, vocabulary: Vocabulary, rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Return what is predicted of a stretch; spans are drawn in the direction in which the text reads."""
        way = slice(None, None, -1 if tokens.backward else 1)
        starts, free = vocabulary.word_start[tokens.ids[stretch]][way], ~tokens.fixed[stretch][way]
        return self.partial.choose(number, starts, free, rng)[way]

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return one in K tokens, and one a sequence, since the shortest have one too."""
        return {"permuted": tokens // self.partial.one_in + sequences}

    def build(self, model: Model, vocab_size: int) -> Head:
        """Return the head.

        Raises:
            UsageError: the model has no second states.
        """
        try:
            self.check(model)
        except ValueError as error:
            raise UsageError(str(error)) from None
        return PermutedHead(self, model, vocab_size)

    def check(self, model: Model) -> None:
        """Refuse a model without second states.

        Raises:
            ValueError: as said.
        """
        if not isinstance(model, Recurrent) or not model.attention.queries:
            raise ValueError(
                f"objectives: Permuted predicts from second states, which this {type(model).__name__} does not have; "
                "take a model with model.attention=TwoStream, such as XLNet's"
            )

    def demand(self, model: Model, vocab_size: int, length: int) -> Demand:
        """Return the demand of second states and of the output layer, on one token in K."""
        second = model.second(length) if isinstance(model, Recurrent) else Demand()
        return (second + self.output.demand(model, vocab_size)).on(1 / self.partial.one_in)


def _order(late: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return 0 for what comes first and is seen by all, and 1, 2, ... at random for the late ones."""
    order = np.zeros(len(late), dtype=np.int64)
    order[late] = 1 + rng.permutation(int(late.sum()))
    return order


class PermutedHead(Head):
    """The permutation language model at work: it has the model give the cells to predict a second state."""

    def __init__(self, choice: Permuted, model: Model, vocab_size: int) -> None:
        super().__init__()
        self.tokens = choice.output.build(model, vocab_size)
        model.initialize(self)

    def prepare(self, network: Network, batch: Batch) -> tuple[Batch, Sums]:
        """Ask for second states at the targets, whose index is then the number of the state."""
        query, targets = by_row(batch.targets["permuted"], batch.tokens.row_length, len(batch.tokens.ids))
        streams = batch.streams | {"tokens": replace(batch.tokens, query=query)}
        return replace(batch, streams=streams, targets=batch.targets | {"permuted": targets}), {}

    def counts(self, batch: Batch) -> Sums:
        """Return the number of tokens to predict."""
        return {"permuted": batch.targets["permuted"].counted().sum()}

    def forward(self, network: Network, hidden: States, batch: Batch) -> Sums:
        """Return `permuted`, the summed negative log-likelihood in nats, and `permuted/correct`."""
        targets = batch.targets["permuted"]
        found = self.tokens.loss(hidden["query"][targets.index], network.token_embedding, targets.label)
        return {"permuted": found.pop("loss"), **{f"permuted/{name}": value for name, value in found.items()}}


def by_row(targets: Targets, length: int, cells: int) -> tuple[Tensor, Targets]:
    """Return the cells (R, P) of targets that come row by row, and the targets in that form (R P).

    What a row has too few of stands at its first cell, without a label. P is the largest number of any row, rounded up
    to a multiple of 8, so that compiled code meets few shapes.
    """
    real = targets.counted()
    index, label = targets.index[real], targets.label[real]
    row = index // length
    number = torch.bincount(row, minlength=cells // length)
    most = max(8, -(-int(number.max()) // 8) * 8)
    place = row * most + torch.arange(len(row), device=row.device) - (number.cumsum(0) - number)[row]
    query = torch.arange(0, cells, length, device=row.device).repeat_interleave(most)
    query[place] = index
    labels = torch.full_like(query, IGNORE)
    labels[place] = label
    return query.view(-1, most), Targets(torch.arange(len(query), device=row.device), labels)
