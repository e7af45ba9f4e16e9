"""Multiple choice by prompt: the likeliest of several continuations."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from genus.errors import UsageError
from genus.prompts import Answered, PromptedTask
from genus.prompts.template import Template
from genus.tasks.choice import number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genus.evaluate.likelihood import Likelihood
    from genus.prompts import Asked, TableRow
    from genus.prompts.answerer import Answerer

Normalized = Literal["acc", "acc_norm", "acc_bytes", "acc_token", "acc_mutual_info"]

SCORES: dict[str, Callable[[Likelihood, str, float], float]] = {
    "acc": lambda found, choice, alone: found.nats,
    "acc_norm": lambda found, choice, alone: found.nats / len(choice),
    "acc_bytes": lambda found, choice, alone: found.nats / len(choice.encode()),
    "acc_token": lambda found, choice, alone: found.nats / found.tokens,
    "acc_mutual_info": lambda found, choice, alone: found.nats - alone,
}
"""The score by which each metric ranks choices, given a choice's likelihood, its text, and its nats after `neutral`."""


class MultipleChoice(PromptedTask):
    """Multiple choice: the choice that is likeliest after the prompt.

    Accuracies by the score that ranks the choices c after a prompt q, with names of EleutherAI's harness:

        acc              log P(c | q)
        acc_norm         log P(c | q) / characters of c      as the harness counts (lm_eval/api/task.py)
        acc_bytes        log P(c | q) / bytes of c in UTF-8
        acc_token        log P(c | q) / tokens of c          GPT-3 for most tasks (Brown et al. 2020, section 2.4)
        acc_mutual_info  log P(c | q) - log P(c | neutral)   GPT-3 for ARC, OpenBookQA and RACE (the same section)

    The delimiter before a choice counts to no length but that in tokens. Where k choices have the same best score, and
    the right one is among them, the row counts 1/k; the harness takes the first of them, which in BLiMP is right.
    """

    scoring: ClassVar[str] = "likelihood"

    choices: tuple[str, ...]
    """Templates of the choices: one of a column that holds a list, or one each, such as fixed labels."""
    names: str | None = None
    """Template of what the choices are called in `answer`, such as `{choices.label}`; None: A, B, ... or 0, 1, ..."""
    neutral: str = "Answer:"
    """The prompt without a question, for `acc_mutual_info` (Brown et al. 2020, section 2.4)."""
    metrics: tuple[Normalized, ...] = ("acc", "acc_norm")

    def __post_init__(self) -> None:
        """Check templates and metrics (UsageError)."""
        super().__post_init__()
        if not self.choices:
            raise UsageError("choices: expected the column of the lists of choices, or a template for each")
        for template in (*self.choices, self.names or ""):
            Template(template)

    def offered(self, row: TableRow) -> list[str]:
        """Return the choices of a row.

        Raises:
            ValueError: there are fewer than two, or one is empty.
        """
        found = [choice for template in self.choices for choice in Template(template).several(row.values)]
        for number, choice in enumerate(found, 1):
            if not choice.strip():
                raise ValueError(f"choice {number} of {len(found)} is empty")
        if len(found) < 2:
            raise ValueError(f"expected two choices or more, got {len(found)}")
        return found

    def right(self, row: TableRow) -> int:
        """Return the number of the right choice, from 0: by its template, name, letter, number or text.

        Raises:
            ValueError: the answer is none of the choices.
        """
        choices = self.offered(row)
        if self.answer in self.choices and len(choices) == len(self.choices):
            return self.choices.index(self.answer)
        names = [] if self.names is None else Template(self.names).several(row.values)
        return number_of(Template(self.answer).filled(row.values).strip(), names, choices, self.answer)

    def right_answer(self, row: TableRow) -> str:
        """Return the text of the right choice."""
        return self.offered(row)[self.right(row)]

    def answers(self, asked: Sequence[Asked], answerer: Answerer) -> list[Answered]:
        """Return the likeliest choice of each row, by each score."""
        offered = [self.offered(one.row) for one in asked]
        pairs = [(one, self.following(one, choice)) for one, own in zip(asked, offered, strict=True) for choice in own]
        names, texts = [str(one.row) for one, _ in pairs], [text for _, text in pairs]
        found = answerer.likelihoods([one.prompt for one, _ in pairs], texts, names)
        alone = [0.0] * len(pairs)
        if "acc_mutual_info" in self.metrics:
            neutral = [self.after(self.neutral, choice) for own in offered for choice in own]
            alone = [one.nats for one in answerer.likelihoods([self.neutral] * len(pairs), neutral, names)]
        answered, place = [], 0
        for one, own in zip(asked, offered, strict=True):
            end = place + len(own)
            answered.append(self._answered(one, own, found[place:end], alone[place:end]))
            place = end
        return answered

    def _answered(self, one: Asked, choices: list[str], found: list[Likelihood], alone: list[float]) -> Answered:
        """Return the answer to a row, from the likelihoods of its choices.

        Raises:
            UsageError: a choice has no token of its own.
        """
        for choice, likelihood in zip(choices, found, strict=True):
            if not likelihood.tokens:
                raise UsageError(f"{one.row}: the choice {choice!r} has no tokens; name another")
        right = self.right(one.row)
        scored = list(zip(found, choices, alone, strict=True))
        scores = {metric: np.array([SCORES[metric](*each) for each in scored]) for metric in self.metrics}
        told = {
            "choices": [
                {"text": choice, "nats": each.nats, "tokens": each.tokens}
                | ({"neutral_nats": own} if "acc_mutual_info" in self.metrics else {})
                for each, choice, own in scored
            ],
            "answer": right,
            "predicted": {metric: int(each.argmax()) for metric, each in scores.items()},
        }
        best = {metric: each == each.max() for metric, each in scores.items()}
        values: dict[str, float] = {metric: float(each[right] / each.sum()) for metric, each in best.items()}
        return Answered(values, told, any(each.cut for each in found))
