"""Rotary positions: the rotation of transformers' Llama and GPT-J, and scores that depend on distances alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from genus.batch import Batch
from genus.model.attention.linformer import LinformerAttention
from genus.model.block.residual import PreNorm
from genus.model.compile import compile_learner
from genus.model.embedding import Embedding
from genus.model.position.rotary import RescaledRotary, Rotary
from hand import equal_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.model.transformer import Transformer
    from genus.objectives import Learner

ROWS = [[12, 20, 5], [30], [1, 2, 3, 26], [9, 23]]
SINGLE = 1e-6
"""Rounding of float32 at numbers of size 1."""
DOUBLE = 1e-10
"""Of float64, relative to the largest number: sums of a hundred products in another order."""


def rotary(model: Transformer, **choices: Any) -> Transformer:
    embedding = replace(model.embedding, position=Rotary(**choices))
    return replace(model, embedding=embedding, block=PreNorm())


def test_it_is_llama_s() -> None:
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    positions, x = torch.tensor([0, 1, 7, 300]), torch.randn(4, 3, 16)
    config = pytest.importorskip("transformers").LlamaConfig(hidden_size=48, num_attention_heads=3, head_dim=16)
    cos, sin = llama.LlamaRotaryEmbedding(config)(x, positions[None])
    expected, _ = llama.apply_rotary_pos_emb(x.transpose(0, 1)[None], x.transpose(0, 1)[None], cos, sin)
    found = Rotary().rotation(16)(positions).to(torch.float32).turn(x)
    torch.testing.assert_close(found, expected[0].transpose(0, 1), atol=50 * SINGLE, rtol=0)


@pytest.mark.parametrize("numbers", [{}, {"factor": 32.0}, {"factor": 3.0, "low": 0.5, "high": 2.5, "old_length": 40}])
def test_rescaled_it_is_llama_3_1_s(numbers: dict[str, Any]) -> None:
    utilities = pytest.importorskip("transformers.modeling_rope_utils")
    choice = RescaledRotary(base=500_000.0, **numbers)
    told = {"factor": choice.factor, "low_freq_factor": choice.low, "high_freq_factor": choice.high}
    told |= {"rope_type": "llama3", "rope_theta": choice.base, "original_max_position_embeddings": choice.old_length}
    config = pytest.importorskip("transformers").LlamaConfig(head_dim=64, rope_parameters=told)
    expected, _ = utilities.ROPE_INIT_FUNCTIONS["llama3"](config)
    found = choice.rates(64, torch.device("cpu"))
    torch.testing.assert_close(found.float(), expected, atol=0, rtol=SINGLE)
    assert not torch.equal(found, Rotary(base=choice.base).rates(64, torch.device("cpu")))
    with pytest.raises(ValueError, match="high: expected more than low"):
        RescaledRotary(low=4.0, high=4.0)


def test_interleaved_it_is_gpt_j_s() -> None:
    gptj = pytest.importorskip("transformers.models.gptj.modeling_gptj")
    positions, x = torch.tensor([0, 1, 7, 30]), torch.randn(4, 3, 16)
    table = gptj.create_sinusoidal_positions(64, 8)[positions][None]
    sin, cos = torch.split(table, 4, dim=-1)
    turned = gptj.apply_rotary_pos_emb(x[None, ..., :8], sin, cos)[0]
    found = Rotary(interleaved=True, fraction=0.5).rotation(16)(positions).to(torch.float32).turn(x)
    torch.testing.assert_close(found[..., :8], turned, atol=20 * SINGLE, rtol=0)
    assert torch.equal(found[..., 8:], x[..., 8:])


@pytest.mark.parametrize("interleaved", [False, True])
def test_states_depend_on_distances_alone(make_encoder: Callable[..., Transformer], interleaved: bool) -> None:
    """Positions may begin anywhere, and that two tokens stand elsewhere than before is noticed."""
    torch.manual_seed(0)
    network = rotary(make_encoder(), interleaved=interleaved).build(67).double().eval()
    packed = equal_rows(torch.arange(1, 9)[None])
    with torch.no_grad():
        here, there = (
            network(Batch({"tokens": replace(packed, positions=packed.positions + start)}, {}))["tokens"]
            for start in (0, 100)
        )
        other = network(Batch({"tokens": replace(packed, positions=packed.positions * 2)}, {}))["tokens"]
    torch.testing.assert_close(here, there, atol=DOUBLE, rtol=0)
    assert (here - other).abs().max() > 1e-3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler imports what it deprecates
def test_compiled_it_learns_as_eager_with_one_graph_for_all_layers(
    make_batch: Callable[..., Batch], make_encoder: Callable[..., Transformer], make_learner: Callable[..., Learner]
) -> None:
    from torch._dynamo.utils import counters

    batch, graphs = make_batch(ROWS, 40), []
    for layers in (1, 3):
        torch._dynamo.reset()
        counters.clear()
        eager, compiled = (make_learner(rotary(make_encoder(layers=layers))).double() for _ in range(2))
        assert compile_learner(compiled.network, [])
        for learner in (eager, compiled):
            learner.objective(learner(batch).sums, learner.counts(batch)).backward()
        graphs.append(counters["stats"]["unique_graphs"])
        largest = max(float(p.grad.abs().max()) for p in eager.parameters() if p.grad is not None)
        for (name, a), (_, b) in zip(eager.named_parameters(), compiled.named_parameters(), strict=True):
            torch.testing.assert_close(b.grad, a.grad, atol=DOUBLE * largest, rtol=0, msg=name)
    assert graphs[0] == graphs[1]


def test_it_has_no_parameters_and_is_refused_where_attention_takes_none(
    make_encoder: Callable[..., Transformer],
) -> None:
    model = rotary(make_encoder())
    network = model.build(67)
    assert model.parameters(67) == sum(weight.numel() for weight in network.parameters())
    assert not any(isinstance(part, nn.Embedding) and part.num_embeddings == 600 for part in network.modules())
    with pytest.raises(ValueError, match=r"embedding\.position: LinformerAttention does not take Rotary"):
        replace(model, attention=LinformerAttention(heads=4, rank=4))
    with pytest.raises(
        ValueError, match=r"position.fraction: .* expected an even number above 0, since they rotate in pairs"
    ):
        replace(model, embedding=Embedding(position=Rotary(fraction=0.1)))
