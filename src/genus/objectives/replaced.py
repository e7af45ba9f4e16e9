"""Replaced-token detection (Clark et al. 2020, ELECTRA, section 2).

Legend: M targets, which are all tokens, H hidden size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch.nn import functional as F

from genus.errors import GenusError
from genus.model.activation import Activation, Gelu
from genus.model.heads import BinaryHead, binary_head_demand
from genus.objectives import Head, Objective, Sums
from genus.part import NotNegative

if TYPE_CHECKING:
    import numpy as np

    from genus.batch import Batch
    from genus.examples import Example
    from genus.model import Model, Network, States
    from genus.model.demand import Demand
    from genus.tokens.vocabulary import Vocabulary


class Replaced(Objective):
    """-Σ log p(replaced or not) over all tokens, special ones too: is it the original?

    What replaces tokens is an objective before it, such as `Generated`.

    Source: Clark et al. 2020, section 2; released code, run_pretraining.py, _get_discriminator_output.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"original"})

    weight: NotNegative = 50.0
    """λ, beside the generator's loss, which counts 1."""
    activation: Activation = Gelu()

    @property
    def in_words(self) -> str:
        """What is told, and its weight."""
        return f"replaced tokens (times {self.weight:g})"

    def corrupt(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example as it is."""
        return example

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return none: every token is a target already."""
        return {}

    def build(self, model: Model, vocab_size: int) -> Head:
        """Return the head."""
        return ReplacedHead(self, model)

    def demand(self, model: Model, vocab_size: int, length: int) -> Demand:
        """Return the demand of the head at every token."""
        return binary_head_demand(model.width)

    def weights(self) -> dict[str, float]:
        """Return λ."""
        return {"replaced": self.weight}


class ReplacedHead(Head):
    """Replaced-token detection at work."""

    def __init__(self, choice: Replaced, model: Model) -> None:
        super().__init__()
        self.scores = BinaryHead(model.width, choice.activation)
        model.initialize(self)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of tokens."""
        return {"replaced": batch.targets["original"].counted().sum()}

    def forward(self, network: Network, hidden: States, batch: Batch) -> Sums:
        """Return `replaced`, the summed negative log-likelihood in nats, and sums that tell how good it is.

        `replaced/correct` is how many tokens are judged right, at even odds; `replaced/share` how many are replaced, so
        that 1 - share is what a constant answer has right; `replaced/found` how many are and are said to be.

        Raises:
            GenusError: nothing has replaced tokens, as in a folder without its generator.
        """
        targets = batch.targets.get("replaced")
        if targets is None:
            raise GenusError(
                "nothing replaces tokens here: the model's folder has no generator/ beside its config.json"
            )
        logits_M, real_M = self.scores(hidden["tokens"][targets.index]).float(), targets.counted()
        truly_M, said_M = targets.label == 1, logits_M.detach() > 0
        loss_M = F.binary_cross_entropy_with_logits(logits_M, truly_M.float(), reduction="none")
        return {
            "replaced": (loss_M * real_M).sum(),
            "replaced/correct": ((said_M == truly_M) & real_M).sum(),
            "replaced/share": truly_M.sum(),
            "replaced/found": (said_M & truly_M).sum(),
        }
