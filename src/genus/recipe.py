"""What a row may say: every choice that makes a member, from text to budget, in one frozen value."""

from __future__ import annotations

from typing import Literal

from genus.examples import Examples
from genus.model import Model
from genus.objectives import Learner, Objective
from genus.optim import Optimizer, Schedule
from genus.part import Part
from genus.tokens import Tokens


class Budget(Part):
    """How much training: the one number by which schedules and stages measure their fraction spent."""

    amount: float
    unit: Literal["steps", "tokens", "flops", "seconds", "epochs"] = "steps"


class Stage(Part):
    """A stretch of training at one sequence length, as BERT's 90 % of steps at 128 and 10 % at 512."""

    max_length: int
    """Row length: the longest sequence, special tokens included."""
    batch: int
    """Rows of `max_length` tokens in one update, over all processes and accumulation steps."""
    micro_batch: int
    """Rows in one forward pass of one process, of which `batch` is a multiple; bounds memory, changes no result."""
    share: float = 1.0
    """Fraction of the budget; the shares of a recipe's stages sum to 1."""


class FineTuning(Part):
    """Published fine-tuning settings, the defaults of `genus finetune`."""

    optimizer: Optimizer
    schedule: Schedule
    epochs: float
    batch: int
    """Examples in one update."""
    max_length: int = 128


class Published(Part):
    """What the authors report, beside which ours is put."""

    title: str
    paper: str
    year: int
    parameters: int | None = None
    """As the paper rounds it."""
    data: str = ""


class Recipe(Part):
    """One row of the family's table."""

    name: str
    """Member and size, such as `bert/base`."""
    published: Published
    tokens: Tokens
    examples: Examples
    model: Model
    objectives: tuple[Objective, ...]
    optimizer: Optimizer
    schedule: Schedule
    stages: tuple[Stage, ...]
    budget: Budget
    finetuning: FineTuning
    seed: int = 0

    def learner(self) -> Learner:
        """Build the network and the heads of the objectives with fresh weights, drawn from PyTorch's generator."""
        vocab_size = self.tokens.vocab_size
        network = self.model.build(vocab_size)
        heads = {objective.name: objective.build(self.model, vocab_size) for objective in self.objectives}
        weights = {name: weight for objective in self.objectives for name, weight in objective.weights().items()}
        return Learner(network, heads, weights)

    def __post_init__(self) -> None:
        """Refuse choices that contradict each other.

        Raises:
            ValueError: no stage or no objective, shares that do not sum to 1, a batch that is no multiple of its
                micro-batch, a stage longer than the positions, an objective whose targets the format does not give.
        """
        if not self.objectives or not self.stages:
            raise ValueError("a recipe needs at least one objective and one stage")
        if abs(sum(stage.share for stage in self.stages) - 1) > 1e-6:
            raise ValueError(f"stages: the shares sum to {sum(stage.share for stage in self.stages):g}, not 1")
        for objective in self.objectives:
            if missing := objective.needs - self.examples.gives:
                kind, given = type(objective).__name__, type(self.examples).__name__
                raise ValueError(f"objectives: {kind} needs {', '.join(missing)}, which {given} does not give")
        longest = self.model.max_length
        for number, stage in enumerate(self.stages):
            length = stage.max_length
            if stage.batch % stage.micro_batch:
                raise ValueError(f"stages.{number}: batch {stage.batch} is not a multiple of {stage.micro_batch}")
            if longest is not None and length > longest:
                raise ValueError(f"stages.{number}: max_length {length} is past the model's {longest} positions")
