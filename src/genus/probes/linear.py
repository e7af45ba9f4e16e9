"""Linear probes: how well a label can be read off the frozen hidden states of each layer (Alain and Bengio 2016).

Legend: N rows, E size of a state, C classes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from genus.errors import GenusError
from genus.evaluate.interval import Interval, wilson
from genus.evaluate.logistic_regression import fitted
from genus.tasks.features import feature_blocks, number_of_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from genus.export.folder import LoadedModel
    from genus.objectives.pooling import Pooling
    from genus.train.run import Run

PENALTY = 1.0
"""Weight of half the squared norm of the map, against the sum of the losses of all rows; as scikit-learn's C = 1."""


@dataclass(frozen=True, slots=True)
class Labeled:
    """Texts with their labels."""

    texts: list[str]
    labels: list[str]


@dataclass(frozen=True, slots=True)
class Probed:
    """How many rows a probe of each layer tells right, beside what is told without one."""

    accuracy: dict[int, Interval]
    """By layer, 0 for the embeddings; Wilson's intervals."""
    majority: Interval
    """Of always telling the commonest label of training."""
    classes: list[str]
    train: int
    """Rows that probes were fitted on."""


def probe_layers(
    model: LoadedModel,
    train: Labeled,
    test: Labeled,
    *,
    pooling: Pooling | None = None,
    run: Run | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Probed:
    """Return the accuracy of a linear classifier on the states of each layer, none of which is trained.

    Args:
        model: its device and its train or eval mode are restored.
        train: what the classifiers are fitted on.
        test: what they are measured on.
        pooling: of the tokens of a text; None: their mean.
        run: device and precision; None: the model's device, in float32.
        progress: called with the number of layers that are done, and of all.

    Raises:
        GenusError: training has fewer than two labels, or test one that is none of them.
        UsageError: the model reads a source, or does not keep states of layers.
    """
    classes = sorted({*train.labels})
    if len(classes) < 2:
        raise GenusError(f"the training table has one label, {classes[0]!r}; a probe tells several apart")
    if unknown := sorted({*test.labels} - {*classes}):
        raise GenusError(f"the label {unknown[0]!r} is in no training row; leave its rows out")
    layers = number_of_layers(model) + 1
    states = [_states(model, one.texts, layers, pooling, run) for one in (train, test)]
    truth = [np.array([classes.index(label) for label in one.labels]) for one in (train, test)]
    usual = Counter(train.labels).most_common(1)[0][0]
    accuracy = {}
    for layer in range(layers):
        told = predicted(states[0][:, layer], truth[0], states[1][:, layer], len(classes))
        accuracy[layer] = wilson(int((told == truth[1]).sum()), len(told))
        if progress is not None:
            progress(layer + 1, layers)
    return Probed(accuracy, wilson(test.labels.count(usual), len(test.labels)), classes, len(train.texts))


def _states(
    model: LoadedModel, texts: Sequence[str], layers: int, pooling: Pooling | None, run: Run | None
) -> NDArray[np.float32]:
    """Return the states (N, layers, E) of texts."""
    blocks = feature_blocks(model, texts, range(layers), "text", pooling, run)
    vectors = np.concatenate([block.vectors for block in blocks])
    return vectors.reshape(len(vectors), layers, -1)


def predicted(
    train_NE: NDArray[np.float32], truth_N: NDArray[np.int64], test_NE: NDArray[np.float32], classes: int
) -> NDArray[np.int64]:
    """Return what multinomial logistic regression, fitted on some rows, tells of others (N,).

        min over W, b of  Σ_n -log softmax(W x_n + b)[y_n] + PENALTY / 2 |W|²

    Each dimension of x is first standardized by its mean and standard deviation in training.
    """
    mean, deviation = train_NE.mean(0), train_NE.std(0)
    scale = np.where(deviation > 0, deviation, 1.0)
    x, other = (torch.from_numpy((one - mean) / scale).double() for one in (train_NE, test_NE))
    weight, bias = fitted(x, torch.from_numpy(truth_N), classes, PENALTY)
    told: NDArray[np.int64] = (other @ weight.T + bias).argmax(-1).numpy()
    return told
