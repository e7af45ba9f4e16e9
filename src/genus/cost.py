"""Cost of a recipe: parameters, FLOPs and memory, computed without building the model.

FLOPs count matrix products only, at 2 per multiply-add, and only what a step needs: token heads on their targets alone,
no padding, no recomputation. Training costs 3 times the forward pass, since each product has two in the backward pass.
Bytes are for training in float32 with float32 moments, which autocast also uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from genus.model.cost import ComponentCost
    from genus.recipe import Recipe, Stage, TaskStep

TRAINING = 3.0
"""FLOPs of forward and backward pass, as a multiple of those of the forward pass."""
HALF_TRAINING = 2.0
"""The same multiple for linear maps of frozen inputs, whose backward pass computes only the weight gradient."""
FLOAT = 4
"""Bytes of one float32."""


@dataclass(frozen=True, slots=True)
class StageCost:
    """Cost of one stage: FLOPs per token and per step, and bytes of activations."""

    max_length: int
    flops_forward: float
    """FLOPs per token of the forward pass, in sequences of `max_length`: attention costs more in longer ones."""
    flops_training: float
    """FLOPs per token of the forward and backward pass."""
    flops_step: float
    """FLOPs of one update, of `batch` full rows."""
    bytes_activations: int
    """Estimated bytes that one micro-batch of full rows keeps for the backward pass, in float32 without dropout."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of a recipe: parameters, bytes of memory, and the cost of each stage."""

    parameters: int
    """Parameters of network and heads together; tied weights count once."""
    network: int
    """Parameters of the network without heads, as papers count."""
    bytes_weights: int
    """Bytes of trained and frozen parameters; a teacher's are frozen."""
    bytes_gradients: int
    bytes_optimizer: int
    """Bytes of the optimizer state (moments)."""
    stages: tuple[StageCost, ...]

    @property
    def bytes_training(self) -> int:
        """Bytes of weights, gradients, optimizer state and the activations of the stage that has most."""
        kept = max(stage.bytes_activations for stage in self.stages)
        return self.bytes_weights + self.bytes_gradients + self.bytes_optimizer + kept


def cost(recipe: Recipe) -> Cost:
    """Return the cost of a recipe, computed from its choices alone."""
    whole = component_cost(recipe, 1)
    parameters = whole.parameters
    weights = FLOAT * parameters
    return Cost(
        parameters=parameters,
        network=recipe.model.parameters(recipe.vocab_rows),
        bytes_weights=weights + FLOAT * whole.frozen_parameters,
        bytes_gradients=weights,
        bytes_optimizer=FLOAT * recipe.optimizer.moments * parameters,
        stages=tuple(stage_cost(recipe, stage) for stage in recipe.stages),
    )


def parameters(recipe: Recipe) -> int:
    """Return the number of parameters of network and heads together; tied weights count once."""
    return component_cost(recipe, 1).parameters


def component_cost(recipe: Recipe, length: int, turns: Sequence[TaskStep] = ()) -> ComponentCost:
    """Return the cost per token of network and heads in sequences of `length` tokens, averaged over `turns`, if any."""
    vocab_size = recipe.vocab_rows
    total = recipe.model.cost(vocab_size, length)
    for objective in recipe.objectives:
        steps = sum(turn.steps for turn in turns if objective.name in turn.objectives)
        share = steps / sum(turn.steps for turn in turns) if turns else 1.0
        total = total + objective.cost(recipe.model, vocab_size, length).scaled(share)
    return total


class StageFlops:
    """Training FLOPs of a micro-batch of packed sequences as a function of their lengths l_i: c + Σ_i l_i f(l_i).

    f(l) is the FLOPs per token, forward and backward, in a sequence of l tokens, averaged over the stage's task steps.
    It grows with l where a token attends to its whole sequence, so that packed short sequences cost less than one long
    sequence of as many tokens. c is the cost per micro-batch that does not depend on its tokens.
    """

    def __init__(self, recipe: Recipe, stage: Stage) -> None:
        self.recipe, self.turns = recipe, recipe.task_steps(stage)
        self.fixed = HALF_TRAINING * component_cost(recipe, stage.max_length, self.turns).frozen_input_flops
        self.known: dict[int, float] = {}

    def __call__(self, lengths: Iterable[int]) -> float:
        """Return the training FLOPs of a micro-batch of sequences of these lengths, without padding."""
        return self.fixed + sum(self.of_sequence(length) for length in lengths)

    def of_sequence(self, length: int) -> float:
        """Return the training FLOPs of a sequence of `length` tokens, cached per length."""
        if length not in self.known:
            wanted = component_cost(self.recipe, max(length, 1), self.turns)
            self.known[length] = length * (TRAINING * wanted.flops + wanted.forward_only_flops)
        return self.known[length]


def stage_cost(recipe: Recipe, stage: Stage) -> StageCost:
    """Return the cost of a stage whose rows are each one sequence of full length, averaged over its task steps."""
    wanted = component_cost(recipe, stage.max_length, recipe.task_steps(stage))
    unlearned = wanted.frozen_input_flops / (stage.micro_batch * stage.max_length)
    training = TRAINING * wanted.flops + wanted.forward_only_flops + HALF_TRAINING * unlearned
    return StageCost(
        max_length=stage.max_length,
        flops_forward=wanted.flops + wanted.forward_only_flops + unlearned,
        flops_training=training,
        flops_step=training * stage.batch * stage.max_length,
        bytes_activations=round(FLOAT * wanted.activations * stage.micro_batch * stage.max_length),
    )
