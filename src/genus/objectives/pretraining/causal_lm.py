"""Causal (autoregressive) language model: next-token prediction (Dai et al. 2019, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.examples import Example
from genus.objectives.pretraining.language_model import LanguageModel, LanguageModelHead

if TYPE_CHECKING:
    from genus.model import Model
    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.model.head import Output
    from genus.objectives import Prediction
    from genus.tokens.vocabulary import Vocabulary


class CausalLM(LanguageModel):
    """Causal language model: -Σ log p(x_t | x_1 ... x_{t-1}); it needs a model with a causal attention mask.

    The last token of a sequence has a target too if the format provides the token that follows it in the text. Tokens
    that are given (`Sequence.learned`) are no targets.
    """

    causal: ClassVar[bool | None] = True

    @property
    def next_token_output(self) -> Output:
        """The output layer."""
        return self.output

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example with the next token as the target of each token."""
        tokens = example.tokens
        following = tokens.ids[1:] if tokens.following is None else np.append(tokens.ids[1:], tokens.following)
        index = np.arange(len(following))
        if tokens.learned is not None:
            index = index[np.append(tokens.learned[1:], True)[: len(following)]]
        return Example(example.streams, example.targets | {self.target: (index, following[index])})

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return one target per token."""
        return {self.target: tokens}

    def build(self, model: Model, vocab_size: int) -> CausalLMHead:
        """Build the output layer as a head."""
        return CausalLMHead(self, model, vocab_size)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost of the output layer at every token."""
        return self.output.cost(model, vocab_size)


class CausalLMHead(LanguageModelHead):
    """Causal-language-model head: the state of a token predicts the next one."""

    predicts: Prediction | None = "following"
