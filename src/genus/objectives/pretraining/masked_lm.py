"""Masked language model, MLM (Devlin et al. 2018, section 3.1, task 1)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from genus.examples import Example
from genus.model.head import Output  # a choice is read by its annotation
from genus.model.head.lm_head import LMHead, Transform
from genus.objectives.masking import Masking
from genus.objectives.masking.tokens import TokenMasking
from genus.objectives.pretraining.language_model import LanguageModel, LanguageModelHead

if TYPE_CHECKING:
    import numpy as np

    from genus.model import Model
    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.objectives import Prediction
    from genus.tokens.vocabulary import Vocabulary

MASKED = "masked_lm"
"""Name of the targets of a masked language model, and of its loss."""


class MaskedLM(LanguageModel):
    """Masked language model: -Σ log p(original token | corrupted sequence) over the chosen tokens."""

    causal: ClassVar[bool | None] = False
    needs_tokens: ClassVar[frozenset[str]] = frozenset({"mask"})

    masking: Masking = TokenMasking()
    output: Output = LMHead(transform=Transform())

    @property
    def in_words(self) -> str:
        """Description in words: the masking rate, and the unit that is masked together."""
        return f"{super().in_words} ({self.masking.rate:.0%}, {self.masking.in_words})"

    @property
    def name(self) -> str:
        """Name of the head, its targets and its loss."""
        return MASKED

    @property
    def provides(self) -> frozenset[str]:
        """The targets at the chosen tokens, which later objectives can use."""
        return frozenset({self.target})

    @property
    def counts_tokens(self) -> bool:
        """Whether the masking needs the token counts of the corpus."""
        return self.masking.counts_tokens

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example with the chosen tokens replaced, and the original tokens as targets."""
        sequence = example.tokens
        chosen, ids = self.masking.corrupt(sequence, vocabulary, rng)
        streams = example.streams | {"tokens": replace(sequence, ids=ids)}
        return Example(streams, example.targets | {self.target: (chosen, sequence.ids[chosen])})

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return rate x tokens + 1 per sequence, since each sequence rounds its own share, or what it has at most."""
        most = math.ceil(self.masking.rate * tokens) + sequences
        if self.masking.max_predictions is not None:
            most = min(most, self.masking.max_predictions * sequences)
        return {self.target: min(tokens, most)}

    def build(self, model: Model, vocab_size: int) -> MaskedLMHead:
        """Build the output layer as a head."""
        return MaskedLMHead(self, model, vocab_size)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost of the output layer, at the chosen tokens only."""
        return self.output.cost(model, vocab_size).scaled(self.masking.expected_rate(lengths["tokens"]))


class MaskedLMHead(LanguageModelHead):
    """Masked-language-model head: it computes logits at the targets only."""

    predicts: Prediction | None = "masked"
