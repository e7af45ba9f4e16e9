"""Temperature scaling: probabilities that are as often right as they say, for the same answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from genus.analysis import analysis_for
from genus.analysis.analyze import answered, of_likelihoods
from genus.analysis.findings import Calibrated
from genus.errors import GenusError, UsageError, say
from genus.evaluate.calibration import fit_temperature
from genus.export.folder import save
from genus.tasks.predict import objective_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from genus.analysis import Analysis, Answered, Likelihoods
    from genus.export.folder import LoadedModel
    from genus.objectives import Head
    from genus.tasks import Task
    from genus.tasks.dataset import LabeledRow
    from genus.train.run import Run


@dataclass(frozen=True)
class Table:
    """A table with labeled rows."""

    path: Path
    rows: Sequence[LabeledRow]


def calibrate(
    model: LoadedModel,
    task: Task,
    fitted_on: Table,
    measured_on: Table,
    folder: Path,
    run: Run | None = None,
    *,
    analysis: Analysis | None = None,
    notes: str = "",
    replaced: Collection[Path] = (),
) -> Calibrated:
    """Fit a temperature on a table, divide the last layer by it, and write the model to a folder.

    Whoever reads the folder gets the calibrated probabilities: logits are W h / T + b / T. What is told stays the same.

    Source: Guo et al. 2017, section 4.2.

    Args:
        model: a fine-tuned model, whose head is changed in place.
        task: names labels and metrics, as resolved for the model.
        fitted_on: the table that the temperature is fitted on; of rows that the model did not learn from.
        measured_on: the table whose calibration is told.
        folder: where the model is written.
        run: device and precision; None: the model's device, in float32.
        analysis: how finely calibration is measured; None: as usual.
        notes: Markdown for the model card, on the model's training.
        replaced: files of an older model in the folder that do not stay.

    Raises:
        GenusError: no row of a table has a label, or no temperature is best.
        UsageError: the task tells no classes.
    """
    analysis, objective = analysis or analysis_for(task), objective_of(model, task)
    for table in (fitted_on, measured_on):
        if not any(row.label is not None for row in table.rows):
            raise GenusError(f"calibration: {table.path}: no row has a label, by which probabilities are judged")
    known = _likelihoods(analysis, answered(model, task, fitted_on.rows, fitted_on.path, run)).known()
    before = answered(model, task, measured_on.rows, measured_on.path, run)
    try:
        temperature = fit_temperature(known.logits_UC, known.truth_U)
    except GenusError as error:
        raise GenusError(f"calibration: {fitted_on.path}: {error}") from None
    tempered = objective.tempered(cast("Head", model.learner.heads[objective.name]), temperature)
    objectives = tuple(tempered if one is objective else one for one in model.recipe.objectives)
    scaled = replace(model, recipe=replace(model.recipe, objectives=objectives))
    found = answered(scaled, task, measured_on.rows, measured_on.path, run)
    told = [one.objective.decide(one.outputs.values) for one in (before, found)]
    if moved := int((told[0] != told[1]).sum()):
        say(f"calibration: {moved:,} of {told[0].size:,} answers changed, whose logits differed by their rounding only")
    after = of_likelihoods(_likelihoods(analysis, found), analysis.bins)
    assert after is not None
    said = (
        f"Calibrated: the logits are divided by the temperature {temperature:.4g}, which was fitted on "
        f"{len(known.truth_U):,} decisions of `{fitted_on.path.name}` (Guo et al. 2017, section 4.2)."
    )
    card = f"{notes}\n\n{said}".strip()
    save(folder, scaled.recipe, scaled.learner, scaled.tokenizer, card, replaced=replaced, generation=scaled.generation)
    return Calibrated(temperature, str(fitted_on.path), len(known.truth_U), after, str(folder))


def _likelihoods(analysis: Analysis, given: Answered) -> Likelihoods:
    """Return the logits of a table's decisions.

    Raises:
        UsageError: there are none.
    """
    found = analysis.likelihoods(given)
    if found is None:
        kind = type(given.objective).__name__
        raise UsageError(f"calibration: {kind} tells no classes whose probabilities a temperature changes")
    return found
