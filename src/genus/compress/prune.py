"""Pruning: a fine-tuned model without its least important heads and feed-forward units, as a smaller folder."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from genus.compress.importance import importances, only
from genus.compress.measure import Table, Worth, batches_of, spread, worth
from genus.compress.units import smaller_model, units_of
from genus.errors import GenusError, UsageError, say
from genus.export.folder import LoadedModel, load, save
from genus.export.verify import verify
from genus.files import beside
from genus.objectives import on
from genus.tasks.predict import objective_of
from genus.train.world import device_of_run

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from torch import Tensor

    from genus.compress.units import Kind, Units
    from genus.model.attention import Attention
    from genus.tasks import Task
    from genus.train.run import Run

MEASURED = 1024
"""Most rows by which importance is measured, evenly spaced in the table; DynaBERT's released code takes the
development sets of GLUE, most of which are as large."""
TOGETHER = 32
"""Texts of a batch of these."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was written, and what it is worth."""

    folder: Path
    parameters: tuple[int, int]
    """Before and after."""
    kept: dict[str, list[int]]
    """Indices of the units that are left, by the name of the module."""
    before: Worth
    after: Worth
    metric: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        before, after = ({"parameters": count, **one.to_json()} for count, one in
                         zip(self.parameters, (self.before, self.after), strict=True))  # fmt: skip
        return {"folder": str(self.folder), "metric": self.metric, "before": before, "after": after, "kept": self.kept}


def prune(
    source: Path,
    out: Path,
    data: Path,
    *,
    run: Run,
    heads: str | None = None,
    feedforward: str | None = None,
    validation: Path | None = None,
    task: Task | None = None,
    replaced: Collection[Path] = (),
) -> Pruned:
    """Write the model of a folder without its least important units; every layer keeps as many of them.

    Args:
        source: the folder of a fine-tuned model.
        out: where to write.
        data: a table of labeled rows, by whose loss importance is measured.
        run: device and precision.
        heads: heads to keep in each attention: a fraction with a point (`0.5`), or a number; None: all.
        feedforward: the same of each feed-forward network's units.
        validation: a table of labeled rows on which both are measured; None: `data`.
        task: names columns and metrics; None: the usual ones of what the model learned.
        replaced: files of an older model in `out`, relative to it, that do not stay.

    Raises:
        GenusError: the model was not fine-tuned, or the folder that is written computes something else.
        UsageError: nothing is pruned, or everything; maps without the roles that are known.
    """
    asked: dict[Kind, str | None] = {"heads": heads, "feedforward": feedforward}
    if not any(asked.values()):
        raise UsageError("nothing is pruned: say how much to keep with --heads or --feedforward")
    model = load(source)
    units = [one for kind, keep in asked.items() if keep for one in units_of(model.learner.network, kind)]
    numbers = [one.kept(asked[one.kind] or "") for one in units]
    try:
        measured = Table.of(data, model, task)
    except GenusError as error:
        raise type(error)(f"{source}: {error}") from None
    table = measured if validation is None else Table.of(validation, model, task)
    before = worth(model, source, table, run)
    smaller, kept = without(model, units, numbers, measured, run)
    with TemporaryDirectory(prefix="genus-") as work:
        trial = Path(work) / "model"
        save(trial, smaller.recipe, smaller.learner, smaller.tokenizer, _notes(units, kept),
             generation=model.generation, task=model.task)  # fmt: skip
        verify(trial, smaller.learner)
        after = worth(load(trial), trial, table, run)
        with beside(out, replaced) as made:
            for path in trial.iterdir():
                path.replace(made / path.name)
    sizes = tuple(sum(p.numel() for p in one.learner.parameters()) for one in (model, smaller))
    told = {one.name: index.tolist() for one, index in zip(units, kept, strict=True)}
    return Pruned(out, (sizes[0], sizes[1]), told, before, after, table.main.name)


def without(
    model: LoadedModel, units: Sequence[Units], numbers: Sequence[int], table: Table, run: Run
) -> tuple[LoadedModel, list[Tensor]]:
    """Return a model that keeps so many of the most important units of each module, and their indices.

    Args:
        model: the model, which stays as it is.
        units: the units of its modules.
        numbers: how many to keep of each.
        table: labeled rows, by whose loss importance is measured.
        run: device.
    """
    objective, rows = objective_of(model), spread(table.rows, MEASURED)
    if len(rows) < len(table.rows):
        say(f"{table.path}: importance is measured by {len(rows):,} of {len(table.rows):,} rows, evenly spaced")
    encoded = table.encoded(model, rows)
    batches = (only(batch, objective.name) for batch in batches_of(encoded, TOGETHER))
    with on(model.learner, device_of_run(run)):
        found = importances(model.learner, objective.losses[0], batches, units)
    kept = [one.topk(number).indices.sort().values for one, number in zip(found, numbers, strict=True)]
    learner = copy.deepcopy(model.learner)
    left_heads: dict[Attention, tuple[int, int]] = {}
    left_units: dict[int, int] = {}
    for one, index in zip(units, kept, strict=True):
        if one.kind == "heads":
            left_heads[one.module.choice] = len(index) * one.heads, one.width // one.heads  # type: ignore[index]
        else:
            left_units[one.count] = len(index)
        replace(one, module=learner.network.get_submodule(one.name)).cut(index)  # type: ignore[arg-type]
    smaller = smaller_model(model.recipe.model, left_heads, left_units)
    return replace(model, recipe=replace(model.recipe, model=smaller), learner=learner), kept


def _notes(units: Sequence[Units], kept: Sequence[Tensor]) -> str:
    """Return a sentence for the model card."""
    parts: dict[str, str] = {}
    for one, index in zip(units, kept, strict=True):
        parts.setdefault(one.kind, f"{len(index) * one.heads} of {one.count * one.heads}")
    named = {"heads": "attention heads", "feedforward": "feed-forward units"}
    told = " and ".join(f"{number} {named[kind]}" for kind, number in parts.items())
    return f"Pruned: {told} are left in each layer, those most important to the task's loss."
