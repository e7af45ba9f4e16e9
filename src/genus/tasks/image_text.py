"""What is done with a model of images and texts: vectors of both, retrieval both ways, and zero-shot classification.

Legend: N images or texts, E size of a vector, C classes.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genus.errors import GenusError, say
from genus.evaluate.ranking import Ranks, Recall
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.images.decode import ImageError
from genus.images.read import LABEL, find, read_images
from genus.images.store import captions_of
from genus.objectives import answering
from genus.objectives.devices import device_of, on
from genus.part import Part
from genus.tasks.embed import blocks
from genus.train.precision import autocast
from genus.train.world import device_of_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from collections.abc import Sequence as Several
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.batch import Batch
    from genus.export.folder import LoadedModel
    from genus.train.run import Run

RETRIEVAL, ZERO_SHOT = "image-retrieval", "zero-shot"
"""Names of the tasks of images."""
IMAGE = "image"
AT_ONCE = 64
"""Images of a forward pass."""
DEPTHS = (1, 5, 10)
"""k of recall at k, as papers report it."""


class ZeroShot(Part):
    """Zero-shot classification: an image is of the class whose text's vector has the largest cosine with its own.

    A class's vector is the mean of the unit vectors of its name in every template, of unit length again.

    Source: Radford et al. 2021, section 3.1.2, and 3.1.4 on templates and their ensembles.
    """

    templates: tuple[str, ...] = ("A photo of a {}.",)
    """Texts of a class, with {} for its name (section 3.1.4)."""
    labels: tuple[str, ...] = ()
    """The names of the classes; none: those that the table has."""
    skip: bool = False
    """Whether images that cannot be read are left out and counted."""

    def __post_init__(self) -> None:
        """Check the templates (ValueError)."""
        if not self.templates or any("{}" not in one for one in self.templates):
            raise ValueError("templates: expected texts with {} for the name of a class")


def reads_images(model: LoadedModel) -> bool:
    """Return whether a model has vectors of images."""
    return IMAGE in model.recipe.model.streams


def image_vectors(model: LoadedModel, images: Iterable[bytes], run: Run | None = None) -> Iterator[NDArray[np.float32]]:
    """Yield the unit vectors (up to `AT_ONCE`, E) of image files in their order, of the square in their middle.

    Raises:
        ImageError: one cannot be read.
    """
    for some in blocks(images, AT_ONCE):
        yield vectors_of(model, image_rows(model, some), run)


def image_states(model: LoadedModel, images: Iterable[bytes], run: Run | None = None) -> Iterator[NDArray[np.float32]]:
    """Yield the states (up to `AT_ONCE`, H) of the class tokens of image files, before any projection of the head.

    Raises:
        ImageError: one cannot be read.
    """
    for some in blocks(images, AT_ONCE):
        with _answering(model, run) as device:
            batch = _packed(model, image_rows(model, some)).to(device)
            found = model.learner.network(batch)[IMAGE][batch.targets[IMAGE].index]
        yield np.asarray(found.float().cpu().numpy())


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one example each: images, or texts."""

    rows: Several[list[Example]]
    limits: dict[str, int]
    """Row length, by stream."""
    stream: str
    """Of the targets."""


def image_length(model: LoadedModel) -> int:
    """Return the tokens of an image, the class token and patches."""
    examples: Any = model.recipe.examples.for_model(model.recipe.model)
    return int(examples.length)


def image_rows(model: LoadedModel, images: Iterable[bytes]) -> Rows:
    """Return rows of image files, decoded, of the square in the middle of each.

    Raises:
        ImageError: one cannot be read.
    """
    examples: Any = model.recipe.examples.for_model(model.recipe.model)
    target = (np.zeros(1, np.int64), np.zeros(1, np.int64))

    def row(data: bytes) -> list[Example]:
        sequence = examples.sequence(partial(examples.patches, data))
        sequence.pixels = examples.patches(data)
        return [Example({IMAGE: sequence}, {IMAGE: target})]

    return Rows([row(data) for data in images], {"tokens": 1, IMAGE: examples.length}, IMAGE)


