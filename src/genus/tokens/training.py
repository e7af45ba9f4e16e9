"""Tokenizer training: sampling of the corpus, and training that Ctrl-C can stop."""

from __future__ import annotations

import atexit
import itertools
import json
import os
import re
import sys
import tempfile
import threading
import unicodedata
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.errors import INTERRUPTED, GenusError, say
from genus.part import Count, Natural
from genus.tokens import TokenizerConfig
from genus.tokens.vocabulary import MOST_UNKNOWN, unknown_share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import tokenizers
    from tokenizers import trainers

    from genus.tokens.tokenizer import Tokenizer

STRETCH = 1 << 16
"""Characters of a document that are sampled together, so that a corpus of a few long books is sampled evenly too, and
that are given to the library at once, which takes a hundred bytes for each."""
LONGEST_WORD = 1 << 12
"""Maximum length in characters of a word in training: training time grows with its square."""
LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1}}}")
PARTS = re.compile(rf"\s*\S{{1,{LONGEST_WORD}}}|\s+")
SHORTEST_UNSPACED = 33
UNSPACED = re.compile(rf"\S{{{SHORTEST_UNSPACED},{LONGEST_WORD}}}")
"""Text without white space: longer than words are. Words repeat, and training time grows with the distinct ones; such
runs hardly repeat, so that it grows with their whole length."""
MOST_UNSPACED = 1 << 24
"""Maximum characters of such runs in training."""
MASK = (1 << 64) - 1
MOST_MARKED = 0.01
"""Share of letters with a mark above which marks count as part of the language. Measured: 0.1 %
in English Wikipedia, 1.6 and 2.2 % in German and French captions (Multi30k), 23 % in Thai news."""
LOOKED_AT = 1 << 20
"""Characters of a corpus that are looked at to tell what a tokenizer does to it."""


class TrainedTokens(TokenizerConfig):
    """A tokenizer whose vocabulary is learned from text."""

    train_on: Count = 1_000_000_000
    """In training, approximate bytes of text, sampled evenly over the whole corpus; a smaller corpus is used whole."""
    train_seed: Natural = 0
    """Seed of the sample of a larger corpus."""

    unspaced_per_piece: ClassVar[int] = 2_048
    """In training, characters of text without white space for each piece of the vocabulary."""

    @property
    def most_unspaced(self) -> int:
        """Maximum characters of text without white space in training; of more, an even sample is taken."""
        return min(MOST_UNSPACED, self.vocab_size * self.unspaced_per_piece)

    def sample(self, texts: Iterable[str]) -> Sample:
        """Return the sample of texts to train on, and say how much text without white space is left out of it.

        Raises:
            GenusError: there is no text.
        """
        sample = Sample(texts, self.train_on, self.train_seed, self.most_unspaced)
        if sample.unspaced > self.most_unspaced:
            say(
                f"the tokenizer is trained on a sample of {self.most_unspaced:,} of the {sample.unspaced:,} characters "
                f"in runs of {SHORTEST_UNSPACED} or more without white space, since they hardly repeat as words do"
            )
        return sample


class Sample:
    """A re-iterable sample of about `most` bytes of texts, in stretches, chosen evenly by a hash of their indices.

    Each iteration reads the texts again, never holding all in memory. An iterator, which can be read only once, is
    first written to a temporary file. Of the runs without white space (`UNSPACED`) in the sample, if they have more
    than `most_unspaced` characters, about as many are kept, chosen in the same way.

    Raises:
        GenusError: there is no text.
    """

    def __init__(self, texts: Iterable[str], most: int, seed: int, most_unspaced: int = MOST_UNSPACED) -> None:
        self.texts = _Spool(texts) if iter(texts) is texts else texts
        self.seed = seed
        size, unspaced, empty = 0, 0, True
        for text in itertools.chain.from_iterable(map(_stretches, self.texts)):
            encoded = text.encode("utf-8", "replace")
            size += len(encoded)
            unspaced += _unspaced(encoded, len(text))
            empty = empty and not text.strip()
        if empty:
            raise GenusError("there is no text to train a tokenizer on: the corpus is empty")
        self.share = most / size
        self.unspaced = round(unspaced * min(1, self.share))
        """About how many characters are in runs without white space in the sample, before runs are left out."""
        self.unspaced_share = most_unspaced / max(1, self.unspaced)

    def __iter__(self) -> Iterator[str]:
        """Yield the sampled texts, in stretches; those with very long words come in parts."""
        texts: Iterable[str] = itertools.chain.from_iterable(map(_stretches, self.texts))
        if self.share < 1:
            texts = (stretch for number, stretch in enumerate(texts) if _uniform(self.seed, number) < self.share)
        if self.unspaced_share < 1:
            numbers = itertools.count()
            texts = (UNSPACED.sub(partial(self._kept, numbers=numbers), text) for text in texts)
        for text in texts:
            if LONG_WORD.search(text):
                yield from PARTS.findall(text)
            else:
                yield text

    def _kept(self, run: re.Match[str], numbers: Iterator[int]) -> str:
        """Return a run without white space that is kept, set apart from the next one, or a space."""
        return f"{run[0]} " if _uniform(self.seed, next(numbers)) < self.unspaced_share else " "


