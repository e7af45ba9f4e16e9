"""Marks: the entities of a text, as characters of it, from the tags of its words or from spans."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from genus.evaluate.tags import LENIENT, entities, of_names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genus.objectives.supervised import FineTuned
    from genus.tasks.answer import Answer

WORD = re.compile(r"\w+|[^\w\s]")
"""A word of a text that is given to a model of words."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Characters [start, end) of a text, with a label."""

    start: int
    end: int
    label: str
    text: str
    score: float | None
    """The probability of the label: of several words the least."""


def words(text: str) -> list[tuple[int, int]]:
    """Return the characters [start, end) of each word: a run of letters and digits, or a single other character."""
    return [match.span() for match in WORD.finditer(text)]


def of_texts(
    texts: Sequence[str], objective: FineTuned, ask: Callable[[list[tuple[str, ...]]], list[Answer]]
) -> list[list[Mark]]:
    """Return the marks of each text.

    Args:
        texts: whole; a model of words is asked of their words, and not of texts that have none.
        objective: what the model was fine-tuned for.
        ask: gives the model's answers to texts, or to lists of words.
    """
    if not objective.of_words:
        return [of_spans(*both) for both in zip(texts, ask([(text,) for text in texts]), strict=True)]
    places = [words(text) for text in texts]
    rows = [tuple(text[slice(*place)] for place in own) for text, own in zip(texts, places, strict=True)]
    answers = iter(ask([row for row in rows if row]) if any(rows) else [])
    return [
        of_words(text, own, next(answers), objective.classes) if own else []
        for text, own in zip(texts, places, strict=True)
    ]


def of_spans(text: str, answer: Answer) -> list[Mark]:
    """Return the marks that a model of characters tells."""
    spans, scores = cast("list[dict[str, Any]]", answer.predicted), cast("list[float]", answer.scores)
    return [
        _mark(text, span["start"], span["end"], span["label"], score) for span, score in zip(spans, scores, strict=True)
    ]


def of_words(text: str, places: Sequence[tuple[int, int]], answer: Answer, classes: tuple[str, ...]) -> list[Mark]:
    """Return the marks of a model that tags words: entities, or each word where its classes begin and end none."""
    tags, chances = cast("list[str]", answer.predicted), cast("list[float | None]", answer.scores)
    found = entities(tags, LENIENT)
    if not of_names(classes):
        found = {(number, number + 1, tag) for number, tag in enumerate(tags)}
    return [
        _mark(text, places[first][0], places[after - 1][1], label, _least(chances[first:after]))
        for first, after, label in sorted(found)
    ]


def _mark(text: str, start: int, end: int, label: str, score: float | None) -> Mark:
    return Mark(start, end, label, text[start:end], score)


def _least(chances: Sequence[float | None]) -> float | None:
    return min((chance for chance in chances if chance is not None), default=None)
