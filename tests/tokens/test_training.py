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


def test_the_library_gets_no_more_than_a_stretch_at_once() -> None:
    """It takes a hundred bytes of memory for each character: gigabytes for a line of 32 MB."""
    book = " ".join(TEXTS) * 3
    chosen = list(Sample([book, TEXTS[0]], 10**9, 0))
    assert "".join(chosen) == book + TEXTS[0]
    assert max(map(len, chosen)) <= STRETCH


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


LARGE = """
import random, resource, sys
from genus import catalog

class Texts:
    \"\"\"Texts that take no disk, as many as are asked for.\"\"\"

    def __init__(self, megabytes):
        draw = random.Random(0)
        self.number = megabytes
        words = ["".join(draw.choices("abcdefghijklmnop", k=draw.randint(2, 9))) for _ in range(20_000)]
        self.texts = [" ".join(draw.choices(words, k=155_000))[:1_000_000] for _ in range(8)]

    def __iter__(self):
        return (self.texts[number % len(self.texts)] for number in range(self.number))

settings = ["tokens.vocab_size=2000", "tokens.train_on=20_000_000"]
tokenizer = catalog.load(sys.argv[1], settings).tokens.train(Texts(int(sys.argv[2])))
print(tokenizer.vocabulary.size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
"""Train a tokenizer on so many megabytes of text; print its size and the largest resident memory in KiB."""


def train_on_megabytes(member: str, megabytes: int) -> tuple[int, float, float]:
    """Return pieces, bytes of memory and seconds of a training in a process of its own."""
    begun = time.monotonic()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LARGE, member, str(megabytes)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=3600, check=True)
    pieces, memory = map(int, done.stdout.split())
    return pieces, 1024 * memory, time.monotonic() - begun


@pytest.mark.slow
@pytest.mark.parametrize("member", ["bert/tiny", "gpt2/tiny", "albert/tiny"])
def test_sixteen_gigabytes_are_read_in_the_memory_of_the_cap(member: str) -> None:
    """Of the whole text only the sample is learned from: memory does not grow with it, time by reading alone."""
    _, little, seconds = train_on_megabytes(member, 40)
    pieces, memory, longer = train_on_megabytes(member, 16_000)
    assert pieces == 2000
    assert memory < 1.3 * little < 1.3e9
    assert longer < seconds + 16_000 * 0.05


@pytest.mark.slow
@pytest.mark.parametrize("member", ["bert/tiny", "gpt2/tiny", "albert/tiny"])
def test_a_line_of_fifty_megabytes_from_tokenizer_to_model(member: str, tmp_path: Path) -> None:
    """In the memory of a little text and a gigabyte; where the line is cut is said."""
    words = np.random.default_rng(0).integers(ord("a"), ord("q"), (5000, 6), dtype=np.uint8)
    words[:, -1] = ord(" ")
    line = words[np.random.default_rng(1).integers(0, 5000, 50_000_000 // 6)].tobytes().decode()
    settings = ["--set", "tokens.vocab_size=1000", "--set", "budget.amount=2", "--run", "device=cpu"]
    used, errors = [], ""
    for name, text in {"little": line[:100_000], "long": line}.items():
        (tmp_path / f"{name}.txt").write_text(text + "\nAnother line of some words.\n" * 40)
        given = ["pretrain", member, str(tmp_path / f"{name}.txt"), "--out", str(tmp_path / name), *settings]
        code = "import resource, sys; from genus.cli import main; code = main(sys.argv[1:])\n"
        code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
        command = [sys.executable, "-c", code, *given]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr
        used.append(1024 * int(done.stdout.split()[-1]))
        errors = done.stderr
    assert used[1] < used[0] + 1e9
    assert "1 documents over 32 MB are cut there, and go on as another" in errors


def test_further_special_tokens_and_missing_ones() -> None:
    specials = GPT2.overlay({"extra": ["<a>", "<b>"]})
    tokenizer = ByteBPE(vocab_size=300, special_tokens=specials).train(TEXTS)
    assert tokenizer.pieces[0] == "<|endoftext|>"
    assert tokenizer.pieces[-2:] == ["<a>", "<b>"]
    assert tokenizer.vocabulary.special.sum() == 3
    assert tokenizer.encode(["x<a>"])[0][-1] == tokenizer.vocabulary.size - 2


@pytest.mark.parametrize("member", ["bert/tiny", "albert/tiny", "gpt2/tiny", "llama/tiny"])
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


PRESSED = """
import sys, threading
from genus.cli import main

class Thread(threading.Thread):
    def start(self):
        super().start()
        raise KeyboardInterrupt

threading.Thread = Thread
sys.exit(main(sys.argv[1:]))
"""
"""Press Ctrl-C while the thread of a training starts."""


def test_ctrl_c_as_training_starts_is_no_abortion_within_the_library(tmp_path: Path) -> None:
    letters = np.random.default_rng(0).integers(ord("a"), ord("z") + 1, (400_000, 10), dtype=np.uint8)
    letters[:, -1] = ord(" ")
    (tmp_path / "corpus.txt").write_bytes(letters.tobytes())
    command = [sys.executable, "-c", PRESSED, "tokenizer", "train", "bert/tiny", str(tmp_path / "corpus.txt")]
    command += ["--out", str(tmp_path / "words"), "--set", "tokens.vocab_size=60000"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert (done.returncode, done.stderr) == (130, "genus: stopped\n")


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
