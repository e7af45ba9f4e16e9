"""Permuted language model without a second stream of states: mask tokens behind the text ask for its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.examples import Example, Sequence
from genus.model.head import Output  # a choice is read by its annotation
from genus.model.head.lm_head import LMHead, Transform
from genus.objectives.masking.targets import RandomTokens, TargetSelection
from genus.objectives.pretraining.language_model import LanguageModel
from genus.objectives.pretraining.masked_lm import MaskedLMHead
from genus.objectives.pretraining.multitask_masked_lm import ORDER
from genus.objectives.pretraining.text_to_text import longest_text

if TYPE_CHECKING:
    from genus.examples import Lengths, Limits
    from genus.model import Model
    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.tokens.vocabulary import Frames, Vocabulary


class PermutedLM(LanguageModel):
    """Permuted language model: -Σ log p(x_t | tokens before t in a random order), over one in K tokens, the last of it.

    All other tokens see one another. Behind the text stands a mask token for each token to predict, at its position: it
    sees what comes before that token in the order, and no other token sees it. So attention of one stream of states
    does what XLNet's does with two, without relative positions and without memory.

    Source: Lewis et al. 2019, section 4.1 (one token in six), after Yang et al. 2019, section 2.3.
    """

    causal: ClassVar[bool | None] = False
    needs_tokens: ClassVar[frozenset[str]] = frozenset({"mask"})
    gives_facts: ClassVar[frozenset[str]] = frozenset({ORDER})
    alone: ClassVar[bool] = True

    selection: TargetSelection = RandomTokens()
    output: Output = LMHead(transform=Transform())

    @property
    def in_words(self) -> str:
        """Description in words: the share of tokens that are predicted."""
        return f"{super().in_words} (one token in {self.selection.one_in})"

    def check(self, model: Model) -> None:
        """Check that the model's attention reads the order (ValueError)."""
        super().check(model)
        if ORDER not in model.facts:
            raise ValueError("objectives: PermutedLM draws an order of each sequence, which this model does not read; "
                             "take model.attention.mask=OrderedQueries")  # fmt: skip

    def lengths(self, raw: Lengths, frames: Frames) -> Lengths:
        """Return upper bounds of the lengths with the mask tokens, given those of framed texts."""
        text = raw["tokens"]
        return {"tokens": text + np.maximum(text // self.selection.one_in, 1)}

    def raw_limits(self, limits: Limits, frames: Frames) -> Limits:
        """Return the length of the longest framed text that keeps its limit with the mask tokens."""
        return longest_text(self, limits, frames)

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example with mask tokens behind it, whose targets are the tokens at their positions.

        The order is 0 for the context, 2, 4, ... for the tokens to predict, and one less for their mask tokens.
        """
        text = example.tokens
        number = max(len(text.ids) // self.selection.one_in, 1)
        chosen = np.flatnonzero(self.selection.choose(number, vocabulary.word_start[text.ids], ~text.fixed, rng))
        late, length = 2 * (1 + rng.permutation(len(chosen))), len(text.ids)
        order = np.zeros(length, np.int64)
        order[chosen] = late
        tokens = Sequence(
            ids=np.concatenate([text.ids, np.full(len(chosen), vocabulary.mask)]),
            segments=np.concatenate([text.segments, text.segments[chosen]]),
            fixed=np.concatenate([text.fixed, np.ones(len(chosen), np.bool_)]),
            order=np.concatenate([order, late - 1]),
            positions=np.concatenate([np.arange(length), chosen]),
        )
        targets = example.targets | {self.target: (length + np.arange(len(chosen)), text.ids[chosen])}
        return Example(example.streams | {"tokens": tokens}, targets)

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return one in K + 1 tokens, one more for each sequence."""
        return {self.target: tokens // (self.selection.one_in + 1) + sequences}

    def build(self, model: Model, vocab_size: int) -> MaskedLMHead:
        """Build the output layer as a head, which predicts at mask tokens."""
        return MaskedLMHead(self, model, vocab_size)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost of the output layer, at the mask tokens only."""
        return self.output.cost(model, vocab_size).scaled(1 / (self.selection.one_in + 1))
