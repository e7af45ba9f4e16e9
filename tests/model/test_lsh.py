"""Attention in chunks against its equations, written out pair by pair; and nothing crosses from text to text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from genus.batch import Batch, Packed
from genus.errors import UsageError
from genus.model.attention.alternating import AlternatingAttention
from genus.model.attention.chunked.layout import ChunkLayout
from genus.model.attention.chunked.local import ChunkedLocalAttention, ChunkedLocalAttentionLayer
from genus.model.attention.chunked.lsh import HIDDEN, ITSELF, LSHAttention, LSHAttentionLayer
from genus.model.attention.masks import AttentionMask, Causal, Full
from genus.model.attention.plan import Context
from genus.model.block.residual import UnscaledPreNorm
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import ChunkedMLP
from genus.model.initialization import Normal
from genus.model.norm import Identity
from genus.model.position.learned import AxialPosition
from genus.model.stack.reversible import ReversibleStack
from genus.model.stack.sharing import Unshared
from genus.model.transformer import Transformer
from hand import alone, stretches

if TYPE_CHECKING:
    from genus.model import Network
    from genus.model.attention.chunked import ChunkedAttention
    from genus.model.stack import Stack

DOUBLE = 1e-12
"""Sums of a few dozen float64 products."""
ALONE = 1e-10
"""What a token that sees only itself weighs is the exponential of a difference of numbers near -1e5, in float64."""
UNDONE = 1e-8
"""Relative; states of reversible layers are multiples of 2^-36, 1.5e-11, and layers magnify what that rounds off."""
KEPT = 1e-10
"""Relative; the same float64 sums in another order, magnified by four layers."""
HIDDEN_SIZE, VOCABULARY = 12, 67
ROWS = [[12, 20, 5], [30], [1, 2, 3, 26], [9, 23]]
LENGTH = 40
Make = Callable[..., Packed]
Seat = tuple[int, int]
"""A round, and a token."""
sights = pytest.mark.parametrize("visibility", [Full(), Causal()], ids=lambda rule: type(rule).__name__)


def circle(rounds: list[list[int]], choice: ChunkedAttention) -> list[tuple[list[Seat], list[Seat]]]:
    """Return (who asks, who is asked) for every chunk of a sequence, whose rounds are orders of its tokens."""
    orders = [[(r, token) for token in order] for r, order in enumerate(rounds)]
    size = choice.chunk_length
    if len(orders[0]) <= size:
        return [(orders[0], orders[0])]
    chunks = [order[at : at + size] for order in orders for at in range(0, len(order), size)]
    look = range(-choice.chunks_before, choice.chunks_after + 1)
    return [(own, [seat for d in look for seat in chunks[(c + d) % len(chunks)]]) for c, own in enumerate(chunks)]


def lsh_written_out(q_ATD: Tensor, v_ATD: Tensor, bucket_AIT: Tensor, packed: Packed, choice: LSHAttention) -> Tensor:
    """Return (A, T, D): for every head, sequence, round and token the softmax over what it sees, one by one."""
    out = torch.zeros_like(v_ATD)
    k_ATD = q_ATD / q_ATD.square().mean(-1, keepdim=True).add(1e-6).sqrt() / math.sqrt(choice.head_size)
    for head, (first, end) in itertools.product(range(len(q_ATD)), stretches(packed)):
        sequence = list(range(first, end))
        bucket = bucket_AIT[head].tolist()
        rounds = [sorted(sequence, key=lambda token, told=told: (told[token], token)) for told in bucket]
        found: dict[int, list[tuple[Tensor, Tensor]]] = {token: [] for token in sequence}
        for own, asked in circle(rounds, choice):
            for r, token in own:
                others = [other for _, other in asked]
                scores = k_ATD[head, others] @ q_ATD[head, token]
                for at, (round_, other) in enumerate(asked):
                    follows = isinstance(choice.mask, Causal) and other > token
                    elsewhere = (round_, bucket[round_][other]) != (r, bucket[r][token])
                    if follows or (elsewhere and not choice.attend_across_buckets):
                        scores[at] = HIDDEN
                    if other == token:
                        scores[at] = ITSELF
                found[token].append((scores.logsumexp(0), scores.softmax(0) @ v_ATD[head, others]))
        for token, each in found.items():
            weights = torch.stack([weight for weight, _ in each]).softmax(0)
            out[head, token] = (weights[:, None] * torch.stack([value for _, value in each])).sum(0)
    return out


def drawn(packed: Packed, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, v = (torch.randn(2, len(packed.ids), 3, generator=generator, dtype=torch.float64) for _ in range(2))
    return q, v


CHOICES = [
    LSHAttention(heads=2, head_size=3, chunk_length=4, num_buckets=(4,)),
    LSHAttention(heads=2, head_size=3, chunk_length=4, num_buckets=(2, 4), num_hashes=3),
    LSHAttention(heads=2, head_size=3, chunk_length=3, num_buckets=(4,), num_hashes=2, chunks_before=2, chunks_after=1),
    LSHAttention(heads=2, head_size=3, chunk_length=4, num_buckets=(4,), num_hashes=2, attend_across_buckets=False),
    LSHAttention(heads=2, head_size=3, chunk_length=64, num_buckets=(4,), num_hashes=2),
]


@pytest.mark.parametrize("choice", CHOICES, ids=range(len(CHOICES)))
@sights
def test_lsh_is_its_equations(make_packed: Make, choice: LSHAttention, visibility: AttentionMask) -> None:
    choice = replace(choice, mask=visibility)
    packed = make_packed([[5, 4, 1, 2], [11]], 12, torch.ones(24, dtype=torch.long))
    layer = LSHAttentionLayer(choice, HIDDEN_SIZE).eval()
    q, v = drawn(packed)
    bucket = layer.hash(q)
    found = layer.attend(q, v, bucket, ChunkLayout(packed))
    assert bucket.shape == (2, choice.num_hashes, 24)
    assert int(bucket.max()) < math.prod(choice.num_buckets)
    torch.testing.assert_close(found, lsh_written_out(q, v, bucket, packed, choice), atol=ALONE, rtol=0)


@pytest.mark.parametrize(
    "choice",
    [
        ChunkedLocalAttention(heads=2, head_size=3, chunk_length=4),
        ChunkedLocalAttention(heads=2, head_size=3, chunk_length=3, chunks_before=0, chunks_after=2),
    ],
    ids=str,
)
@sights
def test_local_is_its_equation(make_packed: Make, choice: ChunkedLocalAttention, visibility: AttentionMask) -> None:
    choice = replace(choice, mask=visibility, dropout=0.0)
    packed = make_packed([[5, 4, 1, 2], [11]], 12, torch.ones(24, dtype=torch.long))
    layer = ChunkedLocalAttentionLayer(choice, HIDDEN_SIZE).double()
    x = torch.randn(24, HIDDEN_SIZE, dtype=torch.float64)
    q, k, v = (project(x).view(24, 2, 3) for project in (layer.query, layer.key, layer.value))
    out = torch.zeros(24, 2, 3, dtype=torch.float64)
    for first, end in stretches(packed):
        sequence = list(range(first, end))
        for own, asked in circle([sequence], choice):
            for _, token in own:
                seen = [other for _, other in asked if other <= token or isinstance(visibility, Full)]
                for head in range(2):
                    scores = k[seen, head] @ q[token, head] / math.sqrt(3)
                    out[token, head] = scores.softmax(0) @ v[seen, head]
    torch.testing.assert_close(layer(x, layer.plan(Context(packed))), layer.out(out.flatten(1)), atol=DOUBLE, rtol=0)


def test_alike_vectors_hash_alike() -> None:
    """Vectors 0.1 apart share a bucket far more often than those drawn alone, which do once in 8."""
    layer = LSHAttentionLayer(LSHAttention(heads=1, head_size=32, num_buckets=(8,), num_hashes=16), HIDDEN_SIZE).eval()
    x = torch.randn(1, 200, 32)
    near, far = layer.hash(x + 0.1 * torch.randn(1, 200, 32)), layer.hash(torch.randn(1, 200, 32))
    assert (layer.hash(x) == near).float().mean() > 0.8
    assert 0.09 < (layer.hash(x) == far).float().mean() < 0.16
    assert torch.equal(layer.hash(x), layer.hash(3 * x))


@sights
@pytest.mark.parametrize("rounds", [1, 2])
def test_gradients_of_lsh_agree_with_differences(make_packed: Make, visibility: AttentionMask, rounds: int) -> None:
    choice = LSHAttention(heads=1, head_size=3, chunk_length=2, num_buckets=(4,), num_hashes=rounds, mask=visibility)
    packed = make_packed([[5, 3]], 8, torch.ones(8, dtype=torch.long))
    layer = LSHAttentionLayer(choice, 4).double().eval()
    x = torch.randn(8, 4, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(1))
    shared = layer.plan(Context(packed))
    assert torch.autograd.gradcheck(lambda y: layer(y, shared), (x,))


def network(visibility: AttentionMask, stack: Stack, chunk: int = 4) -> Network:
    attention = AlternatingAttention(
        attentions=(
            ChunkedLocalAttention(heads=2, head_size=8, chunk_length=chunk, dropout=0.0, mask=visibility),
            LSHAttention(heads=2, head_size=8, chunk_length=chunk, num_hashes=2, num_buckets=(2, 4), mask=visibility),
        )
    )
    model = Transformer(
        layers=4,
        hidden=16,
        attention=attention,
        feedforward=ChunkedMLP(size=24, chunk=50),
        embedding=Embedding(
            segments=0, position=AxialPosition(shape=(5, 8), widths=(6, 10)), norm=Identity(), dropout=0.0
        ),
        block=UnscaledPreNorm(),
        stack=stack,
        dropout=0.0,
        initialization=Normal(std=0.3),
    )
    torch.manual_seed(0)
    return model.build(VOCABULARY)


def batch(make_packed: Make, seed: int = 0) -> Batch:
    ids = torch.randint(1, VOCABULARY, (len(ROWS) * LENGTH,), generator=torch.Generator().manual_seed(seed))
    return Batch({"tokens": make_packed(ROWS, LENGTH, ids)}, {})


def of(given: Batch, start: int, end: int) -> Batch:
    """Return a sequence of a batch alone."""
    return Batch({"tokens": alone(given.tokens, start, end)}, {})


@sights
@pytest.mark.parametrize("stack", [ReversibleStack(), Unshared()], ids=lambda stack: type(stack).__name__)
def test_packed_equals_one_by_one(make_packed: Make, visibility: AttentionMask, stack: Stack) -> None:
    tolerance = UNDONE if isinstance(stack, ReversibleStack) else KEPT
    net, given = network(visibility, stack).double().eval(), batch(make_packed)
    found = net(given)["tokens"]
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    together = {name: parameter.grad.clone() for name, parameter in net.named_parameters()}  # type: ignore[union-attr]
    net.zero_grad()
    ones = torch.cat([net(of(given, start, end))["tokens"] for start, end in stretches(given.tokens)])
    torch.testing.assert_close(found, ones, rtol=tolerance, atol=tolerance)
    (ones * weights).sum().backward()
    for name, parameter in net.named_parameters():
        gradient = parameter.grad
        assert gradient is not None
        scale = gradient.abs().max().item()
        torch.testing.assert_close(together[name], gradient, rtol=0, atol=tolerance * scale, msg=name)


@sights
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("training", [False, True])
def test_no_document_reaches_another(make_packed: Make, visibility: AttentionMask, half: bool, training: bool) -> None:
    net, given = network(visibility, ReversibleStack()).train(training), batch(make_packed)
    start, end = given.tokens.spans()[1]
    ids = given.tokens.ids.clone()
    ids[start:end] = ids[start:end] % 60 + 3
    other = replace(given, streams={"tokens": replace(given.tokens, ids=ids)})
    states = []
    for one in (given, other):
        torch.manual_seed(3)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            states.append(net(one)["tokens"])
    moved = torch.zeros(len(ids), dtype=torch.bool)
    moved[start:end] = True
    assert torch.equal(states[0][~moved], states[1][~moved])
    assert not torch.equal(states[0][moved], states[1][moved])


def test_work_grows_in_proportion_to_length(make_packed: Make) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    layer = LSHAttentionLayer(LSHAttention(heads=2, head_size=8, chunk_length=16, num_hashes=2, num_buckets=(8,)), 16)
    flops = []
    for length in (256, 1024):
        shared = layer.plan(Context(make_packed([[length]], length, torch.ones(length, dtype=torch.long))))
        with FlopCounterMode(display=False) as counter:
            layer(torch.randn(length, 16), shared)
        flops.append(counter.get_total_flops())
    assert flops[1] == pytest.approx(4 * flops[0], rel=0.02)
    demand = layer.choice.cost(16, 1024)
    assert flops[1] == pytest.approx(1024 * (demand.flops + demand.forward_only_flops), rel=0.05)


def test_nothing_comes_from_what_follows(make_packed: Make) -> None:
    """What follows moves the borders of chunks, as in the released code; what is attended to lies before."""
    net, packed = network(Causal(), ReversibleStack()).eval(), batch(make_packed).tokens
    x = net.embed(packed).detach().requires_grad_()  # type: ignore[operator, union-attr]
    start, place = int(packed.offsets[1]), int(packed.offsets[1]) + 11
    net.layers(x, Context(packed))[place].sum().backward()  # type: ignore[operator, union-attr]
    assert x.grad is not None
    assert not x.grad[place + 1 :].any()
    assert not x.grad[:start].any()
    assert (x.grad[start : place + 1] != 0).all(-1).sum() > 6


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (["stages.0.max_length=1024"], "max_length 1024 is past the model's 512 positions"),
        (["model.embedding.position.widths=[64, 64]"], "sum to 128, not to 256"),
        (["model.attention.attentions.1.num_buckets=[7]"], "an even number"),
        (["model.attention.attentions.0.chunk_length=0"], "chunk_length: expected at least 1, got 0"),
        (["model.attention.order=[0, 2]"], "expected numbers from 0 to 1"),
        (["model.attention.order=[0, 1, 0, 1]"], r"write \[0, 1\]"),
        (["model.attention.attentions.1.num_hashes=0"], "num_hashes: expected at least 1, got 0"),
        (["model.feedforward.chunk=-1"], "model.feedforward.chunk: expected at least 0, got -1"),
        (["model.block=PostNorm"], "reversible layers need model.block=PreNorm"),
    ],
)
def test_bad_choices_are_one_line(changes: list[str], problem: str) -> None:
    from genus import catalog

    with pytest.raises(UsageError, match=problem) as caught:
        catalog.load("reformer/mini", changes)
    assert "\n" not in str(caught.value)
