"""What all training of tokenizers shares: how much text is taken, and that it can be stopped."""

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
"""Characters of a document that are taken or left together, so that a corpus of few long books is sampled too."""
LONGEST_WORD = 1 << 12
"""Characters without white space that are learned from as one: training time grows with their square."""
LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1}}}")
PARTS = re.compile(rf"\s*\S{{1,{LONGEST_WORD}}}|\s+")
MASK = (1 << 64) - 1


class TrainedTokens(TokenizerConfig):
    """A tokenization whose vocabulary is learned from text."""

    train_on: Count = 1_000_000_000
    """In training, bytes of text that are taken, about, spread evenly over the whole corpus; a smaller corpus is taken
    whole."""
    train_seed: Natural = 0
    """Decides which text is taken of a larger corpus."""

    def sample(self, texts: Iterable[str]) -> Sample:
        """Return the texts to train on.

        Raises:
            GenusError: there is no text.
        """
        return Sample(texts, self.train_on, self.train_seed)


class Sample:
    """About so many bytes of texts, chosen evenly over all of them by a hash of their numbers; read more than once.

    It is read anew each time, and never in memory whole. Texts that can be read but once are kept in a temporary file.

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
        """Yield the texts, long ones in stretches where some are left out, and very long words in parts."""
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
    """Train a backend in a thread of its own, since Ctrl-C reaches no thread that the library keeps busy.

    Raises:
        KeyboardInterrupt: the thread is left to itself, and ends at its next text or with the process.
        Exception: what training raises.
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
    """Texts that can be read but once, in a temporary file."""

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
    """Cut a text into stretches, before white space where there is any."""
    start = 0
    while len(text) - start > STRETCH:
        end = max(text.rfind(" ", start, start + STRETCH), text.rfind("\n", start, start + STRETCH))
        end = end if end > start else start + STRETCH
        yield text[start:end]
        start = end
    yield text[start:]


def _uniform(seed: int, number: int) -> float:
    """Return a hash of a number as a fraction (SplitMix64; Steele, Lea and Flood 2014, figure 3)."""
    bits = (seed * 0xD1342543DE82EF95 + (number + 1) * 0x9E3779B97F4A7C15) & MASK
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & MASK
    return (bits ^ (bits >> 31)) / 2.0**64
