"""Weight initialization: the slot `Initialization`, and its application to every parameter of a network.

Each module initializes the parameters that it owns. `initialize` visits every module once, children before parents.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from genus.part import Count, NotNegative, Part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from genus.model.split import Split

Role = Literal["input", "hidden", "output", "vector"]
"""Role of a parameter: an embedding, a hidden linear layer, the output layer to the vocabulary, or a vector such as u
and v of relative attention. Schemes that depend on width (muP) treat them differently."""


class Initialization(Part, ABC):
    """The slot of weight initializations: the distribution from which parameters are drawn."""

    by_width: ClassVar[bool] = False
    """Whether it depends on how wide a network is; only Transformers say so."""

    def of_width(self, width: int) -> Initialization:
        """Return the initialization of a network with this hidden size; by default the same for all."""
        return self

    @property
    def rate(self) -> float:
        """Factor on the learning rate of hidden linear maps."""
        return 1.0

    @property
    def output_scale(self) -> float:
        """Factor on the inputs of an output layer to the vocabulary."""
        return 1.0

    @abstractmethod
    def draw(self, weight: Tensor, role: Role, scale: float = 1.0) -> None:
        """Initialize a parameter in place, from PyTorch's global generator.

        Args:
            weight: the parameter; the weight of a linear layer is (outputs, inputs).
            role: the role of the parameter.
            scale: factor on the standard deviation, for linear layers that end a residual branch.
        """


class Normal(Initialization):
    """Normal initialization N(0, std²), independent of role and width (BERT, released code: initializer_range)."""

    std: NotNegative = 0.02

    def draw(self, weight: Tensor, role: Role, scale: float = 1.0) -> None:
        """Initialize from N(0, (scale std)²)."""
        nn.init.normal_(weight, std=scale * self.std)


class MuP(Initialization):
    """Maximal update parametrization: what is tuned at one width holds at every width, with Adam and its like.

    With r = width / base, hidden linear maps are drawn from N(0, std² / r) and have 1 / r of the learning rate (and r
    times the weight decay, which the rate multiplies), and logits are divided by r. All others are as they are at the
    base: so embeddings may be tied with the output. Heads are to stay as large as they are and become more: scores then
    need no other factor.

    Source: Yang et al. 2022 (arXiv:2203.03466), tables 3 and 8; released package mup, optim.py (MuAdam) and layer.py.
    """

    by_width: ClassVar[bool] = True

    base: Count
    """Hidden size at which rate and `std` were tuned."""
    std: NotNegative = 0.02
    """Standard deviation of all parameters at the base."""
    width: Count | None = None
    """Hidden size; None: that of the model in which this stands."""

    def of_width(self, width: int) -> Initialization:
        """Return the initialization for this hidden size."""
        return replace(self, width=width)

    @property
    def rate(self) -> float:
        """1 / r."""
        return self.base / (self.width or self.base)

    @property
    def output_scale(self) -> float:
        """1 / r."""
        return self.rate

    def draw(self, weight: Tensor, role: Role, scale: float = 1.0) -> None:
        """Initialize hidden linear maps from N(0, (scale std)² / r), all others from N(0, (scale std)²)."""
        nn.init.normal_(weight, std=scale * self.std * (self.rate**0.5 if role == "hidden" else 1.0))


class Glorot(Initialization):
    """Glorot initialization of linear maps, U(-a, a) with a = √(6 / (inputs + outputs)); others N(0, embedding_std²).

    Source: Glorot and Bengio 2010, equation 16; TensorFlow's default, with which LSTMs were published.
    """

    embedding_std: NotNegative | None = 0.02
    """Standard deviation of embeddings and vectors; None: 1 / √E for E dimensions, so that the logits of an output tied
    with it have variance 1 (tensor2tensor, layers/modalities.py)."""

    def draw(self, weight: Tensor, role: Role, scale: float = 1.0) -> None:
        """Initialize linear maps from U(-scale a, scale a), all others from N(0, (scale embedding_std)²)."""
        if role in ("hidden", "output"):
            nn.init.xavier_uniform_(weight, gain=scale)
        else:
            std = weight.shape[-1] ** -0.5 if self.embedding_std is None else self.embedding_std
            nn.init.normal_(weight, std=scale * std)


class FanIn(Initialization):
    """Initialization of linear maps by their number of inputs, N(0, 1 / inputs); others N(0, embedding_std²) (T5).

    Source: Raffel et al. 2019, released code: VarianceScalingInitializer with scale 1, fan_in and a normal distribution
    (t5/models/test_data/operative_config.gin); embeddings N(0, 1).
    """

    embedding_std: NotNegative = 1.0
    """Standard deviation of embeddings and vectors."""

    def draw(self, weight: Tensor, role: Role, scale: float = 1.0) -> None:
        """Initialize linear maps from N(0, scale² / inputs), all others from N(0, (scale embedding_std)²)."""
        inputs = weight.shape[1] if role in ("hidden", "output") else None
        nn.init.normal_(weight, std=scale * (self.embedding_std if inputs is None else inputs**-0.5))


class ByWidth(Initialization):
    """Initialization of linear maps by the width w of the network, the smaller of their sizes: N(0, 1 / w) (CLIP).

    Maps to a wider inner layer are drawn from N(0, 1 / (2 w)), all others from N(0, embedding_std²).

    Source: released code of CLIP, model.py, `initialize_parameters`: attn_std, fc_std, proj_std.
    """

    embedding_std: NotNegative | None = 0.02
    """Standard deviation of embeddings; None: 1 / √E for E dimensions, as those of the image tower."""

    def draw(self, weight: Tensor, role: Role, scale: float = 1.0) -> None:
        """Initialize linear maps by width, all others from N(0, (scale embedding_std)²)."""
        std = weight.shape[-1] ** -0.5 if self.embedding_std is None else self.embedding_std
        if role in ("hidden", "output"):
            outputs, inputs = weight.shape
            std = (2 * inputs) ** -0.5 if outputs > inputs else outputs**-0.5
        nn.init.normal_(weight, std=scale * std)


@runtime_checkable
class Initialized(Protocol):
    """A module that initializes its own parameters."""

    def init_weights(self, initialization: Initialization) -> None:
        """Initialize the parameters that the module itself owns, not those of its children."""


class ResidualBranch(nn.Module):
    """A sub-layer on a residual connection, whose output projection is the linear layer `out`."""

    out: nn.Linear
    residual_scale: float = 1.0
    """Factor on the standard deviation of the initial weight of `out`; set by the sub-layer's block."""
    divisible: bool = True
    """Whether heads or units can be taken out of it; set by a block that depends on their number otherwise."""

    @property
    def width(self) -> int:
        """H, the size of its output."""
        return self.out.out_features

    gathers: bool = False
    """Whether column splits read its input as it is, and nothing else does (`split_tokens`)."""
    unit: int = 1
    """Outputs of its column splits that stay together, such as those of a head."""

    def shardings(self) -> Mapping[str, Split | int]:
        """Return how its maps are split among processes (`split.Divisible`); empty by default: they cannot be."""
        return {}

    def init_weights(self, initialization: Initialization) -> None:
        """Initialize the output projection."""
        initialization.draw(self.out.weight, "hidden", self.residual_scale)


def initialize(module: nn.Module, initialization: Initialization) -> None:
    """Initialize every parameter of a module and its descendants, each module once, in the order of registration.

    Linear layers have the role "hidden", embeddings the role "input"; biases of linear layers start at 0. A module with
    parameters of its own initializes them by `init_weights`. All others keep the values of their constructors: layer
    normalization 1 and 0, biases of output layers 0.
    """
    for part in _children_first(module, set()):
        if isinstance(part, Initialized):
            part.init_weights(initialization)
        elif isinstance(part, nn.Linear):
            initialization.draw(part.weight, "hidden")
            if initialization.rate != 1:
                part.rate = initialization.rate  # type: ignore[assignment]  # read by `optim.groups`
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            initialization.draw(part.weight, "input")


def _children_first(module: nn.Module, seen: set[nn.Module]) -> Iterator[nn.Module]:
    """Yield a module and its descendants, children first, each once, so that a parent may reinitialize a child."""
    if module in seen:
        return
    seen.add(module)
    for child in module.children():
        yield from _children_first(child, seen)
    yield module
