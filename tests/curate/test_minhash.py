"""Signatures against exact Jaccard indices and `datasketch`; the edit distance against its table written out."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from genus.curate.minhash import (
    edit_distance,
    edit_similarity,
    found_with,
    jaccard,
    rows_for,
    shingles,
    signature,
    words_of,
)
from genus.text import read_documents

if TYPE_CHECKING:
    from pathlib import Path


def table(left: list[str], right: list[str]) -> int:
    """The Levenshtein distance by its recurrence."""
    row = list(range(len(right) + 1))
    for number, mine in enumerate(left, 1):
        above, row = row, [number]
        for place, yours in enumerate(right, 1):
            row.append(min(above[place] + 1, row[-1] + 1, above[place - 1] + (mine != yours)))
    return row[-1]


def test_edit_distance_is_that_of_the_table() -> None:
    draw = random.Random(0)
    for _ in range(400):
        left, right = ([draw.choice("abcd") for _ in range(draw.randrange(90))] for _ in range(2))
        assert edit_distance(left, right) == table(left, right)
    near = [*left[:40], "x", *left[41:], "y"]
    assert edit_distance(left, near) == table(left, near)


def test_edit_similarity_is_of_the_longer() -> None:
    assert edit_similarity(list("abcde"), list("abcd")) == pytest.approx(0.8)
    assert edit_similarity([], []) == 1.0
    assert edit_similarity([], ["a"]) == 0.0


def test_shingles_are_runs_of_words() -> None:
    def sets(words: list[str], n: int) -> set[tuple[str, ...]]:
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

    draw = random.Random(1)
    left, right = ([draw.choice("abc") for _ in range(60)] for _ in range(2))
    for n in (1, 2, 5):
        a, b = sets(left, n), sets(right, n)
        assert len(shingles(left, n)) == len(a)
        assert jaccard(shingles(left, n), shingles(right, n)) == pytest.approx(len(a & b) / len(a | b))
    assert len(shingles(["one", "two"], 5)) == 1
    assert jaccard(shingles(["a", "b"], 2), shingles(["b", "a"], 2)) == 0


def test_words_are_compared_without_punctuation_and_case() -> None:
    assert words_of('He said: "No!"') == ["he", "said", "no"]
    assert words_of("!!! ???") == ["!!!", "???"]


@pytest.mark.parametrize("index", [0.1, 0.5, 0.8, 0.95])
def test_agreement_estimates_the_jaccard_index(index: float) -> None:
    """The mean error is nought, and its spread sqrt(J (1 - J) / values): over 200 pairs, within four of its errors."""
    draw = np.random.default_rng(0)
    values, size = 128, 400
    common = round(2 * size * index / (1 + index))
    exact, estimates = common / (2 * size - common), []
    for _ in range(200):
        both = np.unique(draw.integers(0, 2**63, 2 * size - common).astype(np.uint64))
        left, right = both[:size], both[size - common :]
        assert jaccard(left, right) == pytest.approx(exact)
        estimates.append(np.mean(signature(left, values) == signature(right, values)))
    spread = np.sqrt(exact * (1 - exact) / values)
    assert abs(np.mean(estimates) - exact) < 4 * spread / np.sqrt(200)
    assert 0.8 * spread < np.std(estimates) < 1.2 * spread


def test_a_long_set_has_the_least_of_its_parts() -> None:
    values = np.unique(np.random.default_rng(0).integers(0, 2**63, 10_000).astype(np.uint64))
    parts = [signature(values[begin : begin + 1_000], 64) for begin in range(0, len(values), 1_000)]
    assert (signature(values, 64) == np.min(parts, axis=0)).all()


def test_bands_are_as_their_formula_says() -> None:
    assert found_with(0.8, 14, 8) == pytest.approx(0.924, abs=5e-4)  # datatrove, minhash.py
    rows = rows_for(0.8, 128, 0.99)
    assert found_with(0.8, 128 // rows, rows) >= 0.99 > found_with(0.8, 128 // (rows + 1), rows + 1)


def test_datasketch_is_no_nearer_to_the_truth(shared: Path) -> None:
    """Of real documents and spoiled copies of them, both err about as much."""
    datasketch = pytest.importorskip("datasketch")
    draw = random.Random(0)
    ours, theirs = [], []
    documents = read_documents([shared / "data" / "en_wikipedia" / "validation.jsonl.xz"])
    for text in itertools.islice(documents, 100):
        words = words_of(text)
        copy = [word if draw.random() > 0.02 else "other" for word in words]
        sets = [{" ".join(row[i : i + 5]) for i in range(len(row) - 4)} for row in (words, copy)]
        exact = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        left, right = shingles(words, 5), shingles(copy, 5)
        assert jaccard(left, right) == pytest.approx(exact)
        ours.append(np.mean(signature(left, 128) == signature(right, 128)) - exact)
        sketches = [datasketch.MinHash(num_perm=128) for _ in sets]
        for sketch, shingled in zip(sketches, sets, strict=True):
            sketch.update_batch([one.encode() for one in shingled])
        theirs.append(sketches[0].jaccard(sketches[1]) - exact)
    assert np.sqrt(np.mean(np.square(ours))) < 1.3 * np.sqrt(np.mean(np.square(theirs)))
    assert abs(np.mean(ours)) < 0.015
