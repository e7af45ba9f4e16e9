"""Objectives of encoder-decoders: a text becomes what the encoder reads and what the decoder writes.

Legend: E texts, L tokens of a text.
"""

from __future__ import annotations

import bisect
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from torch import nn

from genus.examples import Example, Sequence
from genus.objectives.corruption import Text
from genus.objectives.masking import random_tokens
from genus.objectives.noise import Noise  # a choice is read by its annotation
from genus.objectives.noise.tokens import SpanNoise
from genus.objectives.pretraining.causal_lm import CausalLM, CausalLMHead
from genus.part import Share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Lengths, Limits
    from genus.model import Model
    from genus.objectives import Objective, Prediction
    from genus.tokens.vocabulary import Frames, Vocabulary

LONGEST = 1 << 40
"""Length in tokens that no text has."""


def longest_text(objective: Objective, limits: Limits, frames: Frames) -> Limits:
    """Return the length of the longest framed text of which an objective makes streams that keep their limits.

    Lengths of streams never fall where that of the text grows. Texts of twice the sum of the limits are the longest.
    """

    def over(raw: int) -> bool:
        made = objective.lengths({"tokens": np.array([raw])}, frames)
        return any(made[stream][0] > limits[stream] for stream in made)

    least, most = frames.framing(1), min(2 * sum(limits.values()) + 2, LONGEST)
    return {"tokens": least + bisect.bisect_left(range(least, most), True, key=over) - 1}


class FromSource(CausalLM, ABC):
    """An objective whose examples have a `source`, and `tokens` that a decoder predicts, both made of one text."""

    alone: ClassVar[bool] = True

    label: str | None = None
    """Name of the loss and the head; None: that of the kind. A recipe's objectives have names of their own."""

    def __post_init__(self) -> None:
        """Check that a module can have the label as its name (ValueError)."""
        if self.label is not None and (not self.label.isidentifier() or hasattr(nn.ModuleDict(), self.label)):
            raise ValueError(f"label: expected a name of letters, digits and underscores that PyTorch does not use, "
                             f"got {self.label!r}")  # fmt: skip

    @property
    def name(self) -> str:
        """Name of the head, of its loss and its targets."""
        return super().name if self.label is None else self.label

    @property
    def adds(self) -> frozenset[str]:
        """The stream `source`."""
        return frozenset({"source"})

    def build(self, model: Model, vocab_size: int) -> TextToTextHead:
        """Build the output layer as a head."""
        return TextToTextHead(self, model, vocab_size)

    @abstractmethod
    def lengths(self, raw: Lengths, frames: Frames) -> Lengths:
        """Return upper bounds of the lengths of both streams, given those of framed texts, which never fall."""

    def raw_limits(self, limits: Limits, frames: Frames) -> Limits:
        """Return the length of the longest framed text for which both streams keep their limits."""
        return longest_text(self, limits, frames)


