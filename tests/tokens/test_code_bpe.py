"""Byte-level BPE with a piece for each run of spaces: one piece a run, and all other text as before."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hard_texts import HARD

from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from genus.tokens.algorithms.code_bpe import BLANK, CodeBPE
from genus.tokens.tokenizer import Tokenizer
from small import documents

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = CodeBPE(vocab_size=600)
CODE = "def f(x):\n    if x:\n        return  x\n" + " " * 30 + "y = 1\n"


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return TOKENS.train(documents())


@pytest.mark.parametrize("length", range(2, 26))
def test_a_run_of_spaces_is_one_piece(trained: Tokenizer, length: int) -> None:
    (number,) = trained.encode([" " * length])[0]
    assert trained.pieces[number] == BLANK * length


def test_the_last_space_belongs_to_the_word(trained: Tokenizer) -> None:
    pieces = [trained.pieces[number] for number in trained.encode(["x        return"])[0]]
    assert pieces[:2] == ["x", BLANK * 7]
    assert pieces[2].startswith(BLANK)


def test_text_without_runs_has_the_ids_of_byte_level_bpe(trained: Tokenizer) -> None:
    plain = replace(TOKENS.without_runs(), vocab_size=600 - 24).train(documents())
    assert isinstance(plain.tokens, ByteBPE)
    single = [text for text in [*HARD, *documents(20)] if "  " not in text]
    assert len(single) > 20
    assert trained.encode(single) == plain.encode(single)
    assert len(trained.encode([CODE])[0]) < len(plain.encode([CODE])[0])


def test_ids_are_those_of_hugging_face_s_class_and_texts_come_back(trained: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    trained.save(tmp_path)
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in [*HARD, CODE, "\n".join(documents(30))]:
        ids = trained.encode([text])[0]
        assert ids == reader(text)["input_ids"], text
        assert trained.decode(ids) == text or "<|endoftext|>" in text
    assert type(Tokenizer.load(tmp_path).tokens) is CodeBPE
    (tmp_path / "tokens.json").unlink()
    again = Tokenizer.load(tmp_path)
    assert type(again.tokens) is ByteBPE
    assert again.encode([CODE]) == trained.encode([CODE])


def test_runs_need_room() -> None:
    with pytest.raises(ValueError, match="at least 257"):
        CodeBPE(vocab_size=280, special_tokens=GPT2)
