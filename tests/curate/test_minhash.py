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
    words_of,
)
from genus.curate.sketches import signatures, sketches, word_hashes
from genus.text import read_documents

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def signature(elements: NDArray[np.uint64], values: int) -> NDArray[np.uint32]:
    (found,) = sketched([elements], values)
    return np.asarray(found)


def sketched(sets: list[NDArray[np.uint64]], values: int) -> NDArray[np.uint32]:
    """Return the signatures of many sets, made together."""
    owners = np.repeat(np.arange(len(sets)), [len(one) for one in sets])
    return sketches(np.concatenate(sets), owners, len(sets), values)


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
    """The mean error is nought, over 200 pairs within four of its errors; its spread is at most that of the formula.

    In large sets it is less, as no element lowers two values.
    """
    draw = np.random.default_rng(0)
    values, size = 128, 400
    common = round(2 * size * index / (1 + index))
    exact = common / (2 * size - common)
    sets: list[NDArray[np.uint64]] = []
    for _ in range(200):
        both = np.unique(draw.integers(0, 2**63, 2 * size - common).astype(np.uint64))
        sets += [both[:size], both[size - common :]]
        assert jaccard(*sets[-2:]) == pytest.approx(exact)
    found = sketched(sets, values)
    estimates = np.mean(found[::2] == found[1::2], axis=1)
    spread = np.sqrt(exact * (1 - exact) / values)
    assert abs(np.mean(estimates) - exact) < 4 * spread / np.sqrt(200)
    assert 0.6 * spread < np.std(estimates) < 1.2 * spread


@pytest.mark.parametrize("size", [1, 2, 5, 20, 127, 128, 1000])
def test_signatures_of_small_sets_estimate_as_well(size: int) -> None:
    """Sets of less elements than a signature has values; none is left without a value."""
    draw = np.random.default_rng(size)
    sets: list[NDArray[np.uint64]] = []
    commons, values = list[int](), 128
    for _ in range(300):
        commons.append(int(draw.integers(0, size + 1)))
        both = draw.integers(0, 2**63, 2 * size - commons[-1]).astype(np.uint64)
        sets += [both[:size], both[size - commons[-1] :]]
    found = sketched(sets, values)
    assert found.max() < 0xFFFFFFFF
    exact = np.array([common / (2 * size - common) for common in commons])
    spread = np.maximum(np.sqrt(exact * (1 - exact) / values), 1e-9)
    errors = (np.mean(found[::2] == found[1::2], axis=1) - exact) / spread
    assert abs(np.mean(errors)) < 4 / np.sqrt(len(errors))
    assert np.std(errors) < 1.2


def test_repeated_elements_count_once_and_sets_do_not_touch() -> None:
    draw = np.random.default_rng(0)
    sets = [draw.integers(0, 2**63, size).astype(np.uint64) for size in (1, 300, 5, 40, 128)]
    alone = [signature(one, 64) for one in sets]
    doubled = [np.concatenate([one, one[::-1]]) for one in sets]
    owners = np.repeat(np.arange(len(sets)), [len(one) for one in doubled])
    assert (sketches(np.concatenate(doubled), owners, len(sets), 64) == np.stack(alone)).all()


def test_words_of_many_texts_are_those_of_each() -> None:
    """Equal words have equal hashes, others have not; texts without letters have words too."""
    texts = [
        "One two, ONE!",
        "",
        "...!",
        "ünï_code été Ǆ ΑΣ ΑΣΑ 中文 字",
        "x" * 3,
        "a\u0301b \ud800 c",
        "٣ ² x",
        "... !",
    ]
    texts += [" ".join(str(number) for number in range(2_000)), "two"]
    hashes, counts = word_hashes(texts)
    words = [word for text in texts for word in words_of(text)]
    assert counts.tolist() == [len(words_of(text)) for text in texts]
    named = dict(zip(words, hashes.tolist(), strict=True))
    assert [named[word] for word in words] == hashes.tolist()
    assert len({*named.values()}) == len(named)


@pytest.mark.parametrize("part", range(4))
def test_words_of_every_character(part: int) -> None:
    """In lower case as Python has it, whatever stands around: a tenth of all characters."""
    draw = random.Random(0)
    letters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    draw.shuffle(letters)
    for begin in range(part * 997, len(letters) // 8, 4 * 997):
        some = letters[begin : begin + 997]
        texts = ["".join(draw.choice([draw.choice(some), *"aB .Σ"]) for _ in range(100)) for _ in range(20)]
        texts.append(" x".join(some))
        hashes, counts = word_hashes(texts)
        words = [word for text in texts for word in words_of(text)]
        assert counts.tolist() == [len(words_of(text)) for text in texts]
        named = dict(zip(words, hashes.tolist(), strict=True))
        assert [named[word] for word in words] == hashes.tolist()
        assert len({*named.values()}) == len(named)


def test_signatures_are_of_sets_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts with the same runs of words have the same signature, in whatever parts they are read."""
    draw = random.Random(0)
    texts = [" ".join(draw.choice("abcdefgh") for _ in range(draw.randrange(0, 200))) for _ in range(50)]
    texts += ["a b c", "A, b: c!", "c b a", texts[0].upper()]
    found = signatures(texts, 5, 64)
    assert (found[-4] == found[-3]).all()
    assert (found[-1] == found[0]).all()
    assert not (found[-4] == found[-2]).all()
    for text, mine in zip(texts, found, strict=True):
        assert (signatures([text], 5, 64)[0] == mine).all()
    monkeypatch.setattr("genus.curate.sketches.AT_ONCE", 90)
    assert (signatures(texts, 5, 64) == found).all()


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
        signed = signatures([text, " ".join(copy)], 5, 128)
        ours.append(np.mean(signed[0] == signed[1]) - exact)
        sketches = [datasketch.MinHash(num_perm=128) for _ in sets]
        for sketch, shingled in zip(sketches, sets, strict=True):
            sketch.update_batch([one.encode() for one in shingled])
        theirs.append(sketches[0].jaccard(sketches[1]) - exact)
    assert np.sqrt(np.mean(np.square(ours))) < 1.3 * np.sqrt(np.mean(np.square(theirs)))
    assert abs(np.mean(ours)) < 0.015
