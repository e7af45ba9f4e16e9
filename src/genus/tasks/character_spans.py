"""Token classification of plain texts: spans of characters are marked with labels, whatever the words are.

Legend: N parts of texts, M tokens of all texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from genus.batch import IGNORE
from genus.errors import GenusError, UsageError
from genus.evaluate.metrics import Metric  # a choice is read by its annotation
from genus.evaluate.tags import LENIENT, EntityF1, EntityPrecision, EntityRecall, entities
from genus.examples import Example
from genus.objectives.supervised.token import OUTSIDE, SpanTagging
from genus.tasks import Task
from genus.tasks.cell import spans_in, text_in
from genus.tasks.checks import contradictory, overlap, repeated
from genus.tasks.dataset import LabeledRow
from genus.tasks.encode import EncodedTexts, room_for
from genus.tasks.notices import Notices
from genus.tasks.words import parts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.objectives.supervised import FineTuned
    from genus.tasks.answer import Outputs
    from genus.tokens.tokenizer import Tokenizer


class CharacterSpans(Task):
    """Spans of characters: those of a column, as names in a text, are marked with their labels.

    A row has a list of spans in the column of labels, `{"start": 0, "end": 5, "label": "PER"}` or `[0, 5, "PER"]`,
    which do not overlap; an empty list is a text without any.
    """

    learns: ClassVar = SpanTagging
    answers: ClassVar = "tag"
    judged: ClassVar[tuple[str, ...]] = ("tags",)
    labels_stand_in_texts: ClassVar = True
    checks: ClassVar = (overlap, repeated, contradictory)

    label: str = "spans"
    metrics: tuple[Metric, ...] = (EntityF1(), EntityPrecision(), EntityRecall())

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: other than one column of texts, or a metric that does not compare spans.
        """
        if len(self.texts) != 1:
            raise UsageError(f"texts: expected the one column of the text, got {len(self.texts)}")
        super().__post_init__()

    def row(self, line: int, row: dict[str, Any]) -> LabeledRow:
        """Return a row with its spans.

        Raises:
            ValueError: a column holds something else, or spans outside of the text or that overlap.
        """
        text = text_in(row, self.texts[0])
        found = spans_in(row, self.label, len(text))
        if not found:
            return LabeledRow(line, (text,), None if found is None else ())
        starts, ends, labels = zip(*found, strict=True)
        return LabeledRow(line, (text,), labels, starts, ends=ends)

    def objective(self, labels: Sequence[str]) -> SpanTagging:
        """Return the objective with the tags of the labels in IOB2, sorted.

        Raises:
            GenusError: no text has a span.
        """
        if not labels:
            raise GenusError(f"column {self.label!r}: no text has a span, so there is nothing to learn")
        kinds = sorted(set(labels))
        return SpanTagging(labels=(OUTSIDE, *(f"{mark}-{kind}" for kind in kinds for mark in "BI")), usual=OUTSIDE)

    def encode(
        self,
        tokenizer: Tokenizer,
        rows: Sequence[LabeledRow],
        objective: FineTuned,
        max_length: int,
        path: Path | None = None,
    ) -> EncodedSpans:
        """Tokenize the texts of a table, split into parts of at most `max_length` tokens, between words if they can be.

        Raises:
            GenusError: a label that does not occur in training, or `max_length` leaves no room for text.
        """
        room = room_for(1, tokenizer.vocabulary, max_length)
        texts: list[tuple[NDArray[np.int32], ...]] = []
        labels, places, sizes, notices = [], [], [], Notices()
        for row in rows:
            ids, offsets = tokenizer.encode_with_offsets(row.texts[0])
            labels.append(_tags(row, offsets, objective, notices, path))
            cuts = list(parts(_words(row.texts[0], offsets, room), room))
            texts += [(ids[cut].astype(np.int32),) for cut in cuts]
            places.append(offsets)
            sizes.append(len(cuts))
        joined = np.concatenate(labels) if labels else np.zeros(0, np.int64)
        return EncodedSpans(
            texts,
            joined,
            objective.name,
            tokenizer.vocabulary,
            max_length,
            np.zeros(0, np.int64),
            rows,
            places,
            notices,
        )


