"""Text to text by a decoder alone: what an encoder would read, and what is written of it, as one sequence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from genus.examples import Example, Sequence
from genus.objectives import Objective
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.objectives.pretraining.text_to_text import (
    Denoising,
    TextToText,  # a choice is read by its annotation
    TextToTextHead,
    longest_text,
)

if TYPE_CHECKING:
    from genus.examples import Lengths, Limits
    from genus.model import Model
    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.model.head import Output
    from genus.tokens.vocabulary import Frames, Vocabulary


class ConcatenatedLM(Objective):
    """Language model over source and target, one after the other: with T5's tokens `source </s> target </s>`.

    The source is a prefix: under a prefix mask all of it sees itself. The tokens that a decoder of its own would begin
    with are left out. Name, loss and output layer are those of the objective that makes source and target.

    Source: Raffel et al. 2019, sections 3.2.1 and 3.2.3; released code, mesh_tensorflow/transformer/transformer.py,
    Unitransformer: input_full_attention, loss_on_targets_only.
    """

    gives_facts: ClassVar[frozenset[str]] = frozenset({"prefix"})
    alone: ClassVar[bool] = True

    objective: TextToText = Denoising()
    learned: Literal["target", "all"] = "target"
    """The tokens that are predicted: those of the target, or under causal attention all but the first."""

    @property
    def in_words(self) -> str:
        """That of the objective, and that it is one sequence."""
        return f"{self.objective.in_words}, source and target in one sequence"

    @property
    def name(self) -> str:
        """Name of the head, of its loss and its targets."""
        return self.objective.name

    @property
    def token_losses(self) -> frozenset[str]:
        """The loss of the objective."""
        return self.objective.token_losses

    @property
    def next_token_output(self) -> Output:
        """The output layer of the objective."""
        return self.objective.output

    def check(self, model: Model) -> None:
        """Check that no token sees what it predicts, and that the output layer fits (ValueError)."""
        if not (model.causal if self.learned == "all" else model.causal_after_prefix):
            masks = "a causal mask" if self.learned == "all" else "a causal one, or model.attention.mask=Prefix"
            raise ValueError(f"objectives: ConcatenatedLM predicts the next token, which tokens of this model see "
                             f"already; take {masks}")  # fmt: skip
        try:
            self.objective.output.check(model)
        except ValueError as error:
            raise ValueError(f"objectives: {error}") from None

    def lengths(self, raw: Lengths, frames: Frames) -> Lengths:
        """Return the lengths of both together, given those of framed texts."""
        made = self.objective.lengths(raw, frames)
        return {"tokens": made["source"] + made["tokens"] - frames.target_start}

    def raw_limits(self, limits: Limits, frames: Frames) -> Limits:
        """Return the length of the longest framed text of which both together keep their limit."""
        return longest_text(self, limits, frames)

    def needs_extra(self, limits: Limits, frames: Frames) -> int:
        """Return the number of sentinels that the objective needs for the longest text."""
        raw = np.array([self.raw_limits(limits, frames)["tokens"]])
        made = self.objective.lengths({"tokens": raw}, frames)
        return self.objective.needs_extra({stream: int(length[0]) for stream, length in made.items()}, frames)

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example with both as one sequence, whose tokens have their next one as target where it counts."""
        made = self.objective.prepare_example(example, vocabulary, rng)
        return self.joined(replace(made, targets=example.targets), vocabulary, rng)

    def joined(self, pair: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return a pair as one sequence, whose tokens have their next one as target where it counts."""
        source, target, begin = pair.streams["source"], pair.tokens, len(vocabulary.target_begins)
        ids, length = np.concatenate([source.ids, target.ids[begin:]]), len(source.ids)
        learned = (np.arange(len(ids)) >= length) | (self.learned == "all")
        if target.learned is not None:
            learned[length:] &= target.learned[begin:]
            learned[:length] &= target.learned.any()
        tokens = Sequence(
            ids,
            np.zeros(len(ids), dtype=np.int64),
            np.concatenate([source.fixed, target.fixed[begin:]]),
            learned=learned,
            prefix=length,
        )
        return CausalLM.prepare_example(self.objective, Example({"tokens": tokens}, pair.targets), vocabulary, rng)

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return one target per token."""
        return {self.target: tokens}

    def build(self, model: Model, vocab_size: int) -> TextToTextHead:
        """Build the output layer as a head."""
        return TextToTextHead(self.objective, model, vocab_size)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost of the output layer at the share of the tokens that are learned."""
        source, target = (int(one[0]) for one in self.objective.sizes(np.array([lengths["tokens"]])))
        share = 1.0 if self.learned == "all" else target / max(source + target, 1)
        return self.objective.output.cost(model, vocab_size).scaled(share)
