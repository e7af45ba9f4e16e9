"""Contrastive learning of images and texts: which of an update's texts belongs to an image, and which image to a text.

Legend: M pairs, E size of a vector.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.model.cost import ComponentCost, linear_cost
from genus.objectives import Objective
from genus.objectives.joint import JointHead
from genus.objectives.pooling import Last
from genus.objectives.supervised.embedding import Projection, SentenceEmbedder
from genus.part import AtLeastOne, Count, Positive

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from genus.batch import Batch, Targets
    from genus.examples import Example
    from genus.model import Model, Network, States
    from genus.model.cost import ExampleLengths
    from genus.objectives import Head, Sums
    from genus.tokens.vocabulary import Vocabulary

IMAGE = "image"
"""Name of the stream of images, and of the targets, one for each pair."""


class ImageTextContrast(Objective):
    """Symmetric cross-entropy over the cosines of all images and texts of an update, s <i_m, t_n>.

    i = W_i h_i / |W_i h_i| of the class token's state, t = W_t h_t / |W_t h_t| of the last token's; a tower that ends
    with a projection (`Model.projects`) has no W. The loss of pair m is (log Σ_n exp(s <i_m, t_n>) + log Σ_n exp(s
    <i_n, t_m>)) / 2 - s <i_m, t_m>, with s learned as its logarithm.
    Other captions of the same image are negatives too, as published.

    Source: Radford et al. 2021, section 2.3 and figure 3.
    """

    causal: ClassVar[bool | None] = None

    size: Count
    """E, the size of both vectors; that of the states of a tower that ends with a projection."""
    temperature: Positive = 0.07
    """Its inverse is s before training (section 2.5)."""
    largest: AtLeastOne = 100.0
    """The largest s, to which it is clipped before every update (section 2.5)."""
    crop: Literal["random", "center"] = "random"
    """Which square of a resized image is learned from (section 2.3: a random one). Held-out images have the center."""

    @property
    def in_words(self) -> str:
        """What is compared."""
        return "images and texts of an update matched, both ways"

    @property
    def target(self) -> str:
        """Name of the targets, which the format gives."""
        return IMAGE

    @property
    def requires(self) -> frozenset[str]:
        """The pairs."""
        return frozenset({IMAGE})

    @property
    def measured(self) -> Objective:
        """The objective with the center of images."""
        return self.overlay({"crop": "center"})

    def check(self, model: Model) -> None:
        """Check that the model reads images, and that its projections are of one size (ValueError)."""
        if IMAGE not in model.streams:
            raise ValueError("objectives: ImageTextContrast compares images with texts, and this model reads no "
                             "images; take model=TwoTowers")  # fmt: skip
        for stream in ("tokens", IMAGE):
            if model.projects(stream) and (own := model.width_of(stream)) != self.size:
                raise ValueError(f"objectives: ImageTextContrast has vectors of {self.size}, and the model's own "
                                 f"projection of the stream {stream} gives {own}; take one size")  # fmt: skip

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example with the pixels of its image."""
        sequence = example.streams[IMAGE]
        if sequence.picture is not None:
            sequence.pixels = sequence.picture(rng if self.crop == "random" else None)
        return example

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return one target per pair."""
        return {self.target: sequences}

    def build(self, model: Model, vocab_size: int) -> ImageTextHead:
        """Build the head: both projections, and the temperature."""
        return ImageTextHead(self, model)

    def text_embedder(self, head: Head, model: Model) -> tuple[SentenceEmbedder, Head]:
        """Return the embedder of texts alone: unit vectors of the last token's state, by the head's own projection."""
        projection = Projection(size=self.size, activation=None, bias=False)
        embedder = SentenceEmbedder(pooling=Last(), normalize=True, projection=projection)
        made = embedder.build(model, 0)
        cast("Any", made).projection[0] = cast("ImageTextHead", head).text_projection
        return embedder, made

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost of the projections, once for each pair, per token of its text."""
        added = [stream for stream in ("tokens", IMAGE) if not model.projects(stream)]
        each = (linear_cost(model.width_of(stream), self.size, bias=False) for stream in added)
        return sum(each, ComponentCost()).scaled(1 / lengths["tokens"]) + ComponentCost(parameters=1)


