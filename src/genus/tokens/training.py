"""Tokenizer training: sampling of the corpus, and training that Ctrl-C can stop."""

from __future__ import annotations

import itertools
import json
import re
import tempfile
import threading
from typing import TYPE_CHECKING

from genus.errors import GenusError
from genus.part import Count, Natural
from genus.tokens import TokenizerConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import tokenizers
    from tokenizers import trainers

STRETCH = 1 << 16
"""Characters of a document that are sampled together, so that a corpus of a few long books is sampled evenly too."""
LONGEST_WORD = 1 << 12
"""Maximum length in characters of a word in training: training time grows with its square."""
LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1}}}")
PARTS = re.compile(rf"\s*\S{{1,{LONGEST_WORD}}}|\s+")
MASK = (1 << 64) - 1


class TrainedTokens(TokenizerConfig):
    """A tokenizer whose vocabulary is learned from text."""

    train_on: Count = 1_000_000_000
    """In training, approximate bytes of text, sampled evenly over the whole corpus; a smaller corpus is used whole."""
    train_seed: Natural = 0
    """Seed of the sample of a larger corpus."""

    def sample(self, texts: Iterable[str]) -> Sample:
        """Return the sample of texts to train on.

        Raises:
            GenusError: there is no text.
        """
        return Sample(texts, self.train_on, self.train_seed)


class Sample:
    """A re-iterable sample of about `most` bytes of texts, chosen evenly by a hash of their indices.

    Each iteration reads the texts again, never holding all in memory. An iterator, which can be read only once, is
    first written to a temporary file.

    Raises:
        GenusError: there is no text.
    """

    def __init__(self, texts: Iterable[str], most: int, seed: int) -> None:
        self.texts = _Spool(texts) if iter(texts) is texts else texts
        self.seed = seed
        size, empty = 0, True
        for text in self.texts:
            size += len(text.encode("utf-8", "replace"))
            empty = empty and not text.strip()
        if empty:
            raise GenusError("there is no text to train a tokenizer on: the corpus is empty")
        self.share = most / size

    def __iter__(self) -> Iterator[str]:
        """Yield the sampled texts, in stretches if not all are used; texts with very long words come in parts."""
        texts: Iterable[str] = self.texts
        if self.share < 1:
            stretches = enumerate(itertools.chain.from_iterable(map(_stretches, texts)))
            texts = (stretch for number, stretch in stretches if _uniform(self.seed, number) < self.share)
        for text in texts:
            if LONG_WORD.search(text):
                yield from PARTS.findall(text)
            else:
                yield text


def fit(backend: tokenizers.Tokenizer, texts: Iterable[str], trainer: trainers.Trainer) -> None:
    """Train a backend in a separate thread, since Ctrl-C does not reach a thread that is busy in the library.

    Raises:
        KeyboardInterrupt: on Ctrl-C; the thread ends at its next text or with the process.
        Exception: any exception of the training.
    """
    stopped = threading.Event()
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

    _wait(threading.Thread(target=work, daemon=True), stopped.set)
    if failure:
        raise failure[0]


def _wait(thread: threading.Thread, stop: Callable[[], None]) -> None:
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.1)
    except BaseException:
        stop()
        raise


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


def _uniform(seed: int, number: int) -> float:
    """Return a hash in [0, 1] of an index (SplitMix64; Steele, Lea and Flood 2014, figure 3)."""
    bits = (seed * 0xD1342543DE82EF95 + (number + 1) * 0x9E3779B97F4A7C15) & MASK
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & MASK
    return (bits ^ (bits >> 31)) / 2.0**64
