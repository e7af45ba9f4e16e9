"""Noise of texts: the slot `TextNoise`, which changes characters at a rate, for training and evaluation on noisy text.

A character is a Unicode code point, as in the source of the schemes: Xue et al. 2021 (ByT5, arXiv:2105.13626), the
section on synthetic noise.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from genus.errors import UsageError, near
from genus.part import Natural, Part, Share, slots_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TextNoise(Part, ABC):
    """A scheme by which characters of a text are changed, each with probability `rate`."""

    keeps_places: ClassVar[bool]
    """Whether every character stays where it is, so that labels of spans and of words stay right."""

    rate: Share
    """Probability with which a character is chosen."""
    seed: Natural = 0
    """Of all draws, with what says which text it is."""

    def noised(self, text: str, rng: np.random.Generator) -> str:
        """Return the text with noise, a function of the text and of the state of the generator."""
        chosen: NDArray[np.bool_] = rng.random(len(text)) < self.rate
        return self.change(text, chosen.tolist(), rng)

    @abstractmethod
    def change(self, text: str, chosen: list[bool], rng: np.random.Generator) -> str:
        """Return the text with the chosen characters changed."""

    @property
    def told(self) -> str:
        """The scheme as `parsed` reads it."""
        return f"{spelled(type(self).__name__)}:{self.rate:g}:{self.seed}"


def spelled(kind: str) -> str:
    """Return the name of a kind in lower case, its words joined by hyphens."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind).lower()


def parsed(told: str, option: str = "--noise") -> TextNoise:
    """Return the noise that `KIND`, `KIND:RATE` or `KIND:RATE:SEED` names, such as `random-case:0.1`.

    Raises:
        UsageError: there is no such kind, or a number is none of its.
    """
    kinds = {spelled(name): part for name, part in slots_of(TextNoise).items()}  # type: ignore[type-abstract]
    name, *numbers = told.split(":")
    if name not in kinds:
        raise UsageError(f"{option}: there is no {name!r}.{near(name, list(kinds))}")
    try:
        given = {what: read(one) for (what, read), one in zip((("rate", float), ("seed", int)), numbers, strict=False)}
    except ValueError:
        given = {"rate": -1}
    if len(numbers) > 2 or given.get("rate") == -1:
        raise UsageError(f"{option}: expected KIND, KIND:RATE or KIND:RATE:SEED, such as {name}:0.1, got {told!r}")
    return kinds[name](**given)
