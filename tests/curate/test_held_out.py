"""Text that is held out of a cleaned corpus has no near duplicate in what is trained on."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import curated
from genus.curate.presets import load
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.tokens.store import Store, prepare

if TYPE_CHECKING:
    from pathlib import Path


def shingles(store: Store) -> list[set[tuple[int, ...]]]:
    """Return the runs of five tokens of each document."""
    found = []
    for first, last in store.sentences[store.documents]:
        ids = store.ids[first:last].tolist()
        found.append({tuple(ids[place : place + 5]) for place in range(len(ids) - 4)})
    return found


def near(folder: Path, out: Path) -> list[float]:
    """Return the Jaccard index of each held-out document and the training document that is nearest."""
    tokenizer = WordPiece(vocab_size=300).train([" ".join(curated.WORDS)] * 3)
    training, held_out = prepare([folder], tokenizer, out, workers=1).split(0.2)
    others = shingles(training)
    return [max(len(one & other) / len(one | other) for other in others) for one in shingles(held_out)]


def test_near_duplicates_stay_on_one_side(tmp_path: Path) -> None:
    """Of every text there is a copy with one word changed."""
    draw, texts = random.Random(0), []
    for _ in range(60):
        text = curated.page(draw)
        words = text.split()
        words[draw.randrange(5, len(words))] = "other"
        texts += [text, " ".join(words)]
    path = curated.write(tmp_path / "text" / "a.jsonl", [{"text": text} for text in texts])
    assert max(near(tmp_path / "text", tmp_path / "store")) > 0.8  # as it is
    curated.clean(load("light").override("steps.1.keep", "all"), [path], tmp_path / "marked")
    marked = curated.read(tmp_path / "marked")
    assert len(marked) == 120
    assert [one["cluster"] for one in marked[::2]] == [one["cluster"] for one in marked[1::2]]
    assert len({one["cluster"] for one in marked}) == 60
    assert max(near(tmp_path / "marked", tmp_path / "held out together")) < 0.5
    curated.clean(load("light"), [path], tmp_path / "clean")
    assert len(curated.read(tmp_path / "clean")) == 60
    assert max(near(tmp_path / "clean", tmp_path / "cleaned")) < 0.5
