"""BPE with bytes for unknown characters: ids of Hugging Face's Llama class and of sentencepiece, both ways."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from hard_texts import HARD

from genus.errors import UsageError
from genus.tokens.algorithms.byte_fallback_bpe import ByteFallbackBPE
from genus.tokens.tokenizer import Tokenizer
from small import documents

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = ByteFallbackBPE(vocab_size=700)
WHOLE = [
    "\n".join(documents(40)),
    "  two  spaces,\n\tlines\r\n and 1234 5.6e-7 ",
    "a",
    " ",
    "d\u00e9j\u00e0 \U0001f600",
]
TEXTS = [*HARD, *documents(20), *WHOLE]


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return TOKENS.train([*documents(), "in 1984 and 2001"] * 2)


def test_ids_are_those_of_hugging_face_s_class(trained: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    trained.save(tmp_path)
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert type(reader).__name__ == "LlamaTokenizer"
    for text in TEXTS:
        assert [1, *trained.encode([text])[0]] == reader(text)["input_ids"], text


def test_ids_are_those_of_sentencepiece(trained: Tokenizer, tmp_path: Path) -> None:
    """Of the model that is written."""
    sentencepiece = pytest.importorskip("sentencepiece")
    trained.save(tmp_path)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    for text in sentencepiece_s(TEXTS):
        assert trained.encode([text], specials=False)[0] == theirs.encode(text), text


def sentencepiece_s(texts: list[str]) -> list[str]:
    """Return the texts that both take alike: not empty, without names of pieces and a space at the start."""
    return [text for text in texts if text and text[0] not in " \u2581" and not set(text) & set("\x00<\u2581")]


def reference(texts: list[str], **options: Any) -> tuple[Any, bytes]:
    """Train sentencepiece's BPE with Llama's options, and return it with its model."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="bpe",
        vocab_size=600,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
        **options,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()), model.getvalue()


def test_a_model_of_sentencepiece_gives_its_ids(tmp_path: Path) -> None:
    theirs, model = reference(documents())
    (tmp_path / "tokenizer.model").write_bytes(model)
    ours = Tokenizer.load(tmp_path)
    assert isinstance(ours.tokens, ByteFallbackBPE)
    assert ours.pieces[:4] == ["<unk>", "<s>", "</s>", "<0x00>"]
    for text in sentencepiece_s(TEXTS):
        assert ours.encode([text])[0] == theirs.encode(text), text


def test_texts_come_back(trained: Tokenizer) -> None:
    """All but a space at the start, as in Hugging Face's class."""
    for text in (*documents(10), *WHOLE):
        assert trained.decode(trained.encode([text])[0]) == text.removeprefix(" ")


def test_digits_stand_apart_and_no_piece_holds_a_line(trained: Tokenizer) -> None:
    learned = trained.pieces[3 + 256 :]
    assert not [piece for piece in learned if any(map(str.isdigit, piece)) and len(piece) > 1]
    assert not [piece for piece in learned if "\n" in piece]
    assert [trained.pieces[number] for number in trained.encode(["1984"])[0]] == ["\u2581", "1", "9", "8", "4"]


def test_it_goes_round(trained: Tokenizer, tmp_path: Path) -> None:
    trained.save(tmp_path)
    for gone in (None, "tokens.json", "tokenizer.json"):
        if gone:
            (tmp_path / gone).unlink()
        again = Tokenizer.load(tmp_path)
        assert type(again.tokens) is ByteFallbackBPE
        assert again.tokens.special_tokens == trained.tokens.special_tokens
        assert again.encode(TEXTS) == trained.encode(TEXTS)


def test_a_document_is_encoded_whole(trained: Tokenizer) -> None:
    text = WHOLE[0]
    cuts = [n for n in range(1, len(text)) if text[n - 1] == "\n"]
    ids, offsets = trained.encode_document(text, cuts)
    assert ids.tolist() == trained.backend.encode(text, add_special_tokens=False).ids
    assert len(offsets) == len(cuts) + 2


def test_bytes_need_room() -> None:
    with pytest.raises((UsageError, ValueError), match="at least 260"):
        ByteFallbackBPE(vocab_size=259)
