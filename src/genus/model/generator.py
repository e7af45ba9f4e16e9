"""ELECTRA's generator: a smaller network that shares the embeddings of the discriminator."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from genus.errors import UsageError
from genus.model.attention.plan import Context
from genus.model.embedding import Embedding
from genus.model.embedding.tables import FactorizedEmbedding, FactorizedEmbeddingModule, ProjectedEmbedding
from genus.model.skeleton import skeleton
from genus.model.transformer import Transformer, TransformerNetwork
from genus.part import Count, Part

if TYPE_CHECKING:
    from genus.batch import Packed
    from genus.model import Model
    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.model.embedding import EmbeddingModule

HEAD_SIZE = 64
"""Smallest head size of a generator whose number of heads is not set (unless its hidden size is smaller)."""
SHARED = (Embedding, FactorizedEmbedding, ProjectedEmbedding)
"""Embeddings whose tables a second network can share."""


class GeneratorConfig(Part):
    """Sizes of a generator: the model's encoder at a fraction of its width and depth, with shared embeddings.

    The embedding tables of tokens, positions and segments, and their norm, are the model's; a projection maps them to
    the generator's hidden size. All other choices are the model's too.

    Source: Clark et al. 2020, ELECTRA, section 3.2, weight sharing and smaller generators; released code,
    run_pretraining.py, get_generator_config, and modeling.py, where the scope of all embeddings is the discriminator's.
    """

    width: float = 0.25
    """Ratio of the hidden size to the model's."""
    depth: float = 1.0
    """Ratio of the number of layers to the model's."""
    heads: Count | None = None
    """Number of attention heads; None: the hidden size divided by 64, rounded down to a divisor of it, at least 1."""
    inner: Count | None = None
    """F, the inner size of the feed-forward layers; None: four times the hidden size."""

    @property
    def in_words(self) -> str:
        """The ratio of the hidden size, and that of the number of layers if it is not 1."""
        return f"a generator {self.width:.2g} as wide" + ("" if self.depth == 1 else f", {self.depth:.2g} as deep")

    def __post_init__(self) -> None:
        """Check that the generator is not larger than the model.

        Raises:
            ValueError: `width` or `depth` outside (0, 1].
        """
        for name, share in {"width": self.width, "depth": self.depth}.items():
            if not 0 < share <= 1:
                raise ValueError(f"{name} is {share:g} of the model's own, but a generator may not be larger than the "
                                 "model that judges it: take a share above 0, and 1 at most")  # fmt: skip

    def encoder(self, model: Model) -> Transformer:
        """Return the architecture of a model's generator, as an encoder.

        Raises:
            UsageError: the model is not a plain encoder, or has embeddings that cannot be shared.
        """
        if type(model) is not Transformer or type(model.embedding) not in SHARED:
            kinds = " or ".join(kind.__name__ for kind in SHARED)
            raise UsageError(f"generator: cannot share the embeddings of this model; take a Transformer with {kinds}")
        hidden = max(1, round(self.width * model.hidden))
        changes = {
            "layers": max(1, round(self.depth * model.layers)),
            "hidden": hidden,
            "attention": {"heads": self.heads or _heads(hidden)},
            "feedforward": {"size": self.inner or 4 * hidden},
            "embedding": {"kind": ProjectedEmbedding.__name__, "size": model.embedding_width},
            "pooler": None,
        }
        return model.overlay(changes)

    def build(self, model: Model) -> GeneratorNetwork:
        """Return the module of the generator, without embeddings."""
        return GeneratorNetwork(self.encoder(model))

    def cost(self, model: Model, lengths: ExampleLengths) -> ComponentCost:
        """Return what it demands beside the model's embeddings, per token of examples of these lengths."""
        encoder = self.encoder(model)
        projection = cast("ProjectedEmbedding", encoder.embedding).projecting(encoder.hidden)
        layers = encoder.stack.cost(encoder, lengths) + encoder.bias_cost()
        return projection + layers + encoder.block.final_norm(encoder).cost(encoder.width)


class GeneratorNetwork(nn.Module):
    """The module of a generator, without embeddings, which are passed to `forward`."""

    def __init__(self, encoder: Transformer) -> None:
        super().__init__()
        self.encoder = encoder
        made = TransformerNetwork(encoder, vocab_size=1)  # its embedding tables are not used
        self.projection = cast("FactorizedEmbeddingModule", made.embed).projection
        self.layers, self.norm = made.layers, made.norm
        self.position_bias, self.rotation = made.position_bias, made.rotation

    def forward(self, embed: EmbeddingModule, packed: Packed) -> Tensor:
        """Forward pass: return the last hidden states (T, H), from the model's embeddings of the tokens."""
        x = self.projection(embed.vectors(packed))
        context = Context.of(packed, x, self.training, rotation=self.rotation, bias=self.position_bias)
        return self.norm(self.layers(x, context))  # type: ignore[no-any-return]

    def whole(self, embed: EmbeddingModule) -> TransformerNetwork:
        """Return the generator with the model's embeddings as one encoder network: the same tensors, no copies."""
        with skeleton():  # all weights are replaced
            network = TransformerNetwork(self.encoder, embed.tokens.num_embeddings)
        for name, table in embed.named_children():
            if name in dict(network.embed.named_children()):
                setattr(network.embed, name, table)
        network.embed.projection = self.projection
        network.layers, network.norm, network.position_bias = self.layers, self.norm, self.position_bias
        return network


def _heads(hidden: int) -> int:
    """Return the largest number of heads of head size 64 at least that divides the hidden size, or 1."""
    return next(heads for heads in range(max(1, hidden // HEAD_SIZE), 0, -1) if hidden % heads == 0)


def fitted(generator: Model, model: Model) -> GeneratorConfig:
    """Return the configuration with which a model's generator is the encoder `generator`.

    Raises:
        UsageError: `generator` is larger than the model, or differs from it in more than its sizes.
    """
    if isinstance(generator, Transformer) and isinstance(model, Transformer):
        sizes = generator.to_json()
        try:
            plain = GeneratorConfig(width=generator.hidden / model.hidden, depth=generator.layers / model.layers)
        except ValueError as error:
            raise UsageError(str(error)) from None
        exact = replace(plain, heads=sizes["attention"]["heads"], inner=sizes["feedforward"]["size"])
        for choice in (plain, exact):
            if choice.encoder(model) == generator:
                return choice
    raise UsageError("differs from the model it generates for in more than its size; they cannot be trained together")
