"""Station 8, fine-tuning on supervised tasks and prediction: the slot `Task`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from genus.errors import UsageError
from genus.evaluate.metrics import Metric, fitting_metrics
from genus.objectives.supervised import FineTuned
from genus.part import Fraction, Part, slots_of
from genus.tasks.cell import label_in, text_in
from genus.tasks.checks import Check, Checked, overlap, repeated, told
from genus.tasks.dataset import LabeledRow, targets
from genus.tasks.encode import encode
from genus.tasks.groups import both_orders

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.model import Model
    from genus.objectives import Objective
    from genus.part import Json
    from genus.tasks.answer import Outputs
    from genus.tasks.dataset import Label
    from genus.tasks.encode import EncodedTexts
    from genus.tokens.tokenizer import Tokenizer


class Task(Part, ABC):
    """A choice of supervised task: the columns of a table, the objective that they train and the metrics."""

    learns: ClassVar[type[FineTuned]]
    """Class of the task's objective."""
    judged: ClassVar[tuple[str, ...]]
    """What its metrics may compare; see `Metric.judges`."""
    checks: ClassVar[tuple[Check, ...]] = (overlap, repeated)
    """What its tables are checked for before training."""
    augmentable: ClassVar[bool] = False
    """Whether a label stays right for a text that is changed a little; see `genus.tasks.augment`."""
    labels_stand_in_texts: ClassVar[bool] = False
    """Whether labels are of words or of characters of the texts, which then may not move; see `genus.tasks.noised`."""

    answers: ClassVar[Literal["classify", "score", "tag", "answer", "choose"] | None] = None
    """What a model that learned it does for a text in a service: tell labels, or a number, mark spans, answer a
    question from a context, choose among texts; None: nothing of that kind."""

    texts: tuple[str, ...] = ("text",)
    """The column of the text, or the two columns of a text pair."""
    label: str = "label"
    """The column of the label."""
    metrics: tuple[Metric, ...]
    """The first one selects the best weights in validation."""
    symmetric: bool = False
    """Whether a pair is read in both orders, and the states of both are summed, as GPT does for similarity."""
    dropout: Fraction | None = None
    """Dropout probability of the input of the last linear layer, in training; None: that of the settings."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: other than one or two text columns; both orders of a single text; no metric, or one for other
                labels.
        """
        if len(self.texts) not in (1, 2):
            raise UsageError(f"texts: expected one column, or two for pairs, got {len(self.texts)}")
        if self.symmetric and len(self.texts) != 2:
            raise UsageError("symmetric: pairs are read in both orders; name the two columns of a pair")
        self._check_metrics(())

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of what is given, which every row must have."""
        return self.texts

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns of what is to be told, which every labeled row must have."""
        return (self.label,)

    def told_by(self, path: Path, known: Collection[str] = ()) -> Self:
        """Return the task with what a table shows of how its labels are written, which is said.

        Args:
            path: the table.
            known: labels that it may have, if they are known.
        """
        return self

    @property
    def others(self) -> tuple[str, ...]:
        """Further columns, which are read where a row has them."""
        return ()

    def unfolded(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the rows that a row of a table stands for; by default itself.

        Raises:
            ValueError: a column holds something else.
        """
        return [row]

    def row(self, line: int, row: dict[str, Any]) -> LabeledRow:
        """Return a row of a table, which must have `columns`, with the number of its line.

        Raises:
            ValueError: a column holds something else.
        """
        return LabeledRow(line, *self.read(row))

    def read(self, row: dict[str, Any]) -> tuple[tuple[str, ...], Label | None]:
        """Return texts and label of a row of a table; the row must have the columns of the texts.

        Raises:
            ValueError: a column holds something else.
        """
        return tuple(text_in(row, column) for column in self.texts), label_in(row, self.label)

    def of_text(self, text: str) -> tuple[str, ...]:
        """Return the texts of a row that is asked about one text alone."""
        return (text,)

    @property
    def purpose(self) -> str:
        """What a model is fine-tuned to do, in the words of its card."""
        return f"tell `{self.label}` from {' and '.join(f'`{column}`' for column in self.texts)}"

    @property
    def least_rows(self) -> int:
        """Rows of an update from which the model can learn."""
        return 1

    @property
    def texts_each(self) -> Literal[1, 2]:
        """Number of texts of an example: 2 for pairs."""
        return 1 if len(self.texts) == 1 else 2

    @property
    def chosen_by(self) -> tuple[Metric, ...]:
        """The metrics of evaluations during training, of which the first one selects the weights."""
        return self.metrics

    @property
    def source_prefix(self) -> str:
        """What stands before every source that the model writes a text for; empty: nothing, or nothing is written."""
        return ""

    @property
    def generation(self) -> Json | None:
        """How the model writes, as `generation_config.json` of its folder; None where it chooses among labels."""
        return None

    def generated(self, generation: Json) -> Self:
        """Return the task with texts written as a model folder's `generation_config.json` says."""
        return self

    @abstractmethod
    def objective(self, labels: Sequence[str]) -> FineTuned:
        """Return the fine-tuning objective for the labels of the training rows."""

    def pretrained(self, objectives: Sequence[Objective], model: Model) -> FineTuned | None:
        """Return the objective by which the model does the task as it was pretrained; None: it must be fine-tuned.

        Raises:
            UsageError: the task needs another model.
        """
        return None

    def resolved_for(self, objective: FineTuned) -> Task:
        """Return the task with its open choices made for the objective.

        Raises:
            UsageError: the objective is another task's, or a metric says nothing of its classes.
        """
        if type(objective) is not self.learns:
            raise UsageError(f"task: {type(self).__name__} is not what the model learned: {type(objective).__name__}")
        self._check_metrics(objective.classes)
        return self

    def checked(self, splits: Mapping[str, Sequence[LabeledRow]], objective: FineTuned) -> list[str]:
        """Return what its checks tell of the rows of the splits, a line each."""
        return told(Checked(splits, self.texts, objective.classes), self.checks)

    def chosen(self, objective: FineTuned) -> FineTuned:
        """Return a model's objective with what the task chooses otherwise; by default itself."""
        return objective

    def remark(self, rows: Sequence[LabeledRow]) -> str:
        """Return a line on how the labels of the rows are understood; empty if there is nothing to say."""
        return ""

    def _check_metrics(self, classes: Sequence[str]) -> None:
        """Refuse none, or metrics of other labels than the task's, or of other classes than these, if any are known."""
        if not self.metrics:
            raise UsageError("metrics: expected at least one, by which the best weights are chosen")
        for metric in self.metrics:
            if why := metric.misfit(self.judged, classes):
                fitting = ", ".join(fitting_metrics(self.judged, classes))
                raise UsageError(f"metrics: {metric.name} {why}; those that fit: {fitting}")

    def tuned(self, objective: FineTuned, encoded: EncodedTexts, found: Outputs) -> FineTuned:
        """Return the objective with decisions tuned in validation, on the outputs for its rows; by default itself."""
        return objective

    def targets(self, rows: Sequence[LabeledRow], objective: FineTuned, path: Path | None = None) -> NDArray[Any]:
        """Return the training targets of the rows of a table.

        Raises:
            GenusError: a label that is none of the objective's.
        """
        return targets(rows, objective, path)

    def encode(
        self,
        tokenizer: Tokenizer,
        rows: Sequence[LabeledRow],
        objective: FineTuned,
        max_length: int,
        path: Path | None = None,
    ) -> EncodedTexts:
        """Tokenize the rows of a table, truncated to `max_length` tokens.

        Raises:
            GenusError: a label that is none of the objective's, or `max_length` leaves no room for text.
        """
        labels = self.targets(rows, objective, path)
        found = encode(
            tokenizer, [row.texts for row in rows], labels, objective.name, max_length, repeated=bool(objective.adds)
        )
        return both_orders(found) if objective.symmetric else found


def task_of(objective: FineTuned) -> Task:
    """Return the task for an objective of that class, with default columns and metrics."""
    kinds: list[Any] = list(slots_of(Task).values())  # type: ignore[type-abstract]  # a slot is abstract
    task: Task = next(kind() for kind in kinds if kind.learns is type(objective))
    return task.resolved_for(objective)
