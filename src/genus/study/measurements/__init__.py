"""What rows of a comparison are measured by: the slot `Measurement`, whose parts are found by their names."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from genus import pipeline
from genus.export.folder import LoadedModel
from genus.part import Part
from genus.tasks.start import Start

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Learner
    from genus.part import Json
    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run


@dataclass(frozen=True)
class Subject:
    """A row with one seed, pretrained or with random weights: what is measured."""

    recipe: Recipe
    tokenizer: Tokenizer
    learner: Learner | None
    """None: random weights."""
    seed: int
    held_out: Path
    """Text that no row is trained on, as JSON lines."""
    folder: Path
    """For files of the measurement's own."""
    run: Run
    """Device, precision and threads."""

    def model(self) -> LoadedModel:
        """Return a model with the pretrained weights, or with random ones drawn from the recipe's seed."""
        if self.learner is not None:
            return LoadedModel(self.recipe, self.learner, self.tokenizer)
        recipe, learner = pipeline.new_learner(self.recipe.exported, self.tokenizer)
        return LoadedModel(recipe, learner.eval(), self.tokenizer)

    def start(self) -> Start:
        """Return what fine-tuning starts from; random weights are drawn for each of its seeds."""
        return Start(self.recipe, self.tokenizer, self.learner)


@dataclass(frozen=True)
class Score:
    """The number that a measurement gives, and what it is of."""

    value: float | None
    """None: it says nothing of such a row."""
    like: str = ""
    """Scores are compared with those that have the same word here: a likelihood with likelihoods."""
    detail: dict[str, Any] = field(default_factory=dict)
    """Numbers behind it, and why there is no value."""


class Measurement(Part, ABC):
    """A choice of what rows are measured by. Its name on the command line is its kind, in lower case with hyphens."""

    larger_is_better: ClassVar[bool] = True
    unit: ClassVar[str]
    """Of the value, in words."""

    @property
    def name(self) -> str:
        """Heading of its column, different for different tables."""
        return spelled(type(self).__name__)

    @abstractmethod
    def measure(self, subject: Subject) -> Score:
        """Return the score of a row.

        Raises:
            GenusError: it cannot be measured for a reason that the user can mend.
        """

    def check(self) -> None:
        """Look for the files that are read, before anything is trained.

        Raises:
            GenusError: one is missing, or holds something else.
        """

    def contents(self) -> Json:
        """Return what results depend on besides the choices: fingerprints of files."""
        return {}

    def tokens(self) -> float:
        """Return about how many tokens it reads, as if they were trained on, by which its time is told."""
        return 0.0


def spelled(kind: str) -> str:
    """Return the name of a kind in lower case, its words joined by hyphens."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind).lower()
