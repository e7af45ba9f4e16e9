"""Coordinate check: how large activations are in the first steps of training, by the width of the network.

In the maximal update parametrization they are the same at every width; otherwise some grow, or vanish, with it.

Source: Yang et al. 2022 (arXiv:2203.03466), appendix D.1.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genus.errors import UsageError
from genus.part import leaves
from genus.pipeline import new_learner, stages
from genus.preparation import token_store, tokenizer_for
from genus.run_folder import RunFolder
from genus.text import Corpus
from genus.train.data import steps as batches_of
from genus.train.step import TrainStep
from genus.train.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

    from genus.batch import Batch
    from genus.objectives import Learner
    from genus.recipe import Recipe
    from genus.text import Source
    from genus.train.run import Run

GROWING = ("hidden", "heads", "key_heads")
"""Choices that grow in proportion to the width, beside the inner size of feed-forward networks."""
FLAT = 0.15
"""Largest power of the width by which a size counts as the same at all widths."""
LOGITS = "logits"
SEEN = 64
"""Tokens whose logits are measured."""


@dataclass(frozen=True)
class Coordinate:
    """The mean of |x| over the activations of a module."""

    width: int
    step: int
    """Updates made before."""
    module: str
    size: float


def widened(recipe: Recipe, width: int) -> Recipe:
    """Return a recipe at another hidden size: heads become more, and stay as large as they are.

    Raises:
        UsageError: the model has no hidden size, or its heads or inner sizes cannot follow.
    """
    sizes = dict(leaves(recipe.model.to_json()))
    hidden = next((value for path, value in sizes.items() if path.rpartition(".")[2] == "hidden"), None)
    if not isinstance(hidden, int):
        raise UsageError(f"{type(recipe.model).__name__} has no hidden size that could be another")
    changes: dict[str, object] = {}
    for path, value in sizes.items():
        *above, name = path.split(".")
        if isinstance(value, int) and (name in GROWING or (name == "size" and "feedforward" in above)):
            new, rest = divmod(value * width, hidden)
            if rest:
                raise UsageError(f"a width of {width} would make model.{path} {value * width / hidden:g}; take "
                                 f"multiples of {hidden // math.gcd(value, hidden)}")  # fmt: skip
            changes[f"model.{path}"] = new
    return recipe.overrides(changes)


def coordinates(
    recipe: Recipe, texts: Sequence[Source], widths: Sequence[int], run: Run, steps: int
) -> list[Coordinate]:
    """Train a recipe for some steps at each width, at its peak rate on the same batches, and measure before and after.

    Raises:
        GenusError: the text cannot be read.
        UsageError: a width does not fit the recipe.
    """
    rows = {width: widened(recipe, width) for width in widths}
    with tempfile.TemporaryDirectory(prefix="genus-mup-") as place:
        folder, corpus = Path(place), Corpus(texts)
        tokenizer = tokenizer_for(recipe, corpus, RunFolder(folder))
        store = token_store(corpus, tokenizer, folder / "store")
        found = []
        for width, row in rows.items():
            row, learner = new_learner(row, tokenizer)
            (stage, *_), world = stages(row, store, tokenizer), World(0, 1, torch.device("cpu"))
            step = TrainStep(learner, row.optimizer, run, world, row.seed)
            feed = batches_of(stage, 0, world, 0)
            first = stage.feed[0]
            for number in range(steps + 1):
                found += [Coordinate(width, number, name, size) for name, size in _sizes(learner, first).items()]
                if number < steps:
                    taken = next(feed)
                    counts = step.count(taken)
                    step({place: one.batch for place, one in taken.items()}, 0, 1.0, counts.targets)
    return found


@torch.no_grad()
def _sizes(learner: Learner, batch: Batch) -> dict[str, float]:
    """Return the mean of |x| of embeddings, of every layer and of the logits, without dropout."""
    found: dict[str, float] = {}
    hooks = [module.register_forward_hook(_keeping(found, name)) for name, module in _watched(learner.network)]
    training = learner.training
    learner.eval()
    hidden = learner.network(batch)["tokens"]
    for head in learner.heads.values():
        output: Any = getattr(head, "lm_head", None)
        if output is not None:
            found[LOGITS] = float(output(hidden[:SEEN]).abs().mean())
    learner.train(training)
    for hook in hooks:
        hook.remove()
    return found


def _watched(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield what is measured: embeddings, and the layers of each stack."""
    for name, module in network.named_modules():
        above, _, last = name.rpartition(".")
        if last == "embed" or (last.isdecimal() and above.rpartition(".")[2] == "layers"):
            yield name, module


def _keeping(found: dict[str, float], name: str) -> Any:
    def keep(_: nn.Module, __: object, output: Tensor) -> None:
        if isinstance(output, torch.Tensor):
            found[name] = float(output.abs().mean())

    return keep


def powers(found: Sequence[Coordinate]) -> dict[str, float]:
    """Return the power of the width by which each module's size grows after the last step (least squares of logs)."""
    last = max(one.step for one in found)
    modules = dict.fromkeys(one.module for one in found)
    each = {}
    for module in modules:
        points = [(one.width, one.size) for one in found if one.module == module and one.step == last and one.size > 0]
        if len(points) > 1:
            widths, sizes = np.log(np.array(points, float)).T
            each[module] = float(np.polyfit(widths, sizes, 1)[0])
    return each


def to_json(found: Sequence[Coordinate]) -> dict[str, Any]:
    """Return sizes, their powers of the width, and whether all are flat."""
    each = powers(found)
    return {
        "powers": each,
        "flat": all(abs(power) <= FLAT for power in each.values()),
        "coordinates": [asdict(one) for one in found],
    }
