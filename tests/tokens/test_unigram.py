"""Unigram gives sentencepiece's ids, and is trained, saved and read back as it was."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hard_texts import HARD, neighborhoods
from read_back import read_by_hugging_face, removals, same_again

from genus.errors import GenusError
from genus.tokens import SpecialTokens
from genus.tokens.algorithms.unigram import ALBERT, XLNET, Unigram
from genus.tokens.cached_encoders import SpacedWords, WholeText
from genus.tokens.files.sentencepiece import CONTROL, NORMAL, UNKNOWN, USER_DEFINED, read_model, read_vocab, write_model
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

TIE = 1e-4
"""Sums of scores of a sentence in four bytes and in eight; where they agree, two ways to cut it are equally good."""
QUESTIONS = 1500
DOUBTFUL = re.compile(r"[\x0b\x1c-\x1f\x85]|\[[A-Z]+\]|<[a-z/]+>")
"""Control characters that Python takes for spaces and sentencepiece does not, and names of special tokens."""
T5 = SpecialTokens(
    pad="<pad>", unk="<unk>", cls="</s>", sep="</s>", mask="<unk>", single="$A </s>", pair="$A </s> $B </s>"
)  # fmt: skip
TEXTS = [
    f"The quick brown fox no. {n} jumps over the lazy dogs, doesn't it? Jump, fox! D\u00e9j\u00e0 vu: {n * n}\n"
    for n in range(80)
]
SENTENCE = "A quick D\u00c9J\u00c0 vu: \u4e2d\u6587, \u0e01\u0e34\u0e19 foxes' dogs."
KINDS = {
    "uncased": Unigram(vocab_size=200),
    "cased": Unigram(vocab_size=200, lowercase=False, plain=False),
    "as XLNet": Unigram(vocab_size=200, lowercase=False, special_tokens=XLNET),
}


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest) -> Tokenizer:
    return KINDS[request.param].train(TEXTS)


def preprocessed(text: str, lowercase: bool) -> str:
    """Return a text as ALBERT's and XLNet's released `preprocess_text` does, before sentencepiece sees it."""
    text = " ".join(text.split()).replace("``", '"').replace("''", '"')
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return text.lower() if lowercase else text


def albert_of_sentencepiece(shared: Path, folder: Path) -> Path:
    """Write ALBERT's text vocabulary as a model with the map that it was trained with, nmt_nfkc, as T5 has it."""
    path = shared / "vocab" / "albert-base-v2" / "30k-clean.vocab"
    pieces = read_vocab(path, ALBERT.unk, ALBERT.names())
    charsmap = read_model(shared / "vocab" / "t5" / "spiece.model").charsmap
    write_model(folder / "spiece.model", replace(pieces, charsmap=charsmap))
    return folder / "spiece.model"


