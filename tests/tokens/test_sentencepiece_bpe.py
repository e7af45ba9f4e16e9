"""sentencepiece's BPE gives sentencepiece's ids, and is trained, saved and read back as it was."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hard_texts import HARD, shared_texts
from hypothesis import given, settings
from hypothesis import strategies as st
from read_back import read_by_hugging_face, removals, same_again

from genus.errors import GenusError
from genus.tokens.algorithms.sentencepiece_bpe import SentencePieceBPE, merges
from genus.tokens.algorithms.unigram import Unigram
from genus.tokens.files.sentencepiece import BPE, CONTROL, UNKNOWN, Pieces, read_model, write_model
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = [
    f"The quick brown fox no. {n} jumps over the lazy dogs, doesn't it? Jump, fox! D\u00e9j\u00e0 vu: {n * n}"
    for n in range(80)
]
SENTENCE = "A quick D\u00c9J\u00c0 vu: \u4e2d\u6587, \u0e01\u0e34\u0e19 foxes' dogs, 64."
OF_PYTHON = set("\x0b\x1c\x1d\x1e\x1f\x85")
"""Control characters that Python takes for spaces and sentencepiece does not."""
SIZE = 200


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return SentencePieceBPE(vocab_size=SIZE).train(TEXTS)


def reference(texts: list[str], size: int, **options: Any) -> Any:
    """Return sentencepiece's own model of texts, and its bytes."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=size, model_type="bpe", minloglevel=2, **options
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()), model.getvalue()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Tokenizer]:
    """sentencepiece's model of the texts, and ours read from it."""
    theirs, model = reference(TEXTS, SIZE)
    folder = tmp_path_factory.mktemp("model")
    (folder / "spiece.model").write_bytes(model)
    return theirs, Tokenizer.load(folder)


def test_a_model_of_sentencepiece_gives_its_ids(pair: tuple[Any, Tokenizer]) -> None:
    theirs, ours = pair
    assert isinstance(ours.tokens, SentencePieceBPE)
    assert ours.pieces == [theirs.IdToPiece(number) for number in range(SIZE)]
    facts = ours.vocabulary
    assert (facts.unk, facts.cls, facts.sep) == (theirs.unk_id(), theirs.bos_id(), theirs.eos_id())
    texts = [text for text in (*TEXTS, *HARD, SENTENCE) if not OF_PYTHON & set(text) and "<" not in text]
    assert len(texts) > len(TEXTS) + 10
    assert ours.encode(texts) == [theirs.encode(text) for text in texts]


@settings(max_examples=200)
@given(text=st.text(st.sampled_from("  thequickdogsTJ.,'019\u00e9\u4e2d\u2581\t\n"), max_size=40))
def test_any_text_gives_sentencepiece_s_ids(pair: tuple[Any, Tokenizer], text: str) -> None:
    theirs, ours = pair
    assert ours.encode([text])[0] == theirs.encode(text)


