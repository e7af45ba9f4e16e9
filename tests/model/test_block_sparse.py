"""Block-sparse attention against its definition, a dense mask written pair by pair; its cost, and what it draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from genus.batch import Batch, Packed
from genus.model.attention.block_sparse import kernel as block_products
from genus.model.attention.block_sparse import layer as block_sparse
from genus.model.attention.block_sparse.kernel import attend_blocks
from genus.model.attention.block_sparse.layer import BlockSparseAttention, BlockSparseAttentionLayer
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.attention.plan import Context
from genus.model.compile import compile_learner
from genus.model.global_tokens import GlobalTokenTransformer
from genus.model.transformer import Transformer
from genus.objectives import Learner
from hand import alone as only

FLOAT64 = 1e-13
"""float64 has 53 bits, 1e-16; sums of tens of terms in another order."""
COMPILED = 1e-11
"""The same, through three layers forward and backward, which magnify."""
FLOPS = 0.1
"""What only fills up the last blocks is computed, and not counted."""
ROWS = [[50, 9, 1], [60], [3, 4, 53], [17, 30]]
LENGTH = 60
MakePacked = Callable[..., Packed]
MakeBatch = Callable[..., Batch]
MakeEncoder = Callable[..., Transformer]
MakeLearner = Callable[..., Learner]


def sparse(block: int, first: int, last: int, window: int, random: int) -> BlockSparseAttention:
    """Return attention of three heads by blocks of a size, global tokens and blocks, a window, and random blocks."""
    return BlockSparseAttention(
        heads=3,
        dropout=0.0,
        block_size=block,
        num_global_tokens=first,
        num_global_tail_blocks=last,
        window_blocks=window,
        random_blocks=random,
    )


CHOICES = {
    "both ends": sparse(4, 4, 1, 3, 2),
    "front only": sparse(4, 8, 0, 3, 1),
    "front fills no block": sparse(4, 6, 0, 1, 0),
    "end only, wide": sparse(3, 0, 2, 5, 3),
    "focus": replace(sparse(4, 10, 1, 3, 2), random_block_limit=6, seed=7),
    "nothing global": sparse(2, 0, 0, 3, 1),
}
choices = pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES.keys())


@pytest.fixture(params=["by blocks", "by rows"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Compute attention between blocks, as in long rows, or between all tokens of a row, as in short ones."""
    monkeypatch.setattr(block_sparse, "DENSE_LENGTH", 0 if request.param == "by blocks" else 1 << 20)
    return str(request.param)


by_blocks = pytest.mark.parametrize("way", ["by blocks"], indirect=True)


def layer(choice: BlockSparseAttention, hidden: int = 12) -> BlockSparseAttentionLayer:
    torch.manual_seed(0)
    built = choice.build(hidden).double()
    assert isinstance(built, BlockSparseAttentionLayer)
    return built


def spare(packed: Packed, number: int = 3) -> Packed:
    """Return the packed stream as a feed gives it, with places for sequences that there are not."""
    return replace(packed, offsets=torch.cat([packed.offsets, packed.offsets[-1:].repeat(number)]))


