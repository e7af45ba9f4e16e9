"""Checkpoint averaging: a model whose weights are the means of those of a run's last checkpoints.

Source: Vaswani et al. 2017, section 6.1.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import torch

from genus.errors import GenusError, UsageError
from genus.export.folder import save
from genus.model.skeleton import skeleton
from genus.recipe import Recipe
from genus.run_folder import RunFolder
from genus.tokens.tokenizer import Tokenizer
from genus.train.checkpoint import fault
from genus.train.snapshot import MODEL
from genus.train.tensor_files import SavedTensors

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor


def average_checkpoints(run: Path, last: int, out: Path, *, replaced: Collection[Path] = ()) -> list[int]:
    """Write a model folder with the mean weights of the last checkpoints of a pretraining run; return their steps.

    Args:
        run: the folder of the run, which is only read.
        last: number of checkpoints.
        out: the model folder to write.
        replaced: further files of an older model there, relative to the folder, that do not stay.

    Raises:
        UsageError: the folder is no run, or has fewer checkpoints.
        GenusError: a checkpoint is damaged or of another model.
    """
    paths = last_checkpoints(run, last)
    recipe = RunFolder(run).choices(Recipe)
    with skeleton():  # skips the initialization of weights that are loaded next
        learner = recipe.learner()
    learner.load(mean(paths, learner.tensors()))
    steps = [int(path.name.rpartition("-")[2]) for path in paths]
    named = ", ".join(map(str, steps))
    notes = f"The weights are the means of those of {last} checkpoints, of the steps {named}."
    save(out, recipe, learner, Tokenizer.load(run / "tokenizer"), notes, replaced=replaced)
    return steps


def last_checkpoints(run: Path, last: int) -> list[Path]:
    """Return the folders of the last checkpoints of a run, in the order of their steps, after a check of their files.

    Raises:
        UsageError: the folder is no run, or has fewer checkpoints.
        GenusError: one of them is damaged.
    """
    where = RunFolder(run)
    if last < 1:
        raise UsageError(f"--last: expected at least 1 checkpoint, got {last}")
    if (content := where.content()) != "a pretraining run":
        raise UsageError(f"{run}: holds {content}, and only a pretraining run has checkpoints; name its folder")
    steps = where.checkpoint_steps()
    if len(steps) < last:
        there = f"{len(steps)} checkpoint{'s' if len(steps) > 1 else ''}, of {', '.join(map(str, steps))} steps"
        raise UsageError(
            f"{run}: has {there if steps else 'no checkpoint'}, not {last}; a run keeps as many as --run keep={last} "
            f"says, one every --run checkpoint_every steps" + (f"; or take --last {len(steps)}" if steps else "")
        )
    paths = [run / "checkpoints" / f"checkpoint-{step}" for step in steps[-last:]]
    for newer, path in zip(range(last - 1, -1, -1), paths, strict=True):
        if (why := fault(path)) is not None:
            instead = f"take --last {newer}, the intact ones after it" if newer else "resume the run to write it anew"
            raise GenusError(f"{path}: {why}; {instead}")
    return paths


def mean(paths: Sequence[Path], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the means of tensors over checkpoints, summed in float64; of integers, those of the last one.

    Args:
        paths: folders of checkpoints.
        like: tensors of the names, shapes and types that they must have.

    Raises:
        GenusError: a checkpoint has others.
    """
    found: dict[str, Tensor] = {}
    with ExitStack() as stack:
        files = [stack.enter_context(SavedTensors(path, MODEL)) for path in paths]
        for path, file in zip(paths, files, strict=True):
            if strange := sorted(file.shapes.keys() ^ like.keys()):
                raise GenusError(f"{path}: is of another model than recipe.json: only one of the two has {strange[0]}")
        for name, own in like.items():
            tensors = [file.whole(name) for file in files]
            for path, tensor in zip(paths, tensors, strict=True):
                if tensor.shape != own.shape:
                    shapes = f"{tuple(tensor.shape)}, not {tuple(own.shape)}"
                    raise GenusError(f"{path}: is of another model than recipe.json: {name} has the shape {shapes}")
            found[name] = tensors[-1]
            if own.is_floating_point():
                total = torch.zeros(own.shape, dtype=torch.float64)
                for tensor in tensors:
                    total += tensor
                found[name] = (total / len(tensors)).to(own.dtype)
    return found
