"""Preferences: prompts with several responses, of which people, or a rule, have named the best.

Legend: N rows, K responses of a row at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from genus.errors import GenusError, UsageError
from genus.evaluate.metrics import Accuracy, Metric
from genus.examples import Sequence
from genus.objectives.supervised.direct_preference import RESPONSE, DirectPreferenceLM
from genus.objectives.supervised.reward import RewardModel
from genus.part import Positive
from genus.tasks.cell import label_in, several_in, text_in, written
from genus.tasks.checks import overlap, repeated
from genus.tasks.choice import Choice, number_of
from genus.tasks.completion import around, framed
from genus.tasks.dataset import targets
from genus.tasks.encode import in_the_median, room_for
from genus.tasks.groups import EncodedGroups

if TYPE_CHECKING:
    from collections.abc import Sequence as Several
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.model import Model
    from genus.objectives import Objective
    from genus.objectives.supervised import FineTuned
    from genus.tasks.dataset import Label, LabeledRow
    from genus.tokens.tokenizer import Tokenizer


class Preference(Choice):
    """Preferences by a reward model: a number for each response, of which the best has the largest.

    A row has the columns `chosen` and `rejected`, or a list of responses and which of them is best. A response goes on
    from the prompt as it stands; without a column of prompts, responses are whole texts, as those of HH-RLHF. A list of
    messages (`{"role": ..., "content": ...}`) stands for its last one.
    """

    learns: ClassVar[type[FineTuned]] = RewardModel
    checks: ClassVar = (overlap, repeated)

    texts: tuple[str, ...] = ("prompt",)
    choices: tuple[str, ...] = ("chosen", "rejected")
    """The best response and others, a column each; or with `label` the column with a list of responses."""
    label: str = ""
    """The column of the best response's number, from 0; empty: the first column of `choices` is the best."""
    separator: str = ""
    """What stands between prompt and response, where the prompt does not end with it."""
    metrics: tuple[Metric, ...] = (Accuracy(),)

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: more than one column of prompts; one column of responses, and none that says which is best.
        """
        super().__post_init__()
        if len(self.texts) != 1:
            raise UsageError(f"texts: expected the one column of the prompts, got {len(self.texts)}")
        if len(self.choices) == 1 and not self.label:
            raise UsageError(f"label: {self.choices[0]!r} holds several responses; name the column that says which is "
                             "best (--label best)")  # fmt: skip

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of responses."""
        return self.choices

    @property
    def others(self) -> tuple[str, ...]:
        """The column of prompts."""
        return self.texts

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The column of the best response's number, if there is one."""
        return (self.label,) if self.label else ()

    @property
    def purpose(self) -> str:
        """What a model is fine-tuned to do, in the words of its card."""
        return f"tell which response is preferred, of `{', '.join(self.choices)}`"

    def unfolded(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the row."""
        return [row]

    def read(self, row: dict[str, Any]) -> tuple[tuple[str, ...], Label | None]:
        """Return the prompt and the responses of a row, and the number of the best one.

        Raises:
            ValueError: a column holds something else, there is one response, or the label is none of them.
        """
        prompt = text_in(row, self.texts[0]) if self.texts[0] in row else ""
        if len(self.choices) > 1:
            names, responses = list(self.choices), [_response(row[column], column) for column in self.choices]
        else:
            cells = several_in(row, self.choices[0], "responses") or []
            names, responses = [], [_response(cell, self.choices[0]) for cell in cells]
        if len(responses) < 2:
            raise ValueError(f"column {self.choices[0]!r} holds no list of two responses or more")
        given = (prompt + self.separator if prompt else "", *responses)
        if not self.label:
            return given, "0"
        label = label_in(row, self.label)
        return given, None if label is None else str(number_of(label, names, responses, self.label))

    def of_text(self, text: str) -> tuple[str, ...]:
        """Return a whole text as a response without a prompt."""
        return ("", text)

    def objective(self, labels: Several[str]) -> FineTuned:
        """Return the objective of a reward model."""
        return RewardModel()

    def remark(self, rows: Several[LabeledRow]) -> str:
        """Return a line where no row has a prompt."""
        if any(row.texts[0] for row in rows):
            return super().remark(rows) if self.label else ""
        return f"no row has a prompt in column {self.texts[0]!r}: responses are taken for whole texts"

    def encode(
        self,
        tokenizer: Tokenizer,
        rows: Several[LabeledRow],
        objective: FineTuned,
        max_length: int,
        path: Path | None = None,
    ) -> EncodedResponses:
        """Tokenize each prompt with each of its responses as one text, of which the last `max_length` tokens are kept.

        Raises:
            GenusError: `max_length` leaves no room for text, or a row has no response.
        """
        offsets = _offsets(rows)
        whole = [row.texts[0] + response for row in rows for response in row.texts[1:]]
        room = room_for(1, tokenizer.vocabulary, max_length)
        ids = tokenizer.encode(whole, specials=False)
        lost = np.array([len(one) - room for one in ids], np.int64)
        return EncodedResponses(
            [(np.array(one[-room:], np.int32),) for one in ids], targets(rows, objective, path), objective.name,
            tokenizer.vocabulary, max_length, _most(lost, offsets), offsets, repeated=bool(objective.adds),
        )  # fmt: skip


class DirectPreference(Preference):
    """Preferences without a reward model (DPO): a causal language model itself learns to prefer the best responses.

    Rows are those of `Preference`. Tokens of responses are compared, and the end token after each; prompts are given.
    """

    learns: ClassVar = DirectPreferenceLM
    answers: ClassVar = None

    beta: Positive = 0.1
    """Strength of the pull to the model as it was (released code, README)."""

    def objective(self, labels: Several[str]) -> FineTuned:
        """Return the objective, which goes on with the language model's head."""
        return DirectPreferenceLM(beta=self.beta)

    def pretrained(self, objectives: Several[Objective], model: Model) -> FineTuned | None:
        """Return None: there is a reference in training only."""
        return None

    def encode(
        self,
        tokenizer: Tokenizer,
        rows: Several[LabeledRow],
        objective: FineTuned,
        max_length: int,
        path: Path | None = None,
    ) -> EncodedResponses:
        """Tokenize prompts and responses, each by itself; a row that is too long loses the beginning of its prompt.

        Responses of a row go on from the same prompt; one that is too long by itself loses its end.

        Raises:
            GenusError: `max_length` leaves no room for text, or a row has no response.
        """
        offsets, (before, after) = _offsets(rows), around(tokenizer.vocabulary)
        room = max_length - len(before) - len(after)
        most = room if len(before) else room - 1  # a response has something before it
        if most < 1:
            raise GenusError(f"max_length: {max_length} leaves no room for text between the special tokens; take more")
        prompts = tokenizer.encode([row.texts[0] for row in rows], specials=False)
        responses = tokenizer.encode([one for row in rows for one in row.texts[1:]], specials=False)
        texts: list[tuple[NDArray[np.int32], ...]] = []
        lost = []
        for number, prompt in enumerate(prompts):
            own = responses[offsets[number] : offsets[number + 1]]
            over = max(0, len(prompt) + max(len(one[:most]) for one in own) - room)
            texts += [(np.array(prompt[over:], np.int32), np.array(one[:most], np.int32)) for one in own]
            lost += [len(prompt) + len(one) - room for one in own]
        return EncodedContinuations(
            texts, targets(rows, objective, path), objective.name, tokenizer.vocabulary, max_length,
            _most(np.array(lost, np.int64), offsets), offsets,
        )  # fmt: skip


@dataclass(frozen=True)
class EncodedResponses(EncodedGroups):
    """Tokenized responses of N rows, each after the prompt of its row as one text."""

    @property
    def warnings(self) -> list[str]:
        """Messages on rows that were too long; none if all fit."""
        if not len(self.cut):
            return []
        return [
            f"{len(self.cut):,} of {len(self):,} rows are longer than finetuning.max_length={self.max_length} tokens "
            f"and lose the beginning of their prompts, {in_the_median(self.cut)}; take more"
        ]


@dataclass(frozen=True)
class EncodedContinuations(EncodedResponses):
    """Tokenized prompts and responses, which are told apart by the segment of their tokens."""

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(sequences,) lengths in tokens, special tokens included."""
        return np.array([len(self._framed(index).ids) for index in range(len(self.texts))])

    def _framed(self, index: int) -> Sequence:
        """Return a prompt with a response and the end token; the latter stands in front where nothing else does."""
        prompt, response = (ids.astype(np.int64) for ids in self.texts[index])
        ids, fixed, goes_on = framed(self.vocabulary, prompt, response)
        return Sequence(ids, np.where(goes_on, RESPONSE, 0), fixed)


def _response(cell: Any, column: str) -> str:
    """Return a response: a text, or the content of the last of a list of messages.

    Raises:
        ValueError: the cell holds something else.
    """
    if isinstance(cell, list):
        if not cell or not isinstance(cell[-1], dict) or not isinstance(cell[-1].get("content"), str):
            raise ValueError(f'column {column!r} holds a list, but no messages {{"role": ..., "content": ...}}')
        cell = cell[-1]["content"]
    return written(cell, column)


def _offsets(rows: Several[LabeledRow]) -> NDArray[np.int64]:
    """Return (N + 1,) the number of each row's first response among those of all rows (GenusError: it has none)."""
    for row in rows:
        if len(row.texts) < 2:
            raise GenusError(f"row {row.line}: a prompt without responses; give the prompt, then its responses")
    return np.cumsum([0, *(len(row.texts) - 1 for row in rows)])


def _most(lost: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many tokens each row lost at most, of those that lost any."""
    most = np.maximum.reduceat(lost, offsets[:-1])
    return most[most > 0]
