"""Near duplicates: what is planted in real text is found, and all pairs are those of exact comparison."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any

import pytest

import curated
from curated import clean, page, write
from genus.curate import Curation
from genus.curate.minhash import edit_similarity, words_of
from genus.curate.near_duplicates import NearDuplicates
from genus.errors import UsageError
from genus.text import read as text_read
from genus.text import read_documents

if TYPE_CHECKING:
    from pathlib import Path


def spoiled(text: str, share: float, draw: random.Random) -> str:
    """Return the text with that share of its words replaced, at one place: near, and yet not a copy."""
    words = text.split()
    place = draw.randrange(len(words) - int(share * len(words)))
    for number in range(place, place + max(1, int(share * len(words)))):
        words[number] = "changed"
    return " ".join(words)


def exact(left: str, right: str) -> float:
    sets = []
    for text in (left, right):
        words = words_of(text)
        sets.append({tuple(words[i : i + 5]) for i in range(len(words) - 4)} or {tuple(words)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def run(tmp_path: Path, documents: list[str], choice: NearDuplicates) -> tuple[list[str], dict[str, Any]]:
    path = write(tmp_path / "text.jsonl", [{"text": text} for text in documents])
    report = clean(Curation(steps=(choice,)), [path], tmp_path / "out")
    return [one["text"] for one in curated.read(tmp_path / "out")], report


@pytest.fixture(scope="module")
def wikipedia(shared: Path) -> list[str]:
    articles = read_documents([shared / "data" / "en_wikipedia" / "validation.jsonl.xz"])
    return [text for text in itertools.islice(articles, 200) if len(text.split()) >= 100]


def test_planted_duplicates_are_found(tmp_path: Path, wikipedia: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies all of them, near ones at least at the rate that the bands promise at the threshold."""
    monkeypatch.setattr(text_read, "BLOCK_BYTES", 1 << 16)
    draw = random.Random(0)
    copies = wikipedia[::4]
    near = [spoiled(text, 0.05, draw) for text in wikipedia[1::4]]
    near = [text for text, origin in zip(near, wikipedia[1::4], strict=True) if exact(text, origin) >= 0.8]
    assert len(near) > 30
    kept, report = run(tmp_path, [*wikipedia, *copies, *near], NearDuplicates())
    assert kept[: len(wikipedia)] == wikipedia  # the first of each is kept, and nothing else is taken for a duplicate
    left = kept[len(wikipedia) :]
    assert not {*left} & {*copies}
    assert len(left) <= 0.02 * len(near) + 1
    facts = report["facts"]["0 NearDuplicates"]
    assert facts["probability at the threshold"] >= 0.99
    assert facts["clusters by size"] == {"2": len(copies) + len(near) - len(left)}


def test_pairs_are_those_of_exact_comparison(tmp_path: Path) -> None:
    """With bands of one row, every pair that shares a shingle is likely to be compared; the criteria decide."""
    draw = random.Random(2)
    pages = [page(draw, 6) for _ in range(12)]
    documents = [*pages, *(spoiled(text, share, draw) for text in pages for share in (0.02, 0.1, 0.15, 0.3))]
    choice = NearDuplicates(values=256, rows=1, threshold=0.7, edit=0.9)
    roots = list(range(len(documents)))
    for (a, left), (b, right) in itertools.combinations(enumerate(documents), 2):
        if exact(left, right) >= 0.7 and edit_similarity(words_of(left), words_of(right)) >= 0.9:
            old, new = roots[b], roots[a]
            roots = [new if root == old else root for root in roots]
    expected = [text for number, text in enumerate(documents) if roots.index(roots[number]) == number]
    kept, _ = run(tmp_path, documents, choice)
    assert kept == expected
    assert len(pages) < len(kept) < len(documents)


def test_the_longest_is_kept(tmp_path: Path) -> None:
    text = page(random.Random(0), 30)
    other = page(random.Random(1), 30)
    kept, _ = run(tmp_path, [text, f"{text} Once more.", other, text], NearDuplicates(keep="longest"))
    assert kept == [f"{text} Once more.", other]


def test_texts_without_words_are_compared_too(tmp_path: Path) -> None:
    kept, _ = run(tmp_path, ["!!!", "???", "!!!", "one", "One.", "two"], NearDuplicates(threshold=1.0, edit=None))
    assert kept == ["!!!", "???", "one", "two"]


def test_a_thousand_copies(tmp_path: Path) -> None:
    text = page(random.Random(0))
    kept, report = run(tmp_path, [text] * 1_000 + ["other text"], NearDuplicates())
    assert kept == [text, "other text"]
    facts = report["facts"]["0 NearDuplicates"]
    assert facts["clusters by size"] == {"1000": 1}
    assert facts["pairs compared"] == 0


def test_bands_fit_into_signatures() -> None:
    assert NearDuplicates(values=112, rows=8).banding == (14, 8)
    with pytest.raises(UsageError, match="a band of 9 rows has no place"):
        Curation.from_json(
            {"kind": "Curation", "steps": [{"kind": "NearDuplicates", "values": 8, "rows": 9}]},
        )