class TextToText(FromSource):
    """An objective whose `source` and `tokens` are made of one text; the decoder predicts each of its tokens.

    The special tokens around the text stay around the source; the template `target` frames the tokens.
    """

    @abstractmethod
    def divided(
        self, text: Text, vocabulary: Vocabulary, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the source and the target of a text (L,), without special tokens of templates."""

    @abstractmethod
    def sizes(self, text: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the lengths (E,) of source and target of texts of these lengths, or upper bounds that never fall."""

    def lengths(self, raw: Lengths, frames: Frames) -> Lengths:
        """Return the lengths of both streams with the special tokens around them, given those of framed texts."""
        source, target = self.sizes(np.maximum(raw["tokens"] - frames.framing(1), 0))
        return {"source": source + frames.framing(1), "tokens": target + frames.target_framing}

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example with both streams, and a target for each token of the decoder's but the first."""
        framed = example.tokens
        inner = np.flatnonzero(~framed.fixed)
        first, last = (int(inner[0]), int(inner[-1]) + 1) if len(inner) else (len(framed.ids), len(framed.ids))
        known = framed.sentences if self.needs_sentences else None
        text = Text(framed.ids[first:last], None if known is None else known()[first:last])
        source, target = self.divided(text, vocabulary, rng)
        ids = np.concatenate([framed.ids[:first], source, framed.ids[last:]])
        fixed = np.concatenate([framed.fixed[:first], np.zeros(len(source), np.bool_), framed.fixed[last:]])
        streams = {
            **example.streams,
            "source": Sequence(ids, np.zeros(len(ids), np.int64), fixed),
            "tokens": Sequence(*vocabulary.frame_target(target)),
        }
        return super().prepare_example(Example(streams, example.targets), vocabulary, rng)


class TextToTextHead(CausalLMHead):
    """The head of these objectives: a token of the decoder predicts its next one."""

    predicts: Prediction | None = "written"


class SequenceToSequence(CausalLM):
    """Learning from given pairs: -Σ log p(y_t | y_1 ... y_{t-1}, x), with the source x and the target y of a format.

    Source: Vaswani et al. 2017, section 3 (after Sutskever et al. 2014), of translation.
    """

    def build(self, model: Model, vocab_size: int) -> TextToTextHead:
        """Build the output layer as a head."""
        return TextToTextHead(self, model, vocab_size)


class Denoising(TextToText):
    """Denoising: the decoder writes what noise has hidden from the encoder, or the whole text.

    Source: Raffel et al. 2019, section 3.1.4 (spans), tables 3 to 7; released code, t5/data/preprocessors.py, denoise.
    """

    noise: Noise = SpanNoise()
    inputs: Literal["sentinel", "mask", "mask or random", "nothing"] = "sentinel"
    """What the encoder sees of hidden tokens: a sentinel a span, each span its own; the first sentinel for each token;
    the same, but a random token in `random` of all cases; or nothing."""
    outputs: Literal["spans", "hidden", "text"] = "spans"
    """What the decoder writes: each span after its sentinel, the hidden tokens alone, or the whole text."""
    random: Share = 0.1
    """Share of random tokens, of "mask or random"."""

    def sizes(self, text: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the lengths (E,) of source and target, exact for spans of a mean length, else upper bounds."""
        hidden, spans, shown = self.noise.hidden(text), self.noise.spans(text), text - self.noise.fewest(text)
        source = {"sentinel": shown + spans, "nothing": shown}.get(self.inputs, text)
        return source, {"spans": hidden + spans, "hidden": hidden, "text": text}[self.outputs]

    def needs_extra(self, limits: Limits, frames: Frames) -> int:
        """Return the largest number of spans that are told apart by sentinels, and one where all are alike."""
        if "sentinel" not in self.inputs and self.outputs != "spans":
            return int(self.inputs.startswith("mask"))
        text = self.raw_limits(limits, frames)["tokens"] - frames.framing(1)
        return int(self.noise.spans(np.array([max(text, 0)]))[0])

    def divided(
        self, text: Text, vocabulary: Vocabulary, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return what is shown and what is written of a text."""
        ids = text.ids
        taken = self.noise.taken(ids, vocabulary, rng)
        first = taken & ~np.concatenate([[False], taken[:-1]])
        sentinels = vocabulary.sentinels[: int(first.sum())]
        source = ids.copy()
        if self.inputs == "sentinel":
            source[first] = sentinels
            source = source[~taken | first]
        elif self.inputs == "nothing":
            source = source[~taken]
        else:
            source[taken] = vocabulary.sentinels[:1]
            drawn = taken & (rng.random(len(ids)) < (self.random if self.inputs == "mask or random" else 0.0))
            source[drawn] = random_tokens(int(drawn.sum()), vocabulary, rng)
        if self.outputs == "text":
            return source, ids
        target = ids[taken]
        if self.outputs == "spans":
            target = np.insert(target, np.flatnonzero(first[taken]), sentinels)
        return source, target


class PrefixLM(TextToText):
    """Prefix language model: the encoder reads the beginning of a text, the decoder writes the rest.

    The beginning has 1 to L - 1 tokens, every number as likely.

    Source: Raffel et al. 2019, section 3.2.3 and table 3; released code, random_prefix_noise_mask.
    """

    def sizes(self, text: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return upper bounds (E,): all but one token on either side."""
        return np.maximum(text - 1, np.minimum(text, 1)), np.maximum(text - 1, 0)

    def divided(
        self, text: Text, vocabulary: Vocabulary, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the beginning and the rest."""
        length = len(text.ids)
        cut = int(rng.integers(1, length)) if length > 1 else length
        return text.ids[:cut], text.ids[cut:]


class Deshuffling(TextToText):
    """Deshuffling: the encoder reads the tokens in random order, the decoder writes the text (Raffel et al., table 3).

    Source: Raffel et al. 2019, section 3.3.1 (after Liu et al. 2019); released code, permute_noise_tokens, rate 1.
    """

    def sizes(self, text: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the lengths (E,): those of the text."""
        return text, text

    def divided(
        self, text: Text, vocabulary: Vocabulary, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the tokens in random order, and the text."""
        return rng.permutation(text.ids), text.ids
