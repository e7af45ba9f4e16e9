"""Control codes of documents in the token store: where they come from, and that they are no part of any text."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from genus.cli import main
from genus.errors import GenusError, UsageError
from genus.text import Corpus, Fields
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.store import Store, prepare

if TYPE_CHECKING:
    from pathlib import Path

    from genus.tokens.tokenizer import Tokenizer

SOURCES = ["Wikipedia", "Books", None]
ROWS: list[dict[str, Any]] = [
    {
        "text": f"Text {n} begins. It goes on, and ends.",
        "source": SOURCES[n % 3],
        "year": 2000 + n % 5,
        "title": f"T{n}",
    }
    for n in range(60)
]
CODES = Fields(codes=("source", "year"))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return ByteBPE(vocab_size=300).train([row["text"] for row in ROWS])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "stories" / "old.tales.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def codes_of(store: Store, tokenizer: Tokenizer) -> list[list[str]]:
    """Return the codes of every document as text."""
    assert store.codes is not None
    return [
        [tokenizer.decode(store.ids[slice(*store.sentences[n : n + 2])].tolist()) for n in range(first, last)]
        for first, last in store.codes.tolist()
    ]


def texts_of(store: Store, tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.decode(store.ids[slice(*store.sentences[pair])].tolist()) for pair in store.documents]


def expected(row: dict[str, Any]) -> list[str]:
    return [str(row[name]) for name in ("source", "year") if row[name] is not None]


@pytest.mark.parametrize("workers", [1, 2])
def test_codes_stand_beside_the_texts(
    corpus: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Documents, bytes and sentences are those of a store without codes."""
    monkeypatch.setattr("genus.text.read.BLOCK_BYTES", 1_000)
    plain = prepare([corpus], tokenizer, tmp_path / "plain")
    store = prepare([corpus], tokenizer, tmp_path / "coded", fields=CODES, workers=workers)
    assert plain.codes is None
    assert codes_of(store, tokenizer) == list(map(expected, ROWS))
    assert texts_of(store, tokenizer) == texts_of(plain, tokenizer) == [row["text"] for row in ROWS]
    assert store.document_bytes.tolist() == plain.document_bytes.tolist()
    assert np.diff(store.documents).tolist() == np.diff(plain.documents).tolist()
    Store.check(tmp_path / "coded")


def test_codes_stay_with_their_documents(corpus: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """In both sides of a split, in another process, and where the ends of few documents are held out."""
    store = prepare([corpus], tokenizer, tmp_path / "store", fields=CODES)
    pairs = list(zip(texts_of(store, tokenizer), codes_of(store, tokenizer), strict=True))
    for side in store.split(0.2):
        again = pickle.loads(pickle.dumps(side))
        found = list(zip(texts_of(again, tokenizer), codes_of(again, tokenizer), strict=True))
        assert set(map(str, found)) < set(map(str, pairs))
    few = Store(store.ids, store.sentences, store.documents[:3], store.document_bytes[:3], codes=store.codes[:3])
    kept, ends = few.split(0.2)
    assert codes_of(kept, tokenizer) == codes_of(few, tokenizer)
    assert len(codes_of(ends, tokenizer)) == 2
    assert all(one in codes_of(few, tokenizer) for one in codes_of(ends, tokenizer))
    assert codes_of(pickle.loads(pickle.dumps(few)), tokenizer) == codes_of(few, tokenizer)


def test_files_and_folders_are_codes(corpus: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    places = Fields(codes=("@folder", "@file", "title"))
    store = prepare([corpus], tokenizer, tmp_path / "store", fields=places)
    assert codes_of(store, tokenizer)[3] == ["stories", "old", "T3"]
    plain = tmp_path / "poems" / "new.txt"
    plain.parent.mkdir()
    for number, text in enumerate(("One line.\nAnother line.\n", "A paragraph.\n\nAnother one.\n")):
        plain.write_text(text)
        store = prepare([plain], tokenizer, tmp_path / f"plain-{number}", fields=Fields(codes=("@file", "@folder")))
        assert codes_of(store, tokenizer) == [["new", "poems"]] * 2
    with pytest.raises(UsageError, match=r"new\.txt: --codes source: text without fields has codes by @file"):
        prepare([plain], tokenizer, tmp_path / "none", fields=CODES)


def test_codes_are_among_the_texts_of_a_tokenizer(corpus: Path) -> None:
    found = list(Corpus([corpus], CODES))
    assert found == [text for row in ROWS for text in [*expected(row), row["text"]]]


def test_a_store_of_other_codes_is_refused_and_one_from_before_is_read(
    corpus: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    folder = tmp_path / "store"
    prepare([corpus], tokenizer, folder)
    with pytest.raises(GenusError, match="was made from the field 'text', not 'source' and 'year' and 'text'"):
        prepare([corpus], tokenizer, folder, fields=CODES)
    meta = json.loads((folder / "meta.json").read_text())
    del meta["codes"]  # as stores were written before there were codes
    (folder / "meta.json").write_text(json.dumps(meta))
    assert prepare([corpus], tokenizer, folder).codes is None
    meta["codes"] = [3]
    (folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(GenusError, match=r"delete .* and prepare it again"):
        Store.open(folder)


def test_what_is_no_code_is_refused_in_one_line(
    corpus: Path, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus.write_text(json.dumps({"text": "A text.", "source": ["a", "b"]}) + "\n")
    with pytest.raises(GenusError, match=r"line 1: field 'source' is neither text nor a number but .*--codes"):
        prepare([corpus], tokenizer, tmp_path / "list", fields=Fields(codes=("source",)))
    with pytest.raises(GenusError, match=r"there is no field 'sauce', but 'text', 'source'; name one .* with --codes"):
        prepare([corpus], tokenizer, tmp_path / "none", fields=Fields(codes=("sauce",)))
    tokenizer.save(tmp_path / "words")
    arguments = ["prepare", str(corpus), "--tokenizer", str(tmp_path / "words"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--codes", "@site"]) == 2
    assert "'@site' is no place of a text; expected @file or @folder, or a field" in capsys.readouterr().err
