"""The residual network of CLIP: convolutions from an image to feature maps, which attention pools to one vector.

Legend: T token positions of a packed batch, over all rows; N sequences, of a batch or of a part of it; K keys; H hidden
size; A attention heads; D head size; E embedding size, at the input or at the output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.model import Model, Network, States
from genus.model.cost import ComponentCost, linear_cost
from genus.model.embedding.patches import CHANNELS, IMAGE_MEAN, IMAGE_STD, standardized
from genus.model.image_network import ImageNetwork
from genus.part import Count, NotNegative, Positive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genus.batch import Batch, Packed
    from genus.model.cost import ExampleLengths

EXPANSION = 4
"""Outputs of a block over its inner feature maps (released code: Bottleneck)."""
STEM_STRIDE = 4
"""Pixels of each side for a feature vector before the first block: a stride and a mean of 2 each (released code)."""
MOMENTUM, EPS = 0.1, 1e-5
"""Share of a batch in the running statistics, and what is added to variances (PyTorch's defaults, as released)."""


class ResNet(Model):
    """A residual network (ResNet-D) with anti-aliased strides and attention pooling; CLIP's ResNet-50 by default.

    The stem is three convolutions of 3 x 3 places to C / 2, C / 2 and C feature maps, the first with stride 2, and a
    mean of 2 x 2. Group g has blocks ReLU(s(x) + f(x)) of inner width C 2^g: f has convolutions of 1, 3 and 1 places a
    side, the last to four times as many feature maps, and s is the identity, or a convolution of 1 place where size or
    number of feature maps change. Each convolution is followed by batch normalization, those of the stem and all but
    the last of f also by ReLU. The first block of every group but the first halves the image by a mean of 2 x 2, before
    the last convolution of f and before that of s.

    Attention pooling: with z = (mean of all feature vectors, feature vectors) + positions, the vector of the image is
    W_o attention(W_q z_0, W_k z, W_v z) + b_o, already in the space that texts share.

    The tokens of an image are a class token, whose state (E) is the vector, and patches of 4 x 2^(groups - 1) pixels a
    side, whose states are 0. In training the statistics of batch normalization are those of a micro-batch in one
    process, so losses depend on how large these are; in evaluation images do not depend on each other.

    Source: Radford et al. 2021, section 2.4; released code, model.py, `ModifiedResNet` and `AttentionPool2d`. He et al.
    2019 (arXiv:1812.01187), section 4.2, ResNet-D; Zhang 2019 (arXiv:1904.11486), means before strides.
    """

    blocks: tuple[Count, ...] = (3, 4, 6, 3)
    """Residual blocks of each group (table 19)."""
    channels: Count = 64
    """C, feature maps after the stem; the last group has 4 x 2^(groups - 1) times as many (table 19: 2048)."""
    grid: Count = 7
    """Feature vectors of each side of an image after the last block."""
    heads: Count = 32
    """A, heads of attention pooling (released code: H / 64)."""
    size: Count = 1024
    """E, size of the vector of an image."""
    residual_gain: NotNegative = 0.0
    """Gain of the batch normalization that ends f, before training (Goyal et al. 2017, section 5.1; released code,
    `initialize_parameters`)."""
    image_mean: tuple[float, float, float] = IMAGE_MEAN
    """Of each color."""
    image_std: tuple[Positive, Positive, Positive] = IMAGE_STD
    """Standard deviation of each color."""

    def __post_init__(self) -> None:
        """Check that groups are there, the stem has halves, and heads divide feature maps (ValueError)."""
        if not 0 < len(self.blocks) <= 6:  # 128 pixels a feature vector
            raise ValueError(f"blocks: expected the numbers of 1 to 6 groups, got {len(self.blocks)}")
        if self.channels % 2:
            raise ValueError(f"channels: {self.channels} are no multiple of 2")
        if self.features % self.heads:
            raise ValueError(f"heads: {self.heads} do not divide {self.features} feature maps")

    @property
    def in_words(self) -> str:
        """Its kind, blocks and feature maps."""
        return f"residual network, {sum(self.blocks)} blocks, {self.features} feature maps, attention pooling"

    @property
    def features(self) -> int:
        """H, feature maps after the last block."""
        return EXPANSION * self.channels * int(2 ** (len(self.blocks) - 1))

    @property
    def patch(self) -> int:
        """Pixels of each side for a feature vector after the last block."""
        return STEM_STRIDE * int(2 ** (len(self.blocks) - 1))

    @property
    def width(self) -> int:
        """E, the size of the states."""
        return self.size

    @property
    def max_length(self) -> int | None:
        """Tokens of an image: the class token and patches."""
        return self.grid**2 + 1

    def pixels(self, stream: str) -> int | None:
        """Return the numbers of a patch."""
        return CHANNELS * self.patch**2

    def projects(self, stream: str) -> bool:
        """Return True: attention pooling ends with a projection."""
        return True

    def build(self, vocab_size: int) -> Network:
        """Return the network with initial weights; it has no vocabulary."""
        return ResNetNetwork(self)

    def shapes(self) -> Iterator[tuple[int, int, bool]]:
        """Yield inputs, inner width, and whether it halves the image, of each block."""
        before = self.channels
        for group, number in enumerate(self.blocks):
            for place in range(number):
                width = self.channels * int(2**group)
                yield before, width, place == 0 and group > 0
                before = EXPANSION * width

    def cost(self, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of an image."""
        half, area = self.channels // 2, (self.grid * self.patch) ** 2 // 4
        cost = _convolution(CHANNELS, half, 3, area) + _convolution(half, half, 3, area)
        cost, area = cost + _convolution(half, self.channels, 3, area), area // 4
        for before, width, halves in self.shapes():
            after, wide = area // 4 if halves else area, EXPANSION * width
            cost += _convolution(before, width, 1, area) + _convolution(width, width, 3, area)
            cost += _convolution(width, wide, 1, after)
            cost += _convolution(before, wide, 1, after) if halves or before != wide else ComponentCost()
            area = after
        return (cost + self._pooling()).scaled(1 / lengths["tokens"])

    def _pooling(self) -> ComponentCost:
        """Return the cost of attention pooling for an image."""
        size, length = self.features, self.grid**2 + 1
        of_each = linear_cost(size, size).scaled(length)
        scores = ComponentCost(length * size, 4.0 * length * size)  # positions; scores and means by them
        return linear_cost(size, size) + of_each + of_each + scores + linear_cost(size, self.size)


def _convolution(inputs: int, outputs: int, kernel: int, area: int) -> ComponentCost:
    """Return the cost of a convolution with `area` outputs and of the batch normalization after it."""
    weights = inputs * outputs * kernel**2
    return ComponentCost(weights + 2 * outputs, 2.0 * weights * area, float((inputs + outputs) * area))


class BatchNorm(nn.Module):
    """Batch normalization of feature maps: (x - mean) / sqrt(variance + eps) * weight + bias.

    In training, mean and variance are of the batch, and running statistics are updated in passes with gradients, so
    that gradient caching, which runs each batch twice, counts it once. In evaluation they are the running ones.

    Source: Ioffe and Szegedy 2015, algorithms 1 and 2.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, size: int, gain: float = 1.0) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.full((size,), gain)), nn.Parameter(torch.zeros(size))
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_var", torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """Forward pass: return feature maps of the same shape."""
        kept = not self.training or torch.is_grad_enabled()
        mean, variance = (self.running_mean, self.running_var) if kept else (None, None)
        return F.batch_norm(x, mean, variance, self.weight, self.bias, self.training, MOMENTUM, EPS)


class ConvolutionNorm(nn.Module):
    """A convolution without bias that keeps the size of feature maps or halves it, and batch normalization."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, gain: float = 1.0) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = BatchNorm(outputs, gain)

    def forward(self, x: Tensor) -> Tensor:
        """Forward pass: return normalized feature maps."""
        return self.norm(self.convolution(x))  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """A residual block ReLU(s(x) + f(x)); see `ResNet`."""

    def __init__(self, before: int, width: int, halves: bool, gain: float) -> None:
        super().__init__()
        wide = EXPANSION * width
        self.narrow, self.spatial = ConvolutionNorm(before, width, 1), ConvolutionNorm(width, width, 3)
        self.wide = ConvolutionNorm(width, wide, 1, gain=gain)
        self.mean = nn.AvgPool2d(2) if halves else nn.Identity()
        self.skip = ConvolutionNorm(before, wide, 1) if halves or before != wide else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Forward pass: return feature maps of the same size, or of half of it."""
        inner = F.relu(self.spatial(F.relu(self.narrow(x))))
        return F.relu(self.wide(self.mean(inner)) + self.skip(self.mean(x)))


class AttentionPooling(nn.Module):
    """Multi-head attention of the mean of feature vectors to all of them; see `ResNet`."""

    def __init__(self, choice: ResNet) -> None:
        super().__init__()
        size, self.heads = choice.features, choice.heads
        self.positions = nn.Parameter(torch.randn(choice.grid**2 + 1, size) * size**-0.5)
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))
        self.out = nn.Linear(size, choice.size)
        for each in (self.query, self.key, self.value, self.out):  # released code: initialize_parameters
            nn.init.normal_(each.weight, std=size**-0.5)
            nn.init.zeros_(each.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Forward pass: return vectors (N, E) of feature maps (N, H, grid, grid)."""
        each = x.flatten(2).transpose(1, 2)
        z_NKH = torch.cat([each.mean(1, keepdim=True), each], 1) + self.positions.to(x.dtype)
        query, key, value = (
            made.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (N, A, K, D)
            for made in (self.query(z_NKH[:, :1]), self.key(z_NKH), self.value(z_NKH))
        )
        found = F.scaled_dot_product_attention(query, key, value)
        return self.out(found.transpose(1, 2).flatten(1))  # type: ignore[no-any-return]


