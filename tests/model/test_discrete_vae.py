"""The discrete VAE: parameters of the released code, patches in their places, images apart, no seams."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from genus import catalog
from genus.batch import Batch, Packed
from genus.cost import cost
from genus.errors import UsageError
from genus.images.decode import patches
from genus.model.discrete_vae import MARGIN, DiscreteVAE, mapped, unmapped
from genus.model.skeleton import skeleton

SMALL = DiscreteVAE(codes=40, grid=3, channels=8, code_channels=12, groups=3, blocks=2)


def released(vocabulary: int = 8192, first: int = 256, init: int = 128, blocks: int = 2) -> tuple[int, int]:
    """Return the parameters of the released encoder and decoder, convolution by convolution (dall_e/*.py)."""

    def conv(inputs: int, outputs: int, width: int) -> int:
        return inputs * outputs * width * width + outputs

    def block(inputs: int, outputs: int, widths: tuple[int, ...]) -> int:
        inner = outputs // 4
        body = conv(inputs, inner, widths[0]) + conv(inner, inner, widths[1]) + conv(inner, inner, widths[2])
        return body + conv(inner, outputs, widths[3]) + (conv(inputs, outputs, 1) if inputs != outputs else 0)

    encoder = conv(3, first, 7) + conv(8 * first, vocabulary, 1)
    decoder = conv(vocabulary, init, 1) + conv(first, 6, 1)
    for before, after in ((1, 1), (1, 2), (2, 4), (4, 8)):
        for number in range(blocks):
            encoder += block((after if number else before) * first, after * first, (3, 3, 3, 1))
    for before, after in ((0, 8), (8, 4), (4, 2), (2, 1)):
        for number in range(blocks):
            inputs = after * first if number else before * first or init
            decoder += block(inputs, after * first, (1, 3, 3, 3))
    return encoder, decoder


def test_parameters_are_those_of_the_released_code() -> None:
    choice: Any = catalog.load("dvae").model
    encoder, decoder = released()
    assert (choice.encoding().parameters, choice.decoding().parameters) == (encoder, decoder)
    with skeleton():
        network: Any = choice.build(1)
    assert sum(weight.numel() for weight in network.encoder.parameters()) == encoder
    assert sum(weight.numel() for weight in network.decoder.parameters()) == decoder
    assert cost(catalog.load("dvae")).parameters == encoder + decoder


def packed(squares: np.ndarray, patch: int, rows: int, row_length: int) -> Packed:
    """Return images in so many rows, as many of each as fit."""
    area = (squares.shape[1] // patch) ** 2
    number = len(squares) // rows
    cut = torch.from_numpy(np.stack([patches(one, patch) for one in squares])).view(rows, number * area, -1)
    pixels = torch.nn.functional.pad(cut, (0, 0, 0, row_length - number * area)).flatten(0, 1)
    ids = torch.ones(rows * row_length, dtype=torch.long)
    return replace(Packed.laid(ids, [[area] * number] * rows, row_length), pixels=pixels)


@pytest.fixture
def squares() -> Any:
    return np.random.default_rng(0).integers(0, 256, (4, SMALL.side, SMALL.side, 3), dtype=np.uint8)


def test_logits_of_packed_patches_are_those_of_whole_images(squares: Any) -> None:
    """Two images a row, and padding behind them."""
    torch.manual_seed(0)
    network: Any = SMALL.build(1)
    length = 2 * SMALL.grid**2 + 5
    states = network(Batch({"tokens": packed(squares, SMALL.patch, 2, length)}, {}))["tokens"]
    whole = network.logits(torch.from_numpy(squares).permute(0, 3, 1, 2))
    flat = whole.flatten(2).transpose(1, 2).reshape(2, -1, SMALL.codes)
    rows = states.view(2, length, -1)
    torch.testing.assert_close(rows[:, :-5], flat)
    assert not rows[:, -5:].any()


def test_the_decoder_gives_each_patch_its_pixels(squares: Any) -> None:
    """μ of packed codes, put together, is the picture of these codes."""
    torch.manual_seed(0)
    network: Any = SMALL.build(1)
    codes = torch.randint(SMALL.codes, (4, SMALL.grid, SMALL.grid))
    stream = packed(squares, SMALL.patch, 2, 2 * SMALL.grid**2)
    mean, log_scale = network.decode(stream, torch.nn.functional.one_hot(codes.flatten(), SMALL.codes).float())
    assert mean.shape == log_scale.shape == (4 * SMALL.grid**2, 3 * SMALL.patch**2)
    pictures = network.pictures(codes).permute(0, 2, 3, 1).numpy()
    cut = np.concatenate([patches(one, SMALL.patch) for one in pictures])
    expected = (unmapped(mean.sigmoid()) * 255).round()
    assert np.abs(cut.astype(int) - expected.detach().numpy()).max() <= 1


def test_pixels_are_mapped_as_published_and_back() -> None:
    """Released code, map_pixels and unmap_pixels, of numbers from 0 to 1: (1 - 2 ε) x + ε."""
    pixels = torch.arange(256, dtype=torch.uint8)
    assert MARGIN == 0.1
    torch.testing.assert_close(mapped(pixels), 0.8 * (pixels.float() / 255) + 0.1)
    torch.testing.assert_close(unmapped(mapped(pixels)), pixels.float() / 255)
    assert unmapped(torch.tensor([0.0, 1.0])).tolist() == [0.0, 1.0]


def test_residual_branches_are_scaled_by_the_square_of_the_blocks() -> None:
    """Released code: post_gain is 1 / n_layers², of all blocks of all groups."""
    network: Any = SMALL.build(1)
    scales = {part.scale for part in network.modules() if hasattr(part, "branch")}
    assert scales == {1 / (3 * 2) ** 2}


def test_what_it_has_not() -> None:
    network: Any = SMALL.build(1)
    with pytest.raises(UsageError, match="no token embedding"):
        assert network.token_embedding
    with pytest.raises(ValueError, match="given a text"):
        network(Batch({"tokens": Packed.laid(torch.ones(9, dtype=torch.long), [[9]], 9)}, {}))