@pytest.mark.shared
@pytest.mark.parametrize("member", ["albert", "xlnet", "t5"])
def test_the_ids_are_those_of_sentencepiece(member: str, shared: Path, tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    vocabularies = shared / "vocab"
    if member == "t5":
        part = Unigram(vocab_size=1, lowercase=False, plain=False, special_tokens=T5)
        model = vocabularies / "t5" / "spiece.model"
        ours = Tokenizer.of(part, part.of_vocabulary(read_model(model)))
    else:
        folder = {"albert": "albert-base-v2", "xlnet": "xlnet-base-cased"}[member]
        ours = Tokenizer.load(vocabularies / folder)
        model = vocabularies / folder / "spiece.model"
        model = model if model.exists() else albert_of_sentencepiece(shared, tmp_path)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(model))
    reference = vocabularies / "bert-base-uncased" / "reference"
    questions = json.loads((reference / "question_tokens.json").read_text(encoding="utf-8"))
    hard = (reference / "ggml-vocab-bert-bge.gguf.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    texts = [*(row["original"] for row in questions[:QUESTIONS]), *hard, *HARD]
    texts = [text for text in texts if not DOUBTFUL.search(text)]
    assert len(texts) > QUESTIONS
    ties = 0
    for text, ids in zip(texts, ours.encode(texts), strict=True):
        expected = theirs.encode(text if member == "t5" else preprocessed(text, member == "albert"))
        if ids != expected:
            assert abs(sum(map(theirs.GetScore, ids)) - sum(map(theirs.GetScore, expected))) < TIE, text
            ties += 1
    assert ties < len(texts) / 100


@pytest.mark.shared
def test_published_examples(shared: Path) -> None:
    """The README of the vocabularies, and T5's tokenizer as other implementations pin it."""
    vocabularies = shared / "vocab"
    assert Tokenizer.load(vocabularies / "albert-base-v2").encode(["Hello world"]) == [[10975, 126]]
    assert Tokenizer.load(vocabularies / "xlnet-base-cased").encode(["Hello world"]) == [[17, 11368, 185]]
    part = Unigram(vocab_size=32_000, lowercase=False, plain=False, special_tokens=T5)
    t5 = Tokenizer.of(part, part.of_vocabulary(read_model(vocabularies / "t5" / "spiece.model")))
    reference = json.loads((vocabularies / "t5" / "reference" / "t5_base_encoded.json").read_text(encoding="utf-8"))
    assert t5.encode([reference["text"]])[0] == [token for token in reference["token_ids"] if token != 1]
    rows = json.loads((vocabularies / "reference" / "tokenizer_tests.json").read_text(encoding="utf-8"))["t5-base"]
    for row in rows:
        assert [*t5.encode([row["input"]])[0], 1] == row["encoded"]["input_ids"]


@pytest.mark.shared
def test_frames_and_special_tokens_of_the_released_vocabularies(shared: Path) -> None:
    albert, xlnet = (Tokenizer.load(shared / "vocab" / name) for name in ("albert-base-v2", "xlnet-base-cased"))
    assert (albert.tokens.lowercase, albert.tokens.plain) == (True, True)
    assert (xlnet.tokens.lowercase, xlnet.tokens.plain) == (False, True)
    assert np.flatnonzero(albert.vocabulary.special).tolist() == [0, 1, 2, 3, 4]
    assert np.flatnonzero(xlnet.vocabulary.special).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    text = np.array([17, 11368, 185])
    ids, segments, _ = xlnet.vocabulary.frame(text, text)
    assert ids.tolist() == [17, 11368, 185, 4, 17, 11368, 185, 4, 3]
    assert segments.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2]


@pytest.mark.shared
def test_a_model_is_written_as_it_was_read(shared: Path, tmp_path: Path) -> None:
    model = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    for name in ("t5", "xlnet-base-cased"):
        pieces = read_model(shared / "vocab" / name / "spiece.model")
        write_model(tmp_path / "spiece.model", pieces)
        assert read_model(tmp_path / "spiece.model") == pieces
        theirs, ours = model.ModelProto(), model.ModelProto()
        theirs.ParseFromString((shared / "vocab" / name / "spiece.model").read_bytes())
        ours.ParseFromString((tmp_path / "spiece.model").read_bytes())
        assert ours.pieces == theirs.pieces
        assert ours.normalizer_spec.precompiled_charsmap == theirs.normalizer_spec.precompiled_charsmap
        assert ours.trainer_spec.unk_id == theirs.trainer_spec.unk_id


