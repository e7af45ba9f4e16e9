"""Parts that decoders brought: RMS norm, SiLU, sinusoidal positions, scaled embeddings, GPT-J's starting weights."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
import torch

from genus.model.activation import Silu
from genus.model.block.parallel import Parallel
from genus.model.embedding import Embedding
from genus.model.embedding.scaled import ScaledEmbedding
from genus.model.norm import Identity, RMSNorm
from genus.model.position.sinusoidal import Sinusoidal
from hand import equal_rows
from toys.decoder import DECODER, VOCABULARY

if TYPE_CHECKING:
    from genus.model.transformer import TransformerNetwork

EXACT = 1e-12
"""A handful of float64 operations."""


def test_rms_norm_by_its_definition() -> None:
    torch.manual_seed(0)
    norm, x = RMSNorm(eps=0.1).build(8).double(), torch.randn(5, 8, dtype=torch.float64)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)  # type: ignore[operator]
    for row, found in zip(x.tolist(), norm(x).tolist(), strict=True):
        scale = math.sqrt(sum(value * value for value in row) / 8 + 0.1)
        expected = [value / scale * weight for value, weight in zip(row, norm.weight.tolist(), strict=True)]  # type: ignore[operator]
        assert found == pytest.approx(expected, rel=EXACT)


def test_silu_by_its_definition() -> None:
    x = torch.linspace(-4, 4, 9, dtype=torch.float64)
    expected = [value / (1 + math.exp(-value)) for value in x.tolist()]
    assert Silu()(x).tolist() == pytest.approx(expected, rel=EXACT)


def test_sinusoidal_positions_by_their_definition() -> None:
    found = Sinusoidal().build(6)(torch.tensor([0, 1, 700]))
    for position, row in zip((0, 1, 700), found.tolist(), strict=True):
        angles = [position * 10000 ** (-2 * n / 6) for n in range(3)]
        assert row == pytest.approx([*map(math.sin, angles), *map(math.cos, angles)], abs=EXACT)
    with pytest.raises(ValueError, match="embedding size of 7 is odd"):
        Sinusoidal().check(7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_sums_have_the_dtype_of_the_tokens(dtype: torch.dtype) -> None:
    """Whatever the precision in which positions are computed."""
    embed = Embedding(segments=0, position=Sinusoidal(), norm=Identity(), dropout=0.0).build(VOCABULARY, 8).to(dtype)
    assert embed(equal_rows(torch.tensor([[1, 2, 3]]))).dtype == dtype


def test_a_scaled_embedding_multiplies_tokens_alone() -> None:
    choices = {"segments": 0, "position": Sinusoidal(), "norm": Identity(), "dropout": 0.0}
    ids = equal_rows(torch.tensor([[1, 2, 3], [3, 2, 1]]))
    torch.manual_seed(0)
    plain = Embedding(**choices).build(VOCABULARY, 16)  # type: ignore[arg-type]
    torch.manual_seed(0)
    scaled = ScaledEmbedding(**choices).build(VOCABULARY, 16)  # type: ignore[arg-type]
    positions = plain.positions(ids.positions).float()
    torch.testing.assert_close(scaled(ids) - positions, 4 * (plain(ids) - positions))
    assert ScaledEmbedding().in_words.startswith("scaled token")
    lengths = {"tokens": 8}
    assert Embedding().cost(VOCABULARY, 16, lengths) == ScaledEmbedding().cost(VOCABULARY, 16, lengths)


def test_maps_that_end_a_parallel_branch_start_from_two_over_the_layers() -> None:
    wide = replace(DECODER, layers=8, hidden=128, block=Parallel())
    torch.manual_seed(0)
    network = cast("TransformerNetwork", wide.build(VOCABULARY))
    weights = dict(network.layers[0].named_parameters())  # type: ignore[index]
    std = wide.initialization.std  # type: ignore[attr-defined]
    for name, scale in (("attention.query", 1), ("attention.out", 0.25), ("feedforward.inner", 1)):
        assert float(weights[f"{name}.weight"].detach().std()) == pytest.approx(scale * std, rel=0.1), name
    assert float(weights["feedforward.out.weight"].detach().std()) == pytest.approx(0.25 * std, rel=0.1)
