"""Completion by prompt: how likely the right continuation is, and whether greedy decoding gives it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from genus.prompts import Answered, PromptedTask
from genus.prompts.template import Template

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from genus.prompts import Asked, TableRow
    from genus.prompts.answerer import Answerer

LARGEST = 700.0
"""Largest number whose exp is taken, since exp of a larger one overflows."""


class Completion(PromptedTask):
    """Completion: the likelihood of one continuation.

        acc         share of rows in which each token of the answer is the most probable one after all before it
        perplexity  exp(-mean of log P(answer | prompt)) over rows, per answer and not per token

    as EleutherAI's harness computes both for LAMBADA. Of a model that reads both sides, each token of the answer is
    predicted from all others, those behind it included.
    """

    scoring: ClassVar[str] = "likelihood"

    metrics: tuple[Literal["acc", "perplexity"], ...] = ("acc", "perplexity")

    def right_answer(self, row: TableRow) -> str:
        """Return the answer (ValueError if it is empty)."""
        found = Template(self.answer).filled(row.values)
        if not found.strip():
            raise ValueError(f"the answer {self.answer!r} is empty")
        return found

    def answers(self, asked: Sequence[Asked], answerer: Answerer) -> list[Answered]:
        """Return the likelihood of each row's answer."""
        right = [self.right_answer(one.row) for one in asked]
        texts = [self.following(one, answer) for one, answer in zip(asked, right, strict=True)]
        found = answerer.likelihoods([one.prompt for one in asked], texts, [str(one.row) for one in asked])
        return [
            Answered(
                {"acc": float(one.greedy), "perplexity": one.nats},
                {"answer": answer, "nats": one.nats, "tokens": one.tokens, "greedy": one.greedy},
                one.cut > 0,
            )
            for one, answer in zip(found, right, strict=True)
        ]

    def summary(self, metric: str, values: NDArray[np.float64]) -> float:
        """Return the accuracy, or the perplexity from nats (N,)."""
        mean = super().summary(metric, values)
        return math.exp(min(-mean, LARGEST)) if metric == "perplexity" else mean
