"""The pretraining pipeline, station by station: text -> tokens -> examples -> model -> objectives -> train -> export.

Read this module first. Each station is one call; the command line only adds printed output.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from genus.batch import IGNORE
from genus.cost import FLOAT, StageFlops, parameters
from genus.errors import GenusError, UsageError, say
from genus.examples.feed.feed import Feed
from genus.examples.feed.mixing import Sources
from genus.examples.feed.mixture import Mixture
from genus.examples.feed.tasks import TaskFeed, TaskSchedule
from genus.export.folder import load, save
from genus.export.starting.distillation import TeacherFolder, teacher_of
from genus.export.starting.transplant import init_from
from genus.model.skeleton import skeleton
from genus.objectives.learnable import check_learning
from genus.part import diff
from genus.preparation import Texts, of_source, text_notes
from genus.run_folder import RunFolder
from genus.text import TEXT, Fields
from genus.tokens.merges import Merges
from genus.tokens.store.figures import bytes_per_token, digest
from genus.train import held_out
from genus.train.agreement import check_processes
from genus.train.data import TrainStage
from genus.train.float8 import check_float8
from genus.train.loop import Summary, train
from genus.train.world import device_of_run, is_rank_zero, rank_zero_first, restarted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from genus.batch import Batch
    from genus.examples import Limits
    from genus.examples.feed.mixing import Mixing
    from genus.objectives import Learner
    from genus.preparation import Text
    from genus.recipe import Recipe
    from genus.stages import Stage, TaskStep
    from genus.tokens.store import ProgressCallback, Store
    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run

SEEDS = 1 << 32
"""Distance between the seeds of consecutive stages, so that no two stages draw the same random numbers."""
SOURCE_SEEDS = 1 << 64
"""The same between sources of text."""
LOOKED_AT = 32
"""Most steps of a stage of which a micro-batch is read before training, to tell whether anything can be learned."""
MOST = 8
"""Largest number of architecture differences that are printed."""


def pretrain(
    recipe: Recipe,
    corpus: Text,
    folder: Path,
    run: Run,
    *,
    fields: Fields = TEXT,
    mixing: Mixing | None = None,
    words: Path | None = None,
    start: Path | None = None,
    teacher: Path | None = None,
    resume: bool = False,
    progress: ProgressCallback | None = None,
) -> Summary:
    """Pretrain a recipe on text into a run folder, from random weights or from those of a model folder.

    Args:
        recipe: the recipe to train; its `tokens` become those of the tokenizer that is trained, given or loaded.
        corpus: text files, folders of text files, data set names; or one prepared store. Several by name are mixed.
        folder: the run folder; a resumed run finds its tokenizer and its store there.
        run: device, precision, intervals and other run settings.
        fields: the fields of text and title, in files that have fields.
        mixing: how much is read of each text that has a name; None: by size.
        words: a folder with a tokenizer, instead of training one on the corpus.
        start: a model folder to start from: its architecture, its weights and, without `words`, its tokenizer.
        teacher: the teacher's model folder, for a recipe with distillation: its tokenizer and, without `start`, as many
            of its weights as fit are used; a resumed run finds the teacher where it was.
        resume: continue the run in the folder.
        progress: called with the amount of text that is tokenized.

    Raises:
        GenusError: text, tokenizer, weights or checkpoints cannot be used.
        UsageError: the folder already holds a run, a run of other choices, or a fine-tuning.
    """
    check_processes(run, recipe)
    where, resume = RunFolder(folder), resume or restarted()
    where.check("pretraining")
    with where.lock() if is_rank_zero() else nullcontext():
        return _pretrain(recipe, Texts.of(corpus, fields, mixing), where, run, words, start, teacher, resume, progress)


def _pretrain(
    recipe: Recipe,
    texts: Texts,
    where: RunFolder,
    run: Run,
    words: Path | None,
    start: Path | None,
    teacher: Path | None,
    resume: bool,
    progress: ProgressCallback | None,
) -> Summary:
    """Pretrain into a locked folder; files are prepared before the processes join a process group."""
    folder = where.path
    refuse_too_large(recipe)
    refuse_unfit(recipe, run)
    with rank_zero_first():
        teaching = teacher_of(recipe, folder, teacher)
        if teaching:
            recipe, words = teaching.taught(recipe), teaching.tokenizer(words, folder / "tokenizer")
        recipe, texts = texts.read_by(recipe, folder, teacher)
        tokenizer, stores = texts.prepare(recipe, where, words or start, progress)
        recipe = replace(recipe, examples=recipe.examples.of_corpus(stores.values(), tokenizer))
        recipe, learner = new_learner(recipe, tokenizer) if start is None else from_pretrained(recipe, tokenizer, start)
        if (change := where.pin(recipe, resume=resume)) and is_rank_zero():
            say(change)
        if teaching:
            teach(teaching, learner, folder, inherit=start is None)
        for name, store in stores.items() if is_rank_zero() else ():
            for line in left_out(recipe, store, tokenizer, *recipe.stages):
                say(f"{name}: {line}" if name else line)
    training, validation = texts.split(stores, run.held_out, recipe, where)
    notes = text_notes(training)
    planned = stages(recipe, training, tokenizer)
    losses = [name for objective in recipe.objectives for name in objective.losses]
    first = (stage.feed[step * stage.accumulate] for stage in planned for step in range(LOOKED_AT))
    if (line := check_learning(learner, losses, first)) and is_rank_zero():
        say(line)
    return train(
        learner,
        planned,
        recipe.optimizer,
        recipe.schedule,
        recipe.budget,
        run,
        folder,
        choices=recipe,
        seed=recipe.seed,
        title=recipe.name,
        evaluate=evaluator(recipe, validation, tokenizer, learner, run) if run.held_out else None,
        publish=lambda learner: save(folder / "model", recipe, learner, tokenizer, notes),
        resume=resume,
    )


def refuse_too_large(recipe: Recipe) -> None:
    """Check that the weights of a recipe fit into this machine's memory, where it is known.

    Raises:
        UsageError: they do not.
    """
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return
    count = parameters(recipe)
    if FLOAT * count > memory:
        raise UsageError(f"{recipe.name}: {count:.3g} parameters take {FLOAT * count / 1e9:.3g} GB, this machine has "
                         f"{memory / 1e9:.3g} GB; take a smaller model")  # fmt: skip


def refuse_unfit(recipe: Recipe, run: Run) -> None:
    """Check that a recipe's model can be trained as the run settings say, before any text is read.

    Raises:
        UsageError: processes cannot share it so, or the device has no such numbers.
    """
    check_float8(run, device_of_run(run))
    if run.parallel.divides:
        with skeleton():
            run.parallel.check(recipe.learner(), device_of_run(run).type)


def new_learner(recipe: Recipe, tokenizer: Tokenizer) -> tuple[Recipe, Learner]:
    """Return the recipe with the tokenizer's vocabulary, and a learner with random weights from the recipe's seed."""
    recipe = recipe.with_tokens(tokenizer.tokens)
    with torch.random.fork_rng([]):
        torch.manual_seed(recipe.seed)
        return recipe, recipe.learner()


def from_pretrained(recipe: Recipe, tokenizer: Tokenizer, start: Path) -> tuple[Recipe, Learner]:
    """Return the recipe with the architecture of a model folder, and a learner with its weights, for the tokenizer.

    Differences from the recipe's own architecture are logged. If the parameter count differs too, name and publication
    are taken from the model folder. Modules without weights there are logged too, and are initialized randomly.
    """
    source = load(start)
    recipe = _of_architecture(recipe, source.recipe, start)
    model, beside = source.recipe.model, {name: one.model for name, one in source.learner.auxiliary_models().items()}
    objectives = tuple(objective.fitted(model, beside) for objective in recipe.objectives)
    if tokenizer.hash() == source.tokenizer.hash():
        recipe = replace(recipe, padded_vocab_size=source.recipe.padded_vocab_size)
    recipe, learner = new_learner(replace(recipe, objectives=objectives), tokenizer)
    fresh = init_from(source, learner, tokenizer)
    if parts := parts_of(fresh, [name for name in learner.tensors() if name not in fresh]):
        say(f"{start}: has no weights for {', '.join(parts)}, which start from random numbers")
    return recipe, learner


def parts_of(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return the parts of a learner that hold these tensors and none of the others, such as `heads.masked_lm`.

    Parts of all layers are told once, as `network.decoder.layers.*.cross`.
    """
    found: dict[str, None] = {}
    for name in names:
        steps = name.split(".")
        prefixes = (".".join(steps[:number]) for number in range(2, len(steps) + 1))
        part = next(one for one in prefixes if not any(other.startswith(f"{one}.") or other == one for other in others))
        found[".".join("*" if step.isdecimal() else step for step in part.split("."))] = None
    return sorted(found)


