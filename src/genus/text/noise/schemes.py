"""The six schemes of synthetic noise of ByT5 (Xue et al. 2021, arXiv:2105.13626), at any rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from genus.part import Share
from genus.text.noise import TextNoise

if TYPE_CHECKING:
    import numpy as np

MOST_REPETITIONS = 3
"""Copies of a repeated character are 1 to 3, with equal probability (ibid.)."""


class Drop(TextNoise):
    """Drop: a chosen character is left out."""

    keeps_places: ClassVar = False
    rate: Share = 0.1

    def change(self, text: str, chosen: list[bool], rng: np.random.Generator) -> str:
        """Return the text without the chosen characters."""
        return "".join(one for one, gone in zip(text, chosen, strict=True) if not gone)


class AddDropMutate(TextNoise):
    """Add, drop or mutate, a third each: before a chosen character one is added, it is left out, or it is another one.

    New characters are drawn from those of the text, each place as probable, so that they are of its script.
    """

    keeps_places: ClassVar = False
    rate: Share = 0.1

    def change(self, text: str, chosen: list[bool], rng: np.random.Generator) -> str:
        """Return the text with something done at the chosen characters."""
        found = []
        for one, hit in zip(text, chosen, strict=True):
            if not hit:
                found.append(one)
                continue
            action, other = int(rng.integers(3)), text[int(rng.integers(len(text)))]
            found.append((other + one, "", other)[action])
        return "".join(found)


class Repetitions(TextNoise):
    """Repetitions: after a chosen character stand 1 to 3 further ones like it."""

    keeps_places: ClassVar = False
    rate: Share = 0.2

    def change(self, text: str, chosen: list[bool], rng: np.random.Generator) -> str:
        """Return the text with the chosen characters repeated."""
        copies = rng.integers(1, MOST_REPETITIONS + 1, size=len(text)).tolist()
        return "".join(
            one * (1 + number) if hit else one for one, hit, number in zip(text, chosen, copies, strict=True)
        )


class Antspeak(TextNoise):
    """Antspeak: chosen characters are capitals with a space on each side, between two of them one: ` A N   O W L `."""

    keeps_places: ClassVar = False
    rate: Share = 1.0

    def change(self, text: str, chosen: list[bool], rng: np.random.Generator) -> str:
        """Return the text with the chosen characters apart."""
        found, after = [], False
        for one, hit in zip(text, chosen, strict=True):
            found.append(f"{'' if after else ' '}{one.upper()} " if hit else one)
            after = hit
        return "".join(found)


class Uppercase(TextNoise):
    """Uppercase: a chosen character is a capital, if its capital is one character."""

    keeps_places: ClassVar = True
    rate: Share = 1.0

    def change(self, text: str, chosen: list[bool], rng: np.random.Generator) -> str:
        """Return the text with capitals."""
        return "".join(_upper(one) if hit else one for one, hit in zip(text, chosen, strict=True))


class RandomCase(TextNoise):
    """Random case: a chosen character is a capital or a small letter, with equal probability."""

    keeps_places: ClassVar = True
    rate: Share = 1.0

    def change(self, text: str, chosen: list[bool], rng: np.random.Generator) -> str:
        """Return the text in random case."""
        high = (rng.random(len(text)) < 0.5).tolist()
        return "".join(
            (_upper(one) if up else _lower(one)) if hit else one
            for one, hit, up in zip(text, chosen, high, strict=True)
        )


def _upper(one: str) -> str:
    """Return the capital of a character where it is one character, as that of ß is not."""
    capital = one.upper()
    return capital if len(capital) == 1 else one


def _lower(one: str) -> str:
    """Return the small letter of a character where it is one character, as that of İ is not."""
    small = one.lower()
    return small if len(small) == 1 else one
