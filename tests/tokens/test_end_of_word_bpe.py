"""BPE of words, with `</w>` as GPT-1's and with `@@` as CTRL's: ids and files of Hugging Face's classes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hard_texts import HARD

from genus.tokens.algorithms.end_of_word_bpe import ContinuedBPE, EndOfWordBPE
from genus.tokens.tokenizer import Tokenizer
from small import documents

if TYPE_CHECKING:
    from pathlib import Path

    from genus.tokens.training import TrainedTokens

WHOLE = ["\n".join(documents(40)), "\n\n  ".join(documents(8)), "  one line\nand \n another\n", "a", "\n"]
"""Documents of several lines, and words that end with one."""
TEXTS = [*HARD, *documents(20), *WHOLE]
KINDS: dict[str, tuple[TrainedTokens, str]] = {
    "gpt": (EndOfWordBPE(vocab_size=330), "OpenAIGPTTokenizer"),
    "ctrl": (ContinuedBPE(vocab_size=330), "CTRLTokenizer"),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def theirs(kind: str, folder: Path) -> Any:
    """Return Hugging Face's own class, which reads the vocabulary and the merges alone."""
    transformers = pytest.importorskip("transformers")
    alone = folder / "alone"
    alone.mkdir()
    for name in ("vocab.json", "merges.txt"):
        (alone / name).write_bytes((folder / name).read_bytes())
    return getattr(transformers, KINDS[kind][1]).from_pretrained(alone)


def texts(kind: str) -> list[str]:
    """Return the texts without names of special tokens, which these classes read as such, or do not have.

    CTRL's class in Python takes other characters for white space than the library.
    """
    spaces = set("" if kind == "gpt" else "\x1c\x1d\x1e\x1f\x85\u180e")
    return [text for text in TEXTS if not set(text) & spaces and "<unk>" not in text and "</s>" not in text]


@kinds
def test_ids_are_those_of_hugging_face_s_class(kind: str, tmp_path: Path) -> None:
    tokenizer = KINDS[kind][0].train(documents())
    tokenizer.save(tmp_path)
    reader = theirs(kind, tmp_path)
    for text in texts(kind):
        assert tokenizer.encode([text], specials=False)[0] == reader(text, add_special_tokens=False)["input_ids"], text


@kinds
def test_a_document_has_the_ids_of_its_parts(kind: str) -> None:
    """Whatever the cuts between its sentences."""
    tokenizer = KINDS[kind][0].train(documents())
    for text in texts(kind):
        cuts = [n for n in range(1, len(text)) if text[n - 1] in ". \n"]
        ids, offsets = tokenizer.encode_document(text, cuts)
        encode = tokenizer.backend.encode(text, add_special_tokens=False).ids
        assert ids.tolist() == encode, text
        assert (offsets[0], offsets[-1], len(offsets)) == (0, len(ids), len(cuts) + 2)


@kinds
def test_it_goes_round(kind: str, tmp_path: Path) -> None:
    """With our choices, with tokenizer.json alone, and with the legacy files alone."""
    tokenizer = KINDS[kind][0].train(documents())
    tokenizer.save(tmp_path)
    for gone in (None, "tokens.json", "tokenizer.json"):
        if gone:
            (tmp_path / gone).unlink()
        again = Tokenizer.load(tmp_path)
        assert type(again.tokens) is type(tokenizer.tokens)
        assert again.tokens.special_tokens == tokenizer.tokens.special_tokens
        assert again.encode(TEXTS) == tokenizer.encode(TEXTS)
        assert again.pieces == tokenizer.pieces


@kinds
def test_the_same_texts_give_the_same_vocabulary(kind: str) -> None:
    assert len({KINDS[kind][0].train(documents()).hash() for _ in range(4)}) == 1


def test_ids_of_gpt_s_vocabulary_are_in_its_order() -> None:
    tokenizer = EndOfWordBPE(vocab_size=330).train(documents())
    assert (tokenizer.pieces[0], tokenizer.pieces[-1]) == ("<unk>", "\n</w>")
    assert tokenizer.vocabulary.sep == len(tokenizer.pieces) - 1
    assert tokenizer.decode(tokenizer.encode(["The OLD river"])[0]) == "the old river"
    assert tokenizer.tokens.special_tokens.in_text is False
    assert tokenizer.encode_document("a\n</w>b", [])[0].max() < tokenizer.vocabulary.sep


def test_files_of_ctrl_mark_what_goes_on(tmp_path: Path) -> None:
    tokenizer = ContinuedBPE(vocab_size=330).train(documents())
    tokenizer.save(tmp_path)
    pieces = json.loads((tmp_path / "vocab.json").read_text())
    words = {piece: number for number, piece in enumerate(tokenizer.pieces)}
    assert pieces["river"] == words["river</w>"]
    assert pieces["r@@"] == words["r"]
    assert (pieces["<unk>"], pieces["\n"]) == (0, len(pieces) - 1)


@pytest.mark.shared
def test_gpt_s_released_vocabulary_ends_documents_with_a_line(shared: Path) -> None:
    tokenizer = Tokenizer.load(shared / "vocab" / "openai-gpt")
    assert isinstance(tokenizer.tokens, EndOfWordBPE)
    assert tokenizer.tokens == EndOfWordBPE(vocab_size=40_478)
    assert tokenizer.vocabulary.sep == 40_477
    ids, _ = tokenizer.encode_document("Hello, world!\nIt's me.", [])
    assert [tokenizer.pieces[number] for number in ids] == [
        *("hello</w>", ",</w>", "world</w>", "!</w>"),
        *("it</w>", "'</w>", "s</w>", "me</w>", ".</w>"),
    ]