class ResNetNetwork(ImageNetwork):
    """The module of a `ResNet`; rows hold whole images, from their beginnings on."""

    called: ClassVar[str] = "residual network"

    def __init__(self, choice: ResNet) -> None:
        super().__init__()
        self.choice, self.hidden, half = choice, choice.size, choice.channels // 2
        sizes = [(CHANNELS, half, 3, 2), (half, half, 3, 1), (half, choice.channels, 3, 1)]
        stem = [part for one in sizes for part in (ConvolutionNorm(*one), nn.ReLU())]
        self.stem = nn.Sequential(*stem, nn.AvgPool2d(2))
        self.blocks = nn.Sequential(*(Bottleneck(*one, choice.residual_gain) for one in choice.shapes()))
        self.pooling = AttentionPooling(choice)

    def forward(self, batch: Batch, *, layers: bool = False) -> States:
        """Forward pass: return the vector of each image as the state (T, E) of its class token, and 0 elsewhere.

        Args:
            batch: packed images.
            layers: must be false.

        Raises:
            UsageError: hidden states of layers are asked for.
            ValueError: the tokens are those of a text.
        """
        packed, length = batch.tokens, self.choice.grid**2 + 1
        pixels = self.pixels_of(packed, layers=layers)
        vector_NE = self.pooling(self.blocks(self.stem(self._images(packed, pixels))))
        rows = F.pad(vector_NE[:, None], (0, 0, 0, length - 1)).reshape(packed.rows, -1, vector_NE.shape[-1])
        whole = F.pad(rows, (0, 0, 0, packed.row_length - rows.shape[1]))
        return States({"tokens": whole.flatten(0, 1)})

    def _images(self, packed: Packed, pixels: Tensor) -> Tensor:
        """Return the images (N, 3, S, S) of all rows, as many as fit in each.

        Rows of recipes hold one image each; places without one do not change the others, but in training statistics.
        """
        grid, length, kind = self.choice.grid, self.choice.grid**2 + 1, next(self.parameters()).dtype
        number = packed.row_length // length
        rows = pixels.view(packed.rows, packed.row_length, -1)[:, : number * length]
        patches = rows.reshape(packed.rows * number, length, -1)[:, 1:]
        colors = standardized(patches, self.choice.image_mean, self.choice.image_std, kind)
        return F.pixel_shuffle(colors.transpose(1, 2).reshape(len(colors), -1, grid, grid), self.choice.patch)

    def layer_groups(self) -> list[nn.Module]:
        """Return the stem, each block, and attention pooling, for layer-wise learning rates."""
        return [self.stem, *self.blocks, self.pooling]