def _of_architecture(recipe: Recipe, source: Recipe, start: Path) -> Recipe:
    """Return the recipe with the architecture of the source, and log the differences."""
    model, pieces = recipe.model.merge_pretrained(source.model), recipe.vocab_rows
    if changes := [f"model.{where} {new}, not {old}" for where, old, new in diff(recipe.model, model)]:
        more = f" and {len(changes) - MOST} more" if len(changes) > MOST else ""
        say(f"{start}: its architecture is taken, not the recipe's: {', '.join(changes[:MOST])}{more}")
    if model.parameters(pieces) != recipe.model.parameters(pieces):
        recipe = replace(recipe, name=source.name, published=source.published)
    try:
        return replace(recipe, model=model)
    except ValueError as error:
        raise UsageError(f"{start}: its architecture does not fit the recipe: {error}") from None


def teach(teaching: TeacherFolder, learner: Learner, folder: Path, *, inherit: bool) -> None:
    """Give a learner its teacher and, with `inherit`, weights of the teacher; a new run logs which ones."""
    teaching.begin(learner)
    line = teaching.init_student(learner) if inherit else ""
    if teaching.remember(folder) and line:
        say(line)


def left_out(recipe: Recipe, store: Store, tokenizer: Tokenizer, *stages: Stage) -> list[str]:
    """Return notices of the documents of which some stages make no example, each once."""
    vocabulary = tokenizer.read_by(causal=recipe.model.causal).vocabulary
    found: list[str] = []
    for stage in stages:
        for turn in recipe.task_steps(stage):
            limits: Limits = stage.limits
            for objective in reversed(recipe.learning(turn)):
                limits = objective.raw_limits(limits, vocabulary)
            found.append(recipe.format(turn).left_out(store, vocabulary, limits))
    return list(dict.fromkeys(filter(None, found)))


