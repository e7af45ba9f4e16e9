"""Log-likelihoods of several texts after the same context, such as the choices of a question: it is read once.

The context's keys and values are cached and copied to every text, which is read after them. For causal models with a
cache; the result is that of reading each text with its context, but for rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from genus.batch import Batch, Targets
from genus.examples.feed.pack import pack
from genus.objectives import answering, device_of
from genus.train.precision import autocast, kept_format

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from genus.evaluate.likelihood import Span
    from genus.evaluate.token_prediction import Predictor
    from genus.model.cache import Cache


class Group(NamedTuple):
    """Spans after the same context."""

    context: list[int]
    """The ids that all of them begin with, up to the token before the first predicted one."""
    spans: list[int]
    """Their numbers."""


def shared_contexts(predictor: Predictor, spans: Sequence[Span]) -> list[Group]:
    """Return the groups of two spans or more with one context; none where the model is not causal or has no cache."""
    if predictor.head.predicts != "following" or predictor.learner.network.cache(1) is None:
        return []
    found: dict[bytes, list[int]] = {}
    for number, span in enumerate(spans):
        if span.start > 1 and span.tokens:
            found.setdefault(span.ids[: span.start - 1].tobytes(), []).append(number)
    groups = [numbers for numbers in found.values() if len(numbers) > 1]
    return [Group(spans[numbers[0]].ids[: spans[numbers[0]].start - 1].tolist(), numbers) for numbers in groups]


def batched(groups: Sequence[Group], spans: Sequence[Span], positions: int) -> Iterator[list[Group]]:
    """Yield groups that are read together, of at most so many tokens to read, at least one group."""
    batch: list[Group] = []
    tokens = 0
    for group in groups:
        own = len(group.context) + sum(spans[number].tokens for number in group.spans)
        if batch and tokens + own > positions:
            yield batch
            batch, tokens = [], 0
        batch.append(group)
        tokens += own
    if batch:
        yield batch


def after_contexts(
    predictor: Predictor, spans: Sequence[Span], groups: Sequence[Group], precision: str
) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Return logits (M, V) of the predicted tokens of all spans of the groups, their labels (M,), and their spans (M,).

    Args:
        predictor: of a causal model with a cache.
        spans: all spans.
        groups: those that are read together.
        precision: dtype of the forward pass, as in `Run.precision`.
    """
    learner, device = predictor.learner, device_of(predictor.learner)
    numbers = [number for group in groups for number in group.spans]
    entries = sum(len(spans[number].ids) - 1 for number in numbers)
    cache = learner.network.cache(entries, dtype=kept_format(learner, precision))
    assert cache is not None
    for number in numbers:
        cache.open(number, len(spans[number].ids) - 1)
    facts = _facts(predictor, spans[numbers[0]])
    with answering(learner), autocast(precision, device):
        _read_contexts(predictor, cache, groups, facts)
        packed = cache.packed({number: _read_after(spans[number]) for number in numbers}, facts)
        label_M = torch.from_numpy(np.concatenate([spans[number].ids[spans[number].start :] for number in numbers]))
        targets = Targets(torch.arange(len(label_M), device=device), label_M.to(device))
        batch = Batch({"tokens": packed}, {predictor.head.target: targets}, frozenset({predictor.name}))
        logits_MV = learner.outputs(batch, cache=cache)[predictor.name]["logits"]
    return logits_MV, targets.label, np.repeat(numbers, [spans[number].tokens for number in numbers])


def _read_contexts(predictor: Predictor, cache: Cache, groups: Sequence[Group], facts: Sequence[str]) -> None:
    """Read the context of each group once, and copy what is cached of it to all its spans."""
    packed = cache.packed({group.spans[0]: group.context for group in groups}, facts)
    predictor.learner.outputs(Batch({"tokens": packed}, {}, heads=frozenset()), cache=cache)
    cache.reorder({number: group.spans[0] for group in groups for number in group.spans})


def _read_after(span: Span) -> list[int]:
    """Return the tokens that are read after the context: from the one before the first predicted one to the last."""
    return span.ids[span.start - 1 : -1].tolist()  # type: ignore[no-any-return]


def _facts(predictor: Predictor, span: Span) -> list[str]:
    """Return the names of the facts of examples, which are 0 for all tokens."""
    packed = pack([[predictor.read_on(span.ids, span.start)]], len(span.ids), 0, streams=False).tokens
    return [*packed.facts]
