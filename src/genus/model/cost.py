"""What a part demands, known without building it."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Demand:
    """Parameters, and the work and memory of one token on its way forward.

    FLOPs are those of matrix products only, 2 a multiply-add; look-ups, norms, activations, softmax and biases are left
    out (below 1 % at published sizes). They are what the definition takes: no padding, no recomputation.
    """

    parameters: int = 0
    flops: float = 0.0
    """Of the forward pass, a token."""
    kept: float = 0.0
    """Numbers a token that are kept for the backward pass; of attention probabilities none, as fused kernels do."""
    frozen: int = 0
    """Parameters that do not learn, such as those of a teacher."""
    once: float = 0.0
    """FLOPs a token of what has no backward pass."""
    unlearned: float = 0.0
    """FLOPs of maps, made once for a micro-batch whatever its tokens, of what does not learn: half a backward pass."""

    def __add__(self, other: Demand) -> Demand:
        """Return the demand of both."""
        return Demand(
            self.parameters + other.parameters,
            self.flops + other.flops,
            self.kept + other.kept,
            self.frozen + other.frozen,
            self.once + other.once,
            self.unlearned + other.unlearned,
        )

    def times(self, copies: int) -> Demand:
        """Return the demand of several such parts, each with parameters of its own."""
        return Demand(
            self.parameters * copies,
            self.flops * copies,
            self.kept * copies,
            self.frozen * copies,
            self.once * copies,
            self.unlearned * copies,
        )

    def on(self, share: float) -> Demand:
        """Return the needs where only a share of the tokens takes this way, as targets or first tokens do."""
        return replace(self, flops=self.flops * share, kept=self.kept * share, once=self.once * share)


def linear(inputs: int, outputs: int, bias: bool = True) -> Demand:
    """Return the demand of a linear map: its matrix and bias, 2 FLOPs a weight, and its input kept."""
    return Demand(inputs * outputs + bias * outputs, 2.0 * inputs * outputs, inputs)
