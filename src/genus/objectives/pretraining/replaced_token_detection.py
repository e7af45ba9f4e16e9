"""Replaced-token detection (Clark et al. 2020, ELECTRA, section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F

from genus.errors import GenusError
from genus.model.activation import Activation, Gelu
from genus.model.head.discriminator import BinaryHead, binary_head_cost
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
"""Name of the targets whose labels are the original ids of all tokens, before replacement."""
REPLACED = "replaced_token_detection"
"""Name of the targets whose labels say whether each token was replaced (1) or not (0)."""


class ReplacedTokenDetection(Objective):
    """Replaced-token detection: binary cross-entropy -Σ log p(replaced or not) over all tokens, special ones too.

    An earlier objective replaces the tokens, such as `MaskedLMGenerator`.

    Source: Clark et al. 2020, section 2; released code, run_pretraining.py, _get_discriminator_output.
    """

    weight: NotNegative = 50.0
    """λ, the weight of this loss; the weight of the generator's loss is 1."""
    activation: Activation = Gelu()

    @property
    def target(self) -> str:
        """Name of the 0/1 targets, which an earlier objective computes in the training step."""
        return REPLACED

    @property
    def requires(self) -> frozenset[str]:
        """The original ids of all tokens, from an earlier objective."""
        return frozenset({ORIGINAL})

    @property
    def in_words(self) -> str:
        """Description in words: the task and its weight."""
        return f"replaced tokens (times {self.weight:g})"

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example unchanged."""
        return example

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return none: an earlier objective makes every token a target."""
        return {}

    def build(self, model: Model, vocab_size: int) -> Head:
        """Build the binary head."""
        return ReplacedTokenDetectionHead(self, model)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost of the binary head at every token."""
        return binary_head_cost(model.width)

    def weights(self) -> dict[str, float]:
        """Return λ for its loss."""
        return dict.fromkeys(self.losses, self.weight)


class ReplacedTokenDetectionHead(Head):
    """Replaced-token-detection head (ELECTRA's discriminator): a binary logit per token."""

    def __init__(self, choice: ReplacedTokenDetection, model: Model) -> None:
        super().__init__()
        self.target, (self.loss,) = choice.target, choice.losses
        self.scores = BinaryHead(model.width, choice.activation)
        model.initialize(self)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of tokens, each of which is a target."""
        return {self.loss: batch.targets[ORIGINAL].count()}

    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return `scores` (M,), the logit that the token is replaced."""
        return {"scores": self.scores(states["tokens"][batch.targets[self.target].index])}

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return the summed negative log-likelihood in nats, and metrics summed over tokens.

        `.../correct` is how many tokens are classified correctly at a threshold of 0.5; `.../share` how many are
        replaced, so that 1 - share is the accuracy of a constant answer; `.../found` how many are replaced and
        detected (true positives).

        Raises:
            GenusError: no objective replaced tokens, as in a model folder without its generator.
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
