"""Cost of a recipe: parameters, FLOPs and memory, computed without building the model.

FLOPs count matrix products only, at 2 per multiply-add, and only what a step needs: token heads on their targets alone,
no padding, no recomputation. Training costs 3 times the forward pass, since each product has two in the backward pass.
Bytes are for training in float32 with float32 moments, which autocast also uses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.recipe import Recipe
    from genus.stages import Stage, TaskStep

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
    """Per token of `tokens`, in examples that fill a row of every stream: the longer, the more attention costs."""
    flops_training: float
    """Per token, forward and backward."""
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
    whole = component_cost(recipe, _ones(recipe))
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
    return component_cost(recipe, _ones(recipe)).parameters


def _ones(recipe: Recipe) -> ExampleLengths:
    """Return the lengths of the shortest example: parameters depend on no length."""
    return dict.fromkeys(recipe.model.streams, 1)


def component_cost(recipe: Recipe, lengths: ExampleLengths, turns: Sequence[TaskStep] = ()) -> ComponentCost:
    """Return what network and heads demand, per token of `tokens` in examples of these lengths, as a mean of turns."""
    vocab_size, joined = recipe.vocab_rows, recipe.joined
    total = recipe.model.cost(vocab_size, lengths)
    for objective in recipe.objectives:
        own = objective.cost(recipe.model, vocab_size, lengths)
        if objective.name in joined:
            own = replace(own, parameters=0)
        steps = sum(turn.steps for turn in turns if objective.name in turn.objectives)
        share = steps / sum(turn.steps for turn in turns) if turns else 1.0
        total = total + own.scaled(share)
    return total


class StageFlops:
    """Training FLOPs of the micro-batches of a stage, by the lengths of their examples: c + Σ_i t_i f(l_i).

    f(l) is what a token costs, forward and backward, in an example of t tokens whose lengths by stream are l, in the
    mean over the stage's turns: it grows with l where a token attends to its whole sequence or source, so that packed
    short sequences cost less than one long sequence of as many tokens. c is what a micro-batch costs whatever its
    tokens.
    """

    def __init__(self, recipe: Recipe, stage: Stage) -> None:
        self.recipe, self.turns = recipe, recipe.task_steps(stage)
        self.fixed = HALF_TRAINING * component_cost(recipe, stage.limits, self.turns).frozen_input_flops
        self.known: dict[tuple[int, ...], float] = {}

    def __call__(self, lengths: Mapping[str, Sequence[int]]) -> float:
        """Return the FLOPs of a micro-batch whose examples have these lengths by stream, padding left out."""
        examples = (dict(zip(lengths, example, strict=True)) for example in zip(*lengths.values(), strict=True))
        return self.fixed + sum(self.of_example(example) for example in examples)

    def of_example(self, lengths: ExampleLengths) -> float:
        """Return the FLOPs of an example of these lengths, computed once for each; one without tokens has 1."""
        key = tuple(lengths.values())
        if key not in self.known:
            tokens = max(lengths["tokens"], int(any(key)))
            wanted = component_cost(self.recipe, {**lengths, "tokens": max(tokens, 1)}, self.turns)
            self.known[key] = tokens * (TRAINING * wanted.flops + wanted.forward_only_flops)
        return self.known[key]


def stage_cost(recipe: Recipe, stage: Stage) -> StageCost:
    """Return what a stage costs when every row is one example of full length, in the mean over its turns."""
    wanted = component_cost(recipe, stage.limits, recipe.task_steps(stage))
    unlearned = wanted.frozen_input_flops / (stage.micro_batch * stage.max_length)
    training = TRAINING * wanted.flops + wanted.forward_only_flops + HALF_TRAINING * unlearned
    return StageCost(
        max_length=stage.max_length,
        flops_forward=wanted.flops + wanted.forward_only_flops + unlearned,
        flops_training=training,
        flops_step=training * stage.batch * stage.max_length,
        bytes_activations=round(FLOAT * wanted.activations * stage.micro_batch * stage.max_length),
    )
