"""Linear probe of images: logistic regression on the frozen features of an image tower.

Legend: N sequences, of a batch or of a part of it; E embedding size, at the input or at the output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from genus.errors import GenusError, UsageError
from genus.evaluate.logistic_regression import best_penalty, fitted
from genus.images.read import LABEL
from genus.part import Natural, Part, SomeShare
from genus.tasks.embed import blocks
from genus.tasks.image_text import AT_ONCE, accuracies, image_states, image_vectors, label_of, readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from genus.export.folder import LoadedModel
    from genus.train.run import Run

    Progress = Callable[[int, int | None], None]

LINEAR_PROBE = "linear-probe"
"""Name of the task."""
UPDATES = 1_000
"""Most updates of L-BFGS (Radford et al. 2021, appendix A.3)."""
TOLERANCE = 1e-4
"""Largest gradient of the mean loss at which it ends (scikit-learn's default, by which the paper fits)."""


class LinearProbe(Part):
    """A linear classifier of the features of images, none of which is trained.

    The penalty of its weights is the one of 10^-6 to 10^6 with the highest accuracy on held-out rows (`best_penalty`);
    with it the classifier is fitted on all rows.

    Source: Radford et al. 2021, section 3.2 and appendix A.3.
    """

    train: tuple[str, ...] = ()
    """Tables, folders or shards of images with labels to fit it on."""
    valid: tuple[str, ...] = ()
    """Of the rows by which the penalty is chosen; none: a share of those of training."""
    held_out: SomeShare = 0.1
    """That share, of every label; ours."""
    features: Literal["states", "vectors"] = "states"
    """`states`: of the class token, before any projection (appendix A.3: I_f of figure 3); a residual network's are its
    vectors, as attention pooling ends with one. `vectors`: of unit length, by which images are compared with texts."""
    seed: Natural = 0
    """Draws the rows that are held out."""
    skip: bool = False
    """Whether images that cannot be read are left out and counted."""


def probe(
    model: LoadedModel,
    sources: Sequence[str],
    choice: LinearProbe,
    column: str | None = None,
    run: Run | None = None,
    progress: Progress | None = None,
) -> dict[str, float | None]:
    """Return the accuracy of a linear probe on a table with a label of each image, and the mean over classes.

    Beside them are the penalty and the accuracy on the rows that chose it.

    Raises:
        UsageError: no training table is named.
        GenusError: an image cannot be read, unless skipped; a label is missing, or in no training row.
    """
    if not choice.train:
        raise UsageError("--task linear-probe needs images with labels to learn from; name them with --task-set "
                         "'train=[\"FILE\"]'")  # fmt: skip
    column = column or LABEL
    parts = [_features(model, named, choice, column, run, progress) for named in (choice.train, choice.valid, sources)]
    (x, told), (other, _), (test, truth) = parts
    classes = sorted({*told})
    if len(classes) < 2:
        raise GenusError(f"the training table has one label, {classes[0]!r}; a probe tells several apart")
    for _, labels in parts[1:]:
        if unknown := sorted({*labels} - {*classes}):
            raise GenusError(f"the label {unknown[0]!r} is in no training row; leave its rows out")
    numbers = {label: number for number, label in enumerate(classes)}
    y, y_other, y_test = (torch.tensor([numbers[one] for one in labels], dtype=torch.long) for _, labels in parts)
    if choice.valid:
        chosen = (x, y), (other, y_other)
    else:
        held = _held_out(y, choice)
        chosen = (x[~held], y[~held]), (x[held], y[held])
    number = len(classes)

    def score(penalty: float) -> float:
        return float((_predicted(*chosen[0], number, penalty, chosen[1][0]) == chosen[1][1]).double().mean())

    penalty, scores = best_penalty(score)
    right = (_predicted(torch.cat([x, other]), torch.cat([y, y_other]), number, penalty, test) == y_test).numpy()
    return {
        **accuracies(right, truth),
        "penalty": penalty,
        "held_out_accuracy": scores[penalty],
        "training_images": float(len(x) + len(other)),
        "images": float(len(truth)),
    }


def _predicted(x_NE: Tensor, truth_N: Tensor, classes: int, penalty: float, other_NE: Tensor) -> Tensor:
    """Return what a classifier that is fitted on some rows tells of others (N,)."""
    weight, bias = fitted(x_NE, truth_N, classes, penalty, updates=UPDATES, tolerance=TOLERANCE)
    return (other_NE @ weight.T + bias).argmax(-1)


def _held_out(truth_N: Tensor, choice: LinearProbe) -> Tensor:
    """Return which rows (N,) are held out: a share of every label, at least one and not all of it."""
    draws, held = np.random.default_rng(choice.seed), np.zeros(len(truth_N), dtype=np.bool_)
    for label in range(int(truth_N.max()) + 1):
        (rows,) = np.nonzero(truth_N.numpy() == label)
        number = min(max(1, round(choice.held_out * len(rows))), len(rows) - 1)
        held[draws.permutation(rows)[:number]] = True
    return torch.from_numpy(held)


def _features(
    model: LoadedModel,
    sources: Sequence[str],
    choice: LinearProbe,
    column: str,
    run: Run | None,
    progress: Progress | None,
) -> tuple[Tensor, list[str]]:
    """Return the features (N, E) and labels of images, in float64."""
    labels: list[str] = []

    def files() -> Iterator[bytes]:
        for name, data, row in readable(sources, choice.skip) if sources else ():
            labels.append(label_of(name, row, column))
            yield data

    found: list[NDArray[np.float32]] = []
    of = image_states if choice.features == "states" else image_vectors
    for some in blocks(files(), AT_ONCE):
        found += of(model, some, run)
        if progress is not None:
            progress(len(labels), None)
    size = model.recipe.model.width_of("image") if not found else found[0].shape[1]
    whole = np.concatenate(found) if found else np.zeros((0, size), np.float32)
    return torch.from_numpy(whole).double(), labels
