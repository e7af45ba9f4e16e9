"""The masked language model (Devlin et al. 2018, section 3.1, task 1)."""

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
    from genus.tokens.vocabulary import Vocabulary

MASKED = "masked_lm"
"""The name of the targets that a masked language model makes, and of its loss."""


class MaskedLM(LanguageModel):
    """-Σ log p(original token | corrupted sequence) over the chosen tokens."""

    causal: ClassVar[bool | None] = False
    needs_tokens: ClassVar[frozenset[str]] = frozenset({"mask"})

    masking: Masking = TokenMasking()
    output: Output = LMHead(transform=Transform())

    @property
    def in_words(self) -> str:
        """How much is masked, and what is masked together."""
        return f"{super().in_words} ({self.masking.rate:.0%}, {self.masking.in_words})"

    @property
    def name(self) -> str:
        """That of its targets and of its loss."""
        return MASKED

    @property
    def provides(self) -> frozenset[str]:
        """The chosen tokens."""
        return frozenset({self.target})

    @property
    def counts_tokens(self) -> bool:
        """Whether its masking does."""
        return self.masking.counts_tokens

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Replace the chosen tokens and put what they were into the targets."""
        sequence = example.tokens
        chosen, ids = self.masking.corrupt(sequence, vocabulary, rng)
        streams = example.streams | {"tokens": replace(sequence, ids=ids)}
        return Example(streams, example.targets | {self.target: (chosen, sequence.ids[chosen])})

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return rate x tokens and one more a sequence, since each rounds its own share and has at least one."""
        return {self.target: min(tokens, math.ceil(self.masking.rate * tokens) + sequences)}

    def build(self, model: Model, vocab_size: int) -> MaskedLMHead:
        """Return the head."""
        return MaskedLMHead(self, model, vocab_size)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the demand of the output layer, on the chosen tokens only."""
        return self.output.cost(model, vocab_size).scaled(self.masking.rate)


class MaskedLMHead(LanguageModelHead):
    """The masked language model's head: it computes logits at the targets only."""

    fills_masks = True
