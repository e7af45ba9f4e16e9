"""Station 4, token ids to hidden states, for one device: the slot `Model` and the module that it builds, `Network`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn
from torch.utils._pytree import register_dataclass

from genus.errors import UsageError
from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from genus.batch import Batch, Memory
    from genus.model.cache import Cache
    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.model.pooler import Pooler


@dataclass(frozen=True, slots=True)
class States:
    """Outputs of a network's forward pass; `states["tokens"]` is the stream `tokens`.

    It is a pytree, so that hooks on modules (FSDP2, DDP) find its tensors.
    """

    streams: dict[str, Tensor]
    """Last hidden states (T, H) by the name of their stream."""
    memory: Memory = field(default_factory=dict)
    """Memory (segment-level recurrence) for the next batch of the same streams; empty where the batch had none."""
    losses: dict[str, Tensor] = field(default_factory=dict)
    """Auxiliary losses of layers (load balancing, pondering), summed over what `Network.counts` counts."""
    layers: tuple[Tensor, ...] | None = None
    """Hidden states (T, H) of the stream `tokens`, if requested: the embeddings, then every layer's output before any
    final norm, as `output_hidden_states` of transformers; else None."""

    def __getitem__(self, stream: str) -> Tensor:
        """Return the last hidden states of a stream."""
        return self.streams[stream]

    def to(self, dtype: torch.dtype) -> States:
        """Return a copy whose hidden states have this type."""
        layers = None if self.layers is None else tuple(one.to(dtype) for one in self.layers)
        return replace(self, streams={name: one.to(dtype) for name, one in self.streams.items()}, layers=layers)


register_dataclass(States)


class Network(nn.Module, ABC):
    """The module of a `Model`: maps a batch of named, packed sequences to named hidden states."""

    task_modules: ClassVar[tuple[str, ...]] = ("pooler",)
    """Names of the modules that tasks add or leave out (`Model.pooled`, `Model.unpooled`)."""

    hidden: int
    """H, the size of the hidden states."""

    @property
    @abstractmethod
    def token_embedding(self) -> nn.Embedding:
        """The token embedding (V, E), with which output heads tie their weights."""

    @property
    def token_embeddings(self) -> tuple[nn.Module, ...]:
        """The modules that look up the tokens of a batch, each once: here the token embedding alone."""
        return (self.token_embedding,)

    @property
    def vocabulary_rows(self) -> int | None:
        """Number of rows of the token embedding; None: the network reads no vocabulary."""
        return self.token_embedding.num_embeddings

    @abstractmethod
    def forward(self, batch: Batch, *, layers: bool = False) -> States:
        """Forward pass: return hidden states (T, H) by stream, the next memory if the batch has one, and layer losses.

        Args:
            batch: the packed sequences, on the network's device.
            layers: also return the hidden states of every layer.

        Raises:
            UsageError: the network does not keep the hidden states of its layers.
        """

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Return the number of terms of each auxiliary loss (`States.losses`), by name; empty by default."""
        return {}

    def cache(self, entries: int, *, cross: bool = False, dtype: torch.dtype | None = None) -> Cache | None:
        """Return an empty key-value cache; None: the network has none, and all tokens are read at every step.

        Args:
            entries: the most tokens of all sequences together.
            cross: for cross-attention instead of self-attention.
            dtype: of keys and values; None: that of the weights.
        """
        return None

    def prefix_host(self) -> Network:
        """Return the network whose self-attention takes trained keys and values in front of every sequence.

        Its attribute `prefix` is then a `PrefixKeys` (`front.py`).

        Raises:
            UsageError: there is none.
        """
        raise UsageError(f"{type(self).__name__} has no keys and values in front of which trained ones could stand")

    def prompt_host(self) -> Network:
        """Return the network that takes trained vectors in front of the text; its `embed.prompt` is `PromptVectors`.

        Raises:
            UsageError: there is none.
        """
        raise UsageError(f"{type(self).__name__} takes no vectors in front of the text")

    def ahead(self, stream: str) -> int:
        """Return the number of positions of a stream that what is trained in front of every sequence takes."""
        return 0

    def initial_memory(self, rows: int) -> Memory:
        """Return the memory for `rows` rows before the first batch; empty without segment-level recurrence."""
        return {}

    def layer_groups(self) -> list[nn.Module]:
        """Return the layers in forward order, the embeddings first, for layer-wise learning-rate decay."""
        return [self]

    def compile_units(self) -> list[nn.Module]:
        """Return the modules for regional compilation: each is compiled by itself, those that are alike once."""
        return [self]

    def adopted(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of another network under the names of this one's; by default they have the same."""
        return dict(given)

    def pool(self, hidden: Tensor) -> Tensor:
        """Pooler: map the hidden states (N, H) of one token per sequence to sequence vectors (N, H)."""
        return hidden


class Model(Part, ABC):
    """The slot of model architectures."""

    @property
    @abstractmethod
    def width(self) -> int:
        """H, the size of the hidden states."""

    @property
    def embedding_width(self) -> int:
        """E, the size of the token embedding, with which output heads tie their weights."""
        return self.width

    @property
    def pooled_width(self) -> int:
        """Size of the pooled sequence vector."""
        return self.width

    @property
    @abstractmethod
    def max_length(self) -> int | None:
        """The longest sequence of `tokens` that the positions allow, None where they have no end."""

    @property
    def streams(self) -> frozenset[str]:
        """Names of the streams of a batch that the model reads: `tokens`, and what they are conditioned on."""
        return frozenset({"tokens"})

    def max_length_of(self, stream: str) -> int | None:
        """Return the longest sequence of a stream that its positions allow, None where they have no end."""
        return self.max_length

    def pixels(self, stream: str) -> int | None:
        """Return how many pixels a token of a stream has (`Packed.pixels`); None: it has an id."""
        return None

    def projects(self, stream: str) -> bool:
        """Return whether the states of a stream end with a projection, so that a head that compares them adds none."""
        return False

    def width_of(self, stream: str) -> int:
        """Return the size of the hidden states of a stream; by default all have the same."""
        return self.width

    @property
    def causal(self) -> bool:
        """Whether attention is causal, so that the model can be trained to predict the next token."""
        return False

    @property
    def causal_after_prefix(self) -> bool:
        """Whether attention is causal but for prefixes (`Packed.facts`), so that it can predict what follows one."""
        return self.causal

    @property
    def one_way(self) -> Model | None:
        """The model of one direction, where the states are those of two side by side (ELMo); None: they are not."""
        return None

    @property
    def shortens(self) -> bool:
        """Whether there are fewer states than tokens, so that no head can learn from each token."""
        return False

    @property
    def facts(self) -> frozenset[str]:
        """Names of the facts per token (`Packed.facts`) that the model reads."""
        return frozenset()

    @property
    def num_tasks(self) -> int | None:
        """Number of task embeddings; None: the model does not depend on the task of a batch."""
        return None

    @property
    def num_segments(self) -> int | None:
        """Number of segment embeddings; None: the model does not depend on segments, or tells any number apart."""
        return None

    def second(self, lengths: ExampleLengths) -> ComponentCost | None:
        """Return the cost of a second state per token position (XLNet's query stream); None: the model has none."""
        return None

    @abstractmethod
    def build(self, vocab_size: int) -> Network:
        """Build the module with initial weights, drawn from PyTorch's global generator."""

    def pooled(self, pooler: Pooler) -> Model:
        """Return the model for sequence-level tasks: with its own pooler, else this one, if it can have one."""
        return self

    def unpooled(self) -> Model:
        """Return the model for token-level tasks: without a pooler."""
        return self

    def merge_pretrained(self, source: Model) -> Model:
        """Return the architecture of a run that starts from the weights of `source`; by default that of `source`."""
        return source

    def initialize(self, module: nn.Module) -> None:
        """Initialize the weights of a head as the model initializes its own; by default PyTorch's are kept."""
        return

    @abstractmethod
    def cost(self, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return what the network needs, per token of `tokens`, for examples of these lengths, without `pool`'s FLOPs.

        Args:
            vocab_size: V.
            lengths: of an example, in every stream that the model reads.
        """

    def pool_flops(self) -> float:
        """Return the FLOPs of the pooler per sequence."""
        return 0.0

    def parameters(self, vocab_size: int) -> int:
        """Return the number of parameters of the network."""
        return self.cost(vocab_size, dict.fromkeys(self.streams, 1)).parameters