@dataclass(frozen=True)
class EncodedSpans(EncodedTexts):
    """Tokenized parts of texts without special tokens; every token is a target."""

    rows: Sequence[LabeledRow]
    """The texts, whole."""
    places: Sequence[NDArray[np.int64]]
    """(tokens, 2) characters [start, stop) of the tokens of each text."""
    notices: Notices

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """(N + 1,) index of each part's first token among all."""
        return np.cumsum([0, *(len(ids) for (ids,) in self.texts)])

    def example(self, index: int) -> Example:
        """Return one part with special tokens; its targets are at all others."""
        sequence = self._framed(index)
        pieces = np.flatnonzero(~sequence.fixed)
        return Example(
            {"tokens": sequence}, {self.target: (pieces, self.labels[slice(*self._ends[index : index + 2])])}
        )

    @property
    def warnings(self) -> list[str]:
        """Messages on texts in several parts, empty ones, and spans that tokens do not show; none if all fit."""
        found, number = self.notices.sentences(), len(self.rows)
        if empty := sum(not len(each) for each in self.places):
            found.append(
                f"{empty:,} of {number:,} rows have an empty text, or one of which the tokenizer leaves nothing"
            )
        if len(self) > number - empty:
            found.append(f"{number:,} rows are read in {len(self):,} parts of at most {self.max_length} tokens")
        return found

    def max_targets(self, examples: int, tokens: int) -> int:
        """Return the maximum number of targets of so many examples with so many tokens: a token each."""
        return tokens

    def target_slices(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the target indices of the chosen parts, concatenated."""
        return np.concatenate([chosen[:0], *(np.arange(*self._ends[i : i + 2]) for i in chosen)])

    def for_metrics(self, objective: FineTuned, outputs: Outputs, judges: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return true and predicted tags of each character of the labeled texts, in IOB2."""
        pairs = [
            (_marked(len(row.texts[0]), zip(row.starts, row.ends, row.labels, strict=True)),
             _marked(len(row.texts[0]), ((one["start"], one["end"], one["label"]) for one in told)))
            for row, (told, _) in zip(self.rows, self.answers(objective, outputs), strict=True)
            if row.label is not None
        ]  # fmt: skip
        truth, found = (np.fromiter((pair[side] for pair in pairs), object, len(pairs)) for side in (0, 1))
        return truth, found

    def answers(self, objective: FineTuned, outputs: Outputs) -> list[tuple[Any, Any]]:
        """Return the spans of each text, cut from it, and the mean probability of their tokens' tags."""
        tag = cast("SpanTagging", objective)
        tags = [tag.labels[number] for number in tag.decide(outputs.values).tolist()]
        chances = tag.certainty(outputs.values)
        bounds = np.cumsum([0, *map(len, self.places)]).tolist()
        return [
            _cut(row.texts[0], places, tags[first:end], chances[first:end])
            for row, places, (first, end) in zip(self.rows, self.places, pairwise(bounds), strict=True)
        ]


def _cut(
    text: str, places: NDArray[np.int64], tags: list[str], chances: NDArray[Any]
) -> tuple[list[dict[str, Any]], list[float]]:
    """Return the spans that the tags of a text's tokens mark, without white space at their ends, and probabilities."""
    spans: list[dict[str, Any]] = []
    scores: list[float] = []
    for first, after, label in sorted(entities(tags, LENIENT)):
        start, end = int(places[first, 0]), int(places[after - 1, 1])
        whole = text[start:end]
        start, end = start + len(whole) - len(whole.lstrip()), end - len(whole) + len(whole.rstrip())
        if start < end and (not spans or start >= spans[-1]["end"]):
            spans.append({"start": start, "end": end, "label": label, "text": text[start:end]})
            scores.append(float(chances[first:after].mean()))
    return spans, scores


def _marked(length: int, spans: Any) -> list[str]:
    """Return the tags of a text's characters for its spans."""
    tags = [OUTSIDE] * length
    for start, end, label in spans:
        tags[start:end] = [f"B-{label}", *[f"I-{label}"] * (end - start - 1)]
    return tags


def _tags(
    row: LabeledRow, places: NDArray[np.int64], objective: FineTuned, notices: Notices, path: Path | None
) -> NDArray[np.int64]:
    """Return the class indices of a text's tokens, and count spans that tokens do not show as they stand.

    A token that reaches into a span is of it; of two spans that share a token, the first one has it.
    """
    if row.label is None:
        return np.full(len(places), IGNORE)
    numbers = np.full(len(places), objective.label_of(OUTSIDE), np.int64)
    text, free = row.texts[0], 0
    for start, end, label in zip(row.starts, row.ends, row.labels, strict=True):
        first = max(free, int(np.searchsorted(places[:, 1], start, side="right")))
        after = int(np.searchsorted(places[:, 0], end, side="left"))
        if first >= after:
            notices.add("the tokenizer leaves nothing of a span, which is not learned", row.line)
            continue
        try:
            numbers[first], numbers[first + 1 : after] = (objective.label_of(f"{mark}-{label}") for mark in "BI")
        except ValueError as error:
            where = f"row {row.line}" if path is None else f"{path}, line {row.line}"
            raise GenusError(f"{where}: {error}") from None
        if text[places[first, 0] : places[after - 1, 1]].strip() != text[start:end].strip():
            notices.add("a span begins or ends within a token, and is learned as the whole token", row.line)
        free = after
    return numbers


def _words(text: str, places: NDArray[np.int64], room: int) -> list[int]:
    """Return the numbers of tokens of a text's words, as white space divides them, each at most `room`."""
    starts = [
        not number or start == end or text[start : start + 1].isspace() or text[start - 1 : start].isspace()
        for number, (start, end) in enumerate(places.tolist())
    ]
    sizes = np.diff([*np.flatnonzero(starts), len(places)]).tolist() if len(places) else []
    return [part for size in sizes for part in [room] * (size // room) + [size % room] * bool(size % room)]
