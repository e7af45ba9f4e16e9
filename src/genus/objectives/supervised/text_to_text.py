"""Text to text: an encoder-decoder learns to write a target, given a source; so does a decoder, after the source."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Self

from genus.errors import UsageError
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.objectives.pretraining.concatenated_lm import ConcatenatedLM  # a choice is read by its annotation
from genus.objectives.supervised import SOURCE
from genus.objectives.supervised.completion import CompletionLM

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from genus.examples import Example
    from genus.model import Model
    from genus.objectives import Head, Objective
    from genus.tokens.vocabulary import Vocabulary


class Seq2SeqLM(CompletionLM):
    """Sequence-to-sequence language model: -Σ log p(y_t | y_1 ... y_{t-1}, x) over the tokens of targets y, sources x.

    The head is that of pretraining, with its weights. Published, the model is what it was before: an encoder-decoder,
    or a decoder that was pretrained with source and target in one sequence.

    Source: Sutskever et al. 2014, section 2; Raffel et al. 2019, section 3.1.2 (teacher forcing).
    """

    labels: tuple[str, ...] = ()
    """The texts of the classes, where a metric of classes is asked for; any other text is none of them."""

    concatenated: ConcatenatedLM | None = None
    """How source and target are one sequence, of a model that reads no source."""

    @property
    def adds(self) -> frozenset[str]:
        """The stream `source`; nothing where it is a part of the sequence."""
        return frozenset({SOURCE}) if self.concatenated is None else frozenset()

    @property
    def classes(self) -> tuple[str, ...]:
        """The texts of the classes."""
        return self.labels

    def continued(self, objectives: Sequence[Objective], model: Model) -> Self:
        """Return the objective with the output layer of pretraining.

        Raises:
            UsageError: the model reads no source, and was not pretrained with one in its sequences.
        """
        if SOURCE in model.streams:
            return super().continued(objectives, model)
        for objective in objectives:
            if isinstance(objective, ConcatenatedLM):
                return replace(self, language_model=objective.objective, concatenated=objective)
        raise UsageError("task: text to text needs an encoder-decoder, such as t5, and this model reads no source; for "
                         "a decoder, such as gpt2, take --task completion")  # fmt: skip

    def check(self, model: Model) -> None:
        """Check that no token sees what it predicts (ValueError)."""
        (self.concatenated or self.language_model).check(model)

    def folded(self, head: Head) -> Objective:
        """Return the objective of pretraining."""
        return self.concatenated or self.language_model

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example with the next token as the target of each of the decoder's tokens."""
        if self.concatenated is not None:
            return self.concatenated.joined(example, vocabulary, rng)
        return CausalLM.prepare_example(self.language_model, example, vocabulary, rng)
