"""Adversarial attacks on sequence classifiers: the slot `Attack`, what it is given, and what it finds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from genus.part import Natural, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genus.attack.models import Models

    Progress = Callable[[float], None]
    """Called with the share of an attack that is done."""
    Samples = Callable[[int, int], Sequence[str]]
    """From the number of the first and how many to texts of a fixed, endless sequence of samples."""


@dataclass(frozen=True)
class Example:
    """A text or a pair with its label, of which one text is attacked."""

    number: int
    """Of its row among those of the table: a key of what is drawn."""
    texts: tuple[str, ...]
    label: int
    """Index of the class."""
    attacked: int
    """Index of the text that changes; the others are fixed."""

    @property
    def text(self) -> str:
        """The text that changes."""
        return self.texts[self.attacked]

    def changed(self, text: str) -> tuple[str, ...]:
        """Return the texts with another one in place of that which changes."""
        return (*self.texts[: self.attacked], text, *self.texts[self.attacked + 1 :])


@dataclass(frozen=True)
class Attempt:
    """What an attack found for one example."""

    text: str
    """The text as the attack left it, whether the classifier errs on it or not."""
    queries: int
    """Texts that the classifier was asked about; passes with gradients are none."""
    samples: Samples | None = field(default=None, compare=False)
    """Further texts of the distribution that was found; None: there is no other text than `text`."""

    @classmethod
    def unchanged(cls, example: Example) -> Attempt:
        """Return the attempt on a text in which nothing may change."""
        return cls(example.text, 0)


class Attack(Part, ABC):
    """The slot of attacks: how a text is changed until a classifier errs."""

    seed: Natural = 0
    """Of all draws; those of an example depend on nothing else but its number."""
    text: Literal["first", "second"] = "second"
    """Which text of a pair changes; the other is fixed."""

    @abstractmethod
    def check(self, models: Models) -> None:
        """Refuse models with which the attack cannot be made.

        Raises:
            UsageError: one is missing, or does not fit the others.
        """

    @abstractmethod
    def groups(self, models: Models, examples: Sequence[Example]) -> list[list[Example]]:
        """Return the examples in groups of neighbors that are attacked together."""

    @abstractmethod
    def attempts(self, models: Models, examples: Sequence[Example], progress: Progress) -> list[Attempt]:
        """Return the attempt on each example of a group, all of which the classifier gets right."""

    def of_pair(self, texts: int) -> int:
        """Return the index of the text that changes, of one text or two."""
        return texts - 1 if self.text == "second" else 0
