"""Random edits of words: synonyms, insertions, swaps and deletions."""

from __future__ import annotations

import string
from pathlib import Path
from typing import TYPE_CHECKING

from genus.errors import GenusError
from genus.files import reason
from genus.part import Count, SomeShare
from genus.tasks.augment.texts import ChangedTexts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

RECOMMENDED = ((500, 0.05, 16), (2_000, 0.05, 8), (5_000, 0.1, 4))
"""alpha and copies of a row for training tables of at most so many rows; for larger ones the last."""

Synonyms = dict[str, tuple[str, ...]]


class RandomEdits(ChangedTexts):
    """Easy data augmentation: one of four edits, drawn for each copy, of a text of l words.

    n = max(1, ⌊alpha l⌋) words with synonyms are replaced by one; a synonym of a word is inserted anywhere, n times;
    two words change places, n times; or each word is left out with probability alpha, though one stays. Without
    synonyms there are the last two. Words are what white space separates; a synonym takes the place of what punctuation
    surrounds.

    Source: Wei and Zou 2019 (arXiv:1901.11196), section 2, table 3. Deviation: there synonyms are those of WordNet and
    stop words have none; texts lose case and punctuation. Here a file says which words have synonyms.
    """

    synonyms: str = ""
    """File with a line for each word: the word, a tab, and its synonyms between commas; empty: none."""
    alpha: SomeShare | None = None
    """alpha; None: as recommended for the number of rows."""
    copies: Count | None = None
    """Copies of a row; None: as recommended for the number of rows."""

    def number_of_copies(self, rows: int) -> int:
        """Return the copies, by default those recommended."""
        return self.copies or _recommended(rows)[1]

    def changed(self, texts: Sequence[str], draws: Sequence[np.random.Generator], rows: int) -> list[str]:
        """Return the texts, each with one edit.

        Raises:
            GenusError: the file of synonyms cannot be used.
        """
        known = read_synonyms(Path(self.synonyms)) if self.synonyms else {}
        alpha = _recommended(rows)[0] if self.alpha is None else self.alpha
        return [edited(text, known, alpha, rng) for text, rng in zip(texts, draws, strict=True)]


def read_synonyms(path: Path) -> Synonyms:
    """Return the synonyms of each word, in lower case.

    Raises:
        GenusError: the file cannot be read, or a line is not as expected.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise GenusError(f"{path}: synonyms cannot be read: {reason(error)}") from None
    found: Synonyms = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        word, tab, rest = line.partition("\t")
        several = tuple(filter(None, map(str.strip, rest.split(","))))
        if not tab or not word.strip() or not several:
            raise GenusError(f"{path}, line {number}: expected a word, a tab, and its synonyms between commas")
        found[word.strip().lower()] = several
    if not found:
        raise GenusError(f"{path}: holds no synonyms")
    return found


def edited(text: str, synonyms: Mapping[str, tuple[str, ...]], alpha: float, rng: np.random.Generator) -> str:
    """Return the text with one edit; as it is, where it has a single word or none, and no synonym is drawn."""
    words = text.split()
    if not words:
        return text
    number = max(1, int(alpha * len(words)))
    edit = int(rng.integers(4)) if synonyms else int(rng.integers(2))
    if edit == 0:
        swap(words, number, rng)
    elif edit == 1:
        words = left(words, alpha, rng)
    elif edit == 2:
        replace_words(words, synonyms, number, rng)
    else:
        insert(words, synonyms, number, rng)
    return " ".join(words)


def swap(words: list[str], number: int, rng: np.random.Generator) -> None:
    """Exchange two words, in place, a number of times."""
    if len(words) < 2:
        return
    for _ in range(number):
        one, other = rng.choice(len(words), 2, replace=False).tolist()
        words[one], words[other] = words[other], words[one]


def left(words: Sequence[str], alpha: float, rng: np.random.Generator) -> list[str]:
    """Return the words of which each is left out with probability alpha; one of them where all are."""
    kept = [word for word, draw in zip(words, rng.random(len(words)).tolist(), strict=True) if draw >= alpha]
    return kept or [words[int(rng.integers(len(words)))]]


def replace_words(
    words: list[str], synonyms: Mapping[str, tuple[str, ...]], number: int, rng: np.random.Generator
) -> None:
    """Replace a number of words that have synonyms by one of them, in place."""
    able = [place for place, word in enumerate(words) if _core(word).lower() in synonyms]
    for place in rng.permutation(len(able))[:number].tolist():
        word, core = words[able[place]], _core(words[able[place]])
        several = synonyms[core.lower()]
        before, _, after = word.partition(core)
        words[able[place]] = before + several[int(rng.integers(len(several)))] + after


def insert(words: list[str], synonyms: Mapping[str, tuple[str, ...]], number: int, rng: np.random.Generator) -> None:
    """Insert a synonym of a word of the text anywhere, in place, a number of times."""
    able = [core for word in words if (core := _core(word).lower()) in synonyms]
    for _ in range(number if able else 0):
        several = synonyms[able[int(rng.integers(len(able)))]]
        words.insert(int(rng.integers(len(words) + 1)), several[int(rng.integers(len(several)))])


def _core(word: str) -> str:
    """Return a word without the punctuation around it."""
    return word.strip(string.punctuation) or word


def _recommended(rows: int) -> tuple[float, int]:
    """Return alpha and copies for a number of training rows."""
    return next(((alpha, copies) for most, alpha, copies in RECOMMENDED if rows <= most), RECOMMENDED[-1][1:])
