"""Temperature scaling: probabilities that are as often right as they say, for the same answers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from genus.analysis.analyze import calibration
from genus.analysis.findings import Calibrated
from genus.errors import GenusError, UsageError, say
from genus.export.folder import save
from genus.inference.engine import Inference
from genus.objectives import on
from genus.tasks.answer import outputs
from genus.tasks.predict import objective_of

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from genus.analysis import Analysis, Answered
    from genus.objectives import Head


class Scaling:
    """Temperature scaling of a fine-tuned model.

    The logits, W h + b of the last layer, are divided by the temperature with the least negative log-likelihood of a
    table's labels, of answers in a context by that of their being right. What is told stays the same. Published weights
    hold it: W / T and b / T.

    Source: Guo et al. 2017, section 4.2.
    """

    def __init__(self, fitted_on: Answered, analysis: Analysis) -> None:
        """Fit the temperature.

        Args:
            fitted_on: a table of rows that the model did not learn from, with its answers.
            analysis: the task's.

        Raises:
            GenusError: no row of the table has a label, or no temperature is best.
            UsageError: the task tells no classes.
        """
        self.fitted_on, self.analysis = fitted_on, analysis
        check_labels(fitted_on)
        try:
            self.temperature, self.decisions = analysis.temperature(fitted_on)
        except UsageError:
            raise
        except GenusError as error:
            raise GenusError(f"calibration: {fitted_on.path}: {error}") from None

    def applied(
        self, measured_on: Answered, folder: Path, notes: str = "", replaced: Collection[Path] = ()
    ) -> Calibrated:
        """Divide the last layer by the temperature, in place, and write the model; return its calibration.

        Args:
            measured_on: the table whose calibration is told, with the model's answers before.
            folder: where the model is written.
            notes: Markdown for the model card, on the model's training.
            replaced: files of an older model in the folder that do not stay.

        Raises:
            GenusError: no row of the table has a label, or the model cannot be written.
        """
        check_labels(measured_on)
        if measured_on.path.resolve() == self.fitted_on.path.resolve():
            say(f"calibration: {measured_on.path}: is the table that is analyzed too, where it looks better than it is")
        model, own = self.fitted_on.model, objective_of(self.fitted_on.model, self.fitted_on.task)
        tempered = own.tempered(cast("Head", model.learner.heads[own.name]), self.temperature)
        objectives = tuple(tempered if one is own else one for one in model.recipe.objectives)
        scaled = replace(model, recipe=replace(model.recipe, objectives=objectives))
        precision = "float32" if measured_on.run is None else measured_on.run.precision
        with on(model.learner, measured_on.device):
            found = outputs(model.learner, model.recipe.model, measured_on.encoded, Inference(precision))
        after = replace(measured_on, model=scaled, objective=tempered, outputs=found)
        told, now = (one.objective.decide(one.outputs.values) for one in (measured_on, after))
        if moved := int((told != now).sum()):
            say(f"calibration: {moved:,} of {told.size:,} answers changed, whose logits were equal but for rounding")
        found_after = calibration(self.analysis, after)
        assert found_after is not None
        path = self.fitted_on.path
        said = (
            f"Calibrated: the logits are divided by the temperature {self.temperature:.4g}, which was fitted on "
            f"{self.decisions:,} decisions of `{path.name}` (Guo et al. 2017, section 4.2)."
        )
        card = f"{notes}\n\n{said}".strip()
        save(folder, scaled.recipe, scaled.learner, scaled.tokenizer, card, replaced=replaced,
             generation=scaled.generation, task=scaled.task)  # fmt: skip
        return Calibrated(self.temperature, str(path), self.decisions, found_after, str(folder))


def check_labels(given: Answered) -> None:
    """Check that a table has labels, without which nothing is known of probabilities.

    Raises:
        GenusError: no row has one.
    """
    if not given.labeled.any():
        raise GenusError(f"calibration: {given.path}: no row has a label, by which probabilities are judged")
