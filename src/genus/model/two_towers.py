"""Two towers: a network of texts and a network of images side by side, which meet in a head alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, cast

from genus.batch import Batch
from genus.model import Model, Network, States
from genus.model.transformer import Transformer  # a choice is read by its annotation

if TYPE_CHECKING:
    from torch import nn

    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.model.transformer import TransformerNetwork

IMAGE = "image"
"""Name of the stream of images."""


class TwoTowers(Model):
    """A Transformer reads the stream `tokens`, a network of images the stream `image`; neither attends to the other.

    Entry j of both streams is the same example. A batch may lack images: the text tower then answers alone.

    Source: Radford et al. 2021, section 2.4.
    """

    text: Transformer
    image: Model
    """A vision `Transformer` (of a `PatchEmbedding`), or a `ResNet`: the first state of an image is of all of it."""

    def __post_init__(self) -> None:
        """Check that the towers are of texts and of images, and stand alone (ValueError)."""
        if self.image.pixels("tokens") is None:
            raise ValueError("image.embedding: expected PatchEmbedding, as images have no vocabulary")
        if not (isinstance(self.image, Transformer) or self.image.projects("tokens")):
            kind = type(self.image).__name__
            raise ValueError(f"image: {kind} has no state of a whole image; take Transformer or ResNet")
        if self.text.pixels("tokens") is not None:
            raise ValueError("text.embedding: PatchEmbedding reads no texts; take Embedding")
        for name, tower in (("text", self.text), ("image", self.image)):
            if tower.streams != {"tokens"} or tower.unpooled() != tower:
                raise ValueError(f"{name}: a tower has neither cross-attention nor a pooler; set both to null")

    @property
    def in_words(self) -> str:
        """Both towers."""
        return f"two towers: {self.text.in_words}; images: {self.image.in_words}"

    @property
    def streams(self) -> frozenset[str]:
        """`tokens` and `image`."""
        return frozenset({"tokens", IMAGE})

    @property
    def width(self) -> int:
        """H, the size of the text tower's hidden states."""
        return self.text.width

    def width_of(self, stream: str) -> int:
        """Return the size of the hidden states of a stream."""
        return (self.image if stream == IMAGE else self.text).width

    @property
    def embedding_width(self) -> int:
        """E, the size of the token embedding."""
        return self.text.embedding_width

    @property
    def max_length(self) -> int | None:
        """The longest text."""
        return self.text.max_length

    def max_length_of(self, stream: str) -> int | None:
        """Return the longest sequence of a stream that its positions allow."""
        return (self.image if stream == IMAGE else self.text).max_length

    def pixels(self, stream: str) -> int | None:
        """Return the pixels of a patch; None for texts."""
        return self.image.pixels("tokens") if stream == IMAGE else None

    def projects(self, stream: str) -> bool:
        """Return whether the tower of a stream ends with a projection."""
        return (self.image if stream == IMAGE else self.text).projects("tokens")

    @property
    def causal(self) -> bool:
        """Whether the text tower is causal, so that its last state is that of a text."""
        return self.text.causal

    @property
    def facts(self) -> frozenset[str]:
        """Names of the facts per token that either reads."""
        return self.text.facts | self.image.facts

    @property
    def num_segments(self) -> int | None:
        """Number of segment embeddings of the text tower."""
        return self.text.num_segments

    def build(self, vocab_size: int) -> Network:
        """Return the network with initial weights."""
        return TwoTowersNetwork(self, vocab_size)

    def initialize(self, module: nn.Module) -> None:
        """Initialize the weights of a head from the text tower's distribution."""
        self.text.initialize(module)

    def cost(self, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of `tokens`, on which the work on the image is shared out."""
        image, share = lengths[IMAGE], lengths[IMAGE] / lengths["tokens"]
        text = self.text.cost(vocab_size, {"tokens": lengths["tokens"]})
        return text + self.image.cost(vocab_size, {"tokens": image}).scaled(share)


class TwoTowersNetwork(Network):
    """The module of `TwoTowers`."""

    task_modules: ClassVar[tuple[str, ...]] = ()

    def __init__(self, choice: TwoTowers, vocab_size: int) -> None:
        super().__init__()
        self.hidden = choice.width
        self.text = cast("TransformerNetwork", choice.text.build(vocab_size))
        self.image = choice.image.build(vocab_size)

    @property
    def token_embedding(self) -> nn.Embedding:
        """The text tower's token embedding (V, E)."""
        return self.text.token_embedding

    def forward(self, batch: Batch, *, layers: bool = False) -> States:
        """Forward pass: return `tokens` (T, H), and `image` where the batch has images.

        Args:
            batch: texts, and an image for each, or texts alone.
            layers: also return the hidden states of every layer of the text tower.
        """
        found: States = self.text(batch, layers=layers)
        if IMAGE not in batch.streams:
            return found
        images: States = self.image(Batch({"tokens": batch.streams[IMAGE]}, {}))
        return replace(found, streams={**found.streams, IMAGE: images["tokens"]})

    def layer_groups(self) -> list[nn.Module]:
        """Return the embeddings and each layer, the text tower's first, for layer-wise learning rates."""
        return [*self.text.layer_groups(), *self.image.layer_groups()]

    def compile_units(self) -> list[nn.Module]:
        """Return the embeddings and each layer of both towers."""
        return [*self.text.compile_units(), *self.image.compile_units()]