def test_a_model_is_written_as_sentencepiece_wrote_it(pair: tuple[Any, Tokenizer], tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    theirs, ours = pair
    ours.save(tmp_path)
    again = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spiece.model"))
    for number in range(SIZE):
        assert again.IdToPiece(number) == theirs.IdToPiece(number)
        assert again.GetScore(number) == theirs.GetScore(number)
        assert again.IsControl(number) == theirs.IsControl(number)
    assert [again.encode(text) for text in HARD] == [theirs.encode(text) for text in HARD]


def test_training_learns_what_sentencepiece_learns() -> None:
    """Where no two pairs are equally frequent, in the same order; characters follow, there by frequency."""
    rng = np.random.default_rng(0)
    common = 1 / np.arange(1, 15)
    words = [
        "".join(rng.choice(list("etaoinshrdlu,."), rng.integers(1, 8), p=common / common.sum())) for _ in range(5000)
    ]
    texts = [" ".join(words[n : n + 50]) for n in range(0, 5000, 50)]
    theirs, _ = reference(texts, 65, character_coverage=1.0)
    expected = [theirs.IdToPiece(number) for number in range(65)]
    found = SentencePieceBPE(vocab_size=65).train(texts).pieces
    learned = sum(len(piece) > 1 for piece in expected)
    assert learned > 30
    assert found[:learned] == expected[:learned]
    assert sorted(found) == sorted(expected)


def test_sentencepiece_reads_what_is_trained_here(trained: Tokenizer, tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    trained.save(tmp_path)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spiece.model"))
    assert [theirs.IdToPiece(number) for number in range(theirs.GetPieceSize())] == trained.pieces
    for text in [*TEXTS, "the lazy dogs jump over 64"]:  # without the map of its own, it takes texts as they are
        assert theirs.encode(text) == trained.encode([text])[0]


@removals
def test_reloads_as_trained_bpe(trained: Tokenizer, tmp_path: Path, removed: tuple[str, ...]) -> None:
    tokens = replace(trained.tokens, alphabet=1000)
    same_again(Tokenizer(tokens, trained.backend), tmp_path, removed, SENTENCE)


def test_the_hugging_face_library_reads_a_bpe_folder(trained: Tokenizer, tmp_path: Path) -> None:
    theirs = read_by_hugging_face(trained, tmp_path, SENTENCE)
    facts = trained.vocabulary
    named = (theirs.pad_token_id, theirs.unk_token_id, theirs.cls_token_id, theirs.sep_token_id, theirs.mask_token_id)
    assert named == (facts.pad, facts.unk, facts.cls, facts.sep, facts.mask)


def test_reformer_s_own_class_reads_the_model(trained: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("google.protobuf")
    trained.save(tmp_path / "ours")
    (tmp_path / "theirs").mkdir()
    shutil.copy(tmp_path / "ours" / "spiece.model", tmp_path / "theirs")
    theirs = transformers.ReformerTokenizer.from_pretrained(tmp_path / "theirs")
    for text in TEXTS[:10]:
        assert theirs(text, add_special_tokens=False)["input_ids"] == trained.encode([text])[0]


def test_pieces_are_joined_in_the_order_of_learning() -> None:
    """By hand: with `bc` before `ab`, `abc` is `a` and `bc`; joined again where that is a piece."""
    texts = ["<unk>", "<s>", "</s>", "bc", "ab", "abcd", "cd", "\u2581", "a", "b", "c", "d"]
    pieces = Pieces(texts, [0.0] * 3 + [-float(n) for n in range(9)], [UNKNOWN, CONTROL, CONTROL] + [1] * 9, model=BPE)
    assert merges(pieces) == [("b", "c"), ("a", "b"), ("ab", "cd"), ("c", "d")]
    part = SentencePieceBPE(vocab_size=12)
    ours = Tokenizer.of(part, part.of_vocabulary(pieces))
    cut = [[ours.pieces[number] for number in ids] for ids in ours.encode(["abc", "ab", "abcd xx"])]
    assert cut == [["\u2581", "a", "bc"], ["\u2581", "ab"], ["\u2581", "a", "bc", "d", "\u2581", "<unk>"]]


def test_a_piece_is_of_letters_or_of_other_characters(trained: Tokenizer) -> None:
    for piece in trained.pieces[3:]:
        assert len({character.isalpha() for character in piece.removeprefix("\u2581")}) <= 1, piece


def test_a_small_vocabulary_leaves_out_rare_characters() -> None:
    tokenizer = SentencePieceBPE(vocab_size=20).train(TEXTS)
    assert tokenizer.tokens.vocab_size == 20
    assert tokenizer.vocabulary.unk in tokenizer.encode(["D\u00e9j\u00e0"])[0]


def test_a_unigram_model_is_not_taken_for_bpe(tmp_path: Path) -> None:
    Unigram(vocab_size=100).train(TEXTS).save(tmp_path)
    for name in ("tokens.json", "tokenizer.json"):
        (tmp_path / name).unlink()
    assert isinstance(Tokenizer.load(tmp_path).tokens, Unigram)


def test_a_model_with_bytes_and_a_normalization_is_refused(tmp_path: Path) -> None:
    _, model = reference(TEXTS, 400, byte_fallback=True, hard_vocab_limit=False)
    (tmp_path / "spiece.model").write_bytes(model)
    with pytest.raises(GenusError, match="has bytes and normalizes texts") as caught:
        Tokenizer.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_training_bpe_needs_text() -> None:
    with pytest.raises(GenusError, match="the corpus is empty"):
        SentencePieceBPE(vocab_size=SIZE).train([" ", "\n"])


@pytest.mark.shared
def test_ids_on_real_text_both_ways(shared: Path, tmp_path: Path) -> None:
    """Ours is written with sentencepiece's own map of characters, without which that takes a text as it is."""
    book = next(text for text in shared_texts(shared / "data" / "en_books") if len(text) > 100_000)[:300_000]
    texts = [line for line in book.split("\n") if line.strip() and not OF_PYTHON & set(line)]
    theirs, model = reference(texts, 320, character_coverage=1.0, max_sentence_length=100_000)
    (tmp_path / "spiece.model").write_bytes(model)
    assert Tokenizer.load(tmp_path).encode(texts) == [theirs.encode(text) for text in texts]
    ours = SentencePieceBPE(vocab_size=320).train(texts)
    assert len({theirs.IdToPiece(number) for number in range(320)} & set(ours.pieces)) >= 318
    charsmap = read_model(tmp_path / "spiece.model").charsmap
    ours.save(tmp_path / "ours")
    write_model(tmp_path / "spiece.model", replace(read_model(tmp_path / "ours" / "spiece.model"), charsmap=charsmap))
    again = type(theirs)(model_file=str(tmp_path / "spiece.model"))
    assert [again.encode(text) for text in texts] == ours.encode(texts)
