"""What of a corpus is held out, unknown, cut or replaced is bounded, counted and said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from genus.errors import GenusError
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.tokens.store import Store, counts, prepare, tokenize_corpus

if TYPE_CHECKING:
    from pathlib import Path

    from genus.tokens.tokenizer import Tokenizer

TEXTS = [f"Document {number} begins. It goes on, and ends; {'word ' * (number % 7)}." for number in range(200)]


@pytest.fixture(scope="module")
def wordpiece() -> Tokenizer:
    return WordPiece(vocab_size=300).train(TEXTS)


@pytest.fixture(scope="module")
def byte_bpe() -> Tokenizer:
    return ByteBPE(vocab_size=300).train(TEXTS)


@pytest.mark.parametrize(
    ("lengths", "held_out"), [([10, 20, 4000], 0.005), ([3000], 0.01), ([50, 60], 0.1), ([900, 700, 800, 750], 0.2)]
)
def test_of_few_documents_the_last_sentences_are_held_out(lengths: list[int], held_out: float) -> None:
    ends = np.cumsum(lengths)
    total = 7 * int(ends[-1])
    rows = np.stack([ends - lengths, ends], axis=1)
    store = Store(np.arange(total, dtype=np.uint32), np.arange(0, total + 1, 7), rows, np.array(lengths) * 30)
    training, other = store.split(held_out)
    assert 0 < other.tokens <= held_out * total
    assert training.tokens + other.tokens == store.tokens
    for first, last in other.documents.tolist():
        whole = next(row for row in rows.tolist() if row[1] == last)
        assert [whole[0], first] in training.documents.tolist()
    assert training.document_bytes.sum() + other.document_bytes.sum() == pytest.approx(
        store.document_bytes.sum(), abs=2
    )


def test_one_sentence_is_held_out_where_the_share_is_less() -> None:
    store = Store(np.arange(60, dtype=np.uint16), np.arange(0, 61, 10), np.array([[0, 6]]), np.array([60]))
    training, other = store.split(0.01)
    assert (training.documents.tolist(), other.documents.tolist()) == ([[0, 5]], [[5, 6]])


def test_unknown_tokens_are_counted_and_said(tmp_path: Path, wordpiece: Tokenizer) -> None:
    unknown = wordpiece.vocabulary.unk
    (tmp_path / "a.txt").write_text("Document 1 begins \u4e00 \u4e01.\n\nIt goes on.", encoding="utf-8")
    store = prepare([tmp_path / "a.txt"], wordpiece, tmp_path / "store", workers=1)
    found = counts(tmp_path / "store")
    assert found.unknown == (store.ids == unknown).sum() == 2
    assert "of the tokens are unknown" in "".join(found.notices())
    (tmp_path / "b.txt").write_text("\u4e00\u4e01\u4e02\n\n\u4e03", encoding="utf-8")
    with pytest.raises(GenusError, match="100% of the tokens are unknown"):
        prepare([tmp_path / "b.txt"], wordpiece, tmp_path / "b", workers=1)
    assert not (tmp_path / "b" / "meta.json").exists()


def test_all_that_is_lost_has_a_line(tmp_path: Path, byte_bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genus.text.read.BLOCK_BYTES", 10)
    monkeypatch.setattr("genus.text.read.LONGEST_DOCUMENT", 1_000)
    (tmp_path / "a.txt").write_bytes(b"one line \xff\n" + b"word " * 1_000)
    (tmp_path / "b.jsonl").write_text('{"text": "text"}\n{"text": null}\n{"text": " "}\n')
    prepare([tmp_path], byte_bpe, tmp_path / "store", workers=1)
    found = counts(tmp_path / "store")
    assert (found.replaced, found.empty, found.unknown) == (1, 2, 0)
    assert found.cut > 3
    numbers = [line.split(" d")[0].split(" i")[0] for line in found.notices()]
    assert numbers == ["1", f"2 of {found.documents + 2}", str(found.cut)]


@pytest.mark.parametrize("separator", [". It goes on. ", " ", ""])
def test_a_long_document_is_tokenized_in_stretches(
    byte_bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch, separator: str
) -> None:
    text = separator.join(f"word{number}" for number in range(2_000))
    monkeypatch.setattr(tokenize_corpus, "STRETCH", 1_000)
    found = list(tokenize_corpus.stretches(text, 0))
    assert "".join(stretch for stretch, _ in found) == text
    assert max(len(stretch) for stretch, _ in found) <= 1_000
    pieces = b"".join(part for stretch, cuts in found for part in byte_bpe.encode_parts(stretch, cuts))
    ids = np.frombuffer(pieces, byte_bpe.dtype)
    assert byte_bpe.decode(ids.tolist()) == text
    if separator:
        assert ids.tolist() == byte_bpe.encode([text])[0]