def first(texts: Iterable[str]) -> Iterator[str]:
    """Yield the first texts, up to `LOOKED_AT` characters of them."""
    left = LOOKED_AT
    for text in texts:
        yield text[:left]
        left -= len(text)
        if left <= 0:
            return


def unknown(tokenizer: Tokenizer, texts: Iterable[str]) -> str:
    """Return a notice if more than `MOST_UNKNOWN` of the tokens of the first texts are unknown, otherwise ""."""
    missing = tokens = 0
    for text in first(texts):
        ids = tokenizer.encoder(text)
        missing, tokens = missing + tokenizer.unknown(ids), tokens + len(ids) // np.dtype(tokenizer.dtype).itemsize
    return unknown_share(missing, tokens) if missing > MOST_UNKNOWN * tokens else ""


def dropped_marks(tokenizer: Tokenizer, texts: Iterable[str]) -> str:
    """Return a notice if a tokenizer drops the marks of more than `MOST_MARKED` of the letters of the first texts."""
    if (normalizer := tokenizer.backend.normalizer) is None:
        return ""
    looked_at = [*first(texts)]
    if (found := marked(looked_at)) <= MOST_MARKED:
        return ""
    lost = found - marked(normalizer.normalize_str(text) for text in looked_at)
    if lost <= MOST_MARKED:
        return ""
    return (
        f"{lost:.0%} of the letters lose accents or other marks in this tokenizer; if they matter, take one that keeps "
        "them, or train one with tokens.plain=false (ALBERT, XLNet) or tokens.strip_accents=false (BERT)"
    )


def marked(texts: Iterable[str]) -> float:
    """Return the share of letters with a combining mark, which a tokenizer may drop, in the first texts."""
    counts = Counter(itertools.chain.from_iterable(first(texts)))
    marks = letters = 0
    for character, number in counts.items():
        kinds = [unicodedata.category(part) for part in unicodedata.normalize("NFD", character)]
        marks += number * kinds.count("Mn")
        letters += number * sum(kind[0] == "L" for kind in kinds)
    return marks / max(1, letters)


def frequent_characters(normalize: Callable[[str], str], texts: Iterable[str], most: int) -> list[str]:
    """Return the most frequent characters of normalized texts, at least one and at most `most`, sorted.

    The library gives characters inside words ids in no fixed order, and the ids break ties between equally frequent
    pairs. With ids fixed in advance, the same texts give the same vocabulary.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalize(text))
    known = sorted((one for one in counts if not one.isspace()), key=lambda one: (-counts[one], one))
    return sorted(known[: max(1, most)])


def fit(backend: tokenizers.Tokenizer, texts: Iterable[str], trainer: trainers.Trainer) -> None:
    """Train a backend in a separate thread, since Ctrl-C does not reach a thread that is busy in the library.

    Raises:
        KeyboardInterrupt: on Ctrl-C; the thread ends at its next text or with the process.
        Exception: any exception of the training.
    """
    stopped, ended = threading.Event(), threading.Event()
    failure: list[BaseException] = []

    def until_stopped() -> Iterator[str]:
        for text in texts:
            if stopped.is_set():
                raise GenusError("stopped")
            yield text

    def work() -> None:
        try:
            backend.train_from_iterator(until_stopped(), trainer)
        except BaseException as error:
            failure.append(error)
        finally:
            ended.set()

    try:
        threading.Thread(target=work, daemon=True).start()
        while not ended.wait(0.1):
            pass
    except BaseException:  # of the start too, which waits for the thread
        stopped.set()
        atexit.register(_leave, ended)
        raise
    if failure:
        raise failure[0]


def _leave(ended: threading.Event) -> None:
    """End the process if the training still runs when Python exits: it would be aborted within the library."""
    if not ended.is_set():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)


class _Spool:
    """A copy of an iterator's texts in a temporary file, which can be read repeatedly."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # it lives as long as this
        for text in texts:
            self.file.write(json.dumps(text) + "\n")

    def __del__(self) -> None:
        self.file.close()

    def __iter__(self) -> Iterator[str]:
        self.file.seek(0)
        return map(json.loads, self.file)


def _stretches(text: str) -> Iterator[str]:
    """Cut a text into stretches of at most `STRETCH` characters, before white space if there is any."""
    start = 0
    while len(text) - start > STRETCH:
        end = max(text.rfind(" ", start, start + STRETCH), text.rfind("\n", start, start + STRETCH))
        end = end if end > start else start + STRETCH
        yield text[start:end]
        start = end
    yield text[start:]


def _unspaced(text: bytes, characters: int) -> int:
    """Return about how many characters of a text are in `UNSPACED` runs, by the bytes between ASCII white space."""
    space = np.flatnonzero(np.frombuffer(text, np.uint8) <= ord(" "))
    runs = (np.diff(space, prepend=-1, append=len(text)) - 1) * (characters / max(1, len(text)))
    return int(runs[runs >= SHORTEST_UNSPACED].sum())


def _uniform(seed: int, number: int) -> float:
    """Return a hash in [0, 1] of an index (SplitMix64; Steele, Lea and Flood 2014, figure 3)."""
    bits = (seed * 0xD1342543DE82EF95 + (number + 1) * 0x9E3779B97F4A7C15) & MASK
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & MASK
    return (bits ^ (bits >> 31)) / 2.0**64
