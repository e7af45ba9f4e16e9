"""The discrete variational autoencoder: convolutions from an image to logits of codes, and back from codes to pixels.

Legend: T token positions of a packed batch, over all rows; V vocabulary, or classes of a head.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.model import Model, Network, States
from genus.model.cost import ComponentCost
from genus.model.image_network import ImageNetwork
from genus.part import Count, Depth

if TYPE_CHECKING:
    from genus.batch import Batch, Packed
    from genus.model.cost import ExampleLengths

COLORS = 3
BOTTLENECK = 4
"""Outputs of a residual block over its inner feature maps (released code: EncoderBlock, n_hid)."""
MARGIN = 0.1
"""ε: pixels are mapped to (ε, 1 - ε) (Ramesh et al. 2021, appendix A.3)."""


def mapped(pixels: Tensor) -> Tensor:
    """Return φ(x) = (1 - 2 ε) x / 255 + ε of pixels from 0 to 255 (appendix A.3, equation 3)."""
    return (1.0 - 2.0 * MARGIN) / 255.0 * pixels.float() + MARGIN


def unmapped(x: Tensor) -> Tensor:
    """Return φ⁻¹(x) / 255, cut to [0, 1]."""
    return ((x - MARGIN) / (1.0 - 2.0 * MARGIN)).clamp(0.0, 1.0)


class DiscreteVAE(Model):
    """A discrete variational autoencoder: an image becomes a grid of codes, each one of `codes` vectors.

    The tokens of an image are its patches of 2^(groups - 1) pixels a side, row by row, one for each code. Encoder and
    decoder are residual networks; between groups of blocks the encoder takes the maximum of 2 x 2 feature maps, and the
    decoder repeats each. A block is x + f(x) / L², with L blocks in all, f four convolutions after ReLU (3, 3, 3 and 1
    wide; in the decoder 1, 3, 3 and 3) over a quarter of the feature maps, and x mapped where their number changes.

    Source: Ramesh et al. 2021, appendix A.1; released code, dall_e/encoder.py and decoder.py.
    """

    codes: Count = 8192
    """V, the size of the codebook."""
    grid: Count = 32
    """Codes of each side of an image."""
    channels: Count = 256
    """Feature maps of the first group; each further one has twice as many."""
    code_channels: Count = 128
    """Feature maps of a code in the decoder."""
    groups: Depth = 4
    """Groups of residual blocks; between two of them the image is halved."""
    blocks: Depth = 2
    """Residual blocks of a group."""

    def __post_init__(self) -> None:
        """Check that blocks have a bottleneck (ValueError)."""
        if self.channels % BOTTLENECK:
            raise ValueError(f"channels: {self.channels} are no multiple of {BOTTLENECK}")
        if self.groups > 8:  # 128 pixels a code
            raise ValueError(f"groups: expected at most 8, got {self.groups}")

    @property
    def in_words(self) -> str:
        """Its kind, codes and feature maps."""
        return f"discrete VAE, {self.grid} x {self.grid} codes of {self.codes:,}, {self.channels} feature maps"

    @property
    def patch(self) -> int:
        """Pixels of each side of the patch of a code."""
        return int(2 ** (self.groups - 1))

    @property
    def side(self) -> int:
        """Pixels of each side of an image."""
        return self.grid * self.patch

    @property
    def numbers(self) -> int:
        """Numbers of a patch, 3 p²."""
        return COLORS * self.patch**2

    @property
    def width(self) -> int:
        """V: states are logits of codes."""
        return self.codes

    @property
    def max_length(self) -> int | None:
        """Codes of an image."""
        return self.grid**2

    def max_length_of(self, stream: str) -> int | None:
        """Return None: a row may hold several images."""
        return None

    def pixels(self, stream: str) -> int | None:
        """Return the numbers of a patch."""
        return self.numbers

    def build(self, vocab_size: int) -> Network:
        """Return the network with initial weights; it has a vocabulary of codes only."""
        return DiscreteVAENetwork(self)

    def widths(self) -> list[int]:
        """Return the feature maps of each group of the encoder."""
        return [self.channels * 2**number for number in range(self.groups)]

    def cost(self, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per code of the encoder, and the parameters of the decoder, which the objective runs."""
        return self.encoding() + ComponentCost(parameters=self.decoding().parameters)

    def encoding(self) -> ComponentCost:
        """Return the cost per code of the encoder."""
        widths, area = self.widths(), self.patch**2
        cost = _convolution(COLORS, widths[0], 7, area)
        for number, width in enumerate(widths):
            before = widths[max(0, number - 1)]
            cost += self._group(before, width, (3, 3, 3, 1), area // 4**number)
        return cost + _convolution(widths[-1], self.codes, 1, 1)

    def decoding(self) -> ComponentCost:
        """Return the cost per code of the decoder."""
        widths = self.widths()[::-1]
        cost, before = _convolution(self.codes, self.code_channels, 1, 1), self.code_channels
        for number, width in enumerate(widths):
            cost += self._group(before, width, (1, 3, 3, 3), 4**number)
            before = width
        return cost + _convolution(widths[-1], 2 * COLORS, 1, self.patch**2)

    def _group(self, before: int, width: int, kernels: tuple[int, ...], area: int) -> ComponentCost:
        """Return the cost of a group of blocks whose feature maps have `area` places for each code."""
        total, inner = ComponentCost(), width // BOTTLENECK
        for _ in range(self.blocks):
            inputs, outputs = (before, inner, inner, inner), (inner, inner, inner, width)
            for one, other, kernel in zip(inputs, outputs, kernels, strict=True):
                total += _convolution(one, other, kernel, area)
            if before != width:
                total += _convolution(before, width, 1, area)
            before = width
        return total


def _convolution(inputs: int, outputs: int, kernel: int, area: int) -> ComponentCost:
    """Return the cost per code of a convolution over `area` places for each."""
    weights = inputs * outputs * kernel**2
    return ComponentCost(weights + outputs, 2.0 * weights * area, float(inputs * area))


class Convolution(nn.Conv2d):
    """A convolution that keeps the size of feature maps; weights begin as N(0, 1 / inputs), biases at 0.

    Source: released code, dall_e/utils.py, Conv2d.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, padding=(kernel - 1) // 2)

    def reset_parameters(self) -> None:
        """Draw the weights."""
        inputs = self.in_channels * self.kernel_size[0] ** 2
        nn.init.normal_(self.weight, std=inputs**-0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class ResidualBlock(nn.Module):
    """A residual block x + scale f(x); see `DiscreteVAE`."""

    def __init__(self, inputs: int, outputs: int, kernels: tuple[int, ...], scale: float) -> None:
        super().__init__()
        inner, self.scale = outputs // BOTTLENECK, scale
        sizes = [inputs, inner, inner, inner, outputs]
        steps = zip(sizes, sizes[1:], kernels, strict=False)
        self.branch = nn.Sequential(*(part for step in steps for part in (nn.ReLU(), Convolution(*step))))
        self.skip = nn.Identity() if inputs == outputs else Convolution(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Forward pass: return feature maps of the same size."""
        return self.skip(x) + self.scale * self.branch(x)  # type: ignore[no-any-return]


def _blocks(choice: DiscreteVAE, before: int, width: int, kernels: tuple[int, ...]) -> list[nn.Module]:
    """Return the blocks of a group."""
    scale = 1.0 / (choice.groups * choice.blocks) ** 2
    sizes = [before, *[width] * choice.blocks]
    return [ResidualBlock(*pair, kernels, scale) for pair in pairwise(sizes)]


def _encoder(choice: DiscreteVAE) -> nn.Sequential:
    """Return the encoder, from (N, 3, S, S) to logits (N, V, grid, grid)."""
    widths = choice.widths()
    parts: list[nn.Module] = [Convolution(COLORS, widths[0], 7)]
    for number, width in enumerate(widths):
        parts += [nn.MaxPool2d(2)] if number else []
        parts += _blocks(choice, widths[max(0, number - 1)], width, (3, 3, 3, 1))
    return nn.Sequential(*parts, nn.ReLU(), Convolution(widths[-1], choice.codes, 1))


def _decoder(choice: DiscreteVAE) -> nn.Sequential:
    """Return the decoder, from codes (N, V, grid, grid) to μ and ln b of each pixel, (N, 6, S, S)."""
    widths, before = choice.widths()[::-1], choice.code_channels
    parts: list[nn.Module] = [Convolution(choice.codes, before, 1)]
    for number, width in enumerate(widths):
        parts += [nn.Upsample(scale_factor=2, mode="nearest")] if number else []
        parts += _blocks(choice, before, width, (1, 3, 3, 3))
        before = width
    return nn.Sequential(*parts, nn.ReLU(), Convolution(before, 2 * COLORS, 1))


class DiscreteVAENetwork(ImageNetwork):
    """The module of a `DiscreteVAE`; rows hold whole images, from their beginnings on."""

    called: ClassVar[str] = "discrete VAE"

    def __init__(self, choice: DiscreteVAE) -> None:
        super().__init__()
        self.choice, self.hidden = choice, choice.codes
        self.encoder, self.decoder = _encoder(choice), _decoder(choice)

    def forward(self, batch: Batch, *, layers: bool = False) -> States:
        """Forward pass: return logits of codes (T, V) as the states of `tokens`; 0 for padding.

        Args:
            batch: packed images.
            layers: must be false.

        Raises:
            UsageError: hidden states of layers are asked for.
            ValueError: the tokens are those of a text.
        """
        packed = batch.tokens
        pixels, like = self.pixels_of(packed, layers=layers), next(self.parameters()).dtype
        x = mapped(pixels).to(like)
        image = F.pixel_shuffle(self._grids(packed, x), self.choice.patch)
        return States({"tokens": self._flat(packed, self.encoder(image))})

    def decode(self, packed: Packed, code_TV: Tensor) -> tuple[Tensor, Tensor]:
        """Return μ and ln b (T, 3 p²) of each number of a patch, given probabilities of codes (T, V)."""
        maps = self.decoder(self._grids(packed, code_TV))
        found = self._flat(packed, F.pixel_unshuffle(maps, self.choice.patch))
        middle = self.choice.numbers
        return found[:, :middle], found[:, middle:]

    def logits(self, squares: Tensor) -> Tensor:
        """Return logits (N, V, grid, grid) of images (N, 3, S, S) of pixels from 0 to 255."""
        return self.encoder(mapped(squares).to(next(self.parameters()).dtype))  # type: ignore[no-any-return]

    def pictures(self, codes: Tensor) -> Tensor:
        """Return images (N, 3, S, S) uint8 of codes (N, grid, grid): φ⁻¹(sigmoid(μ)), without the scale b.

        Source: Ramesh et al. 2021, appendix A.3.
        """
        chosen = F.one_hot(codes, self.choice.codes).permute(0, 3, 1, 2).to(next(self.parameters()).dtype)
        mean = self.decoder(chosen)[:, :COLORS].float()
        return (unmapped(mean.sigmoid()) * 255.0).round().to(torch.uint8)

    def _grids(self, packed: Packed, x: Tensor) -> Tensor:
        """Return what the tokens of each image have, (T, C), as (N, C, grid, grid)."""
        grid, area = self.choice.grid, self.choice.grid**2
        images = packed.row_length // area
        rows = x.view(packed.rows, packed.row_length, -1)[:, : images * area]
        return rows.reshape(packed.rows * images, grid, grid, x.shape[-1]).permute(0, 3, 1, 2)

    def _flat(self, packed: Packed, maps: Tensor) -> Tensor:
        """Return what `_grids` has taken apart as (T, C), with 0 where a row has no image."""
        rows = maps.permute(0, 2, 3, 1).reshape(packed.rows, -1, maps.shape[1])
        return F.pad(rows, (0, 0, 0, packed.row_length - rows.shape[1])).flatten(0, 1)

    def layer_groups(self) -> list[nn.Module]:
        """Return encoder and decoder."""
        return [self.encoder, self.decoder]
