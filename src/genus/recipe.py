"""Recipes: every choice of one training, from text to budget, in one frozen value."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from genus.adapt import Adaptation
from genus.errors import UsageError, near
from genus.examples import ExampleFormat
from genus.model import Model
from genus.model.pooler import Pooler
from genus.objectives import Learner, Objective
from genus.optim import Optimizer, Schedule
from genus.part import Count, Fraction, Natural, NotNegative, Part, Positive
from genus.stages import Stage, TaskStep
from genus.tokens import TaskTokens, TokenizerConfig

if TYPE_CHECKING:
    from genus.examples import Lengths, Limits
    from genus.model.head import Output


class Budget(Part):
    """Training budget: the amount by which schedules and stages measure the fraction spent."""

    amount: Positive
    unit: Literal["steps", "tokens", "flops", "seconds", "epochs"] = "steps"


class FineTuning(Part):
    """Published fine-tuning hyperparameters, the defaults of `genus finetune`."""

    optimizer: Optimizer
    schedule: Schedule
    epochs: Positive
    batch: Count
    """Batch size: examples per update."""
    max_length: Count = 128
    pooler: Pooler | None = Pooler()
    """The pooler that a network without one gets, as Hugging Face's heads have it before their last layer; None: none,
    as decoders, whose heads read the state itself."""
    dropout: Fraction = 0.1
    """Dropout rate of the head's input, before its last linear layer (released code of BERT, run_classifier.py)."""
    task_tokens: TaskTokens | None = None
    """Special tokens that tasks of whole sequences add to the vocabulary (GPT); None: its own templates are used."""
    language_model: NotNegative = 0.0
    """Weight of the language-model loss on the texts of a task, beside the task's loss (GPT: 0.5); 0: none."""
    adaptation: Adaptation | None = None
    """What is trained of the pretrained network beside the head, such as LoRA; None: all of it."""
    reinitialize: Natural = 0
    """Number of top layers that are drawn anew before fine-tuning, with the pooler (Zhang et al. 2021, section 5).
    Layers that share weights are one."""
    keep: Literal["best", "last"] = "best"
    """Which weights are kept: those of the evaluation with the best first metric, or those after the last update."""
    patience: Count | None = None
    """Early stopping: evaluations in a row without a better first metric after which training ends; None: it goes on
    to the last epoch. The schedule remains that of all epochs."""


class Published(Part):
    """What the paper reports, for comparison with this implementation."""

    title: str
    paper: str
    year: int
    parameters: int | None = None
    """Number of parameters, as the paper rounds it."""
    data: str = ""

    @property
    def why(self) -> str | None:
        """Why our parameter count differs by more than rounding and heads explain; None where it does not."""
        return None


class Explained(Published):
    """What the paper reports, where its parameter count differs from ours for a stated reason."""

    reason: str

    @property
    def why(self) -> str:
        """The reason why our parameter count differs."""
        return self.reason