@pytest.mark.shared
def test_the_hugging_face_library_s_own_folder_is_read(shared: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    released = Tokenizer.load(shared / "vocab" / "albert-base-v2")
    vocabulary = json.loads(released.backend.to_str())["model"]["vocab"]
    transformers.AlbertTokenizer(vocab=[tuple(piece) for piece in vocabulary]).save_pretrained(tmp_path)
    found = Tokenizer.load(tmp_path)
    assert found.tokens == released.tokens
    texts = [text for text in HARD if text.isascii() and not DOUBTFUL.search(text)]
    assert found.encode(texts) == released.encode(texts)


@pytest.mark.shared
def test_words_one_by_one_are_the_text(shared: Path) -> None:
    for name in ("albert-base-v2", "xlnet-base-cased"):
        tokenizer = Tokenizer.load(shared / "vocab" / name)
        words = tokenizer.tokens.encoder(tokenizer.backend, "H")
        whole = WholeText(tokenizer.backend, "H")
        assert isinstance(words, SpacedWords)
        for text in [*HARD, *neighborhoods(step=40)]:
            assert words(text) == whole(text), ascii(text)


def test_special_tokens_come_first_and_kinds_of_characters_stay_apart(trained: Tokenizer) -> None:
    assert trained.pieces[:5] == trained.tokens.special_tokens.names()
    assert trained.tokens.vocab_size == len(trained.pieces) <= 200
    learned = [piece.removeprefix("\u2581") for piece in trained.pieces[5:]]
    assert all(len(p) <= 1 or p.isdigit() or all(c.isalpha() or unicodedata.combining(c) for c in p) for p in learned)
    assert any(len(piece) > 2 for piece in learned)
    scores = [score for _, score in json.loads(trained.backend.to_str())["model"]["vocab"]]
    assert scores[5:] == sorted(scores[5:], reverse=True)


def test_no_character_of_the_corpus_is_unknown(trained: Tokenizer) -> None:
    assert not any(trained.vocabulary.unk in ids for ids in trained.encode(TEXTS))


def test_a_vocabulary_is_cut_to_size() -> None:
    assert Unigram(vocab_size=70).train(TEXTS).tokens.vocab_size == 70


@removals
def test_reloads_as_trained_unigram(trained: Tokenizer, tmp_path: Path, removed: tuple[str, ...]) -> None:
    same_again(trained, tmp_path, removed, SENTENCE)


def test_the_hugging_face_library_reads_a_unigram_folder(trained: Tokenizer, tmp_path: Path) -> None:
    theirs = read_by_hugging_face(trained, tmp_path, SENTENCE)
    facts = trained.vocabulary
    named = (theirs.pad_token_id, theirs.unk_token_id, theirs.cls_token_id, theirs.sep_token_id, theirs.mask_token_id)
    assert named == (facts.pad, facts.unk, facts.cls, facts.sep, facts.mask)
    assert theirs.model_max_length == 128


def test_sentencepiece_reads_what_is_written(trained: Tokenizer, tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    trained.save(tmp_path)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spiece.model"))
    text = "the lazy dogs jump over 64"
    assert theirs.encode(text) == trained.encode([text])[0]
    assert [theirs.IdToPiece(number) for number in range(theirs.GetPieceSize())] == trained.pieces


def test_words_begin_with_a_space_or_are_signs() -> None:
    part = KINDS["uncased"]
    pieces = ["\u2581fox", "es", "\u2581", ",", "42", "'"]
    assert part.word_starts(pieces) == [True, False, True, True, False, True]


def test_decoding_gives_the_words_back() -> None:
    tokenizer = KINDS["cased"].train(TEXTS)
    assert tokenizer.decode(tokenizer.encode(["The lazy dogs, Jump"])[0]) == "The lazy dogs, Jump"


def test_kinds_of_pieces_without_a_record(tmp_path: Path) -> None:
    (tmp_path / "x.vocab").write_text("<unk>\t0\n[CLS]\t0\n.\t0\n\u2581a\t-1.5\n", encoding="utf-8")
    pieces = read_vocab(tmp_path / "x.vocab", "<unk>", ["[CLS]"])
    assert pieces.kinds == [UNKNOWN, CONTROL, USER_DEFINED, NORMAL]


def damaged(folder: Path, change: Callable[[bytes], bytes]) -> None:
    KINDS["uncased"].train(TEXTS).save(folder)
    for name in ("tokens.json", "tokenizer.json"):
        (folder / name).unlink()
    file = folder / "spiece.model"
    file.write_bytes(change(file.read_bytes()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[: len(data) // 2], "is damaged, or no model of sentencepiece's"),
        (lambda data: b"", "is damaged, or no model of sentencepiece's"),
        (lambda data: b"\xff" * 50, "is damaged, or no model of sentencepiece's"),
        (lambda data: data + b"\x12\x02\x18\x03", "of another kind than unigram or BPE"),
    ],
    ids=["half", "empty", "noise", "words"],
)
def test_a_model_that_cannot_be_read(tmp_path: Path, change: Any, message: str) -> None:
    damaged(tmp_path, change)
    check_error(message, tmp_path)


def test_a_text_vocabulary_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "words.vocab").write_text("just\nwords\n", encoding="utf-8")
    check_error("is no vocabulary of sentencepiece's with the piece <unk>", tmp_path)


def test_a_vocabulary_too_small_for_its_characters() -> None:
    with pytest.raises(GenusError, match=r"tokens\.vocab_size: 10 is too small for this text .*; take a larger one"):
        Unigram(vocab_size=10).train(["abcdefghijklmnopqrstuvwxyz"])


def test_training_a_unigram_needs_text() -> None:
    with pytest.raises(GenusError, match="the corpus is empty"):
        KINDS["uncased"].train([" ", "\n"])


def check_error(message: str, folder: Path) -> None:
    with pytest.raises(GenusError, match=message) as caught:
        Tokenizer.load(folder)
    assert "\n" not in str(caught.value)
