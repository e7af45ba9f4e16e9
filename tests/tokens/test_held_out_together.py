"""Documents that belong together, by a field, are held out together."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest

from genus.errors import GenusError
from genus.text import Fields
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.tokens.store import Store, prepare

if TYPE_CHECKING:
    from pathlib import Path

    from genus.tokens.tokenizer import Tokenizer

BOOKS = Fields(together="book")


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    return WordPiece(vocab_size=120).train(["chapter 0 1 2 3 4 5 6 7 8 9 of a book."] * 3)


def write(path: Path, books: list[int | None]) -> Path:
    rows = [{"text": f"chapter {n} of a book."} | ({} if b is None else {"book": b}) for n, b in enumerate(books)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sides(store: Store, whole: Store, share: float) -> tuple[set[int], set[int]]:
    """Return the numbers of the documents that are trained on and held out."""
    first = {int(one): number for number, one in enumerate(whole.documents[:, 0])}
    one, other = ({first[int(row)] for row in side.documents[:, 0]} for side in store.split(share))
    return one, other


def test_a_book_is_on_one_side(tmp_path: Path, words: Tokenizer) -> None:
    draw = np.random.default_rng(0)
    books = [None if number % 4 == 0 else int(draw.integers(0, 60)) for number in range(400)]
    path = write(tmp_path / "text.jsonl", books)
    store = prepare([path], words, tmp_path / "store", workers=1, fields=BOOKS)
    Store.check(tmp_path / "store")
    training, held_out = sides(store, store, 0.2)
    assert training | held_out == {*range(400)}
    assert not training & held_out
    in_books = [{books[number] for number in side} - {None} for side in (training, held_out)]
    assert not in_books[0] & in_books[1]
    assert 0.1 < len(held_out) / 400 < 0.3
    assert sides(pickle.loads(pickle.dumps(store)), store, 0.2) == (training, held_out)

    alone = sides(prepare([path], words, tmp_path / "alone", workers=1), store, 0.2)
    by_themselves = {number for number, book in enumerate(books) if book is None}
    assert alone[1] & by_themselves == held_out & by_themselves, "those without the field are drawn as ever"
    split = [{books[number] for number in side} - {None} for side in alone]
    assert split[0] & split[1], "as it is without the field"

    reversed_path = write(tmp_path / "other.jsonl", books[::-1])
    other = prepare([reversed_path], words, tmp_path / "other", workers=1, fields=BOOKS)
    again = {books[::-1][number] for number in sides(other, other, 0.2)[1]} - {None}
    assert again == in_books[1], "a book has its side in every store"


def test_what_cannot_be_held_out(tmp_path: Path, words: Tokenizer) -> None:
    path = write(tmp_path / "text.jsonl", [1] * 9)
    store = prepare([path], words, tmp_path / "store", workers=1, fields=BOOKS)
    with pytest.raises(GenusError, match="all documents belong together, so none can be held out"):
        store.split(0.1)
    assert len(store.split(0.0)[0].documents) == 9
    with pytest.raises(GenusError, match="was made with book held out together, not author"):
        prepare([path], words, tmp_path / "store", workers=1, fields=Fields(together="author"))
    assert prepare([path], words, tmp_path / "store", workers=1).together is not None
    nothing = prepare([path], words, tmp_path / "nothing", workers=1, fields=Fields(together="author"))
    assert nothing.together is None