class ImageTextHead(JointHead):
    """The module of `ImageTextContrast`; its loss is of all pairs of an update."""

    per = "sequence"
    compares = "compared"
    gathers: ClassVar[bool] = True

    def __init__(self, choice: ImageTextContrast, model: Model) -> None:
        super().__init__()
        self.target, (self.loss,), self.highest = choice.target, choice.losses, math.log(choice.largest)
        self.text_projection = _projection(model, "tokens", choice.size)
        self.image_projection = _projection(model, IMAGE, choice.size)
        for each in (self.text_projection, self.image_projection):  # released code: text_projection, proj
            if isinstance(each, nn.Linear):
                nn.init.normal_(each.weight, std=each.in_features**-0.5)
        self.log_scale = nn.Parameter(torch.full((1,), -math.log(choice.temperature)))

    def counts(self, batch: Batch) -> Sums:
        """Return the number of pairs."""
        return {self.loss: batch.targets[self.target].count()}

    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return unit vectors (M, E) `texts` and `images`, and `compared` (M, 2, E), whose products are the logits.

        Of texts without images `texts` alone, and of targets in the stream of images `images` alone. `compared` has
        s times the text's vector, so that the gradient of the loss with respect to it is also that of s.
        """
        targets, found = batch.targets[self.target], dict[str, Tensor]()
        entry = batch.streams[targets.stream].sequence[targets.index].long().clamp(min=0)
        with torch.autocast(states["tokens"].device.type, enabled=False):
            if targets.stream == "tokens":
                last = batch.tokens.offsets[entry + 1].long() - 1
                found["texts"] = self._unit(states["tokens"], last.clamp(min=0), self.text_projection)
            if IMAGE in states.streams:
                first = batch.streams[IMAGE].offsets[entry].long()
                states_TH = states[IMAGE]
                found["images"] = self._unit(states_TH, first.clamp(max=len(states_TH) - 1), self.image_projection)
            if len(found) == 2:
                found["compared"] = torch.stack([self.scale() * found["texts"], found["images"]], 1)
        return found

    def scale(self) -> Tensor:
        """Return s (1,); in training its logarithm is clipped first."""
        if self.training:
            with torch.no_grad():
                self.log_scale.clamp_(max=self.highest)
        return self.log_scale.exp()

    def joint_loss(self, compared: Sequence[Tensor], targets: Sequence[Targets]) -> Tensor:
        """Return the sum of the losses of all pairs."""
        text_ME, image_ME = torch.cat([*compared]).unbind(1)
        real_M = torch.cat([one.counted() for one in targets])
        logits_MM = text_ME @ image_ME.T
        lowest = torch.finfo(logits_MM.dtype).min
        of_text_M = logits_MM.masked_fill(~real_M, lowest).logsumexp(1)
        of_image_M = logits_MM.masked_fill(~real_M[:, None], lowest).logsumexp(0)
        each_M = (of_text_M + of_image_M) / 2 - logits_MM.diagonal()
        return torch.where(real_M, each_M, 0.0).sum()

    @staticmethod
    def _unit(states_TH: Tensor, at_M: Tensor, projection: nn.Module) -> Tensor:
        wide = states_TH.to(torch.promote_types(states_TH.dtype, torch.float32))
        return F.normalize(cast("Any", projection)(wide[at_M]), dim=-1)


def _projection(model: Model, stream: str, size: int) -> nn.Module:
    """Return the projection of a stream's states; the identity, where they are projected."""
    return nn.Identity() if model.projects(stream) else nn.Linear(model.width_of(stream), size, bias=False)