def training_feed(recipe: Recipe, text: Store | Sources, tokenizer: Tokenizer, stage: int) -> TaskSchedule | Mixture:
    """Return the feed of training batches of a stage of the recipe, of one store or a mixture of several."""
    chosen, seed = recipe.stages[stage], recipe.seed + stage * SEEDS
    shares = tuple(task_feed(recipe, text, tokenizer, chosen, turn, seed) for turn in recipe.task_steps(chosen))
    return chosen.feed(shares, seed)


def task_feed(
    recipe: Recipe, text: Store | Sources, tokenizer: Tokenizer, stage: Stage, turn: TaskStep, seed: int
) -> TaskFeed:
    """Return the feed of batches of one task step of a stage."""
    sources = Sources.of(text)
    vocabulary, learning = tokenizer.read_by(causal=recipe.model.causal).vocabulary, recipe.learning(turn)
    if any(objective.counts_tokens for objective in learning):
        vocabulary = replace(vocabulary, counts=sources.counts(vocabulary.size))
    if any(objective.drops_merges for objective in learning):
        vocabulary = replace(vocabulary, merges=Merges.of(tokenizer.backend))
    feeds: dict[str, Feed] = {}
    for number, (name, store) in enumerate(sources.stores.items()):
        with of_source(name):
            feeds[name] = Feed(
                store,
                vocabulary,
                recipe.format(turn),
                learning,
                limits=stage.limits,
                micro_batch=stage.micro_batch,
                seed=seed + number * SOURCE_SEEDS,
                batch=stage.batch,
                task=recipe.task(turn),
            )
    feed = Mixture.of_sources(feeds, sources.shares, seed) if sources.shares else feeds[""]
    return TaskFeed(feed, frozenset(turn.objectives), turn.steps)


