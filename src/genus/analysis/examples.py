"""Answers to look at: the most confident mistakes, right answers in doubt, and what the model reads in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.analysis.findings import Example, Passage
from genus.analysis.gradients import gradient_times_input
from genus.analysis.words import spans_of, summed
from genus.objectives import device_of
from genus.tasks.feed import batch_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from genus.analysis import Analysis, Answered, Decisions, Told
    from genus.analysis.words import Piece

WRONG, FAR = "The most confident mistakes", "The largest errors"
DOUBTFUL, SURE, UNSURE = "The most uncertain right answers", "The most confident answers", "The most uncertain answers"
"""Why answers are shown; the last two where no truth is known."""


def chosen(analysis: Analysis, found: Decisions) -> dict[str, list[int]]:
    """Return the decisions that are shown, by why; of equal confidences the first ones."""
    if not found.known_U.any():
        every = np.arange(len(found.known_U)) if analysis.probable else np.zeros(0, np.int64)
        picked = {SURE: _first(every, -found.confidence_U, analysis.mistakes)}
        picked |= {UNSURE: _first(every, found.confidence_U, analysis.right)}
    else:
        wrong = np.flatnonzero(found.known_U & ~found.right_U)
        picked = {WRONG if analysis.probable else FAR: _first(wrong, -found.confidence_U, analysis.mistakes)}
        picked |= {DOUBTFUL: _first(np.flatnonzero(found.right_U), found.confidence_U, analysis.right)}
    return {why: several for why, several in picked.items() if several}


def _first(places: NDArray[np.int64], keys_U: NDArray[np.float64], number: int) -> list[int]:
    order = np.argsort(keys_U[places], kind="stable")
    return [int(place) for place in places[order][:number]]


def examples(
    analysis: Analysis, given: Answered, found: Decisions, progress: Callable[[int, int | None], None] | None = None
) -> dict[str, list[Example]]:
    """Return the answers that are shown, by why, each with what its words contribute."""
    picked, done = chosen(analysis, found), 0
    total = sum(map(len, picked.values()))
    shown: dict[str, list[Example]] = {}
    for why, several in picked.items():
        shown[why] = []
        for decision in several:
            chance = float(found.confidence_U[decision]) if analysis.probable else None
            shown[why].append(example(analysis, given, decision, int(found.row_U[decision]), chance))
            done += 1
            if progress is not None:
                progress(done, total)
    return shown


def example(analysis: Analysis, given: Answered, decision: int, row: int, probability: float | None) -> Example:
    """Return one answer with the gradient times input of the words that it was made from."""
    told = analysis.told(given, decision)
    pieces, special = contributions(analysis, given, row, told)
    passages = []
    for number, (text, spans) in enumerate(analysis.texts(given, row)):
        own = pieces.get(number, [])
        known = spans_of(text, [start for start, _, _ in own]) if spans is None else spans
        total = float(sum(value for _, _, value in own))
        passages.append(Passage(text, summed(known, own), total, told.marks.get(number, [])))
    line = given.rows[row]
    return Example(line.line, line.id, told.truth, told.predicted, probability, passages, told.explains, special)


def contributions(analysis: Analysis, given: Answered, row: int, told: Told) -> tuple[dict[int, list[Piece]], float]:
    """Return the pieces of each text of a row with their gradient times input, and the sum over special tokens.

    A text that is read several times, as a question with each choice, has its pieces as often.
    """
    encoded, learner = given.encoded, given.model.learner
    batch = batch_of(encoded, np.array([told.example])).to(device_of(learner))
    totals = gradient_times_input(learner, batch, encoded.target, told.number)
    found: dict[int, list[Piece]] = {}
    everything, of_texts = sum(float(total.sum()) for total in totals.values()), 0.0
    for place, sequence in enumerate(encoded.sequences(np.array([told.example])).tolist()):
        pieces = analysis.pieces(given, row, sequence)
        sums = np.zeros(len(pieces))
        for stream, total_T in totals.items():
            number_L = encoded.piece_numbers(sequence, stream)
            start = place * batch.streams[stream].row_length
            inside = number_L >= 0
            np.add.at(sums, number_L[inside], total_T[start : start + len(number_L)][inside])
        of_texts += float(sums.sum())
        for (text, first, stop), value in zip(pieces, sums.tolist(), strict=True):
            found.setdefault(text, []).append((first, stop, value))
    return found, everything - of_texts

