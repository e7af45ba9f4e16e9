"""Real vocabularies give the ids that others have written down for them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.cached_encoders import Gpt2Pieces
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def vocab(shared: Path) -> Path:
    return shared / "vocab"


@pytest.fixture(scope="module")
def uncased(vocab: Path) -> Tokenizer:
    return Tokenizer.load(vocab / "bert-base-uncased")


@pytest.fixture(scope="module")
def multilingual(vocab: Path) -> Tokenizer:
    return Tokenizer.load(vocab / "bert-base-multilingual-cased")


@pytest.fixture(scope="module")
def gpt2(vocab: Path) -> Callable[[str], list[int]]:
    """OpenAI's own files, `encoder.json` and `vocab.bpe`."""
    tokenizer = Tokenizer.load(vocab / "gpt2")
    assert isinstance(tokenizer.encoder, Gpt2Pieces)
    return lambda text: tokenizer.encode([text])[0]


def framed(tokenizer: Tokenizer, text: str) -> list[int]:
    import numpy as np

    [ids] = tokenizer.encode([text])
    return tokenizer.vocabulary.frame(np.array(ids, dtype=np.int64))[0].tolist()


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def ggml(folder: Path) -> list[tuple[str, list[int]]]:
    """The strings and ids of llama.cpp's vocabulary tests."""
    [strings], [ids] = list(folder.glob("*.gguf.inp")), list(folder.glob("*.gguf.out"))
    texts = strings.read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = ids.read_text(encoding="utf-8").split("\n")
    return [(text, [int(number) for number in line.split()]) for text, line in zip(texts, lines, strict=False)]


def test_squad_questions(vocab: Path, uncased: Tokenizer) -> None:
    folder = vocab / "bert-base-uncased" / "reference"
    questions, ids = read(folder / "question_tokens.json"), read(folder / "tokenized_questions.json")
    assert len(questions) == len(ids) == 10_570
    assert uncased.encode([question["original"] for question in questions]) == ids
    pieces = [[uncased.pieces[number] for number in row] for row in ids]
    assert pieces == [question["wordpiece"] for question in questions]


def test_squad_words(vocab: Path, uncased: Tokenizer) -> None:
    """A word's first piece, and no other, is known to start a word."""
    folder = vocab / "bert-base-uncased" / "reference"
    words, ids = read(folder / "basic_tokenized_questions.json"), read(folder / "tokenized_questions.json")
    starts = uncased.vocabulary.word_start
    assert [int(starts[row].sum()) for row in ids] == [len(row) for row in words]


def test_bert_hard_strings(vocab: Path, uncased: Tokenizer) -> None:
    cases = ggml(vocab / "bert-base-uncased" / "reference")
    assert len(cases) == 47
    for text, ids in cases:
        assert uncased.encode([text]) == [ids], repr(text)


def test_gpt2_hard_strings(vocab: Path, gpt2: Callable[[str], list[int]]) -> None:
    cases = ggml(vocab / "gpt2" / "reference")
    assert len(cases) == 47
    for text, ids in cases:
        assert gpt2(text) == ids, repr(text)


def test_roberta_hard_strings(vocab: Path) -> None:
    """RoBERTa's ids are GPT-2's, renumbered in the order of fairseq's dictionary after four special tokens."""
    lines = (vocab / "roberta-base" / "fairseq_dict.txt").read_text(encoding="utf-8").split("\n")
    renumbered = {line.split()[0]: number for number, line in enumerate(filter(None, lines), 4)}
    tokenizer = Tokenizer.load(vocab / "roberta-base")
    for text, ids in ggml(vocab / "gpt2" / "reference"):
        assert tokenizer.encode([text]) == [[renumbered[str(number)] for number in ids]], repr(text)
        assert tokenizer.decode(tokenizer.encode([text])[0]) == text


def test_paragraphs(vocab: Path, uncased: Tokenizer, multilingual: Tokenizer, gpt2: Callable[[str], list[int]]) -> None:
    bert = read(vocab / "bert-base-uncased" / "reference" / "bert_uncased_encoded.json")
    assert framed(uncased, bert["text"]) == bert["token_ids"]
    many = read(vocab / "bert-base-multilingual-cased" / "reference" / "distilbert_multilingual_cased_encoded.json")
    assert framed(multilingual, many["text"]) == many["token_ids"]
    t5 = read(vocab / "t5" / "reference" / "t5_base_encoded.json")
    assert framed(Tokenizer.load(vocab / "t5"), t5["text"]) == t5["token_ids"]
    other = read(vocab / "gpt2" / "reference" / "gpt2_encoded_tokens.json")
    assert gpt2(other["text"]) == other["token_ids"]


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("bert-base-uncased", "bert-base-uncased"),
        ("google-bert/bert-base-uncased", "bert-base-uncased"),
        ("distilbert/distilbert-base-multilingual-cased", "bert-base-multilingual-cased"),
        ("t5-base", "t5"),
        ("distilgpt2", "gpt2"),
    ],
)
def test_short_strings(vocab: Path, name: str, folder: str) -> None:
    tokenizer = Tokenizer.load(vocab / folder)
    for case in read(vocab / "reference" / "tokenizer_tests.json")[name]:
        assert framed(tokenizer, case["input"]) == case["encoded"]["input_ids"], case["input"]


def test_short_strings_gpt2(vocab: Path, gpt2: Callable[[str], list[int]]) -> None:
    for case in read(vocab / "reference" / "tokenizer_tests.json")["distilgpt2"]:
        assert gpt2(case["input"]) == case["encoded"]["input_ids"], case["input"]


@pytest.mark.parametrize(
    ("folder", "size", "lowercase"),
    [
        ("bert-base-uncased", 30_522, True),
        ("bert-base-cased", 28_996, False),
        ("bert-base-chinese", 21_128, True),
        ("bert-base-multilingual-cased", 119_547, False),
    ],
)
def test_legacy_vocabularies(vocab: Path, folder: str, size: int, lowercase: bool) -> None:
    tokens = Tokenizer.load(vocab / folder).tokens
    assert (tokens.vocab_size, tokens.to_json()["lowercase"]) == (size, lowercase)


def test_roberta_from_either_form(vocab: Path, tmp_path: Path) -> None:
    whole = Tokenizer.load(vocab / "roberta-base")
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((vocab / "roberta-base" / name).read_bytes())
    legacy = Tokenizer.load(tmp_path)
    assert whole.tokens == legacy.tokens == ByteBPE(vocab_size=50_265)
    assert whole.pieces == legacy.pieces
    assert whole.encode(["Hello world"]) == legacy.encode(["Hello world"]) == [[31414, 232]]
    assert whole.vocabulary.mask == legacy.vocabulary.mask == 50_264
