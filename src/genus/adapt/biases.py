"""BitFit: biases alone are trained (Ben Zaken et al. 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from genus.adapt import Adaptation
from genus.errors import UsageError

if TYPE_CHECKING:
    from genus.objectives import Learner


class Biases(Adaptation):
    """The biases of the network are trained, those of normalizations included (Ben Zaken et al. 2021, section 3)."""

    merges: ClassVar[bool] = True

    def extend(self, learner: Learner) -> None:
        """Let the biases be trained.

        Raises:
            UsageError: the network has none.
        """
        frozen = {name: weight for name, weight in learner.network.named_parameters() if not weight.requires_grad}
        found = [weight for name, weight in frozen.items() if name.endswith("bias")]
        if not found:
            raise UsageError("the pretrained network has no biases")
        for bias in found:
            bias.requires_grad_(True)

    def merge(self, learner: Learner) -> None:
        """Leave the learner as it is: trained biases are its own."""
