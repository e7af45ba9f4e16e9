"""Training objectives: the slot `Objective`, and `Learner`, which computes named losses (stations 4 and 5)."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import register_dataclass

from genus.model.head import Output, OutputLayer
from genus.objectives.devices import device_of as device_of
from genus.objectives.devices import on as on
from genus.objectives.devices import widened
from genus.optim.pieces import WholeTensors
from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np

    from genus.batch import Batch, Memory
    from genus.examples import Example, ExampleFormat, Lengths, Limits
    from genus.model import Model, Network, States
    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.tokens.vocabulary import Frames, Vocabulary

Prediction = Literal["masked", "permuted", "following", "written", "image"]
"""How a head predicts tokens: those masked, those last in the order of factorization (from the query stream), the one
after each target, the same of what a decoder writes for a source, or the code of an image."""
Sums = dict[str, Tensor]
"""Scalars by name: losses summed over their targets, and metrics summed over them, such as `masked_lm/correct`."""


@dataclass(frozen=True, slots=True)
class Step:
    """Outputs of a learner's forward pass on one micro-batch: a pytree, so that hooks (FSDP2, DDP) find its tensors."""

    sums: Sums
    """Every loss and metric, summed over its targets."""
    memory: Memory
    """Recurrence memory for the next batch of the same streams; empty if the batch had none."""
    outputs: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """The outputs of heads, by head name, where they were asked for in place of losses."""


register_dataclass(Step)


@dataclass(frozen=True)
class AuxiliaryModel:
    """A complete model inside a head, as ELECTRA's generator, which shares its tensors; it has a folder of its own."""

    model: Model
    objectives: tuple[Objective, ...]
    learner: Learner


class Head(nn.Module, ABC):
    """The module of an objective: its own parameters, its outputs and its losses. Called once per batch."""

    target: str
    """Name of the targets for which `outputs` computes outputs."""
    per: Literal["token", "sequence"] = "token"
    """Whether targets are tokens, or whole sequences, each at the position of its summary token (such as `[CLS]`)."""
    predicts: Prediction | None = None
    """How its output `logits` (M, V) at its targets predicts tokens of a text; None: it does not."""
    reads_layers: bool = False
    """Whether its losses or its outputs depend on the hidden states of every layer (`States.layers`)."""

    def tie(self, network: Network) -> None:
        """Tie output matrices to the network's token embedding (weight tying).

        Raises:
            UsageError: the embedding has no matrix that can be shared.
        """
        for part in self.modules():
            if isinstance(part, OutputLayer):
                part.tie(network.token_embedding)

    def prepare(self, network: Network, batch: Batch) -> tuple[Batch, Sums]:
        """Return the batch that the model gets, changed as in ELECTRA, and the losses computed for the change."""
        return batch, {}

    @abstractmethod
    def counts(self, batch: Batch) -> Sums:
        """Return the number of targets of each of this objective's losses in the batch, without a forward pass."""

    @abstractmethod
    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return the outputs (M, ...) at the targets `target`, labeled or not, by name.

        `logits` (M, V) are over a vocabulary or classes, `scores` (M,) are binary logits, `values` (M,) regressions.
        """

    @abstractmethod
    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return the losses, summed over targets, by the names that `counts` uses, and any `name/metric` sums."""

    def compile_units(self) -> list[nn.Module]:
        """Return the modules for regional compilation (`torch.compile` per module); equal ones are compiled once."""
        return [self]

    def auxiliary_models(self, network: Network) -> dict[str, AuxiliaryModel]:
        """Return the complete models inside the head, by folder name; a head that has any has no other tensors."""
        return {}


