"""Fine-tuning on one task with several seeds: each keeps its best weights by validation, one report covers all."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from genus.errors import UsageError, say
from genus.files import write_json
from genus.run_folder import RunFolder
from genus.tasks.augmented import augmented, check_augmentation
from genus.tasks.noised import with_noise
from genus.tasks.report import Augmented, Report
from genus.tasks.splits import read_splits
from genus.tasks.study import Experiment
from genus.train.run import Run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from genus.objectives.supervised import FineTuned
    from genus.recipe import FineTuning
    from genus.tasks import Task
    from genus.tasks.augment import Augmentation
    from genus.tasks.dataset import Files
    from genus.tasks.splits import Split
    from genus.tasks.start import Start
    from genus.tasks.teacher import Teacher
    from genus.text.noise import TextNoise


def finetune(
    start: Start,
    task: Task,
    files: Files,
    folder: Path,
    *,
    settings: FineTuning | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    run: Run | None = None,
    accumulate: int = 1,
    publish: bool = True,
    augmentation: Augmentation | None = None,
    teacher: Teacher | None = None,
    noises: Mapping[str, TextNoise] | None = None,
) -> Report:
    """Fine-tune from the same weights with several seeds; each seed has its own new head and data order.

    The folder gets `report.json`, `model/` (the best seed's weights, a Hugging Face folder) and, per seed,
    `seed-0/result.json` with predictions `validation.jsonl` and `test.jsonl`. Seeds with a result are not run again.

    Args:
        start: recipe, tokenizer and weights.
        task: columns, objective and metrics.
        files: the tables; without a validation table, a fraction of the training rows is held out.
        folder: where results are written.
        settings: hyperparameters; None: the recipe's own.
        seeds: distinct seeds.
        run: device, precision and other settings of the run.
        accumulate: gradient accumulation: forward passes into which one update's examples are divided.
        publish: whether the best seed's model is written.
        augmentation: what is done with few labels; None: the training rows are as they are.
        teacher: a model that was fine-tuned for the task, whose answers are learned too; training rows need no labels.
        noises: noise of the texts of splits, by their names; None: there is none.

    Raises:
        GenusError: files that cannot be used, a tokenizer that does not fit the weights, an interruption.
        UsageError: settings that contradict each other, a folder with results of other choices.
    """
    settings = _adapting(settings or start.recipe.finetuning)
    run = run or Run()
    _check(settings, seeds, accumulate, run)
    RunFolder(folder).check("fine-tuning")
    if augmentation is not None:
        check_augmentation(augmentation, task, taught=teacher is not None)
    task = task.told_by(files.train, () if teacher is None else teacher.objective.classes)
    splits = with_noise(read_splits(files, task, unlabeled=teacher is not None), task, noises or {})
    labeled = len(splits["train"].rows)
    _check_update(task, min(settings.batch, labeled))
    task, objective = _resolved(task, files, splits, settings, run, teacher)
    objective = objective.continued(start.recipe.objectives, start.recipe.model)
    tokenizer = start.reader(objective, settings)
    beside = () if teacher is None else (teacher.taught(objective, start.recipe, tokenizer),)
    recipe = start.fine_tuned(objective, settings, *beside)
    experiment = Experiment(start, task, recipe, tokenizer, splits, folder, run, accumulate, publish, teacher=teacher)
    with RunFolder(folder).lock():
        if augmentation is not None:
            experiment = augmented(augmentation, experiment, seeds)
        report = _report(experiment, seeds, labeled)
        write_json(folder / "report.json", report.to_json())
    return report


def _report(experiment: Experiment, seeds: Sequence[int], labeled: int) -> Report:
    """Run the seeds that have no result; return the report, given the number of training rows of the table."""
    choice, trials = experiment.augmentation, experiment.trials(seeds)
    return Report(
        recipe=experiment.recipe.name,
        initial="random" if experiment.start.learner is None else "pretrained",
        task=experiment.task,
        objective=experiment.objective,
        settings=experiment.recipe.finetuning,
        data={name: split.data() for name, split in experiment.splits.items()},
        trials=trials,
        model=str(experiment.folder / "model") if experiment.publish else None,
        augmentation=None if choice is None else Augmented(choice, experiment.rows - labeled),
        teacher=None if experiment.teacher is None else experiment.teacher.record,
    )


def _adapting(settings: FineTuning) -> FineTuning:
    """Return the settings without tokens of tasks where few parameters are trained, which is said."""
    if settings.adaptation is None or settings.task_tokens is None:
        return settings
    say("finetuning.task_tokens: none are added, as the token embedding is frozen; texts have their usual template")
    return replace(settings, task_tokens=None)


def _check(settings: FineTuning, seeds: Sequence[int], accumulate: int, run: Run) -> None:
    """Refuse seeds that are not distinct, passes that do not divide the batch, and models or work that are divided."""
    if run.parallel.divides:
        raise UsageError("run.parallel: fine-tuning keeps the whole model in every process; take parallel=Replicated")
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"seeds: expected different numbers, got {', '.join(map(str, seeds)) or 'none'}")
    if accumulate < 1 or settings.batch % accumulate:
        raise UsageError(f"finetuning.batch: {settings.batch} is no multiple of the {accumulate} passes of an update")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("fine-tuning runs in one process; start one for each seed, each with a folder of its own")


def _check_update(task: Task, rows: int) -> None:
    """Refuse updates of fewer rows than the task compares."""
    if rows < task.least_rows:
        raise UsageError(f"finetuning.batch: an update of {rows} row has nothing to compare; take {task.least_rows} or "
                         "more, and as many training rows")  # fmt: skip


def _resolved(
    task: Task, files: Files, splits: dict[str, Split], settings: FineTuning, run: Run, teacher: Teacher | None
) -> tuple[Task, FineTuned]:
    """Return the task and its objective for the labels of the training table; say how they are understood.

    The labels of a test that stand for none are taken out of `splits`.
    """
    if splits["validation"].held_out:
        kept, held = len(splits["train"].rows), len(splits["validation"].rows)
        say(f"no validation table: {held} of {kept + held} training rows are held out to choose the best weights")
    training = [row for split in splits.values() if split.path == files.train for row in split.rows]
    dropout = settings.dropout if task.dropout is None else task.dropout
    task = replace(task, dropout=dropout)
    if teacher is None:
        objective = task.objective([label for row in training for label in row.labels])
    else:
        objective = teacher.student_objective(task, training, run)
    objective = objective.dropped(dropout)
    if remark := task.remark(training):
        say(remark)
    rows = {name: split.rows for name, split in splits.items()}
    if teacher is not None:  # rows that it alone answers have no labels to check
        rows = {name: [row for row in several if row.label is not None] for name, several in rows.items()}
    for line in task.checked(rows, objective) if rows["train"] else ():
        say(line)
    if "test" in splits:
        splits["test"] = splits["test"].without_placeholders(objective)
    return task.resolved_for(objective), objective
