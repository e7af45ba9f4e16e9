"""Bytes as tokens: ids are bytes and an offset, texts come back, and others read the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tokenizers import pre_tokenizers

from genus.errors import GenusError
from genus.tokens import SpecialTokens
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.bytes import WRITTEN, Bytes
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = [
    "In 1965, Brooks left IBM.",
    "D\u00e9j\u00e0 vu: \u4e2d\u6587 \u0e01\u0e34\u0e19\n\t\u20ac  \x00\x7f\u0378 ",
    " ",
    "\U0001f600",
]
BYT5 = SpecialTokens(
    pad="<pad>", unk="<unk>", cls="</s>", sep="</s>", mask="<mask>", single="$A </s>", pair="$A </s> $B:1 </s>:1"
)


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return Bytes().train(TEXTS)


def test_ids_are_bytes_and_two(trained: Tokenizer) -> None:
    """As google/reformer-enwik8's card says: `[x + 2 for x in string]` encodes, `chr(x - 2) if x > 1` decodes."""
    assert trained.encode(TEXTS) == [[byte + 2 for byte in text.encode()] for text in TEXTS]
    assert [trained.backend.encode(text, add_special_tokens=False).ids for text in TEXTS] == trained.encode(TEXTS)
    assert [trained.decode(ids) for ids in trained.encode(TEXTS)] == TEXTS
    assert trained.pieces[:2] == ["<pad>", "<eos>"]
    assert (trained.vocabulary.pad, trained.vocabulary.sep, trained.vocabulary.size) == (0, 1, 258)


def test_bytes_are_written_as_by_others() -> None:
    assert sorted(WRITTEN) == sorted(pre_tokenizers.ByteLevel.alphabet())
    assert all(WRITTEN[ord(letter)] == letter for letter in "!aZ~")


def test_the_name_of_a_special_token_is_that_token(trained: Tokenizer) -> None:
    assert trained.encode(["a<eos>b"]) == [[ord("a") + 2, 1, ord("b") + 2]]


def test_words_begin_with_white_space(trained: Tokenizer) -> None:
    starts = trained.vocabulary.word_start
    assert [chr(number - 2) for number in range(2, 258) if starts[number]] == list("\t\n\v\f\r ")


@pytest.mark.parametrize("removed", [(), ("tokens.json",)], ids=["all", "HF"])
@pytest.mark.parametrize("kind", [Bytes(), Bytes(vocab_size=384, special_tokens=BYT5)], ids=["enwik8", "ByT5"])
def test_reloads_as_it_was(tmp_path: Path, kind: Bytes, removed: tuple[str, ...]) -> None:
    tokenizer = kind.train(TEXTS)
    tokenizer.save(tmp_path)
    for name in removed:
        (tmp_path / name).unlink()
    again = Tokenizer.load(tmp_path)
    assert isinstance(again.tokens, Bytes)
    assert (again.pieces, again.hash()) == (tokenizer.pieces, tokenizer.hash())
    assert again.encode(TEXTS) == tokenizer.encode(TEXTS)


def test_the_hugging_face_library_reads_it(trained: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    trained.save(tmp_path, max_length=128)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        assert theirs(text)["input_ids"] == [*trained.encode([text])[0], 1]
    assert (len(theirs), theirs.pad_token_id, theirs.eos_token_id) == (258, 0, 1)


def test_other_special_tokens_move_the_bytes() -> None:
    """ByT5's: padding 0, end 1, unknown 2; a mask of its own after them."""
    tokenizer = Bytes(vocab_size=384, special_tokens=BYT5).train(TEXTS)
    assert tokenizer.pieces[:4] == ["<pad>", "</s>", "<unk>", "<mask>"]
    assert tokenizer.encode(["A"]) == [[ord("A") + 4]]
    assert len(tokenizer.pieces) == 384


def test_byte_bpe_is_no_bytes(tmp_path: Path) -> None:
    ByteBPE(vocab_size=300).train(TEXTS * 3).save(tmp_path)
    (tmp_path / "tokens.json").unlink()
    assert isinstance(Tokenizer.load(tmp_path).tokens, ByteBPE)


def test_a_vocabulary_too_small_and_no_text_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 258"):
        Bytes(vocab_size=257)
    with pytest.raises(GenusError, match="no text"):
        Bytes().train([])
