"""Station 4, ids to hidden states, written for one device: the slot `Model` and the module it builds, `Network`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.utils._pytree import register_dataclass

from genus.part import Part

if TYPE_CHECKING:
    from genus.batch import Batch, Memory
    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.model.pooler import Pooler


@dataclass(frozen=True, slots=True)
class States:
    """Outputs of a network's forward pass; `states["tokens"]` is the stream `tokens`.

    It is a pytree, so that hooks on modules (FSDP2, DDP) find its tensors.
    """

    streams: dict[str, Tensor]
    """Last hidden states (T, H) by the name of the stream they belong to."""
    memory: Memory = field(default_factory=dict)
    """Memory for the batch that follows in the same streams; empty where the batch brought none."""
    losses: dict[str, Tensor] = field(default_factory=dict)
    """Auxiliary losses of layers (load balancing, pondering), summed over what `Network.counts` counts."""
    layers: tuple[Tensor, ...] | None = None
    """Hidden states (T, H) of the stream `tokens`, where they were asked for: the embeddings, then every layer's output
    before any final norm, as `output_hidden_states` of transformers."""

    def __getitem__(self, stream: str) -> Tensor:
        """Return the last hidden states of a stream."""
        return self.streams[stream]


register_dataclass(States)


class Network(nn.Module, ABC):
    """A model at work: a batch of named, packed inputs in, named hidden states out."""

    hidden: int
    """Width of the hidden states."""

    @property
    @abstractmethod
    def token_embedding(self) -> nn.Embedding:
        """The token embedding (V, E), to which output heads tie their weights."""

    @abstractmethod
    def forward(self, batch: Batch, *, layers: bool = False) -> States:
        """Return hidden states (T, H) by stream, the memory that follows where the batch brings one, and layer losses.

        Args:
            batch: on the network's device.
            layers: return the hidden states of every layer too.

        Raises:
            UsageError: `layers` of a network that does not keep them.
        """

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Return the number of terms in each of the layers' own losses (`States.losses`); none by default."""
        return {}

    def initial_memory(self, rows: int) -> Memory:
        """Return the memory of that many rows before the first batch; empty where the network has none."""
        return {}

    def layer_groups(self) -> list[nn.Module]:
        """Return the modules that tokens pass one after the other, the embeddings first: rates may fall with depth."""
        return [self]

    def compile_units(self) -> list[nn.Module]:
        """Return the modules to compile, each by itself; those that are alike are compiled once."""
        return [self]

    def pool(self, hidden: Tensor) -> Tensor:
        """Turn the states (N, H) of the tokens that stand for whole sequences into sequence vectors (N, H)."""
        return hidden


class Model(Part, ABC):
    """A choice of architecture."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Width of the hidden states."""

    @property
    def embedding_width(self) -> int:
        """Width of the token embedding, to which output heads tie their weights."""
        return self.width

    @property
    def pooled_width(self) -> int:
        """Width of what stands for a whole sequence."""
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

    @property
    def causal(self) -> bool:
        """Whether no token sees one after it, so that it can learn to predict the next one."""
        return False

    @property
    def facts(self) -> frozenset[str]:
        """Names of the facts of tokens (`Packed.facts`) that the model reads."""
        return frozenset()

    @property
    def num_tasks(self) -> int | None:
        """How many tasks it tells apart by a vector each; None: it does not ask which task a batch is for."""
        return None

    def second(self, lengths: ExampleLengths) -> ComponentCost | None:
        """Return what a second state per position needs (XLNet's query stream); None where the model has none."""
        return None

    @abstractmethod
    def build(self, vocab_size: int) -> Network:
        """Build the module with fresh weights, drawn from PyTorch's global generator."""

    def pooled(self, pooler: Pooler) -> Model:
        """Return the model as tasks over whole sequences need it: with its pooler or this one, if it can have one."""
        return self

    def unpooled(self) -> Model:
        """Return the model as tasks over single tokens need it: without a pooler."""
        return self

    def merge_pretrained(self, source: Model) -> Model:
        """Return the architecture of a run of this one that starts from the weights of another: here that one."""
        return source

    def initialize(self, module: nn.Module) -> None:
        """Draw the weights of a head as the model draws its own; by default they stay as PyTorch drew them."""
        return

    @abstractmethod
    def cost(self, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return what the network needs, per token of `tokens`, for examples of these lengths, without `pool`'s FLOPs.

        Args:
            vocab_size: V.
            lengths: of an example, in every stream that the model reads.
        """

    def pool_flops(self) -> float:
        """Return the FLOPs of pooling one sequence."""
        return 0.0

    def parameters(self, vocab_size: int) -> int:
        """Return the number of parameters of the network."""
        return self.cost(vocab_size, dict.fromkeys(self.streams, 1)).parameters
