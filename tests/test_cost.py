"""Counts of parameters, FLOPs and bytes against built models, Hugging Face's classes and PyTorch's own counters."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from genus.batch import Batch, Flow, Packed, Targets
from genus.catalog import load, names
from genus.cost import TRAINING, StageFlops, component_cost, cost, stage_cost
from genus.model.attention.block_sparse import layer as block_sparse
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding import Embedding
from genus.model.embedding.adaptive import AdaptiveEmbedding
from genus.model.feedforward.mlp import MLP
from genus.model.head.adaptive_softmax import zipf
from genus.model.pooler import Pooler
from genus.model.position.learned import LearnedPosition
from genus.model.skeleton import skeleton
from genus.model.transformer import Transformer
from genus.stages import Stage
from hand import equal_rows

if TYPE_CHECKING:
    from genus.recipe import Recipe

FLOPS = 0.02
"""The count leaves out nothing that PyTorch's counter counts; targets are a rounded share of the tokens."""
BYTES = 0.1
"""An estimate: small tensors (means, labels, counts) are left out of it."""

SHAPES = {
    "plain": Transformer(layers=3, hidden=48, attention=MultiHeadAttention(heads=4), feedforward=MLP(size=100)),
    "pooled": Transformer(
        layers=2, hidden=32, attention=MultiHeadAttention(heads=2), feedforward=MLP(size=64), pooler=Pooler()
    ),
    "no bias, three segments, shifted positions": Transformer(
        layers=1,
        hidden=24,
        attention=MultiHeadAttention(heads=3, bias=False),
        feedforward=MLP(size=50),
        embedding=Embedding(segments=3, position=LearnedPosition(length=130, offset=2)),
    ),
}


def recipe(model: Transformer) -> Recipe:
    """Return BERT's row with another model, without dropout, and one stage."""
    plain = replace(model, dropout=0.0, attention=replace(model.attention, dropout=0.0))  # type: ignore[call-arg]
    plain = replace(plain, embedding=replace(model.embedding, dropout=0.0))
    stage = Stage(max_length=64, batch=8, micro_batch=4)
    return replace(load("bert/base"), model=plain, stages=(stage,))


def full_batch(rows: int, length: int, vocabulary: int, targets: int) -> Batch:
    """Return rows of one sequence each, with masked targets and one class a row."""
    ids = torch.randint(1, vocabulary, (rows * length,))
    chosen = torch.randperm(rows * length)[:targets]
    return Batch(
        {"tokens": equal_rows(ids.view(rows, length))},
        {
            "masked_lm": Targets(chosen, ids[chosen]),
            "next_sentence": Targets(torch.arange(rows) * length, torch.zeros(rows, dtype=torch.long)),
        },
    )


@pytest.mark.parametrize("model", SHAPES.values(), ids=SHAPES.keys())
def test_parameters_of_built_models(model: Transformer) -> None:
    row = recipe(model)
    with skeleton():
        learner = row.learner()
    assert cost(row).parameters == sum(p.numel() for p in learner.parameters())
    assert cost(row).network == sum(p.numel() for p in learner.network.parameters())


