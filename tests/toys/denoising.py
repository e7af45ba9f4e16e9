"""A toy objective: spans of the text are replaced by sentinels, and the decoder writes them after their sentinels.

Source: Raffel et al. 2019, section 3.1.4 and released code (random_spans_noise_mask). Legend: E examples.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.examples import Example, Sequence
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.part import Count, Share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Lengths, Limits
    from genus.tokens.vocabulary import Frames, Vocabulary


class Denoising(CausalLM):
    """`source` is the text with sentinels in the place of spans, `tokens` the sentinels, each with its span."""

    adds: ClassVar[frozenset[str]] = frozenset({"source"})

    rate: Share = 0.3
    """Of the tokens, how many are hidden."""
    span: Count = 3
    """Their mean number in a span."""

    def hidden(self, text: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how many tokens (E,) of texts of these lengths are hidden, and in how many spans."""
        hidden = np.minimum(np.maximum(np.rint(self.rate * text), 1), np.maximum(text - 1, 0))
        spans = np.minimum(np.maximum(np.rint(hidden / self.span), 1), np.minimum(hidden, text - hidden))
        return hidden.astype(np.int64), spans.astype(np.int64)

    def lengths(self, raw: Lengths, frames: Frames) -> Lengths:
        text = raw["tokens"] - frames.framing(1)
        hidden, spans = self.hidden(text)
        return {"source": raw["tokens"] - hidden + spans, "tokens": hidden + spans + frames.target_framing}

    def raw_limits(self, limits: Limits, frames: Frames) -> Limits:
        raw = np.arange(frames.framing(1), limits["source"] + limits["tokens"] + 2)
        made = self.lengths({"tokens": raw}, frames)
        over = np.logical_or.reduce([made[stream] > limits[stream] for stream in made])
        return {"tokens": int(raw[over.argmax()]) - 1}

    def needs_extra(self, limits: Limits, frames: Frames) -> int:
        raw = self.raw_limits(limits, frames)["tokens"] - frames.framing(1)
        return int(self.hidden(np.arange(max(raw, 0) + 1))[1].max())

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        sequence = example.tokens
        text = np.flatnonzero(~sequence.fixed)
        hidden, spans = (int(number[0]) for number in self.hidden(np.array([len(text)])))
        runs = np.stack([parts(len(text) - hidden, spans, rng), parts(hidden, spans, rng)], axis=1).flatten()
        taken = np.zeros(len(text), dtype=bool)
        taken[: runs.sum()] = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        first = taken & ~np.concatenate([[False], taken[:-1]])
        sentinels = np.array(list(vocabulary.extra.values()), dtype=np.int64)[:spans]

        ids, kept = sequence.ids.copy(), np.ones(len(sequence.ids), dtype=bool)
        ids[text[first]] = sentinels
        kept[text[taken & ~first]] = False
        source = replace(sequence, ids=ids[kept], segments=sequence.segments[kept], fixed=sequence.fixed[kept])
        told = np.insert(sequence.ids[text[taken]], np.flatnonzero(first[taken]), sentinels)
        streams = {**example.streams, "source": source, "tokens": Sequence(*vocabulary.frame_target(told))}
        return super().prepare_example(Example(streams, example.targets), vocabulary, rng)


def parts(total: int, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the sizes of `number` random parts of `total`, none of them empty."""
    if number == 0:
        return np.zeros(0, dtype=np.int64)
    cuts = np.sort(rng.choice(total - 1, number - 1, replace=False) + 1)
    return np.diff(np.concatenate([[0], cuts, [total]])).astype(np.int64)
