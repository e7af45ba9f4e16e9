"""Bottleneck adapters: small feed-forward networks after frozen sub-layers (Houlsby et al. 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from genus.adapt import Adaptation, attach, train
from genus.errors import UsageError
from genus.model.activation import Activation, Gelu
from genus.model.roles import norms, sublayers
from genus.part import Count

if TYPE_CHECKING:
    from genus.objectives import Learner

NAME = "adapter"
"""Name of an adapter as a child of its sub-layer."""
STD = 1e-2
"""Standard deviation of the initial weights, truncated at two of them (Houlsby et al. 2019, section 3.6)."""


class Adapters(Adaptation):
    """Adapters y + W_up f(W_down y + b) + b on the output y of sub-layers, before the residual connection.

    Of bottleneck m and H dimensions each has 2 m H + H + m parameters. Weights begin near 0, so that each is nearly the
    identity. The normalizations are trained too.

    Source: Houlsby et al. 2019, section 2.1 and figure 2; `after` "feedforward" with `norms` false is one adapter a
    layer, as in Pfeiffer et al. 2021 (AdapterFusion), section 3.1. Deviation: dropout of a sub-layer's output comes
    after the adapter.
    """

    size: Count = 64
    """m, the bottleneck (section 3.2: 8, 64 or 256)."""
    after: Literal["both", "feedforward"] = "both"
    """After attention (cross-attention too) and feed-forward sub-layers, or after the latter alone."""
    norms: bool = True
    """Whether the parameters of all normalizations are trained (section 2.1)."""
    activation: Activation = Gelu()

    def extend(self, learner: Learner) -> None:
        """Attach an adapter to each sub-layer.

        Raises:
            UsageError: the network has no sub-layers on residual connections.
        """
        places = [(name, module) for name, module in sublayers(learner.network)]
        if not places:
            raise UsageError("the network has no attention and feed-forward sub-layers after which one could stand")
        for name, module in places:
            if self.after == "both" or name.endswith(self.after):
                attach(module, NAME, Bottleneck(self, module.width))
                module.register_forward_hook(adapted)
        if self.norms:
            train([*norms(learner.network)])


class Bottleneck(nn.Module):
    """The module of an adapter."""

    def __init__(self, choice: Adapters, hidden: int) -> None:
        super().__init__()
        self.down = nn.Linear(hidden, choice.size)
        self.activation = choice.activation.build()
        self.up = nn.Linear(choice.size, hidden)
        for part in (self.down, self.up):
            nn.init.trunc_normal_(part.weight, std=STD, a=-2 * STD, b=2 * STD)
            nn.init.zeros_(part.bias)

    def forward(self, y: Tensor) -> Tensor:
        """Forward pass: return (T, H)."""
        return y + self.up(self.activation(self.down(y)))  # type: ignore[no-any-return]


def adapted(module: nn.Module, given: tuple[Any, ...], output: Tensor) -> Tensor:
    """Forward hook of a sub-layer: apply its adapter."""
    return module.get_submodule(NAME)(output)  # type: ignore[no-any-return]