def text_vectors(model: LoadedModel, texts: Several[str], run: Run | None = None) -> NDArray[np.float32]:
    """Return the unit vectors (N, E) of texts; what is too long loses its end, which is said."""
    tokenizer = model.tokenizer.read_by(causal=model.recipe.model.causal)
    vocabulary, longest = tokenizer.vocabulary, model.recipe.model.max_length
    ids = tokenizer.encode(texts, specials=False)
    most = len(max(ids, key=len, default=[])) if longest is None else longest - vocabulary.framing(1)
    if cut := sum(len(one) > most for one in ids):
        say(f"{cut:,} texts are longer than {longest} tokens and lose their end")
    framed = [Sequence(*vocabulary.frame(np.array(one[:most], np.int64))) for one in ids]
    found = []
    for some in blocks(framed, 2 * AT_ONCE):
        lengths = [len(one.ids) for one in some]
        targets = [(np.array([vocabulary.whole(length)]), np.zeros(1, np.int64)) for length in lengths]
        rows = [[Example({"tokens": one}, {IMAGE: target})] for one, target in zip(some, targets, strict=True)]
        found.append(vectors_of(model, Rows(rows, {"tokens": max(lengths)}, "tokens"), run))
    return np.concatenate(found)


def vectors_of(model: LoadedModel, given: Rows, run: Run | None = None) -> NDArray[np.float32]:
    """Return the unit vectors (N, E) of rows of one example each.

    Raises:
        GenusError: the model has no head that gives vectors.
    """
    if not model.learner.heads:
        raise GenusError("the model has no head that gives vectors of images and texts")
    with _answering(model, run) as device:
        outputs = next(iter(model.learner.outputs(_packed(model, given).to(device)).values()))
    return np.asarray(outputs["images" if given.stream == IMAGE else "texts"].float().cpu().numpy())


def scale_of(model: LoadedModel) -> float:
    """Return s, by which cosines of images and texts are multiplied before the softmax."""
    head: Any = next(iter(model.learner.heads.values()))
    return float(head.scale().detach())


def _packed(model: LoadedModel, given: Rows) -> Batch:
    """Return rows as a batch."""
    pad, streams = model.tokenizer.vocabulary.pad, {IMAGE: given.stream}
    return pack(given.rows, given.limits, pad, streams=False, target_streams=streams)


@contextmanager
def _answering(model: LoadedModel, run: Run | None) -> Iterator[torch.device]:
    """Context manager of a forward pass on a run's device and in its precision; the device is yielded."""
    learner, device = model.learner, device_of(model.learner) if run is None else device_of_run(run)
    with on(learner, device), answering(learner), autocast("float32" if run is None else run.precision, device):
        yield device


def retrieve(
    model: LoadedModel, sources: Several[str | Path], column: str, run: Run | None = None, *, skip: bool = False
) -> dict[str, float | None]:
    """Return recall at 1, 5 and 10 of texts by images and of images by texts, among all of a table.

    A text is found by its image where any of the image's captions is among the first k, as papers count it.

    Raises:
        GenusError: an image cannot be read or has no caption, unless `skip`; there is none.
    """
    images: list[NDArray[np.float32]] = []
    texts, owner, numbers = list[str](), list[int](), dict[str, int]()
    for name, data, row in readable(sources, skip):
        captions = captions_of(row, column)
        if not captions:
            continue
        if name not in numbers:
            numbers[name] = len(images)
            images += image_vectors(model, [data], run)
        texts += captions
        owner += [numbers[name]] * len(captions)
    if not texts:
        raise GenusError("there is no image with a caption")
    image_NE = torch.from_numpy(np.concatenate(images)).double()
    text_NE, owner_N = torch.from_numpy(text_vectors(model, texts, run)).double(), torch.tensor(owner)
    scores = text_NE @ image_NE.T
    own = owner_N[:, None] == torch.arange(len(image_NE))
    found: dict[str, float | None] = {}
    for way, table, relevant in (("image", scores, own), ("text", scores.T, own.T)):
        first = [row[told].max()[None] for row, told in zip(table, relevant, strict=True)]
        ranks = Ranks(first)
        ranks.add(table.masked_fill(relevant, -torch.inf))
        for k in DEPTHS:
            found[f"{way}_recall@{k}"] = Recall(k=k)(ranks.counts, ranks.of_relevant())
    return found | {"images": float(len(image_NE)), "captions": float(len(texts))}


