"""Weight initialization: the slot `Initialization`, and how it reaches every parameter of a network.

Each module draws the parameters that it owns. `initialize` walks over the modules once, children before parents.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from genus.part import NotNegative, Part

if TYPE_CHECKING:
    from collections.abc import Iterator

Role = Literal["input", "hidden", "output", "vector"]
"""What a parameter is: an embedding, a linear map within the network, one to the vocabulary, or a vector such as u and
v of relative attention. Schemes that depend on width (muP) treat them differently."""


class Initialization(Part, ABC):
    """A choice of the distribution that parameters are drawn from."""

    @abstractmethod
    def draw(self, weight: Tensor, role: Role, scale: float = 1.0) -> None:
        """Draw a parameter in place, from PyTorch's global generator.

        Args:
            weight: the parameter; a linear map is (numbers out, numbers in).
            role: what it is.
            scale: a factor on the standard deviation, for maps that end a residual branch.
        """


class Normal(Initialization):
    """N(0, std²), whatever the role and the width (BERT, released code: initializer_range)."""

    std: NotNegative = 0.02

    def draw(self, weight: Tensor, role: Role, scale: float = 1.0) -> None:
        """Draw from N(0, (scale std)²)."""
        nn.init.normal_(weight, std=scale * self.std)


@runtime_checkable
class Initialized(Protocol):
    """A module that draws parameters of its own."""

    def init_weights(self, initialization: Initialization) -> None:
        """Draw the parameters that the module owns itself, those of its children not among them."""


class ResidualBranch(nn.Module):
    """A sub-layer whose output, made by its linear map `out`, is added to the residual stream."""

    out: nn.Linear
    residual_scale: float = 1.0
    """Factor on the standard deviation from which `out` starts; set by the block that the sub-layer stands in."""

    def init_weights(self, initialization: Initialization) -> None:
        """Draw the output map."""
        initialization.draw(self.out.weight, "hidden", self.residual_scale)


def initialize(module: nn.Module, initialization: Initialization) -> None:
    """Draw every parameter of a module and of those within it, each module once, in the order of registration.

    Linear maps have the role "hidden", embeddings the role "input"; biases of linear maps start at 0. A module with
    parameters of its own draws them by `init_weights`. All others keep what their constructors have set: layer
    normalization 1 and 0, biases of output layers 0.
    """
    for part in _children_first(module, set()):
        if isinstance(part, Initialized):
            part.init_weights(initialization)
        elif isinstance(part, nn.Linear):
            initialization.draw(part.weight, "hidden")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            initialization.draw(part.weight, "input")


def _children_first(module: nn.Module, seen: set[nn.Module]) -> Iterator[nn.Module]:
    """Yield a module and all modules within it, each once, so that a module may draw anew what a child has drawn."""
    if module in seen:
        return
    seen.add(module)
    for child in module.children():
        yield from _children_first(child, seen)
    yield module
