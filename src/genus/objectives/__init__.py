"""Stations 4 to 5, batch and model to named losses: the slot `Objective` and the module that a training loop runs."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import register_dataclass

from genus.model.head import OutputLayer
from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np

    from genus.batch import Batch, Memory
    from genus.examples import Example, ExampleFormat, Lengths, Limits
    from genus.model import Model, Network, States
    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.tokens.vocabulary import Frames, Vocabulary

Sums = dict[str, Tensor]
"""Scalars by name: losses summed over their targets, and further sums over these, such as `masked/correct`."""


@dataclass(frozen=True, slots=True)
class Step:
    """Outputs of a learner's forward pass on one micro-batch.

    It is a pytree, so that hooks on modules (FSDP2, DDP) find its tensors.
    """

    sums: Sums
    """Every loss, summed over its targets, and every further sum."""
    memory: Memory
    """Memory for the next batch of the same streams; empty where the batch brought none."""


register_dataclass(Step)


@dataclass(frozen=True)
class AuxiliaryModel:
    """A whole model within a head, as ELECTRA's generator: it is written into a folder of its own beside the model."""

    model: Model
    objectives: tuple[Objective, ...]
    learner: Learner
    """Of the same tensors that head and network have, no copies."""


class Head(nn.Module, ABC):
    """An objective's module: what it adds to the model, its outputs and its losses. Called once per batch."""

    target: str
    """The name of the targets at which `outputs` answers."""
    per: Literal["token", "sequence"] = "token"
    """Whether these targets stand at tokens, or at the one token of each sequence that stands for all of it."""
    fills_masks: bool = False
    """Whether its output `logits` at a mask says which token stands there."""

    def tie(self, network: Network) -> None:
        """Share with the network what is the network's: output matrices that are the token embedding.

        Raises:
            UsageError: the embedding has no matrix that can be shared.
        """
        for part in self.modules():
            if isinstance(part, OutputLayer):
                part.tie(network.token_embedding)

    def prepare(self, network: Network, batch: Batch) -> tuple[Batch, Sums]:
        """Change the batch before the model sees it, as ELECTRA does; return it, and losses made on the way."""
        return batch, {}

    @abstractmethod
    def counts(self, batch: Batch) -> Sums:
        """Return the number of targets of each of this objective's losses in the batch, before any model runs."""

    @abstractmethod
    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return the outputs (M, ...) at the targets `target`, labeled or not, by name.

        `logits` (M, C) are over a vocabulary or classes, `scores` (M,) the logit of one event, `values` (M,) numbers.
        """

    @abstractmethod
    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return the losses, summed over targets, under the names that `counts` uses, and any `name/metric` sums."""

    def compile_units(self) -> list[nn.Module]:
        """Return the modules to compile, each by itself; those that are alike are compiled once."""
        return [self]

    def auxiliary_models(self, network: Network) -> dict[str, AuxiliaryModel]:
        """Return the whole models within the head, by the names of their folders; then it has no tensors but theirs."""
        return {}


