"""Replaced-token detection (Clark et al. 2020, ELECTRA, section 2).

Legend: M targets, which are all tokens, H hidden size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F

from genus.errors import GenusError
from genus.model.activation import Activation, Gelu
from genus.model.head.discriminator import BinaryHead, binary_head_demand
from genus.objectives import Head, Objective, Sums
from genus.part import NotNegative

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from genus.batch import Batch
    from genus.examples import Example
    from genus.model import Model, Network, States
    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.tokens.vocabulary import Vocabulary

ORIGINAL = "original"
"""The name of the targets that say what every token was before any was replaced."""
REPLACED = "replaced_token_detection"
"""The name of the targets that say of every token whether it was replaced, 0 or 1."""


class ReplacedTokenDetection(Objective):
    """-Σ log p(replaced or not) over all tokens, special ones too: is it the original?

    What replaces tokens is an objective before it, such as `MaskedLMGenerator`.

    Source: Clark et al. 2020, section 2; released code, run_pretraining.py, _get_discriminator_output.
    """

    weight: NotNegative = 50.0
    """λ, beside the generator's loss, which counts 1."""
    activation: Activation = Gelu()

    @property
    def target(self) -> str:
        """Whether each token is replaced, which an objective before it says while the model is trained."""
        return REPLACED

    @property
    def requires(self) -> frozenset[str]:
        """The tokens that may be replaced."""
        return frozenset({ORIGINAL})

    @property
    def in_words(self) -> str:
        """What is told, and its weight."""
        return f"replaced tokens (times {self.weight:g})"

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example as it is."""
        return example

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return none: every token is a target already."""
        return {}

    def build(self, model: Model, vocab_size: int) -> Head:
        """Return the head."""
        return ReplacedTokenDetectionHead(self, model)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the demand of the head at every token."""
        return binary_head_demand(model.width)

    def weights(self) -> dict[str, float]:
        """Return λ."""
        return dict.fromkeys(self.losses, self.weight)


class ReplacedTokenDetectionHead(Head):
    """Replaced-token detection's head."""

    def __init__(self, choice: ReplacedTokenDetection, model: Model) -> None:
        super().__init__()
        self.target, (self.loss,) = choice.target, choice.losses
        self.scores = BinaryHead(model.width, choice.activation)
        model.initialize(self)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of tokens."""
        return {self.loss: batch.targets[ORIGINAL].count()}

    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return `scores` (M,), the logit that the token is replaced."""
        return {"scores": self.scores(states["tokens"][batch.targets[self.target].index])}

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return the summed negative log-likelihood in nats, and sums that tell how good it is.

        `.../correct` is how many tokens are judged right, at even odds; `.../share` how many are replaced, so that
        1 - share is what a constant answer has right; `.../found` how many are and are said to be.

        Raises:
            GenusError: nothing has replaced tokens, as in a folder without its generator.
        """
        targets = batch.targets.get(self.target)
        if targets is None:
            raise GenusError(
                "nothing replaces tokens here: the model's folder has no generator/ beside its config.json"
            )
        logits_M = self.outputs(network, states, batch)["scores"].float()
        truly_M, said_M = targets.label == 1, logits_M.detach() > 0
        loss_M = F.binary_cross_entropy_with_logits(logits_M, truly_M.float(), reduction="none")
        return {
            self.loss: targets.total(loss_M),
            f"{self.loss}/correct": targets.total((said_M == truly_M).float()),
            f"{self.loss}/share": targets.total(truly_M.float()),
            f"{self.loss}/found": targets.total((said_M & truly_M).float()),
        }
