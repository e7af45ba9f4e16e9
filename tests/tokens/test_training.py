"""Tokenizers are trained on a sample of a large corpus, from a stream, and can be stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from genus.errors import GenusError
from genus.tokens import TokenizerConfig
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from genus.tokens.algorithms.presegmented_words import PresegmentedWords
from genus.tokens.algorithms.sentencepiece_bpe import SentencePieceBPE
from genus.tokens.algorithms.unigram import Unigram
from genus.tokens.algorithms.word_level import WordLevel
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.tokens.files import sentencepiece as files
from genus.tokens.files.sentencepiece import NORMAL, UNKNOWN, Pieces, read_model, write_model
from genus.tokens.training import LONGEST_WORD, STRETCH, Sample, dropped_marks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXTS = [f"Text number {n}, which has some words of its own: word{n % 40} and word{n % 7}." for n in range(2000)]
SIZE = sum(map(len, TEXTS))
KINDS: dict[str, TokenizerConfig] = {
    "wordpiece": WordPiece(vocab_size=200),
    "byte-level": ByteBPE(vocab_size=300),
    "unigram": Unigram(vocab_size=200),
    "sentencepiece": SentencePieceBPE(vocab_size=200),
    "words": WordLevel(vocab_size=200, min_frequency=1),
}


def test_a_small_corpus_is_taken_whole() -> None:
    assert list(Sample(TEXTS, SIZE, 0)) == TEXTS


def test_a_sample_is_of_the_whole_corpus_and_the_same_again() -> None:
    sample = Sample(TEXTS, SIZE // 10, 0)
    chosen = list(sample)
    assert chosen == list(sample) == list(Sample(iter(TEXTS), SIZE // 10, 0))
    assert abs(sum(map(len, chosen)) - SIZE / 10) < 0.25 * SIZE / 10
    places = np.array([TEXTS.index(text) for text in chosen])
    assert (np.histogram(places, 4, (0, len(TEXTS)))[0] > len(chosen) / 8).all()
    assert chosen != list(Sample(TEXTS, SIZE // 10, 1))


def test_a_long_document_is_sampled_too() -> None:
    book = " ".join(TEXTS) * 30
    chosen = list(Sample([book], len(book) // 4, 0))
    assert 1 < len(chosen) < len(book) / STRETCH
    assert all(len(stretch) <= STRETCH and stretch in book for stretch in chosen)


def test_words_without_end_are_cut() -> None:
    long = "acgt" * 5000
    found = list(Sample([f"a {long} b"], 10**9, 0))
    assert "".join(found) == f"a {long} b"
    assert max(len(part.strip()) for part in found) == LONGEST_WORD


def test_of_text_without_white_space_a_sample_is_taken_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    letters = np.random.default_rng(0).choice(list("acgt"), 400_000)
    texts = ["Some words in front.", "".join(letters), "And some after it."]
    sample = Sample(texts, 10**9, 0, most_unspaced=100_000)
    found = list(sample)
    runs = [word for text in found for word in text.split() if len(word) > 32]
    assert 60_000 < sum(map(len, runs)) < 140_000
    assert all(run in texts[1] for run in runs)
    assert found[0] == texts[0]
    assert found[-1] == texts[-1]
    part = Unigram(vocab_size=100)
    begun = time.monotonic()
    tokenizer = part.train(texts)
    assert "a sample of 25,600 of the 400,000 characters" in capsys.readouterr().err
    assert time.monotonic() - begun < 60
    assert len(tokenizer.encode(["acgtacgt"])[0]) < 8
    assert PresegmentedWords(vocab_size=100).most_unspaced == 10**9
    WordPiece(vocab_size=100).train(TEXTS)
    assert capsys.readouterr().err == ""


MARKED = {
    "Thai": ("\u0e1b\u0e48\u0e32", "\u0e1b\u0e49\u0e32"),
    "Hindi": ("\u0915\u0941\u0932", "\u0915\u0942\u0932"),
    "Arabic": ("\u0639\u064e\u0644\u064e\u0645", "\u0639\u0650\u0644\u0652\u0645"),
    "Hebrew": ("\u05e1\u05b5\u05e4\u05b6\u05e8", "\u05e1\u05b7\u05e4\u05b8\u05e8"),
    "Vietnamese": ("m\u00e1", "m\u00e0"),
    "German": ("sch\u00f6n", "schon"),
}


@pytest.mark.parametrize("language", MARKED)
def test_marks_that_matter_are_kept(language: str, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = MARKED[language]
    texts = [f"{one} {other}"] * 20
    tokenizer = WordPiece(vocab_size=100).train(texts)
    assert tokenizer.encode([one]) != tokenizer.encode([other])
    assert tokenizer.vocabulary.unk not in tokenizer.encode([f"{one} {other}"])[0]
    assert "which are kept" in capsys.readouterr().err
    told = WordPiece(vocab_size=100, strip_accents=True).train(texts)
    assert told.encode([one]) == told.encode([other])
    assert capsys.readouterr().err == ""
    for dropping in (told, Unigram(vocab_size=100).train(texts)):
        assert "of the letters lose accents or other marks in this tokenizer" in dropped_marks(dropping, texts)
    assert dropped_marks(tokenizer, texts) == ""


def test_english_is_as_published(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = WordPiece(vocab_size=200).train([*TEXTS, "A caf\u00e9."])
    assert tokenizer.tokens.to_json()["strip_accents"] is None
    assert tokenizer.encode(["caf\u00e9"]) == tokenizer.encode(["cafe"])
    assert capsys.readouterr().err == ""


def test_a_vocabulary_of_special_tokens_only_is_refused() -> None:
    tokenizer = WordLevel(vocab_size=100, min_frequency=3).train(["no word occurs here thrice"])
    with pytest.raises(GenusError, match="special tokens only"):
        tokenizer.vocabulary  # noqa: B018


@pytest.mark.parametrize("kind", KINDS)
def test_the_cap_is_a_choice(kind: str) -> None:
    part = KINDS[kind].override("train_on", 20_000)
    assert part.train(TEXTS).pieces == part.train(iter(TEXTS)).pieces
    assert TokenizerConfig.from_json(part.to_json()) == part
    assert part.train(TEXTS).pieces != KINDS[kind].train(TEXTS).pieces or kind in {"byte-level", "words"}
    with pytest.raises(GenusError, match="the corpus is empty"):
        part.train(iter(["", " "]))


def test_the_corpus_is_never_in_memory_whole() -> None:
    """Of texts that can be read again, no more than a few are alive at a time."""
    alive = most = 0

    class Text(str):
        __slots__ = ()

        def __new__(cls, text: str) -> Text:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)
            return super().__new__(cls, text)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    class Corpus:
        def __iter__(self) -> Iterator[str]:
            return (Text(text) for text in TEXTS)

    KINDS["wordpiece"].train(Corpus())  # type: ignore[arg-type]
    assert most < len(TEXTS) / 2


def test_further_special_tokens_and_missing_ones() -> None:
    specials = GPT2.overlay({"extra": ["<a>", "<b>"]})
    tokenizer = ByteBPE(vocab_size=300, special_tokens=specials).train(TEXTS)
    assert tokenizer.pieces[0] == "<|endoftext|>"
    assert tokenizer.pieces[-2:] == ["<a>", "<b>"]
    assert tokenizer.vocabulary.special.sum() == 3
    assert tokenizer.encode(["x<a>"])[0][-1] == tokenizer.vocabulary.size - 2


@pytest.mark.parametrize("member", ["bert/tiny", "albert/tiny"])
def test_ctrl_c_stops_training(member: str, tmp_path: Path) -> None:
    """It ends with one line and the exit code of shells, and nothing is written."""
    rng = np.random.default_rng(0)
    letters = rng.integers(ord("a"), ord("z") + 1, (20_000, 60, 10), dtype=np.uint8)
    letters[:, :, -1] = ord(" ")
    with (tmp_path / "corpus.jsonl").open("w") as file:
        file.writelines(json.dumps({"text": document.tobytes().decode()}) + "\n" for document in letters)
    out = tmp_path / "words"
    command = [sys.executable, "-m", "genus", "tokenizer", "train", member, str(tmp_path / "corpus.jsonl")]
    command += ["--out", str(out), "--set", "tokens.vocab_size=60000"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # shells have what they start with & ignore it
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=heed)
    try:
        time.sleep(6)
        assert process.poll() is None, "the corpus is too small for this test"
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, errors.strip()) == (130, "genus: stopped")
    assert time.monotonic() - begun < 30
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.jsonl"]


def test_writing_a_model_takes_steps_in_proportion_to_its_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted: the bytes of all records that are made are a constant times those of the file."""
    made = 0
    field = files._field

    class Counted(bytes):
        def __add__(self, other: bytes) -> Counted:
            nonlocal made
            made += len(self) + len(other)
            return Counted(super().__add__(other))

        def __radd__(self, other: bytes) -> Counted:
            nonlocal made
            made += len(self) + len(other)
            return Counted(other + bytes(self))

    monkeypatch.setattr(files, "_field", lambda number, value: Counted(field(number, value)))
    ratios = []
    for size in (500, 2000):
        texts = [f"\u2581piece{number}" for number in range(size)]
        pieces = Pieces(texts, [-float(n) for n in range(size)], [UNKNOWN] + [NORMAL] * (size - 1))
        made = 0
        write_model(tmp_path / "a.model", pieces)
        assert read_model(tmp_path / "a.model") == pieces
        ratios.append(made / (tmp_path / "a.model").stat().st_size)
    assert ratios[1] < 1.5 * ratios[0] < 6
