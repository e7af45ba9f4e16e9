"""The Universal Transformer: one layer, applied again and again, for as many steps as each token needs.

Dehghani et al. 2018. The number of steps, at most, is the model's number of layers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.model.cost import ComponentCost, linear_cost
from genus.model.position.sinusoidal import encoded
from genus.model.stack import Stack, keep, plans_of, run_layer
from genus.model.stack.sharing import check_alike
from genus.part import Fraction, NotNegative

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from genus.model.attention.plan import Context
    from genus.model.cost import ExampleLengths
    from genus.model.initialization import Initialization
    from genus.model.transformer import Transformer

PONDER = "ponder"
"""Name of the loss of the number of steps."""


class Universal(Stack):
    """Universal Transformer: x = layer(x + coordinates(position, step)), with the weights of one layer, in every step.

    Coordinates are the sinusoidal encodings of the position and of the step, both counted from 1, added together.

    Source: Dehghani et al. 2018, section 2.1.
    """

    @property
    def in_words(self) -> str:
        """The name of the stack."""
        return "universal"

    def check(self, model: Transformer) -> None:
        """Check that the layers are alike, and the hidden size even (ValueError)."""
        check_alike(model)
        if model.attention.of_layer(1) != model.attention.of_layer(0):
            raise ValueError("stack: all steps are one layer, and model.attention tells layers apart")
        if model.hidden % 2:
            raise ValueError(f"stack: a hidden size of {model.hidden} is odd: half of the coordinates are sines, half "
                             "cosines")  # fmt: skip

    def build(self, layers: int, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the module of `layers` steps."""
        return UniversalLayers(layers, make())

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of all steps, with the parameters of one layer."""
        each = model.block.cost(model, lengths)
        return replace(each.repeated(model.layers), parameters=each.parameters)


class AdaptiveUniversal(Universal):
    """Universal Transformer with adaptive halting: a token's state is a mean of those of its steps.

    Before step t a token halts with probability p_t = sigmoid(w x + b) of its state with coordinates. It halts in the
    first step at which p_1 + ... + p_t exceeds 1 - epsilon, and weighs that step by the remainder, 1 less the others'
    sum. With the weight u_t of a step, y_t = u_t x_t + (1 - u_t) y_(t-1); the last y is the result. States of tokens
    that have halted go on changing for those that have not. The loss is `ponder` times the mean over tokens of the
    number of steps plus the remainder. All steps are computed for all tokens.

    Sources: Dehghani et al. 2018, section 2.2; Graves 2016, equations 4 to 12; tensor2tensor,
    models/research/universal_transformer_util.py, and its copy in mesh_tensorflow, universal_transformer.py.
    """

    gives_states: ClassVar[bool] = False

    epsilon: Fraction = 0.01
    """(tensor2tensor: act_epsilon)"""
    ponder: NotNegative = 0.01
    """Weight of the loss (tensor2tensor: act_loss_weight)."""

    @property
    def in_words(self) -> str:
        """The name of the stack."""
        return "universal with adaptive halting"

    @property
    def losses(self) -> frozenset[str]:
        """The number of steps."""
        return frozenset({PONDER})

    def build(self, layers: int, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the module of at most `layers` steps."""
        return AdaptiveLayers(self, layers, make())

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of all steps, and of the halting probabilities."""
        halting = linear_cost(model.hidden, 1)
        return super().cost(model, lengths) + replace(halting.repeated(model.layers), parameters=halting.parameters)


class UniversalLayers(nn.ModuleList):
    """The module of a layer that is applied several times."""

    def __init__(self, steps: int, layer: nn.Module) -> None:
        super().__init__([layer])
        self.steps = steps

    def forward(self, x: Tensor, context: Context, kept: list[Tensor] | None = None) -> Tensor:
        """Forward pass: return (T, H)."""
        for step, (plans, placed) in enumerate(self.each(x, context)):
            x = run_layer(self[0], keep(kept, x) + placed, plans, context, step)
        return keep(kept, x)

    def each(self, x: Tensor, context: Context) -> Iterator[tuple[dict[str, Any], Tensor]]:
        """Yield the plans and the coordinates (T, H) of each step."""
        size = x.shape[-1]
        places = encoded(context.packed.positions.double() + 1, size).to(x.dtype)
        steps = encoded(torch.arange(1.0, self.steps + 1, dtype=torch.float64, device=x.device), size).to(x.dtype)
        for plans, step in zip(plans_of([self[0]] * self.steps, context), steps, strict=True):
            yield plans, places + step


class AdaptiveLayers(UniversalLayers):
    """The module of a layer that is applied until tokens halt."""

    def __init__(self, choice: AdaptiveUniversal, steps: int, layer: Any) -> None:
        super().__init__(steps, layer)
        self.choice = choice
        self.halting = nn.Parameter(torch.empty(1, layer.attention.width))
        self.halting_bias = nn.Parameter(torch.ones(1))  # tensor2tensor: act_halting_bias_init

    def init_weights(self, initialization: Initialization) -> None:
        """Initialize the map to halting probabilities."""
        initialization.draw(self.halting, "hidden")

    def forward(self, x: Tensor, context: Context, kept: list[Tensor] | None = None) -> Tensor:
        """Forward pass: return (T, H)."""
        halted = x.new_zeros(x.shape[0], 1, dtype=torch.promote_types(torch.float32, x.dtype))
        running, remainder, steps = torch.ones_like(halted, dtype=torch.bool), halted, halted
        out = torch.zeros_like(x)
        for step, (plans, placed) in enumerate(self.each(x, context)):
            x = keep(kept, x) + placed
            chance = F.linear(x, self.halting, self.halting_bias).to(halted.dtype).sigmoid()
            stops = running & (halted + chance > 1 - self.choice.epsilon)
            share = torch.where(stops, 1 - halted, chance * running)
            remainder = torch.where(stops, 1 - halted, remainder)
            halted, steps, running = halted + share, steps + running, running & ~stops
            x = run_layer(self[0], x, plans, context, step)
            out = (share * x + (1 - share) * out).to(x.dtype)
        real = context.packed.sequence[:, None] >= 0
        context.gather({PONDER: self.choice.ponder * ((steps + remainder) * real).sum()})
        return keep(kept, out)
