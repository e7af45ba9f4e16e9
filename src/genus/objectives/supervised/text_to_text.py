"""Text to text: an encoder-decoder learns to write a target, given a source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from genus.errors import UsageError
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.objectives.supervised import SOURCE
from genus.objectives.supervised.completion import CompletionLM

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from genus.examples import Example
    from genus.model import Model
    from genus.objectives import Objective
    from genus.tokens.vocabulary import Vocabulary


class Seq2SeqLM(CompletionLM):
    """Sequence-to-sequence language model: -Σ log p(y_t | y_1 ... y_{t-1}, x) over the tokens of targets y, sources x.

    The head is that of pretraining, with its weights. Published, the model is an encoder-decoder as before.

    Source: Sutskever et al. 2014, section 2; Raffel et al. 2019, section 3.1.2 (teacher forcing).
    """

    labels: tuple[str, ...] = ()
    """The texts of the classes, where a metric of classes is asked for; any other text is none of them."""

    @property
    def adds(self) -> frozenset[str]:
        """The stream `source`."""
        return frozenset({SOURCE})

    @property
    def classes(self) -> tuple[str, ...]:
        """The texts of the classes."""
        return self.labels

    def continued(self, objectives: Sequence[Objective], model: Model) -> Self:
        """Return the objective with the output layer of pretraining.

        Raises:
            UsageError: the model reads no source.
        """
        if SOURCE in model.streams:
            return super().continued(objectives, model)
        raise UsageError("task: text to text needs an encoder-decoder, such as t5, and this model reads no source; for "
                         "a decoder, such as gpt2, take --task completion")  # fmt: skip

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example with the next token as the target of each of the decoder's tokens."""
        return CausalLM.prepare_example(self.language_model, example, vocabulary, rng)
