"""Learning from a trained model: what an objective says of its teacher, and how its head holds one."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Self

from genus.objectives import Head, Objective

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genus.model import Model
    from genus.objectives import Learner

TAUGHT = "taught"
"""The name of the targets at which a student is compared with its teacher."""


class Taught(Objective):
    """What is learned from a teacher, who is read from a model folder when a run begins."""

    @abstractmethod
    def by(self, model: Model, objectives: Sequence[Objective]) -> Self:
        """Return the objective under a teacher of this architecture, trained for these objectives.

        Raises:
            UsageError: such a one cannot teach it.
        """


class TaughtHead(Head):
    """A head with a teacher.

    The teacher is no submodule: nobody trains, counts or saves it. It goes where the head goes, draws no dropout, and
    has no gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        self._teachers: tuple[Learner, ...] = ()

    @property
    def teacher(self) -> Learner:
        """The network and heads of the trained model."""
        return self._teachers[0]

    def learn_from(self, teacher: Learner) -> None:
        """Take a trained model as the teacher, in place of any other."""
        self._teachers = (teacher.eval().requires_grad_(False),)

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Self:
        """Move the teacher too, to a device or another type."""
        for teacher in self._teachers:
            teacher._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]
