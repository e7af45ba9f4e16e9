"""Evaluation of a model of images and texts, by the name of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genus.errors import UsageError
from genus.tasks.image_probe import LINEAR_PROBE, LinearProbe, probe
from genus.tasks.image_text import ZERO_SHOT, ZeroShot, classify, reads_images, retrieve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genus.export.folder import LoadedModel
    from genus.tasks.image_probe import Progress
    from genus.train.run import Run


def evaluate(
    model: LoadedModel,
    sources: Sequence[str],
    name: str,
    settings: Callable[[Any], Any],
    column: str,
    label: str | None,
    run: Run,
    progress: Progress | None = None,
) -> dict[str, float | None]:
    """Return the metrics of a task of images by its name.

    Args:
        model: of texts and images.
        sources: tables, folders or shards of images.
        name: of the task.
        settings: gives the task's choices what the user set.
        column: of captions.
        label: column of labels; None: the usual one.
        run: device and precision.
        progress: called with the number of images that are read.

    Raises:
        UsageError: the model reads no images.
        GenusError: the images cannot be measured.
    """
    if not reads_images(model):
        raise UsageError(f"--task {name}: {model.recipe.name} reads no images; take a model such as clip's")
    if name == LINEAR_PROBE:
        return probe(model, sources, settings(LinearProbe()), label, run, progress)
    choice = settings(ZeroShot())
    if name == ZERO_SHOT:
        return classify(model, sources, choice, label, run)
    return retrieve(model, sources, column, run, skip=choice.skip)
