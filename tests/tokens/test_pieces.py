"""The remembered pieces give the ids of `tokenizers`, on every kind of text."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hard_texts import HARD, neighborhoods, shared_texts
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from genus.tokens import cached_encoders as chunks
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.tokens.cached_encoders import BertPieces, Gpt2Pieces, WholeText
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FOLDERS = ["bert-base-uncased", "bert-base-cased", "bert-base-chinese", "bert-base-multilingual-cased", "roberta-base"]
BATCH = 2_000
CORPUS = [*HARD, "the quick brown fox jumps over the lazy dog, and the dog sleeps on; don't they? 1 22 333"] * 3
SMALL = {
    "uncased": WordPiece(vocab_size=400),
    "cased": WordPiece(vocab_size=400, lowercase=False),
    "accents kept": WordPiece(vocab_size=400, strip_accents=False, split_cjk=False),
    "bytes": ByteBPE(vocab_size=400),
    "bytes after a space": ByteBPE(vocab_size=400, prefix_space=True),
}


@pytest.fixture(scope="module", params=SMALL)
def small(request: pytest.FixtureRequest) -> Tokenizer:
    return SMALL[request.param].train(CORPUS)


def assert_same(tokenizer: Tokenizer, texts: Iterable[str]) -> None:
    texts = iter(texts)
    while batch := list(itertools.islice(texts, BATCH)):
        encodings = tokenizer.backend.encode_batch_fast(batch, add_special_tokens=False)
        for text, ids, encoding in zip(batch, tokenizer.encode(batch), encodings, strict=True):
            assert ids == encoding.ids, repr(text)


def test_hard_texts(small: Tokenizer) -> None:
    assert_same(small, HARD)
    assert_same(small, HARD)  # once more, now that they are remembered


def test_characters(small: Tokenizer) -> None:
    assert_same(small, neighborhoods(step=97))


@settings(max_examples=300)
@given(
    text=st.text(max_size=30)
    | st.text(st.sampled_from(" \n\t\x1c\x85\u00a0\u2028ab'sI1.\u00e9\u0301\u4e2d<>mask[]MASK"), max_size=40)
)
def test_any_text(small: Tokenizer, text: str) -> None:
    assert_same(small, [text])


def test_a_full_table_forgets_and_stays_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MOST_REMEMBERED", 8)
    tokenizer = SMALL["uncased"].train(CORPUS)
    assert_same(tokenizer, HARD * 2)
    assert isinstance(tokenizer.encoder, BertPieces)
    assert 4 <= len(tokenizer.encoder.piece_ids) <= 8


def test_the_fast_way_is_taken_only_where_it_is_exact() -> None:
    assert isinstance(SMALL["uncased"].train(CORPUS).encoder, BertPieces)
    assert isinstance(SMALL["bytes"].train(CORPUS).encoder, Gpt2Pieces)
    assert isinstance(SMALL["bytes after a space"].train(CORPUS).encoder, WholeText)


@pytest.mark.parametrize("name", ["uncased", "bytes"])
@pytest.mark.parametrize(
    "token",
    [
        AddedToken("two words", special=False),
        AddedToken("Fox", special=False, normalized=True),
        AddedToken("<end>", rstrip=True),
        AddedToken("dog", single_word=True, normalized=False),
    ],
    ids=lambda token: token.content,
)
def test_added_tokens(name: str, token: AddedToken) -> None:
    tokenizer = SMALL[name].train(CORPUS)
    tokenizer.backend.add_tokens([token])
    tokenizer = Tokenizer.of(tokenizer.tokens, tokenizer.backend)
    assert_same(tokenizer, [*HARD, "two words, two  words Fox foxFox <end>  x a<end> dog dogs, dog", "a dog"])


@pytest.mark.shared
@pytest.mark.parametrize("folder", ["bert-base-uncased", "roberta-base"])
def test_a_sample_of_real_text(shared: Path, folder: str) -> None:
    tokenizer = Tokenizer.load(shared / "vocab" / folder)
    data = shared / "data"
    for name in ("en_wikipedia", "th_gov_news", "wisesight_sentiment", "multi30k"):
        assert_same(tokenizer, itertools.islice(shared_texts(data / name), 300))


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_character(shared: Path, folder: str) -> None:
    assert_same(Tokenizer.load(shared / "vocab" / folder), neighborhoods())


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("folder", ["bert-base-uncased", "roberta-base"])
def test_every_document_of_the_shared_data(shared: Path, folder: str) -> None:
    assert_same(Tokenizer.load(shared / "vocab" / folder), shared_texts(shared / "data"))