@pytest.mark.parametrize("name", ["BertForPreTraining", "RobertaForMaskedLM"])
@pytest.mark.parametrize("size", ["base", "large"])
def test_parameters_of_published_sizes(name: str, size: str) -> None:
    transformers = pytest.importorskip("transformers")
    row = load(f"{'bert' if name.startswith('Bert') else 'roberta'}/{size}")
    model, own = row.model, cost(row)
    assert isinstance(model, Transformer)
    shape = {"hidden_size": model.hidden, "num_hidden_layers": model.layers, "intermediate_size": 4 * model.hidden}
    config = transformers.BertConfig(num_attention_heads=model.hidden // 64, **shape)
    if name.startswith("Roberta"):
        config = transformers.RobertaConfig(
            vocab_size=50_265,
            max_position_embeddings=514,
            type_vocab_size=1,
            num_attention_heads=model.hidden // 64,
            **shape,
        )
    with skeleton():
        theirs = getattr(transformers, name)(config)
    assert own.parameters == sum(p.numel() for p in theirs.parameters())


def test_parameters_that_are_known() -> None:
    """Hugging Face's `BertModel`, base and large."""
    assert cost(load("bert/base")).network == 109_482_240
    assert cost(load("bert/large")).network == 335_141_888


@pytest.mark.parametrize("model", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("length", [64, 128])
def test_flops_agree_with_pytorch(model: Transformer, length: int) -> None:
    row = recipe(model)
    learner = row.learner()
    rows = 4
    batch = full_batch(rows, length, row.tokens.vocab_size, round(0.15 * rows * length))
    with FlopCounterMode(display=False) as forward:
        sums = learner(batch).sums
    with FlopCounterMode(display=False) as backward:
        learner.objective(sums, learner.counts(batch)).backward()
    ours = component_cost(row, {"tokens": length}).flops * rows * length
    assert forward.get_total_flops() == pytest.approx(ours, rel=FLOPS)
    assert forward.get_total_flops() + backward.get_total_flops() == pytest.approx(TRAINING * ours, rel=FLOPS)


def streams(rows: int, length: int, vocabulary: int) -> Packed:
    """Return rows of one sequence each, all of which go on."""
    packed = full_batch(rows, length, vocabulary, 0).tokens
    return replace(packed, flow=Flow(torch.ones(rows, dtype=torch.bool), torch.full((rows,), length)))


@pytest.mark.parametrize("name", [name for name in names() if name.endswith("/mini")])
def test_flops_of_every_member_agree_with_pytorch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its network, memory, source and all; by the definition where short rows are computed otherwise."""
    monkeypatch.setattr(block_sparse, "DENSE_LENGTH", 0)
    row, rows = load(name), 4
    limits, vocabulary = row.stages[-1].limits, row.tokens.vocab_size
    network = row.model.build(vocabulary)
    given = {stream: streams(rows, length, vocabulary) for stream, length in limits.items()}
    for stream, packed in given.items():
        if (pixels := row.model.pixels(stream)) is not None:
            given[stream] = replace(packed, pixels=torch.zeros(len(packed.ids), pixels, dtype=torch.uint8))
    batch = Batch(given, {}, memory=network.initial_memory(rows))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted:  # the fused kernel is not counted
        network(batch)
    wanted = row.model.cost(vocabulary, limits)
    assert counted.get_total_flops() == pytest.approx(
        (wanted.flops + wanted.forward_only_flops) * rows * limits["tokens"] + wanted.frozen_input_flops, rel=FLOPS
    )


def labels(embedding: Embedding, vocabulary: int, number: int) -> Tensor:
    """Return as many ids of each cluster as Zipf's law gives it, or the same id of a vocabulary without clusters."""
    clusters = embedding.clusters(vocabulary) if isinstance(embedding, AdaptiveEmbedding) else [(0, vocabulary)]
    found = torch.full((number,), clusters[0][1] - 1)
    place = 0
    for begin, end in clusters[1:]:
        share = round(zipf(begin, end, vocabulary) * number)
        found[place : place + share] = begin
        place += share
    return found


@pytest.mark.parametrize("name", ["xlnet/mini", "transformer-xl/mini"])
def test_flops_of_memory_second_states_and_rare_tokens(name: str) -> None:
    """Forward and backward: what is remembered, and distances, learn nothing. XLNet predicts 24 tokens of 144."""
    row, rows, length = load(name), 4, 144
    learner, vocabulary = row.learner(), row.tokens.vocab_size
    assert isinstance(row.model, Transformer)
    (task,) = row.objectives
    share = 6 if task.name == "permutation_lm" else 1
    index = torch.arange(0, rows * length, share)
    targets = {task.name: Targets(index, labels(row.model.embedding, vocabulary, len(index)))}
    packed = streams(rows, length, vocabulary)
    packed = replace(packed, facts={**packed.facts, "order": torch.zeros_like(packed.ids)})
    batch = Batch({"tokens": packed}, targets, memory=learner.network.initial_memory(rows))
    with FlopCounterMode(display=False) as forward:
        sums = learner(batch).sums
    with FlopCounterMode(display=False) as backward:
        learner.objective(sums, learner.counts(batch)).backward()
    row = replace(row, stages=(Stage(max_length=length, batch=rows, micro_batch=rows),))
    wanted = cost(row).stages[0]
    assert forward.get_total_flops() == pytest.approx(wanted.flops_forward * rows * length, rel=FLOPS)
    total = forward.get_total_flops() + backward.get_total_flops()
    assert total == pytest.approx(wanted.flops_training * rows * length, rel=FLOPS)


def test_zipf_shares_are_those_of_the_sums() -> None:
    whole = sum(1 / n for n in range(1, 5001))
    for begin, end in ((10, 200), (200, 5000)):
        assert zipf(begin, end, 5000) == pytest.approx(sum(1 / n for n in range(begin + 1, end + 1)) / whole, rel=1e-3)


def test_flops_of_a_stage_are_those_of_its_tokens() -> None:
    row = load("bert/base")
    first, last = cost(row).stages[0], cost(row).stages[-1]
    assert first.max_length < last.max_length
    assert first.flops_forward < last.flops_forward
    assert first.flops_step == first.flops_training * row.stages[0].batch * first.max_length


@pytest.mark.parametrize("name", names())
def test_flops_by_length_are_those_of_the_stage_where_rows_are_full(name: str) -> None:
    row = load(name)
    for stage in row.stages:
        full = stage_cost(row, stage)
        found = StageFlops(row, stage)({name: [length] * stage.micro_batch for name, length in stage.limits.items()})
        assert found == pytest.approx(full.flops_training * stage.micro_batch * stage.max_length)


@pytest.mark.parametrize("documents", [[512], [256, 256], [300, 100, 60, 52], [8] * 64])
def test_flops_of_attention_go_by_the_lengths_of_packed_documents(documents: list[int]) -> None:
    """What is proportional to the tokens is the same however they are cut; attention goes by the sum of squares.

    A token of a sequence of l makes 2 products with l tokens, of 2 H FLOPs a layer each, 3 times in training.
    """
    row = replace(load("roberta/base"), stages=(Stage(max_length=512, batch=1, micro_batch=1),))
    assert isinstance(row.model, Transformer)
    flops = StageFlops(row, row.stages[0])
    attention = 3 * 4 * row.model.hidden * row.model.layers
    tokens, squares = sum(documents), sum(length**2 for length in documents)
    whole = flops({"tokens": [tokens]}) - attention * tokens**2
    assert flops({"tokens": documents}) == pytest.approx(whole + attention * squares)


def test_an_empty_batch_costs_no_more_than_is_fixed() -> None:
    row = load("xlnet/mini")
    flops = StageFlops(row, row.stages[0])
    assert flops({"tokens": []}) == flops({"tokens": [0]}) == flops.fixed > 0


def test_activations_are_about_those_kept() -> None:
    """What autograd keeps, each storage once, without parameters, at a length where no probabilities are kept."""
    length, rows = 640, 1
    positions = Embedding(position=LearnedPosition(length=length))
    model = Transformer(
        layers=4, hidden=64, attention=MultiHeadAttention(heads=4), feedforward=MLP(size=256), embedding=positions
    )
    row = recipe(model)
    row = replace(row, stages=(Stage(max_length=length, batch=rows, micro_batch=rows),))
    learner = row.learner()
    own = {p.untyped_storage().data_ptr() for p in learner.parameters()}
    kept: dict[int, int] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own and x.is_floating_point():
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    batch = full_batch(rows, length, row.tokens.vocab_size, round(0.15 * rows * length))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        sums = learner(batch).sums
    assert sums
    assert cost(row).stages[0].bytes_activations == pytest.approx(sum(kept.values()), rel=BYTES)


def test_memory_is_the_sum_of_its_parts() -> None:
    own = cost(recipe(SHAPES["plain"]))
    assert own.bytes_weights == own.bytes_gradients == 4 * own.parameters
    assert own.bytes_optimizer == 8 * own.parameters
    assert own.bytes_training == 16 * own.parameters + own.stages[0].bytes_activations
