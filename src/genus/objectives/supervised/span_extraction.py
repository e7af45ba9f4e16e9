"""Extractive question answering: where in a text the answer to a question begins and ends.

Legend: C candidates of a sequence: its null position, then the tokens of the text.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np
import torch
from torch.nn import functional as F

from genus.batch import IGNORE
from genus.errors import UsageError
from genus.objectives.linear_head import LinearHead
from genus.objectives.supervised import SOURCE, LinearFineTuned
from genus.part import Count, Fraction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from genus.batch import Batch, Targets
    from genus.model import Model, Network, States
    from genus.objectives import Head, Objective, Sums

N_BEST = 20
"""Spans of a question with different texts that are compared (released code, run_squad.py: n_best_size)."""


class SpanExtraction(LinearFineTuned):
    """Span extraction: -1/2 Σ (log softmax_c(s_c)[start] + log softmax_c(e_c)[end]), with (s_c, e_c) = W d(h_c) + b.

    Candidates c of a sequence are its null position, which is the target where the sequence does not hold the answer,
    and the tokens of the text. A context that is too long is read in several sequences, its windows.

    Source: Devlin et al. 2018, sections 4.2 and 4.3; released code, run_squad.py. Deviation: there the softmax is over
    all tokens, those of the question and padding too, which are no answers.
    """

    texts: Literal[1, 2] | None = 2
    dropout: Fraction = 0.0
    """Dropout rate of the head's input; none in the released code."""
    stride: Count | None = None
    """Tokens from the beginning of a window to that of the next; None: `doc_stride` of the released code, 128, or a
    third of the longest sequence where that is less."""
    question_length: Count = 64
    """Most tokens of a question, which loses its end (released code: max_query_length)."""
    answer_length: Count = 30
    """Most tokens of an answer (released code: max_answer_length)."""
    null_threshold: float | None = None
    """A question has no answer where the logits of the null position, the least of its windows, are more than this
    above those of its best span; None: every question has an answer."""

    @property
    def outputs(self) -> int:
        """Two logits per token: that the answer begins there, and that it ends there."""
        return 2

    @property
    def tuned_thresholds(self) -> dict[str, float]:
        """The null threshold, if there is one."""
        return {} if self.null_threshold is None else {"null_threshold": self.null_threshold}

    @property
    def told_over(self) -> str:
        """A sentence on the null threshold, if there is one."""
        if self.null_threshold is None:
            return ""
        return f"a question has no answer where that scores more than {self.null_threshold:.3g} above its best span"

    def continued(self, objectives: Sequence[Objective], model: Model) -> Self:
        """Return the objective unchanged.

        Raises:
            UsageError: the model is an encoder-decoder, whose decoder has seen the first words only.
        """
        if SOURCE in model.streams:
            raise UsageError("task: an encoder-decoder tells no spans of a text; take an encoder, or --task "
                             "text-to-text, which writes answers")  # fmt: skip
        return self

    def tempered(self, head: Head, temperature: float) -> Self:
        """Return the objective, with weights and bias, and a null threshold, that are divided by the temperature."""
        cast("LinearHead", head).rescale(1 / temperature, 0.0)
        over = self.null_threshold
        return self if over is None else replace(self, null_threshold=over / temperature)

    def sums(self, outputs_MC2: Tensor, targets: Targets) -> Sums:
        """Return the loss, and the number of targets of which begin and end are right."""
        (loss,) = self.losses
        total = F.cross_entropy(outputs_MC2, targets.label, ignore_index=IGNORE, reduction="sum") / 2
        return {loss: total, f"{loss}/correct": (outputs_MC2.argmax(1) == targets.label).all(1).sum()}

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return one target per sequence."""
        return {self.target: sequences}

    def build(self, model: Model, vocab_size: int) -> LinearHead:
        """Build the head, whose linear layer scores begin and end at every token."""
        return SpanHead(self, model)

    def label_of(self, label: str | None) -> int | float:
        """Return the value that the loss ignores for None, else 0: answers are found in the text, and no classes."""
        return IGNORE if label is None else 0

    def can_be(self, label: str) -> bool:
        """Return True: any text is an answer."""
        return True

    def ranked(
        self, outputs_C2: NDArray[np.float32], begins_C: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the best spans of a sequence, best first: first and last candidates (K, 2), sums (K,) of their logits.

        There are up to `N_BEST`² of them, as many as the released code has between its `N_BEST` best begins and ends.
        Deviation: here they are the best of all spans, so that there always is one.

        Args:
            outputs_C2: logits of the candidates, of which the first is the null position, and no span.
            begins_C: where a span may begin; None: at every token of the text.
        """
        begin_C, end_C = outputs_C2.astype(np.float64).T.copy()
        begin_C[0] = end_C[0] = -np.inf
        if begins_C is not None:
            begin_C[~begins_C] = -np.inf
        count = len(begin_C)
        sums = np.full((count, min(self.answer_length, count)), -np.inf)  # by begin and number of further tokens
        for further in range(sums.shape[1]):
            sums[: count - further, further] = begin_C[: count - further] + end_C[further:]
        top = np.argpartition(-sums, min(N_BEST**2, sums.size) - 1, axis=None)[: N_BEST**2]
        top = top[np.lexsort((top, -sums.flat[top]))]
        top = top[sums.flat[top] > -np.inf]
        begin, rest = np.unravel_index(top, sums.shape)
        return np.stack([begin, begin + rest], axis=1), sums.flat[top]

    def decide(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the first and last candidate (M, 2) of the best span of each sequence, the null position without."""
        best = [(*self.ranked(outputs_C2)[0], (0, 0))[0] for outputs_C2 in outputs]
        return np.array(best, np.int64).reshape(len(outputs), 2)

    def explain(self, outputs: NDArray[np.float32]) -> tuple[str | float, dict[str, float]]:
        """Return the best span of one sequence as its first and last candidate, and the sums of the best spans."""
        pairs = zip(*(side[:N_BEST].tolist() for side in self.ranked(outputs)), strict=True)
        spans = {f"{first}-{last}": total for (first, last), total in pairs}
        return next(iter(spans), ""), spans


class SpanHead(LinearHead):
    """Linear layer over the hidden states of all tokens, with the logits of begin and end."""

    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return `start_logits` and `end_logits` (M, C) at the candidates of each target, -inf where it has fewer.

        Where a target is one token, they are (M,).
        """
        targets = batch.targets[self.target]
        logits_T2 = self.classes(self.dropout(states[targets.stream]))
        logits = logits_T2[targets.index.clamp(min=0)].masked_fill((targets.index < 0).unsqueeze(-1), float("-inf"))
        begin, end = logits.unbind(-1)
        return {"start_logits": begin, "end_logits": end}

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return the loss and its metrics, summed over targets."""
        both = self.outputs(network, states, batch).values()
        return self.choice.sums(torch.stack([*both], dim=-1).float(), batch.targets[self.target])