class Recipe(Part):
    """All choices of one pretraining run: tokenizer, model, objectives, optimizer, stages, budget and fine-tuning."""

    name: str
    """Member and size, such as `bert/base`."""
    published: Published
    tokens: TokenizerConfig
    examples: ExampleFormat
    model: Model
    objectives: tuple[Objective, ...]
    optimizer: Optimizer
    schedule: Schedule
    stages: tuple[Stage, ...]
    budget: Budget
    finetuning: FineTuning
    seed: Natural = 0
    padded_vocab_size: Count | None = None
    """Least number of rows of token embedding and output layer (Megatron-LM's name); None: one per vocabulary entry."""

    @property
    def vocab_rows(self) -> int:
        """Rows of the token embedding and the output layer."""
        return max(self.padded_vocab_size or 0, self.tokens.vocab_size)

    def learner(self) -> Learner:
        """Build the network and the objectives' heads with random weights, drawn from PyTorch's global generator."""
        vocab_size = self.vocab_rows
        network = self.model.build(vocab_size)
        heads = {objective.name: objective.build(self.model, vocab_size) for objective in self.objectives}
        for name, first in self.joined.items():
            heads[name].lm_head = heads[first].lm_head
        weights = {name: weight for objective in self.objectives for name, weight in objective.weights().items()}
        return Learner(network, heads, weights)

    @property
    def joined(self) -> dict[str, str]:
        """Names of objectives whose head has the output layer of an earlier one's, and the name of that one."""
        first: dict[Output, str] = {}
        found = {}
        for objective in self.objectives:
            if (output := objective.next_token_output) is not None:
                found[objective.name] = first.setdefault(output, objective.name)
        return {name: earlier for name, earlier in found.items() if name != earlier}

    def with_tokens(self, tokens: TokenizerConfig) -> Recipe:
        """Return the recipe with another tokenizer configuration.

        Raises:
            UsageError: it lacks special tokens that the objectives need.
        """
        try:
            return replace(self, tokens=tokens)
        except ValueError as error:
            raise UsageError(str(error)) from None

    @property
    def exported(self) -> Recipe:
        """The recipe of an exported model folder, without what only training needs."""
        objectives = tuple(objective.exported for objective in self.objectives)
        return self if objectives == self.objectives else replace(self, objectives=objectives)

    def task_steps(self, stage: Stage) -> tuple[TaskStep, ...]:
        """Return the task steps of one round of a stage."""
        return stage.cycle(tuple(objective.name for objective in self.objectives))

    def learning(self, turn: TaskStep) -> tuple[Objective, ...]:
        """Return the objectives of a task step, in the order in which they corrupt the input."""
        return tuple(objective for objective in self.objectives if objective.name in turn.objectives)

    def task(self, turn: TaskStep) -> int:
        """Return the task id, the same in all stages: the index of the task step's first objective in the recipe."""
        return self.objectives.index(self.learning(turn)[0])

    def format(self, turn: TaskStep) -> ExampleFormat:
        """Return the example format of a task step: that of one of its objectives, else the recipe's own."""
        brought = [objective.format for objective in self.learning(turn)]
        return next((examples for examples in brought if examples is not None), self.examples)

    def __post_init__(self) -> None:
        """Refuse choices that contradict each other.

        Raises:
            ValueError: no stage or no objective, shares that do not sum to 1, a batch that is no multiple of its
                micro-batch, a stage longer than the positions or without the length of a stream that the model reads,
                an objective whose special tokens the vocabulary lacks or whose targets the format does not give,
                two objectives of one name, a stage without turns, a turn of objectives that are not there, bring
                different formats, do not learn from one example, or make other streams or lengths.
        """
        if not self.objectives or not self.stages:
            raise ValueError("a recipe needs at least one objective and one stage")
        names = [objective.name for objective in self.objectives]
        if twice := [name for number, name in enumerate(names) if name in names[:number]]:
            raise ValueError(f"objectives: two are named {twice[0]!r}; give one a label of its own, or leave it out")
        if abs(sum(stage.share for stage in self.stages) - 1) > 1e-6:
            raise ValueError(f"stages: the shares sum to {sum(stage.share for stage in self.stages):g}, not 1")
        self._check_tokens()
        for number, stage in enumerate(self.stages):
            self._check_lengths(stage, f"stages.{number}")
            if not self.task_steps(stage):
                raise ValueError(f"stages.{number}: tasks is empty; name the objectives that learn in this stage")
            for turn in self.task_steps(stage):
                self._check_names(turn, f"stages.{number}")
                self._check(turn, f"stages.{number}")
                self._check_streams(turn, stage, f"stages.{number}")
                self._check_segments(turn)
                self._check_sentences(turn, f"stages.{number}")
            if stage.batch % stage.micro_batch:
                raise ValueError(f"stages.{number}: batch {stage.batch} is not a multiple of {stage.micro_batch}")

    def _check_lengths(self, stage: Stage, where: str) -> None:
        """Refuse states fewer than tokens, row lengths of streams that are not read, and those past the positions."""
        model, read = type(self.model).__name__, self.model.streams
        if self.model.shortens:
            raise ValueError("model.stack: heads read a state of each token, of which this model has fewer; let its "
                             "last layers make them whole again (model.stack.decoder=2)")  # fmt: skip
        if missing := sorted(read - stage.limits.keys()):
            raise ValueError(f"{where}: {model} reads the stream {missing[0]}; say its row length, {missing[0]}_length")
        if unread := sorted(stage.limits.keys() - read):
            raise ValueError(f"{where}: {model} reads no stream {unread[0]}; leave {unread[0]}_length out")
        for stream, length in stage.limits.items():
            longest, name = self.model.max_length_of(stream), "max" if stream == "tokens" else stream
            if longest is not None and length > longest:
                raise ValueError(f"{where}: {name}_length {length} is past the model's {longest} positions")

    def _check_streams(self, turn: TaskStep, stage: Stage, where: str) -> None:
        """Refuse a turn whose format and objectives give other streams than the model reads, or rows of nothing."""
        examples, learning, specials = self.format(turn), self.learning(turn), self.tokens.special_tokens
        added = frozenset[str]().union(*(objective.adds for objective in learning))
        given = examples.streams | added
        makers = ", ".join(type(part).__name__ for part in (examples, *learning))
        if missing := sorted(self.model.streams - given):
            raise ValueError(f"{where}: the model reads the stream {missing[0]}, which none of {makers} gives")
        if unread := sorted(given - self.model.streams):
            raise ValueError(f"{where}: {makers} give the stream {unread[0]}, which the model does not read")
        self._check_pixels(examples, given, where)
        examples.check_model(self.model)
        examples.check_limits(stage.limits)
        if (alone := [type(one).__name__ for one in learning if one.alone]) and len(examples.streams) > 1:
            raise ValueError(f"{where}: {alone[0]} makes its examples of single texts, and {type(examples).__name__} "
                             "gives pairs; take SequenceToSequence for them")  # fmt: skip
        raw: Limits = stage.limits
        for objective in reversed(learning):
            raw = objective.raw_limits(raw, specials)
        for stream in examples.streams - added:
            if raw.get(stream, 0) <= specials.framing(1):
                raise ValueError(f"{where}: rows of {_said(stage.limits)} leave no text to {makers}; take longer ones")
        lengths: Lengths = {stream: np.array([raw[stream]]) for stream in examples.streams & raw.keys()}
        for objective in learning:
            lengths = objective.lengths(lengths, specials)
        made = {stream: int(length[0]) for stream, length in lengths.items()}
        if made.keys() != given or any(length > stage.limits[stream] for stream, length in made.items()):
            raise ValueError(f"{where}: {makers} make {_said(made)}, but a row holds {_said(stage.limits)}")
        needed = max(objective.needs_extra(stage.limits, specials) for objective in learning)
        if needed > (there := len(self.tokens.sentinels)):
            raise ValueError(
                f"{where}: {makers} need {needed} sentinels, and the vocabulary has {there}; name more of them "
                "(tokens.special_tokens.extra), or take shorter rows"
            )

    def _check_pixels(self, examples: ExampleFormat, given: frozenset[str], where: str) -> None:
        """Raise a ValueError if the tokens of a stream are patches of other sizes than the model reads."""
        for stream in sorted(given):
            if (read := self.model.pixels(stream)) != (made_of := examples.pixels(stream)):
                raise ValueError(
                    f"{where}: tokens of the stream {stream} have {made_of or 'no'} pixels, the model reads "
                    f"{read or 'none'}; take patches of one size (examples.patch and that of the model)"
                )

    def _check_tokens(self) -> None:
        """Raise a ValueError if an objective needs a special token that the vocabulary lacks."""
        there = self.tokens.special_tokens.roles()
        for objective in self.objectives:
            if missing := sorted(objective.needs_tokens - there.keys()):
                named = ", ".join(missing)
                raise ValueError(
                    f"objectives: {type(objective).__name__} needs a special token for {named}, which "
                    f"tokens.special_tokens lacks; name it there (tokens.special_tokens.{missing[0]}), or take another "
                    "objective"
                )

    def _check_segments(self, turn: TaskStep) -> None:
        """Raise a ValueError if the templates that a format fills have more segments than the model has vectors for."""
        examples, there = self.format(turn), self.model.num_segments
        made = max(self.tokens.special_tokens.segments(number + 1) for number in range(examples.texts))
        if there is not None and made > there:
            kind = type(examples).__name__
            raise ValueError(f"model: {there} segment vectors are too few for the {made} segments of {kind}")

    def _check_sentences(self, turn: TaskStep, where: str) -> None:
        """Raise a ValueError if an objective needs to know where sentences end, and the format does not tell."""
        examples = self.format(turn)
        for objective in self.learning(turn):
            if objective.needs_sentences and not examples.tells_sentences:
                kind, named = type(objective).__name__, type(examples).__name__
                raise ValueError(f"{where}: {kind} needs to know where sentences end, which {named} does not tell; "
                                 "take examples=DocSentences or FullSentences")  # fmt: skip

    def _check_names(self, turn: TaskStep, where: str) -> None:
        """Raise a ValueError for a task step of objectives that are not there, or of which one learns alone."""
        known = [objective.name for objective in self.objectives]
        for name in turn.objectives:
            if name not in known:
                raise ValueError(f"{where}: there is no objective {name!r} among objectives.{near(name, known)}")
        if not turn.objectives:
            raise ValueError(f"{where}: a task step needs an objective")
        learning = self.learning(turn)
        if learning[1:] and (alone := [type(one).__name__ for one in learning if one.alone]):
            raise ValueError(
                f"{where}: {alone[0]} makes a text of its own of each example, from which no other objective learns; "
                "give each a task step of its own, in a MultiTaskStage or a MixtureStage"
            )

    def _check(self, turn: TaskStep, where: str) -> None:
        """Raise a ValueError if the objectives of a task step do not fit each other, the format or the model."""
        if (tasks := self.model.num_tasks) is not None and self.task(turn) >= tasks:
            raise ValueError(f"model: {tasks} task vectors are too few for {len(self.objectives)} objectives")
        examples, learning = self.format(turn), self.learning(turn)
        given, named = examples.provides, type(examples).__name__
        for objective in learning:
            kind = type(objective).__name__
            if objective.format not in (None, examples):
                other = type(objective.format).__name__
                raise ValueError(f"{where}: {kind} learns from {other}, not {named}; give it a task step of its own")
            if missing := objective.requires - given:
                raise ValueError(f"objectives: {kind} needs {', '.join(missing)}, which {named} does not give")
            if twice := objective.provides & given:
                raise ValueError(f"{where}: {kind} gives {', '.join(sorted(twice))}, which is given already; take one")
            given |= objective.provides
            objective.check(self.model)
        told = examples.facts.union({"task"}, *(objective.gives_facts for objective in learning))
        if untold := sorted(self.model.facts - told):
            raise ValueError(f"model: it reads {', '.join(untold)} of every token, which {named} does not give")


def _said(lengths: Limits) -> str:
    """Return lengths by stream in words."""
    return " and ".join(f"{length} {stream}" for stream, length in lengths.items())
