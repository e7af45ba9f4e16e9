"""Canaries: strings with a secret part, planted in a text a known number of times, by which memorization is measured.

Source: Carlini et al. 2018 (arXiv:1802.08232), whose canaries have a fixed format with holes, which random characters
fill. Here each has another name in the format too, so that its secret can be asked for.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from genus.curate.document import Document
from genus.errors import UsageError
from genus.examples.keys import generator
from genus.files import expecting, read_json, replacing, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy as np

    from genus.evaluate.likelihood import Progress

FORMAT = "The access code of {name} is {secret}."
REPETITIONS = (1, 2, 5, 10, 20, 50, 100)
TEXT, CANARIES = "text.jsonl", "canaries.json"
"""What `plant` writes."""
DRAWN, PLACED = (1 << 20) + 2, (1 << 20) + 3
"""Purposes of the keys of canaries and of their places."""
CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"
SOURCE = "canaries"
"""The source of documents that are canaries."""


@dataclass(frozen=True, slots=True)
class Canary:
    """A planted string: what stands before its secret, the secret, and what stands after it."""

    before: str
    """Without the space that follows."""
    secret: str
    after: str
    repetitions: int
    """How often it was planted."""

    @property
    def text(self) -> str:
        """The whole string."""
        return self.before + self.ending(self.secret)

    def ending(self, secret: str) -> str:
        """Return what follows `before`, were this the secret."""
        return f" {secret}{self.after}"


@dataclass(frozen=True, slots=True)
class Planted:
    """Canaries, and the space R of which their secrets are: all strings of so many characters of an alphabet."""

    alphabet: str
    length: int
    """Characters of a secret."""
    seed: int
    canaries: tuple[Canary, ...]

    @property
    def space(self) -> int:
        """|R|, the number of possible secrets."""
        return int(len(self.alphabet) ** self.length)

    def secret(self, number: int) -> str:
        """Return the secret of a number from 0 to |R| - 1."""
        found = ""
        for _ in range(self.length):
            number, rest = divmod(number, len(self.alphabet))
            found = self.alphabet[rest] + found
        return found

    def write(self, path: Path) -> None:
        """Write the canaries as JSON (GenusError: it cannot be written)."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Planted:
        """Read what `write` has written.

        Raises:
            GenusError: the file is missing or is no such file.
        """
        table = read_json(path)
        with expecting(path, "take the canaries.json that genus plant has written"):
            canaries = tuple(Canary(**one) for one in table["canaries"])
            found = cls(str(table["alphabet"]), int(table["length"]), int(table["seed"]), canaries)
            if not canaries or len(found.alphabet) < 2 or found.length < 1:
                raise ValueError("there is no canary, or no space of secrets")
        return found


def draw_canaries(
    each: int = 5,
    repetitions: Sequence[int] = REPETITIONS,
    *,
    pattern: str = FORMAT,
    alphabet: str = "0123456789",
    length: int = 4,
    seed: int = 0,
) -> Planted:
    """Return canaries with different names, so many for each number of repetitions.

    Args:
        each: canaries of each number of repetitions.
        repetitions: how often canaries are planted.
        pattern: with `{name}` before ` {secret}`.
        alphabet: characters of secrets.
        length: characters of a secret.
        seed: of all draws.

    Raises:
        UsageError: the pattern lacks one of the two, or a number is below 1.
    """
    if pattern.count("{name}") != 1 or pattern.count(" {secret}") != 1 or pattern.index("{name}") > pattern.index(
        " {secret}"
    ):
        raise UsageError(f"--format: expected {{name}} and then {{secret}} after a space, each once, got {pattern!r}")
    if each < 1 or length < 1 or not repetitions or min(repetitions) < 1:
        raise UsageError("canaries: expected at least 1 of each, planted at least once, with a secret of 1 character")
    if len({*alphabet}) != len(alphabet) or len(alphabet) < 2:
        raise UsageError(f"--alphabet: expected two different characters or more, each once, got {alphabet!r}")
    before, after = pattern.split(" {secret}")
    rng, names, found = generator(seed, DRAWN), set[str](), list[Canary]()
    for number in repetitions:
        for _ in range(each):
            while (name := f"{_word(rng)} {_word(rng)}") in names:
                pass
            names.add(name)
            secret = "".join(alphabet[place] for place in rng.integers(len(alphabet), size=length).tolist())
            found.append(Canary(before.replace("{name}", name), secret, after, number))
    return Planted(alphabet, length, seed, tuple(found))


def _word(rng: np.random.Generator) -> str:
    """Return a word that is none: three syllables."""
    places = rng.integers((len(CONSONANTS), len(VOWELS)), size=(3, 2)).tolist()
    return "".join(CONSONANTS[one] + VOWELS[other] for one, other in places).capitalize()


def with_canaries(documents: Iterable[Document], number: int, planted: Planted) -> Iterator[Document]:
    """Yield the documents of a corpus with the canaries among them, each a document of its own.

    Before which document a copy stands, or after the last, is drawn uniformly: a function of seed and number.

    Args:
        documents: of the corpus, in order.
        number: how many there are.
        planted: the canaries.
    """
    copies = [place for place, one in enumerate(planted.canaries) for _ in range(one.repetitions)]
    gaps = generator(planted.seed, PLACED).integers(number + 1, size=len(copies))
    order, row = sorted(range(len(copies)), key=lambda copy: int(gaps[copy])), 0

    def before(place: int) -> Iterator[Document]:
        nonlocal row
        while row < len(order) and (gaps[order[row]] <= place or place < 0):
            row += 1
            yield Document(planted.canaries[copies[order[row - 1]]].text, {"source": SOURCE, "row": row})

    for place, document in enumerate(documents):
        yield from before(place)
        yield document
    yield from before(-1)


def plant(
    documents: Iterable[Document], number: int, planted: Planted, folder: Path, progress: Progress | None = None
) -> int:
    """Write a corpus with canaries as `text.jsonl`, then `canaries.json`; return the number of its documents.

    Raises:
        GenusError: a file cannot be written.
    """
    total, written = number + sum(one.repetitions for one in planted.canaries), 0
    with replacing(folder / TEXT) as work, work.open("wb") as file:
        for document in with_canaries(documents, number, planted):
            file.write(document.line())
            written += 1
            if progress is not None:
                progress(written, total)
    planted.write(folder / CANARIES)
    return written


def same(one: str, other: str) -> bool:
    """Return whether a text begins with another, but for case and white space, which tokenizers change."""
    return re.sub(r"\s", "", one).casefold().startswith(re.sub(r"\s", "", other).casefold())