def validation_feed(recipe: Recipe, store: Store, tokenizer: Tokenizer, learner: Learner) -> TaskSchedule:
    """Return the feed of held-out text: the task steps of all stages for which the learner has a head.

    All use the first stage's length, so that the metrics of all stages can be compared. A task step for which the text
    gives no example is left out.

    Raises:
        GenusError: the text gives no example for any task step.
    """
    recipe = replace(recipe, objectives=tuple(one.measured for one in recipe.objectives))
    turns = {turn.objectives: turn for stage in recipe.stages for turn in recipe.task_steps(stage)}
    shares, reasons = [], []
    for turn in turns.values():
        if learner.heads.keys() & set(turn.objectives):
            try:
                shares.append(task_feed(recipe, store, tokenizer, recipe.stages[0], turn, recipe.seed))
            except GenusError as error:
                reasons.append(error)
    if not shares:
        raise reasons[0]
    return TaskSchedule(tuple(shares), 1, recipe.seed)


def stages(recipe: Recipe, text: Store | Sources, tokenizer: Tokenizer) -> list[TrainStage]:
    """Return the recipe's training stages, each with its feed and its FLOPs."""
    sources = Sources.of(text)
    prints = ", ".join(f"{name} {digest(store)}".strip() for name, store in sources.stores.items())
    feeds = [training_feed(recipe, sources, tokenizer, number) for number in range(len(recipe.stages))]
    return [
        TrainStage(
            feed,
            accumulate=stage.batch // stage.micro_batch,
            share=stage.share,
            flops=StageFlops(recipe, stage),
            text=prints,
            seen=partial(_seen, feed, stage.micro_batch) if sources.shares else None,
            batch_ratio=stage.batch / recipe.stages[0].batch,
            updated=stage.updated,
        )
        for stage, feed in zip(recipe.stages, feeds, strict=True)
    ]


def _seen(feed: TaskSchedule | Mixture, micro_batch: int, number: int) -> dict[str, float]:
    """Return how often each source was read before micro-batch `number`."""
    return feed.seen(number * micro_batch) if isinstance(feed, Mixture) else feed.seen(number)


def evaluator(
    recipe: Recipe, sources: Sources, tokenizer: Tokenizer, learner: Learner, run: Run
) -> Callable[[Learner], dict[str, float]]:
    """Return the function that evaluates a learner on held-out text during a run."""
    feeds = {}
    for name, store in sources.stores.items():
        with of_source(name):
            feeds[name] = validation_feed(recipe, store, tokenizer, learner)
    return partial(evaluate_sources, recipe=recipe, feeds=feeds, shares=sources.shares, run=run)


def evaluate_sources(
    learner: Learner, *, recipe: Recipe, feeds: Mapping[str, TaskSchedule], shares: Mapping[str, float], run: Run
) -> dict[str, float]:
    """Return the metrics of a learner on held-out text; of a mixture, those of the whole and, by name, of each."""
    found = {name: evaluate(learner, recipe=recipe, feed=feed, run=run) for name, feed in feeds.items()}
    if not shares:
        return found[""]
    each = {f"{name}/{metric}": value for name, metrics in found.items() for metric, value in metrics.items()}
    return held_out.mixed(found, shares) | each


def evaluate(learner: Learner, *, recipe: Recipe, feed: TaskSchedule, run: Run) -> dict[str, float]:
    """Return the losses, accuracies, perplexities and bits per byte of a learner on held-out text."""
    measured = learner.heads.keys() & {name for share in feed.tasks for name in share.heads}
    losses = {loss for one in recipe.objectives if one.name in measured for loss in one.token_losses}
    source = feed.tasks[0].feed
    assert isinstance(source, Feed)  # of one store
    textual, size = torch.from_numpy(~source.vocabulary.special), bytes_per_token(source.store)
    if "unk" in source.vocabulary.roles:
        textual[source.vocabulary.unk] = True  # an unknown word stands for text, unlike [CLS] and [SEP]

    def bytes_of(batch: Batch) -> dict[str, float]:
        """Return the bytes of text that the targets of each token loss stand for; special tokens stand for none."""
        labels = {loss: batch.targets[loss].label for loss in losses & batch.targets.keys()}
        return {loss: size * int(textual[label[label != IGNORE]].sum()) for loss, label in labels.items()}

    return held_out.evaluate(learner, feed.evaluation_batches(), run, bytes_of=bytes_of)
