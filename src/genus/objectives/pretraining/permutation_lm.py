"""Permutation language model (Yang et al. 2019, XLNet)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from genus.batch import IGNORE, Targets
from genus.errors import ChoiceError
from genus.examples import Example
from genus.model.cost import ComponentCost
from genus.objectives.masking.targets import ContextSpans, TargetSelection
from genus.objectives.pretraining.language_model import LanguageModel, LanguageModelHead

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from genus.batch import Batch
    from genus.examples import Sequence
    from genus.model import Model, Network, States
    from genus.model.cost import ExampleLengths
    from genus.objectives import Head, Prediction, Sums
    from genus.tokens.vocabulary import Vocabulary


class PermutationLM(LanguageModel):
    """Permutation language model: -Σ log p(x_t | tokens before t in a random order), over the last 1/K of the order.

    The tokens before the last 1/K attend to each other in both directions, as in the released code (data_utils.py,
    _local_perm): the paper's sum over orders does not distinguish them. The tokens that the recurrence memory keeps
    (`Sequence.through`) come before the lookahead tokens in the order, so the memory does not depend on later text.

    Source: Yang et al. 2019, sections 2.2 and 2.3.
    """

    gives_facts: ClassVar[frozenset[str]] = frozenset({"order"})

    selection: TargetSelection = ContextSpans()

    @property
    def in_words(self) -> str:
        """Description in words: the kind of order, and the tokens that are predicted."""
        return f"{super().in_words} order ({self.selection.in_words})"

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example with a permutation order and the tokens to predict as targets; no token is replaced."""
        tokens = example.tokens
        middle = len(tokens.ids) if tokens.through is None else tokens.through
        order, chosen = np.zeros(len(tokens.ids), dtype=np.int64), np.zeros(len(tokens.ids), dtype=np.bool_)
        number = [middle // self.selection.one_in, (len(order) - middle) // self.selection.one_in]
        if not any(number):
            number[int(tokens.fixed[:middle].all())] = 1
        for predicted, stretch in zip(number, (slice(0, middle), slice(middle, len(order))), strict=True):
            chosen[stretch] = self._choose(predicted, tokens, stretch, vocabulary, rng)
            order[stretch] = 2 * stretch.start + _order(chosen[stretch] | tokens.fixed[stretch], rng)
        index = np.flatnonzero(chosen)
        streams = example.streams | {"tokens": replace(tokens, order=order)}
        return Example(streams, example.targets | {self.target: (index, tokens.ids[index])})

    def _choose(
        self, number: int, tokens: Sequence, stretch: slice, vocabulary: Vocabulary, rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Return the mask of target tokens within `stretch`; spans are drawn in the reading direction of the text."""
        way = slice(None, None, -1 if tokens.backward else 1)
        starts, free = vocabulary.word_start[tokens.ids[stretch]][way], ~tokens.fixed[stretch][way]
        return self.selection.choose(number, starts, free, rng)[way]

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return tokens / K + 1 per sequence, since even the shortest sequence has a target."""
        return {self.target: tokens // self.selection.one_in + sequences}

    def check(self, model: Model) -> None:
        """Check that the model has a query stream (two-stream attention).

        Raises:
            ChoiceError: the model has no query stream.
        """
        if model.second({"tokens": 1}) is None:
            raise ChoiceError(
                f"objectives: PermutationLM predicts from second states, which {type(model).__name__} has not; "
                "take a model with model.attention=TwoStreamAttention, such as XLNet's"
            )

    def build(self, model: Model, vocab_size: int) -> Head:
        """Build the output layer as a head over query-stream states."""
        self.check(model)
        return PermutationLMHead(self, model, vocab_size)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost of the query stream and the output layer, at one token in K."""
        second = model.second(lengths) or ComponentCost()
        return (second + self.output.cost(model, vocab_size)).scaled(1 / self.selection.one_in)


def _order(late: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return a factorization order: 0 for context tokens, visible to all; random 1, 2, ... for `late` tokens."""
    order = np.zeros(len(late), dtype=np.int64)
    order[late] = 1 + rng.permutation(int(late.sum()))
    return order


class PermutationLMHead(LanguageModelHead):
    """Permutation-language-model head: it requests query-stream states at the tokens to predict."""

    predicts: Prediction | None = "permuted"

    def prepare(self, network: Network, batch: Batch) -> tuple[Batch, Sums]:
        """Request query-stream states at the targets; the targets' index then counts these states."""
        query, targets = by_row(batch.targets[self.target], batch.tokens.row_length, len(batch.tokens.ids))
        streams = batch.streams | {"tokens": replace(batch.tokens, query=query)}
        return replace(batch, streams=streams, targets=batch.targets | {self.target: targets}), {}

    def predicting(self, states: States, batch: Batch) -> Tensor:
        """Return the query-stream states (M, H); if none were requested, content states, which see their own token."""
        stream = "tokens" if batch.tokens.query is None else "query"
        return states[stream][batch.targets[self.target].index]


def by_row(targets: Targets, length: int, cells: int) -> tuple[Tensor, Targets]:
    """Return the query positions (R, P) of targets that are sorted by row, and the targets padded to R P.

    Padding targets point to the first token of their row and have no label. P is the largest number of targets in a
    row, rounded up to a multiple of 8, so that compiled code gets few shapes. `pack` counts it on the CPU, which avoids
    a host-device synchronization; otherwise it is counted here.
    """
    rows, real = cells // length, targets.counted()
    row = targets.index // length
    number = torch.zeros(rows, dtype=torch.int64, device=row.device).scatter_add(0, row, real.long())
    most = int(number.max()) if targets.most is None else targets.most
    most = max(8, -(-most // 8) * 8)
    place = row * most + real.cumsum(0) - 1 - (number.cumsum(0) - number)[row]
    place = torch.where(real, place, rows * most)  # padding is scattered to one extra entry, cut off below
    query = torch.arange(0, cells, length, device=row.device).repeat_interleave(most)
    query = torch.cat([query, query[:1]]).scatter(0, place, targets.index)[:-1]
    labels = torch.full((rows * most + 1,), IGNORE, dtype=targets.label.dtype, device=row.device)
    labels = labels.scatter(0, place, targets.label)[:-1]
    weights = targets.weight
    if weights is not None:
        weights = weights.new_zeros(rows * most + 1).scatter(0, place, weights)[:-1]
    return query.view(-1, most), Targets(torch.arange(rows * most, device=row.device), labels, weights)
