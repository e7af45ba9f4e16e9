"""The last layers alone are trained, or the head on a frozen network."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from genus.adapt import Adaptation, train
from genus.errors import UsageError
from genus.part import Natural

if TYPE_CHECKING:
    from torch import nn

    from genus.model import Network
    from genus.objectives import Learner


class LastLayers(Adaptation):
    """The last layers are trained, with what follows them: final normalization, pooler and head (Houlsby et al. 2019).

    With 0 layers the head alone is trained, on the states of the pretrained network. Layers that share their weights
    are one.

    Source: Houlsby et al. 2019, section 3.4, variable fine-tuning.
    """

    merges: ClassVar[bool] = True

    layers: Natural = 1
    """k, the number of layers from the top."""

    def extend(self, learner: Learner) -> None:
        """Let the last k layers be trained, and what stands above them.

        Raises:
            UsageError: the network has fewer layers.
        """
        if not self.layers:
            return
        tops, above = top(learner.network)
        if self.layers > len(tops):
            raise UsageError(f"layers: the network has {len(tops)} with weights of their own, not {self.layers}")
        train([*tops[-self.layers :], *above])
        tied = learner.network.token_embedding
        for head in learner.heads.values():
            for parameter in head.parameters():
                if all(parameter is not weight for weight in tied.parameters()):
                    parameter.requires_grad_(True)

    def merge(self, learner: Learner) -> None:
        """Leave the learner as it is: trained layers are its own."""


def top(network: Network) -> tuple[list[nn.Module], list[nn.Module]]:
    """Return the layers of a network, of an encoder-decoder both sides', and the modules that follow the last one."""
    names = {id(module): name for name, module in network.named_modules()}
    layers = [group for group in network.layer_groups() if "layers" in names[id(group)].split(".")]
    if not layers:
        return [], []
    prefix = names[id(layers[-1])].partition("layers")[0]
    above = [f"{prefix}{name}" for name in ("norm", "mix", "pooler")]
    return layers, [module for name, module in network.named_modules() if name in above]
