"""Next-sentence prediction (Devlin et al. 2018, section 3.1, task 2).

Legend: N sequences, H hidden size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from genus.batch import IGNORE, Batch
from genus.model.demand import Demand, linear
from genus.objectives import Head, Objective, Sums

if TYPE_CHECKING:
    import numpy as np

    from genus.examples import Example
    from genus.model import Model, Network
    from genus.tokens.vocabulary import Vocabulary


class NextSentence(Objective):
    """-Σ log p(0: the second segment follows the first, 1: it is from elsewhere | pooled first token)."""

    needs: ClassVar[frozenset[str]] = frozenset({"next_sentence"})

    def corrupt(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example as it is: the format made the pair and its label."""
        return example

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return one a sequence."""
        return {self.name: sequences}

    def build(self, model: Model, vocab_size: int) -> Head:
        """Return the head."""
        return PairHead(self.name, model)

    def demand(self, model: Model, vocab_size: int, length: int) -> Demand:
        """Return the demand of the two classes and of the pooler, once a sequence."""
        return (linear(model.width, 2) + Demand(flops=model.pool_flops())).on(1 / length)


class PairHead(Head):
    """Two classes of a pair, over the pooled state of the sequence's first token."""

    def __init__(self, name: str, model: Model) -> None:
        super().__init__()
        self.name = name
        self.classes = nn.Linear(model.width, 2)
        model.initialize(self)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of pairs."""
        return {self.name: batch.targets[self.name].counted().sum()}

    def forward(self, network: Network, hidden: dict[str, Tensor], batch: Batch) -> Sums:
        """Return the summed negative log-likelihood in nats under the label's name, and `.../correct`."""
        targets = batch.targets[self.name]
        logits_N2 = self.classes(network.pool(hidden["tokens"][targets.index]))
        loss = F.cross_entropy(logits_N2.float(), targets.label, ignore_index=IGNORE, reduction="sum")
        return {self.name: loss, f"{self.name}/correct": (logits_N2.detach().argmax(-1) == targets.label).sum()}