class Objective(Part, ABC):
    """A choice of what the model learns from."""

    needs_tokens: ClassVar[frozenset[str]] = frozenset()
    """Roles of special tokens that the vocabulary must have, such as `mask`."""
    causal: ClassVar[bool | None] = None
    """Whether the model's masks must be causal, or must not be; None: either will do."""
    gives_facts: ClassVar[frozenset[str]] = frozenset()
    """Names of facts of tokens that it adds to an example (`Packed.facts`)."""
    adds: ClassVar[frozenset[str]] = frozenset()
    """Names of the streams that `prepare_example` adds to an example, such as the `source` of an encoder-decoder."""
    stream: ClassVar[str] = "tokens"
    """The stream in which its targets lie."""

    @property
    def name(self) -> str:
        """The name of the objective's head in a learner and a checkpoint: its kind in snake case."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(self).__name__).lower()

    def check(self, model: Model) -> None:
        """Refuse a model from which nothing is learned.

        Raises:
            ValueError: the model's tokens see what they are to predict, or cannot see what they are to be told by.
        """
        kind = type(self).__name__
        if self.causal and not model.causal:
            raise ValueError(f"objectives: {kind} predicts the next token, which tokens of this model see already; "
                             "take a causal one, such as model.attention.visibility=Causal")  # fmt: skip
        if self.causal is False and model.causal:
            raise ValueError(f"objectives: {kind} restores tokens from both sides, but this model is causal; "
                             "take model.attention.visibility=Full, or objectives of the kind CausalLM")  # fmt: skip

    @property
    def target(self) -> str:
        """The name of the targets that it learns from."""
        return self.name

    @property
    def requires(self) -> frozenset[str]:
        """Names of targets that the example format, or an objective before this one, must give."""
        return frozenset()

    @property
    def provides(self) -> frozenset[str]:
        """Names of targets that objectives after this one can learn from too."""
        return frozenset()

    @property
    def losses(self) -> tuple[str, ...]:
        """The names of its losses, in results and in the weighted sum."""
        return (self.name,)

    @property
    def token_losses(self) -> frozenset[str]:
        """The losses that are negative log-likelihoods of tokens, of which perplexity and bits per byte can be told."""
        return frozenset()

    @property
    def format(self) -> ExampleFormat | None:
        """The example format that this objective needs for itself; None where the recipe's serves."""
        return None

    @property
    def counts_tokens(self) -> bool:
        """Whether its corruption must know how often each token occurs in the corpus."""
        return False

    @property
    def exported(self) -> Objective:
        """What is left of this objective in a model folder: itself, but for what training alone needs, as a teacher."""
        return self

    @abstractmethod
    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example as this objective shows it to the model, with its targets added: a pure function."""

    def raw_limits(self, limits: Limits, frames: Frames) -> Limits:
        """Return the limits of examples before `prepare_example`, for which the lengths after it keep these limits.

        T5's span corruption fills a source of 512 and a target of 114 tokens from 568 tokens of text (Raffel et al.
        2019, released code, random_spans_helper). By default `prepare_example` changes no length.

        Args:
            limits: by stream, after `prepare_example`.
            frames: how many special tokens templates add.
        """
        return limits

    def lengths(self, raw: Lengths, frames: Frames) -> Lengths:
        """Return the lengths (E,) after `prepare_example`, by stream, or upper bounds, given those of `raw`."""
        return raw

    def needs_extra(self, limits: Limits, frames: Frames) -> int:
        """Return how many further special tokens (`SpecialTokens.extra`), such as sentinels, it needs for such
        limits."""
        return 0

    @abstractmethod
    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return the static number of target rows by name for a batch of that many tokens of `stream` and sequences."""

    @abstractmethod
    def build(self, model: Model, vocab_size: int) -> Head:
        """Build the module with this objective's own parameters."""

    @abstractmethod
    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return what the head demands, per token of the stream `tokens`, for examples of these lengths."""

    def weights(self) -> dict[str, float]:
        """Return the weight of each loss in the sum that is minimized; a name that is missing counts 1."""
        return {}

    def fitted(self, model: Model, companions: Mapping[str, Model]) -> Objective:
        """Return the objective whose head has those of these companions that are its own, found beside a model.

        Raises:
            UsageError: one of them cannot be.
        """
        return self


class Learner(nn.Module):
    """A network and its objectives: the one thing the training loop knows. Fine-tuning tasks are objectives too.

    Training, evaluation and tasks call `learner(batch)`, so that hooks, DDP and FSDP2 can be applied from outside.
    """

    def __init__(self, network: Network, heads: dict[str, Head], weights: dict[str, float] | None = None) -> None:
        super().__init__()
        self.network = network
        self.heads = nn.ModuleDict(heads)
        self.weights = weights or {}
        self.tie()

    def tie(self) -> None:
        """Let the heads share what is the network's; to be done again where either is replaced."""
        for head in self._heads():
            head.tie(self.network)

    def outputs(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Return what the heads that learn from the batch answer at its targets, by their names; see `Head.outputs`."""
        states = self.network(batch)
        return {name: head.outputs(self.network, states, batch) for name, head in self._learning(batch).items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take tensors, each under the first of its names, as parameters and buffers in place of all there are.

        What is shared stays shared. Works where the learner was built without memory (device `meta`).
        """
        names = self.first_names()
        own = {name: nn.Parameter(tensors[name]) for name, _ in self.named_parameters()}
        self.load_state_dict({name: own.get(first, tensors[first]) for name, first in names.items()}, assign=True)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of targets of every loss in the batch, those of the network's layers included."""
        counts = {name: count for head in self._each(batch) for name, count in head.counts(batch).items()}
        return counts | self.network.counts(batch)

    def forward(self, batch: Batch) -> Step:
        """Return every loss, summed over its targets, every further sum, and the memory if the batch brings one."""
        sums: Sums = {}
        learning = self._each(batch)
        for head in learning:
            batch, early = head.prepare(self.network, batch)
            sums |= early
        states: States = self.network(batch)
        sums |= states.losses
        for head in learning:
            sums |= head(self.network, states, batch)
        return Step(sums, states.memory)

    def objective(self, sums: Sums, counts: Sums) -> Tensor:
        """Return the number to minimize: Σ weight x sum / count over the losses, counts taken over the whole step."""
        losses = [self.weights.get(name, 1.0) * sums[name] / count.clamp(min=1) for name, count in counts.items()]
        total = losses[0]
        for loss in losses[1:]:
            total = total + loss
        return total

    def compile_units(self) -> list[nn.Module]:
        """Return the heads' modules to compile, each by itself; those that are alike are compiled once."""
        return [region for head in self._heads() for region in head.compile_units()]

    def auxiliary_models(self) -> dict[str, AuxiliaryModel]:
        """Return the whole models within the heads, by the names of their folders."""
        return {name: one for head in self._heads() for name, one in head.auxiliary_models(self.network).items()}

    def first_names(self) -> dict[str, str]:
        """Return each name of a tensor, and the first name of the same one: those of shared layers have several."""
        state = self.state_dict(keep_vars=True)
        first = {id(tensor): name for name, tensor in reversed(state.items())}
        return {name: first[id(tensor)] for name, tensor in state.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return the parameters and buffers that are saved, each once, under the first of its names."""
        state = self.state_dict()
        return {name: state[name] for name in dict.fromkeys(self.first_names().values())}

    def _heads(self) -> list[Head]:
        return cast("list[Head]", list(self.heads.values()))

    def _learning(self, batch: Batch) -> dict[str, Head]:
        """Return the heads that learn from a batch, by their names."""
        heads = cast("dict[str, Head]", dict(self.heads.items()))
        return {name: head for name, head in heads.items() if batch.heads is None or name in batch.heads}

    def _each(self, batch: Batch) -> list[Head]:
        """Return the heads that learn from a batch."""
        return list(self._learning(batch).values())


def device_of(learner: Learner) -> torch.device:
    """Return the device that the learner's tensors are on."""
    return next(tensor.device for tensor in (*learner.parameters(), *learner.buffers()))


@contextmanager
def on(learner: Learner, device: torch.device) -> Iterator[None]:
    """Have a learner on a device, and afterwards where it was before."""
    before = device_of(learner)
    learner.to(device)
    try:
        yield
    finally:
        learner.to(before)


@contextmanager
def answering(learner: Learner) -> Iterator[None]:
    """Run a learner without dropout and gradients; afterwards each of its modules is in the mode it was in before.

    A learner that is in evaluation mode is not touched, so several threads can ask it at once.
    """
    training = [module for module in learner.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
