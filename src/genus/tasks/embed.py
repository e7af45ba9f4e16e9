"""Vectors of texts by an embedder.

Legend: N texts, E size of a vector.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from genus.errors import GenusError, UsageError, near, say
from genus.inference.engine import Inference
from genus.objectives import Learner, device_of, on
from genus.objectives.supervised import FineTuned
from genus.objectives.supervised.embedding import SentenceEmbedder
from genus.objectives.text_vectors import HasTextVectors
from genus.tasks.answer import outputs
from genus.tasks.encode import encode
from genus.train.world import device_of_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from genus.export.folder import LoadedModel
    from genus.objectives import Head
    from genus.train.run import Run

T = TypeVar("T")
BLOCK = 1 << 14
"""Texts whose tokens are in memory at once."""


def embedder_of(model: LoadedModel) -> SentenceEmbedder:
    """Return the objective of a model whose head embeds texts.

    Raises:
        GenusError: it has none.
    """
    for objective in model.recipe.objectives:
        if isinstance(objective, FineTuned) and objective.embeds and objective.name in model.learner.heads:
            return cast("SentenceEmbedder", objective)
    raise GenusError(f"{model.recipe.name}: this model is no embedder; take --task sentence-embedding")


def as_embedder(model: LoadedModel) -> LoadedModel:
    """Return a model that embeds texts: itself, or with the mean of its hidden states as vectors, which is said.

    Of a model that compares texts with images, the vectors are those that it compares.

    Raises:
        UsageError: the model reads a source.
    """
    for one in model.recipe.objectives:
        if isinstance(one, HasTextVectors) and one.name in model.learner.heads:
            own, head = one.text_embedder(cast("Head", model.learner.heads[one.name]), model.recipe.model)
            learner = Learner(model.learner.network, {own.name: head.to(device_of(model.learner))}).eval()
            return replace(model, recipe=replace(model.recipe, objectives=(own,)), learner=learner)
    try:
        embedder_of(model)
    except GenusError:
        objective = SentenceEmbedder().continued((), model.recipe.model)
        head = objective.build(model.recipe.model, 0).to(device_of(model.learner))
        learner = Learner(model.learner.network, {objective.name: head}).eval()
        say("the model's folder has no pooling: vectors are the means of its last hidden states")
        return replace(model, recipe=replace(model.recipe, objectives=(objective,)), learner=learner)
    return model


def prompt_of(model: LoadedModel, name: str | None) -> str:
    """Return the text of a model's prompt, or of its usual one, if it has one.

    Raises:
        UsageError: the model has no prompt of that name.
    """
    embedder = embedder_of(model)
    known = embedder.named_prompts
    name = embedder.default_prompt if name is None else name
    if name is None:
        return ""
    if name not in known:
        raise UsageError(f"--prompt: the model has no prompt {name!r}.{near(name, list(known))}")
    return known[name]


def embed(
    model: LoadedModel,
    texts: Iterable[str],
    prefix: str = "",
    run: Run | None = None,
    engine: Inference | None = None,
) -> NDArray[np.float32]:
    """Return the vectors (N, E) of texts, in their order; see `embed_blocks`."""
    found = [*embed_blocks(model, texts, prefix, run, engine)]
    return np.concatenate(found) if found else np.zeros((0, 0), np.float32)


def embed_blocks(
    model: LoadedModel,
    texts: Iterable[str],
    prefix: str = "",
    run: Run | None = None,
    engine: Inference | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Yield the vectors of texts in blocks of (up to `BLOCK`, E), in their order; say which were empty or cut.

    Args:
        model: an embedder; its device and its train or eval mode are restored.
        texts: read as they are needed.
        prefix: stands before each, such as `query: `.
        run: device and precision; None: the model's device, in float32.
        engine: makes the forward passes; None: one in the precision of `run`.

    Raises:
        GenusError: the model is no embedder.
    """
    embedder, longest = embedder_of(model), model.recipe.finetuning.max_length
    device = device_of(model.learner) if run is None else device_of_run(run)
    engine = engine or Inference("float32" if run is None else run.precision)
    empty = cut = 0
    with on(model.learner, device):
        for block in blocks(texts, BLOCK):
            given = [(prefix + text,) for text in block]
            encoded = encode(model.tokenizer, given, np.zeros(len(block), np.float32), embedder.name, longest)
            empty, cut = empty + sum(not text.strip() for text in block), cut + len(encoded.cut)
            yield outputs(model.learner, model.recipe.model, encoded, engine, texts=False).values
    tell(empty, cut, longest, prefix)


def tell(empty: int, cut: int, longest: int, prefix: str = "") -> None:
    """Say how many texts were empty, and how many were longer than `longest` tokens."""
    if empty:
        say(f"{empty:,} texts are empty; their vectors are those of special tokens{' and the prompt' * bool(prefix)}")
    if cut:
        say(f"{cut:,} texts are longer than {longest} tokens and lose their end")


def blocks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield texts, or whatever else, in lists of so many."""
    rest = iter(items)
    while block := list(islice(rest, size)):
        yield block