def class_vectors(model: LoadedModel, labels: Several[str], choice: ZeroShot, run: Run | None = None) -> torch.Tensor:
    """Return the unit vectors (C, E) of classes, each the mean over the templates."""
    return class_means(text_vectors(model, class_texts(labels, choice), run), choice)


def class_texts(labels: Several[str], choice: ZeroShot) -> list[str]:
    """Return the texts of classes: of each label, those of all templates."""
    return [template.replace("{}", label) for label in labels for template in choice.templates]


def class_means(text_NE: NDArray[np.float32], choice: ZeroShot) -> torch.Tensor:
    """Return the unit vectors (C, E) of classes, given those of their texts in the order of `class_texts`."""
    each = torch.from_numpy(text_NE).view(-1, len(choice.templates), text_NE.shape[1])
    return torch.nn.functional.normalize(each.mean(1), dim=-1)


def classify(
    model: LoadedModel,
    sources: Several[str | Path],
    choice: ZeroShot,
    column: str | None = None,
    run: Run | None = None,
) -> dict[str, float | None]:
    """Return the accuracy of zero-shot classification on a table with a label of each image, and the mean over classes.

    Raises:
        GenusError: an image cannot be read, unless skipped; a label is missing, or none of those named.
    """
    column = column or LABEL
    images: list[NDArray[np.float32]] = []
    truth: list[str] = []
    for name, data, row in readable(sources, choice.skip):
        truth.append(label_of(name, row, column))
        images += image_vectors(model, [data], run)
    labels = [*(choice.labels or sorted(set(truth)))]
    if strange := sorted(set(truth) - set(labels)):
        raise GenusError(f"the label {strange[0]!r} is none of those named: {', '.join(labels)}")
    classes = class_vectors(model, labels, choice, run)
    predicted = (torch.from_numpy(np.concatenate(images)) @ classes.T).argmax(1).numpy()
    right = predicted == np.array([labels.index(one) for one in truth])
    return {**accuracies(right, truth), "images": float(len(right))}


def accuracies(right_N: NDArray[np.bool_], truth: Several[str]) -> dict[str, float | None]:
    """Return the share of images that are told right, and its mean over the labels that they have."""
    of_class = [right_N[np.array(truth) == label].mean() for label in sorted(set(truth))]
    return {"accuracy": float(right_N.mean()), "mean_class_accuracy": float(np.mean(of_class))}


def label_of(name: str, row: Any, column: str) -> str:
    """Return the label of a row of images (GenusError: there is none)."""
    if column not in row.cells:
        raise GenusError(f"{name}: there is no column {column!r}, but {', '.join(row.cells)}; name it with --label")
    return str(row.cells[column])


def readable(sources: Several[str | Path], skip: bool) -> Iterator[tuple[str, bytes, Any]]:
    """Yield name, file and row of each image that can be read; say how many cannot.

    Raises:
        GenusError: one cannot be read, unless `skip`; or there is none.
    """
    from genus.images.decode import decoded

    left, read = list[str](), 0
    for row in read_images(find(sources)):
        problem = row.problem
        if not problem:
            try:
                decoded(row.data)
            except ImageError as error:
                problem = str(error)
        if not problem:
            read += 1
            yield row.name, row.data, row
        elif skip:
            left.append(f"{row.name}, which {problem}")
        else:
            raise GenusError(f"{row.name}: {problem}; mend or remove it, or take --task-set skip=true")
    if left:
        say(f"{len(left):,} images are left out, such as {left[0]}")
    if not read:
        raise GenusError("there is no image that can be read")


def image_files(sources: Several[str | Path]) -> list[Any]:
    """Return the rows of images, each with its file, all of which can be read (GenusError)."""
    return [row for _, _, row in readable(sources, skip=False)]
