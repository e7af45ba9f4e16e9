"""A store of curated text knows where its documents come from, and how they were curated."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import curated
from genus.curate import Curation
from genus.curate.contamination import Contamination
from genus.curate.duplicates import ExactDuplicates
from genus.errors import GenusError
from genus.text import Fields
from genus.text import read as text_read
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.tokens.store import Store, prepare
from genus.tokens.store import curated as curations_of
from genus.tokens.store.journal import Journal
from genus.tokens.store.origins import Origins

if TYPE_CHECKING:
    from pathlib import Path

    from genus.tokens.tokenizer import Tokenizer


@pytest.fixture
def cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cleaned folder of several blocks."""
    monkeypatch.setattr(text_read, "BLOCK_BYTES", 1 << 13)
    curated.clean(Curation(steps=(ExactDuplicates(),)), curated.corpus(tmp_path / "text", 100), tmp_path / "clean")
    return tmp_path / "clean"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return WordPiece(vocab_size=200).train([" ".join(curated.WORDS)] * 3)


def test_a_documents_number_gives_its_source(tmp_path: Path, cleaned: Path, tokenizer: Tokenizer) -> None:
    store = prepare([cleaned], tokenizer, tmp_path / "store", workers=1)
    documents, origins = curated.read(cleaned), Origins(tmp_path / "store")
    assert len(origins) == len(store.documents) == len(documents) == 90
    for number, document in enumerate(documents):
        assert origins[number] == {name: document[name] for name in ("source", "row", "url")}
        first, last = store.sentences[store.documents[number]]
        assert tokenizer.encode([document["text"]])[0] == store.ids[first:last].tolist()
    assert origins[-1] == origins[89]
    assert origins[3:5] == [origins[3], origins[4]]
    with pytest.raises(IndexError):
        origins[90]
    Store.check(tmp_path / "store")


def test_workers_and_an_interruption_change_no_byte(
    tmp_path: Path, cleaned: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare([cleaned], tokenizer, tmp_path / "whole", workers=1)
    append = Journal.append
    blocks = 0

    def mortal(journal: Journal, block: Any) -> None:
        nonlocal blocks
        blocks += 1
        if blocks % 3 == 0:
            raise KeyboardInterrupt
        append(journal, block)

    monkeypatch.setattr(Journal, "append", mortal)
    for _ in range(20):
        try:
            prepare([cleaned], tokenizer, tmp_path / "store", workers=1)
            break
        except KeyboardInterrupt:
            continue
    assert blocks > 6
    whole, store = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "store")
    )
    assert whole == store
    assert "origins.jsonl" in whole


def test_damaged_origins_are_found(tmp_path: Path, cleaned: Path, tokenizer: Tokenizer) -> None:
    prepare([cleaned], tokenizer, tmp_path / "store", workers=1)
    path = tmp_path / "store" / "origins.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"row": 2,', b'"row": 3,', 1))
    with pytest.raises(GenusError, match=r"origins.jsonl: is damaged"):
        Store.check(tmp_path / "store")
    path.unlink()
    with pytest.raises(GenusError, match=r"origins.jsonl: is damaged"):
        Store.open(tmp_path / "store")


def test_fields_are_kept_of_any_text_that_is_asked_for(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "a.txt").write_text("baran kovek\n\n\u0e01\n\nmilis\ntumon\n")
    fields = Fields(kept=("url",))
    prepare([tmp_path / "a.txt"], tokenizer, tmp_path / "plain", workers=1, fields=fields)
    assert [*Origins(tmp_path / "plain")] == [{"source": str(tmp_path / "a.txt"), "row": row} for row in (1, 3, 5)]
    rows: list[dict[str, Any]] = [{"text": "baran", "url": "u", "id": 3}, {"text": ""}, {"text": "kovek", "secret": 1}]
    path = curated.write(tmp_path / "b.jsonl", rows)
    prepare([path], tokenizer, tmp_path / "lines", workers=1, fields=fields)
    assert [*Origins(tmp_path / "lines")] == [
        {"source": str(path), "row": 1, "url": "u"},
        {"source": str(path), "row": 3},
    ]
    prepare([path], tokenizer, tmp_path / "without", workers=1)
    assert sorted(one.name for one in (tmp_path / "without").iterdir() if not one.name.startswith(".")) == [
        "documents.bin",
        "ids.bin",
        "meta.json",
        "sentences.bin",
    ]
    with pytest.raises(GenusError, match="keeps no origins of its documents"):
        Origins(tmp_path / "without")
    assert curations_of(tmp_path / "without") == []


def test_a_store_opened_again_keeps_what_it_kept(tmp_path: Path, cleaned: Path, tokenizer: Tokenizer) -> None:
    prepare([cleaned], tokenizer, tmp_path / "store", workers=1, fields=Fields(kept=("url",)))
    store = prepare([cleaned], tokenizer, tmp_path / "store", workers=1)
    assert list(Origins(tmp_path / "store")[0]) == ["source", "row", "url"]
    assert store.tokens


@pytest.mark.parametrize("remove", [True, False])
def test_a_store_knows_its_curation(tmp_path: Path, tokenizer: Tokenizer, remove: bool) -> None:
    texts = curated.corpus(tmp_path / "text", 20)
    table = curated.write(tmp_path / "task.jsonl", [{"question": json.loads(curated.lines(texts[1])[3])["text"]}])
    for name, steps in (
        ("clean", (ExactDuplicates(), Contamination(tables=(str(table),), remove=remove))),
        ("other", (ExactDuplicates(),)),
    ):
        choice = Curation(steps=steps)
        curated.clean(choice, texts, tmp_path / name)
    prepare([tmp_path / "clean", tmp_path / "other"], tokenizer, tmp_path / "store", workers=1)
    first, second = curations_of(tmp_path / "store")
    assert (first["name"], second) == ("clean", {"name": "other", "hash": choice.hash(), "contamination": []})
    done = "were removed" if remove else "were counted, and kept"
    assert first["contamination"] == [f"Documents that share 13 words in a row with a row of {table} {done}."]
    changed = replace(choice, steps=(ExactDuplicates(), Contamination(tables=(str(table),), remove=remove)))
    assert first["hash"] == changed.hash()
