"""Completion of prompts: a causal language model learns from the tokens of completions, given those of prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from genus.errors import UsageError
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.objectives.supervised import FineTuned

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from genus.examples import Example
    from genus.model import Model
    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.model.pooler import Pooler
    from genus.objectives import Head, Objective
    from genus.tokens.vocabulary import Vocabulary


class CompletionLM(FineTuned):
    """Causal language model: -Σ log p(x_t | x_1 ... x_{t-1}) over the tokens of completions; prompts are given.

    The head is the language model's own, with its weights. Published, the model is a language model as before.
    """

    language_model: CausalLM = CausalLM()

    @property
    def name(self) -> str:
        """Name of the head: that of the language model."""
        return self.language_model.name

    @property
    def token_losses(self) -> frozenset[str]:
        """The loss of the language model."""
        return self.language_model.token_losses

    def check(self, model: Model) -> None:
        """Check that the model is causal (ValueError)."""
        self.language_model.check(model)

    def reads(self, model: Model, pooler: Pooler | None) -> Model:
        """Return the model without a pooler."""
        return model.unpooled()

    def continued(self, objectives: Sequence[Objective], model: Model) -> Self:
        """Return the objective with the language model's output layer.

        Raises:
            UsageError: the model is no causal language model, or reads what the objective does not give.
        """
        if extra := model.streams - {"tokens"} - self.adds:
            raise UsageError(f"task: this model reads a {min(extra)}; take --task text-to-text")
        for objective in objectives:
            if isinstance(objective, CausalLM):
                return replace(self, language_model=objective)
        raise UsageError("task: completions need a causal language model, and this model has no head of the kind "
                         "CausalLM; take a decoder, such as gpt2")  # fmt: skip

    def folded(self, head: Head) -> Objective:
        """Return the language model."""
        return self.language_model

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example with the tokens of its completion as targets."""
        return self.language_model.prepare_example(example, vocabulary, rng)

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return one target per token."""
        return self.language_model.max_targets(tokens, sequences)

    def build(self, model: Model, vocab_size: int) -> Head:
        """Build the output layer as a head."""
        return self.language_model.build(model, vocab_size)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost of the output layer at every token."""
        return self.language_model.cost(model, vocab_size, lengths)

    def label_of(self, label: str | None) -> int | float:
        """Return 0: completions are tokens, and no classes."""
        return 0

    def can_be(self, label: str) -> bool:
        """Return True: any text is a completion."""
        return True

    def decide(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return nats and right tokens (N, 2) of each completion."""
        return outputs

    def explain(self, outputs: NDArray[np.float32]) -> tuple[str | float | list[str], dict[str, float]]:
        """Return a completion's loss per token in nats, and its nats and tokens, of the outputs (tokens, 2).

        Without a completion there is nothing to be told.
        """
        nats, tokens = float(outputs[:, 0].sum()), len(outputs)
        return (nats / tokens, {"nats": nats, "tokens": float(tokens)}) if tokens else ("", {})