class Objective(Part, ABC):
    """A training objective: makes inputs and targets of examples, and builds the head whose loss is minimized."""

    needs_tokens: ClassVar[frozenset[str]] = frozenset()
    """Roles of special tokens that the vocabulary must have, such as `mask`."""
    needs_sentences: ClassVar[bool] = False
    """Whether it needs to know which sentence each token is of (`Sequence.sentences`)."""
    causal: ClassVar[bool | None] = None
    """Whether the attention mask must be causal (True), must not be (False), or may be either (None)."""
    gives_facts: ClassVar[frozenset[str]] = frozenset()
    """Names of the per-token features that it adds to an example (`Packed.facts`)."""
    stream: ClassVar[str] = "tokens"
    """The stream in which its targets lie."""
    drops_merges: ClassVar[bool] = False
    """Whether its corruption needs the merges of a BPE vocabulary (`Vocabulary.merges`)."""
    alone: ClassVar[bool] = False
    """Whether it makes another text of an example, so that no further objective learns from the same one."""

    @property
    def name(self) -> str:
        """Name of the objective's head in a learner and a checkpoint: the class name in snake case."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(self).__name__).lower()

    def check(self, model: Model) -> None:
        """Check that the model's attention mask fits the objective.

        Raises:
            ValueError: the targets are visible to the model, or the context that they depend on is masked.
        """
        kind = type(self).__name__
        if self.causal and not model.causal:
            raise ValueError(f"objectives: {kind} predicts the next token, which tokens of this model see already; "
                             "take a causal one, such as model.attention.mask=Causal")  # fmt: skip
        if self.causal is False and model.causal:
            raise ValueError(f"objectives: {kind} restores tokens from both sides, but this model is causal; "
                             "take model.attention.mask=Full, or objectives of the kind CausalLM")  # fmt: skip

    @property
    def target(self) -> str:
        """Name of the targets in a batch."""
        return self.name

    @property
    def requires(self) -> frozenset[str]:
        """Names of targets that the example format, or an earlier objective, must provide."""
        return frozenset()

    @property
    def provides(self) -> frozenset[str]:
        """Names of targets that later objectives can use."""
        return frozenset()

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of its losses, in results and in the weighted sum."""
        return (self.name,)

    @property
    def token_losses(self) -> frozenset[str]:
        """Losses that are negative log-likelihoods of tokens, for which perplexity and bits per byte are defined."""
        return frozenset()

    @property
    def format(self) -> ExampleFormat | None:
        """The example format that this objective requires; None: the recipe's format is used."""
        return None

    @property
    def counts_tokens(self) -> bool:
        """Whether its corruption needs the token counts of the corpus."""
        return False

    @property
    def next_token_output(self) -> Output | None:
        """The output layer by which it predicts the next token: equal ones of a recipe are one layer; None: none."""
        return None

    @property
    def exported(self) -> Objective:
        """The objective as saved in a model folder: without what only training needs, such as a teacher."""
        return self

    @property
    def measured(self) -> Objective:
        """The objective as held-out text is read by it: without augmentation."""
        return self

    @abstractmethod
    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example as the model gets it, with its targets added: a pure function of its arguments."""

    @property
    def adds(self) -> frozenset[str]:
        """Names of the streams that it adds to those of an example, such as the `source` of an encoder-decoder."""
        return frozenset()

    def raw_limits(self, limits: Limits, frames: Frames) -> Limits:
        """Return the limits of examples before `prepare_example`, for which the lengths after it keep these limits.

        Here they are the same; T5's span corruption makes a source of 512 and a target of 114 tokens of 568 tokens.

        Args:
            limits: by stream, after `prepare_example`.
            frames: how many special tokens templates add.
        """
        return limits

    def lengths(self, raw: Lengths, frames: Frames) -> Lengths:
        """Return the lengths (E,) after `prepare_example`, by stream, or upper bounds, given the lengths `raw`."""
        return raw

    def needs_extra(self, limits: Limits, frames: Frames) -> int:
        """Return how many further special tokens (`SpecialTokens.extra`), such as sentinels, these limits need."""
        return 0

    @abstractmethod
    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return the static number of target rows by name for a batch of that many tokens of `stream` and sequences."""

    @abstractmethod
    def build(self, model: Model, vocab_size: int) -> Head:
        """Build the head: the module with this objective's own parameters."""

    @abstractmethod
    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return what the head demands, per token of the stream `tokens`, for examples of these lengths."""

    def weights(self) -> dict[str, float]:
        """Return the weight of each loss in the sum that is minimized; the default for a missing name is 1."""
        return {}

    def fitted(self, model: Model, companions: Mapping[str, Model]) -> Objective:
        """Return the objective with its auxiliary models among `companions`, beside a model (UsageError: no fit)."""
        return self


class Learner(nn.Module):
    """A network with the heads of its objectives: the module that is trained, in pretraining and fine-tuning.

    Training, evaluation, tasks and generation call `learner(batch)`, so hooks, DDP and FSDP2 apply from outside.
    """

    def __init__(self, network: Network, heads: dict[str, Head], weights: dict[str, float] | None = None) -> None:
        super().__init__()
        self.network = network
        self.heads = nn.ModuleDict(heads)
        self.weights = weights or {}
        self.whole: Callable[[Tensor], Tensor] | None = None
        """Makes a parameter or buffer whole, where processes hold pieces of it; None: they are whole."""
        self.tie()

    def tie(self) -> None:
        """Tie the heads' weights to the network's; repeat it after replacing a head or the network."""
        for head in self._heads():
            head.tie(self.network)

    def outputs(self, batch: Batch, *, rounded: bool = False, **given: Any) -> dict[str, dict[str, Tensor]]:
        """Return the outputs of the heads that learn from the batch, by head name; see `Head.outputs`.

        Heads answer in the format of their weights, and at least in float32: bfloat16 gives texts equal numbers.

        Args:
            batch: the batch.
            rounded: let heads compute in autocast's dtype too, as of a vocabulary; outputs are in float32 even so.
            given: what the network reads beside the batch, such as a key-value cache; or `states`, if they are known.
        """
        step: Step = self(batch, ask="rounded" if rounded else "precise", **given)
        return step.outputs

    def predicting(self, *ways: Prediction) -> tuple[Learner, str] | None:
        """Return learner and name of the first head that predicts so, or of one within a head; None: there is none."""
        for one in (self, *(companion.learner for companion in self.auxiliary_models().values())):
            for name, head in one.heads.items():
                if cast("Head", head).predicts in ways:
                    return one, name
        return None

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load a state dict, by the first names of tensors: shared ones stay shared, those on `meta` become real."""
        names = self.first_names()
        own = {name: nn.Parameter(tensors[name]) for name, _ in self.named_parameters()}
        self.load_state_dict({name: own.get(first, tensors[first]) for name, first in names.items()}, assign=True)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of targets of every loss in the batch, including the losses of the network's layers."""
        heads = self._learning(batch).values()
        return {key: one for head in heads for key, one in head.counts(batch).items()} | self.network.counts(batch)

    def forward(self, batch: Batch, *, ask: Literal["precise", "rounded"] | None = None, **given: Any) -> Step:
        """Run the forward pass; return every loss and metric, summed over its targets, and the recurrence memory.

        With `ask` the heads' outputs take the place of losses and metrics; see `outputs`, also for `given`.
        """
        learning = [*self._learning(batch).values()]
        layers: dict[str, Any] = {"layers": True} if any(head.reads_layers for head in learning) else {}
        if ask is not None:
            found = given.pop("states", None) or self.network(batch, **given, **layers)
            return self._answer(found, batch, rounded=ask == "rounded")
        sums: Sums = {}
        for head in learning:
            batch, early = head.prepare(self.network, batch)
            sums |= early
        states: States = self.network(batch, **layers)
        sums |= states.losses
        for head in learning:
            sums |= head(self.network, states, batch)
        return Step(sums, states.memory)

    def _answer(self, states: States, batch: Batch, *, rounded: bool) -> Step:
        """Return the outputs of the heads that learn from the batch, given the network's hidden states."""
        kind, format = states["tokens"].device.type, next(self.parameters()).dtype
        if not rounded:
            states = states.to(format)
        with torch.autocast(kind, enabled=rounded and torch.is_autocast_enabled(kind)):
            found = {name: head.outputs(self.network, states, batch) for name, head in self._learning(batch).items()}
        outputs = {name: {one: widened(value) for one, value in out.items()} for name, out in found.items()}
        return Step({}, states.memory, outputs)

    def objective(self, sums: Sums, counts: Sums) -> Tensor:
        """Return the total loss: Σ weight x sum / count over the losses, with the counts of the whole step."""
        losses = [self.weights.get(name, 1.0) * sums[name] / count.clamp(min=1) for name, count in counts.items()]
        return sum(losses[1:], losses[0])

    def compile_units(self) -> list[nn.Module]:
        """Return the heads' modules for regional compilation; equal ones are compiled once."""
        return [region for head in self._heads() for region in head.compile_units()]

    def auxiliary_models(self) -> dict[str, AuxiliaryModel]:
        """Return the complete models inside the heads, by folder name."""
        found = {name: one for head in self._heads() for name, one in head.auxiliary_models(self.network).items()}
        for one in found.values():
            one.learner.whole = self.whole
        return found

    def first_names(self) -> dict[str, str]:
        """Map every state-dict name to the first name of its tensor; tensors of shared layers have several names."""
        state = self.state_dict(keep_vars=True)
        first = {id(tensor): name for name, tensor in reversed(state.items())}
        return {name: first[id(tensor)] for name, tensor in state.items()}

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the state dict that is saved: each tensor once, by the first of its names.

        Where processes hold pieces, a tensor is made whole whenever it is read, and not kept.
        """
        if self.whole is not None:
            return WholeTensors(self.held(), self.whole)
        return {name: tensor.detach() for name, tensor in self.held().items()}

    def held(self) -> dict[str, Tensor]:
        """Return the parameters and buffers themselves, each once, by the first of its names."""
        state = self.state_dict(keep_vars=True)
        first = {id(tensor): name for name, tensor in reversed(state.items())}
        return {name: tensor for name, tensor in state.items() if first[id(tensor)] == name}

    def _heads(self) -> list[Head]:
        return cast("list[Head]", list(self.heads.values()))

    def _learning(self, batch: Batch) -> dict[str, Head]:
        """Return the heads that learn from a batch, by name."""
        heads = cast("dict[str, Head]", dict(self.heads.items()))
        return {name: head for name, head in heads.items() if batch.heads is None or name in batch.heads}


@contextmanager
def evaluating(learner: Learner) -> Iterator[None]:
    """Context manager: evaluation mode, without dropout; each module's mode is restored at the end.

    A learner in evaluation mode is not modified, so several threads can use it at once.
    """
    training = [module for module in learner.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def answering(learner: Learner) -> Iterator[None]:
    """Context manager for inference: evaluation mode, and no gradients."""
    with evaluating(learner), torch.no_grad():
        yield