def apart(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference."""
    return float((found - expected).detach().abs().max())


def blocks(choice: BlockSparseAttention, length: int) -> list[int]:
    """Return the block of each token of a sequence: the first `lead` tokens have blocks of their own."""
    size, lead = choice.block_size, choice.num_global_tokens
    return [p // size if p < lead else -(-lead // size) + (p - lead) // size for p in range(length)]


def who_sees_whom(choice: BlockSparseAttention, packed: Packed, drawn: list[list[list[int]]]) -> Tensor:
    """Return (A, T, T) bool by the definition; `drawn` are the random blocks of each block in turn and each head."""
    tokens, done = packed.ids.numel(), 0
    seen = torch.zeros(choice.heads, tokens, tokens, dtype=torch.bool)
    for start, stop in packed.spans():
        of = blocks(choice, stop - start)
        count = max(of, default=-1) + 1
        central = {
            b
            for b in range(count)
            if b < -(-choice.num_global_tokens // choice.block_size) or b >= count - choice.num_global_tail_blocks
        }
        for b in range(count):
            around = {b + d for d in range(-(choice.window_blocks // 2), choice.window_blocks // 2 + 1)}
            for head in range(choice.heads):
                mine = set(range(count)) if b in central else central | around | set(drawn[done + b][head])
                rows = [start + p for p, one in enumerate(of) if one == b]
                keys = [start + p for p, one in enumerate(of) if one in mine]
                seen[head, torch.tensor(rows)[:, None], torch.tensor(keys)] = True
        done += count
    padding = (packed.sequence < 0).nonzero()[:, 0]
    seen[:, padding[:, None], padding] = True
    return seen


def defined(built: BlockSparseAttentionLayer, x: Tensor, seen: Tensor) -> Tensor:
    q, k, v = (y(x).view(len(x), built.choice.heads, -1) for y in (built.query, built.key, built.value))
    scores = torch.einsum("qad,kad->aqk", q, k) / q.shape[-1] ** 0.5
    return built.out(torch.einsum("aqk,kad->qad", scores.masked_fill(~seen, -torch.inf).softmax(-1), v).flatten(1))


@choices
@pytest.mark.parametrize("scores", [1, 1 << 20], ids=["block by block", "at once"])
def test_it_is_attention_under_a_mask(
    make_packed: MakePacked, choice: BlockSparseAttention, scores: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(block_products.SCORES, "cpu", scores)
    packed, built = spare(make_packed(ROWS, LENGTH, torch.ones(240, dtype=torch.long))), layer(choice)
    shared = built.plan(Context(packed))
    assert (shared.rows is None) == (way == "by blocks")
    seen = who_sees_whom(choice, packed, built.draw(shared.layout).tolist())
    x = torch.randn(240, 12, dtype=torch.double, requires_grad=True)
    real = packed.sequence >= 0
    out, expected = built(x, shared)[real], defined(built, x, seen)[real]
    assert apart(out, expected) <= FLOAT64
    weights = torch.randn_like(out)
    wanted = [x, *built.parameters()]
    ours, theirs = (torch.autograd.grad((y * weights).sum(), wanted) for y in (out, expected))
    for a, b in zip(ours, theirs, strict=True):
        assert apart(a, b) <= FLOAT64 * max(1.0, float(b.abs().max()))


@by_blocks
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_by_differences(make_packed: MakePacked, dropout: float) -> None:
    """With dropout too: what is dropped is the same in the backward pass."""
    built = layer(replace(CHOICES["both ends"], heads=2, block_size=2, num_global_tokens=2, random_blocks=1), 4)
    shared = built.plan(Context(make_packed([[13, 4]], 20, torch.ones(20, dtype=torch.long))))
    drawn = torch.randn(3, *shared.layout.place.shape, 2, 2, 2, dtype=torch.double, requires_grad=True)

    def attend(qkv: Tensor) -> Tensor:
        torch.manual_seed(5)
        return attend_blocks(qkv, built.pairs(shared), dropout)

    assert torch.autograd.gradcheck(attend, drawn)


def test_dropout_keeps_the_mean(make_packed: MakePacked) -> None:
    built = layer(replace(CHOICES["both ends"], dropout=0.5))
    packed = make_packed(ROWS, LENGTH, torch.ones(240, dtype=torch.long))
    shared, real = built.plan(Context(packed, training=True)), packed.sequence >= 0
    x = torch.randn(240, 12, dtype=torch.double)
    built.eval()
    with torch.no_grad():
        plain = built(x, built.plan(Context(packed)))[real]
        tries = torch.stack([built(x, shared)[real] for _ in range(200)])
    assert not torch.equal(tries[0], tries[1])
    error = (tries.mean(0) - plain).abs() / (tries.std(0) / 200**0.5)
    assert float(error.mean()) < 1  # of a normal distribution, 0.8


@pytest.mark.parametrize("length", [1, 16, 27, 28])
def test_a_short_sequence_is_seen_in_full(make_packed: MakePacked, length: int) -> None:
    """Up to seven blocks: two are global, three in the window, and two others are drawn."""
    built = layer(
        BlockSparseAttention(
            heads=3,
            dropout=0.0,
            block_size=4,
            num_global_tokens=4,
            num_global_tail_blocks=1,
            window_blocks=3,
            random_blocks=3,
        )
    )
    full = MultiHeadAttention(heads=3, dropout=0.0).build(12).double()
    full.load_state_dict(built.state_dict())
    packed = make_packed([[length, 30 - length]], 30, torch.ones(30, dtype=torch.long))
    x = torch.randn(30, 12, dtype=torch.double)
    out, expected = built(x, built.plan(Context(packed))), full(x, full.plan(Context(packed)))  # type: ignore[operator]
    assert apart(out[:length], expected[:length]) <= FLOAT64


def with_attention(model: Transformer, name: str, dropout: float = 0.0) -> Transformer:
    """Return an encoder with block-sparse attention, of the internal or the extended construction."""
    if name == "internal":
        return replace(
            model,
            attention=BlockSparseAttention(
                heads=4, dropout=dropout, block_size=4, num_global_tokens=4, num_global_tail_blocks=1, random_blocks=1
            ),
        )
    extended = BlockSparseAttention(
        heads=4, dropout=dropout, block_size=4, num_global_tokens=6, num_global_tail_blocks=0, random_blocks=0
    )
    choices = {field: getattr(model, field) for field in model.__dataclass_fields__} | {"attention": extended}
    return GlobalTokenTransformer(**choices)


constructions = pytest.mark.parametrize("name", ["internal", "extended"])


def alone(batch: Batch, start: int, stop: int) -> Batch:
    return Batch({"tokens": only(batch.tokens, start, stop)}, {})


@constructions
def test_packed_equals_one_by_one(make_batch: MakeBatch, make_encoder: MakeEncoder, name: str) -> None:
    torch.manual_seed(0)
    network = with_attention(make_encoder(), name).build(67).double()
    batch = make_batch(ROWS, LENGTH)
    batch = replace(batch, streams={"tokens": spare(batch.tokens)})
    weights = torch.randn(240, 32, dtype=torch.double) * (batch.tokens.sequence >= 0)[:, None]
    found = network(batch)["tokens"]
    (found * weights).sum().backward()
    gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    for start, stop in batch.tokens.spans():
        one = network(alone(batch, start, stop))["tokens"]
        assert apart(one, found[start:stop]) <= FLOAT64 * 10
        (one * weights[start:stop]).sum().backward()
    assert gradients.keys() == {key for key, _ in network.named_parameters() if not key.startswith("pooler")}
    for key, parameter in network.named_parameters():
        if key in gradients and parameter.grad is not None:
            scale = float(parameter.grad.abs().max())
            torch.testing.assert_close(gradients[key], parameter.grad, rtol=0, atol=COMPILED * max(1.0, scale), msg=key)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler imports what it deprecates
@constructions
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_no_document_reaches_another(
    make_batch: MakeBatch, make_encoder: MakeEncoder, make_learner: MakeLearner, name: str, half: bool, compiled: bool
) -> None:
    learner = make_learner(with_attention(make_encoder(), name)).eval()
    if compiled:
        assert compile_learner(learner.network, [])
    batch = make_batch(ROWS, LENGTH)
    spans = batch.tokens.spans()
    for start, stop in (spans[0], spans[1], spans[6]):
        ids = batch.tokens.ids.clone()
        ids[start:stop] = ids[start:stop] % 60 + 3
        other = replace(batch, streams={"tokens": replace(batch.tokens, ids=ids)})
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            before, after = learner.network(batch)["tokens"], learner.network(other)["tokens"]
        changed = torch.zeros(len(before), dtype=torch.bool)
        changed[start:stop] = True
        assert torch.equal(before[~changed], after[~changed])
        assert not torch.equal(before[changed], after[changed])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler imports what it deprecates
def test_compiled_equals_eager_and_layers_are_compiled_once(
    make_batch: MakeBatch, make_encoder: MakeEncoder, make_learner: MakeLearner
) -> None:
    from torch._dynamo.utils import counters

    batch, graphs = make_batch(ROWS, LENGTH), []
    for layers in (1, 3):
        model = with_attention(make_encoder(layers=layers), "internal")
        eager, compiled = make_learner(model).double(), make_learner(model).double()
        torch._dynamo.reset()
        counters.clear()
        assert compile_learner(compiled.network, [])
        for one in (eager, compiled):
            one.objective(one(batch).sums, one.counts(batch)).backward()
        graphs.append(counters["stats"]["unique_graphs"])
        for (key, a), (_, b) in zip(eager.named_parameters(), compiled.named_parameters(), strict=True):
            assert a.grad is not None
            assert b.grad is not None
            assert apart(a.grad, b.grad) <= COMPILED * max(1.0, float(a.grad.abs().max())), key
    assert graphs[0] == graphs[1]


@by_blocks
def test_shapes_hang_on_the_size_of_the_batch_alone(make_packed: MakePacked) -> None:
    generator = torch.Generator().manual_seed(0)
    for choice in CHOICES.values():
        shapes = set()
        for _ in range(20):
            cuts = torch.randint(1, 59, (4, 2), generator=generator).sort(-1).values.tolist()
            rows = [[a, b - a, 60 - b] if a < b else [a, 60 - a] for a, b in cuts]
            packed = make_packed(rows, LENGTH, torch.ones(240, dtype=torch.long))
            packed = spare(packed, 16 - (len(packed.offsets) - 1))
            layout = layer(choice).plan(Context(packed)).layout
            assert sorted(layout.token[layout.real.flatten()].tolist()) == list(range(240))
            assert torch.equal(layout.token[layout.cell], torch.arange(240))
            shapes.add((layout.token.shape, layout.place.shape))
        assert len(shapes) == 1


def drawn(choice: BlockSparseAttention, rows: list[list[int]], length: int, make_packed: MakePacked) -> Tensor:
    built = layer(choice)
    packed = make_packed(rows, length, torch.ones(len(rows) * length, dtype=torch.long))
    return built.draw(built.plan(Context(packed)).layout)


@by_blocks
def test_what_is_drawn_is_new_every_time_and_evenly_spread(make_packed: MakePacked) -> None:
    """Of 20 blocks the 10th may draw all but the first, the last, and the three of its window."""
    counts: Counter[int] = Counter()
    seeds = 500
    for seed in range(seeds):
        choice = BlockSparseAttention(
            heads=1, block_size=1, num_global_tokens=1, num_global_tail_blocks=1, random_blocks=3, seed=seed
        )
        found = drawn(choice, [[20]], 20, make_packed)[10, 0].tolist()
        assert len(set(found)) == 3
        counts.update(found)
    allowed = set(range(1, 19)) - {9, 10, 11}
    assert counts.keys() == allowed
    expected = 3 * seeds / len(allowed)
    chi = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi < 36.1  # the 99.9th percentile of a chi-square distribution with 14 degrees of freedom


@by_blocks
def test_what_is_drawn_hangs_on_place_and_length_of_the_sequence_alone(make_packed: MakePacked) -> None:
    choice = BlockSparseAttention(heads=2, block_size=4, num_global_tokens=4, random_blocks=2)
    one = drawn(choice, [[48]], 48, make_packed)[:12]
    among = drawn(choice, [[48, 12], [5, 48, 7]], 60, make_packed)
    assert torch.equal(among[:12], one)
    assert torch.equal(among[12 + 3 + 2 :][:12], one)
    assert not torch.equal(one[:, 0], one[:, 1])
    assert not torch.equal(drawn(choice.of_layer(1), [[48]], 48, make_packed)[:12], one)


@by_blocks
def test_focus_keeps_draws_to_the_front(make_packed: MakePacked) -> None:
    found = drawn(
        BlockSparseAttention(heads=2, block_size=4, num_global_tokens=4, random_blocks=2, random_block_limit=5),
        [[120]],
        120,
        make_packed,
    )
    assert set(found[2:29].flatten().tolist()) <= {-1, 1, 2, 3, 4}
    assert set(found[8:29].flatten().tolist()) == {1, 2, 3, 4}


def cost(choice: BlockSparseAttention, length: int, make_packed: MakePacked) -> tuple[int, int, float]:
    """Return FLOPs forward and backward, and bytes kept, of one layer; and the FLOPs that it says it needs forward."""
    built = choice.build(16)
    packed = make_packed([[length]], length, torch.ones(length, dtype=torch.long))
    packed = replace(packed, offsets=packed.offsets[:2])  # the row is full: no blocks for padding
    x, kept = torch.randn(length, 16, requires_grad=True), {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with FlopCounterMode(display=False) as forward, torch.autograd.graph.saved_tensors_hooks(keep, lambda y: y):
        out = built(x, built.plan(Context(packed)))
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    assert forward.get_total_flops() == pytest.approx(choice.cost(16, length).flops * length, rel=FLOPS)
    return forward.get_total_flops() + backward.get_total_flops(), sum(kept.values()), choice.cost(16, length).flops


@by_blocks
def test_time_and_memory_are_linear_in_length(make_packed: MakePacked) -> None:
    choice = BlockSparseAttention(
        heads=2, dropout=0.0, block_size=8, num_global_tokens=8, num_global_tail_blocks=1, random_blocks=2
    )
    short, long = cost(choice, 512, make_packed), cost(choice, 4096, make_packed)
    assert long[0] / short[0] == pytest.approx(8, rel=0.02)
    assert long[1] / short[1] == pytest.approx(8, rel=0.02)
    assert long[2] == short[2]


@by_blocks
def test_an_extended_encoder_takes_no_other_attention(make_encoder: MakeEncoder) -> None:
    from genus.errors import UsageError

    model = with_attention(make_encoder(), "extended")
    assert GlobalTokenTransformer.from_json(model.to_json()) == model
    with pytest.raises(UsageError, match="attention: there is no BlockSparseAttention 'MultiHeadAttention'"):
        model.overlay({"attention": {"kind": "MultiHeadAttention", "heads": 4}})
