"""Layers that are undone: the gradients are those of layers that are kept, and what is kept does not grow with them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from genus.batch import Batch, Packed
from genus.model.attention.alternating import AlternatingAttention
from genus.model.attention.chunked.local import ChunkedLocalAttention
from genus.model.attention.chunked.lsh import LSHAttention
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.attention.plan import Context
from genus.model.block.residual import PreNorm, PreNormLayer, UnscaledPreNorm
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP, ChunkedMLP, ChunkedMLPLayer
from genus.model.initialization import Normal
from genus.model.norm import Identity
from genus.model.position.learned import AxialPosition
from genus.model.stack.reversible import GRID, ReversibleStack, to_fixed_point
from genus.model.transformer import Transformer, TransformerNetwork

Make = Callable[..., Packed]
VOCABULARY = 67
DOUBLE = 1e-8
"""Relative; states are multiples of 2^-36, 1.5e-11, and derivatives magnify what that rounds off."""
EXACT = 1e-10
"""The same float64 sums, chunk by chunk."""
SINGLE = 1e-5
"""Relative; the same sums in float32, in another order."""


def encoder(layers: int, dropout: float = 0.0, chunk: int = 0, **more: Any) -> Transformer:
    attentions = (
        ChunkedLocalAttention(heads=2, head_size=8, chunk_length=4, dropout=dropout),
        LSHAttention(heads=2, head_size=8, chunk_length=4, num_hashes=2, num_buckets=(4,), dropout=dropout),
    )
    choices = {
        "attention": AlternatingAttention(attentions=attentions),
        "feedforward": ChunkedMLP(size=24, chunk=chunk, dropout=dropout),
        "block": UnscaledPreNorm(),
    } | more
    position = AxialPosition(shape=(5, 8), widths=(6, 10))
    embedding = Embedding(segments=0, position=position, norm=Identity(), dropout=0.0)
    return Transformer(
        layers=layers,
        hidden=16,
        embedding=embedding,
        stack=ReversibleStack(),
        dropout=dropout,
        initialization=Normal(std=0.3),
        **choices,
    )


def built(model: Transformer) -> TransformerNetwork:
    torch.manual_seed(0)
    return cast("TransformerNetwork", model.build(VOCABULARY))


def packed(make_packed: Make) -> Packed:
    ids = torch.randint(1, VOCABULARY, (80,), generator=torch.Generator().manual_seed(1))
    return make_packed([[12, 20, 5], [30]], 40, ids)


def kept_whole(network: TransformerNetwork, x: Tensor, given: Packed, key: int) -> Tensor:
    """Return what the layers give, by ordinary sums that autograd keeps, with the draws of each sub-layer."""
    layers = cast("list[PreNormLayer]", list(network.layers.children()))
    shared = {"attention": layers[0].attention.plan(Context(given, training=network.training))}
    first = second = x
    for number, layer in enumerate(layers):
        torch.manual_seed(key + 2 * number)
        first = first + layer.attend(second, shared, {})
        torch.manual_seed(key + 2 * number + 1)
        second = second + layer.feed(first)
    return torch.cat([first, second], -1)


def gradients(network: nn.Module, out: Tensor, x: Tensor) -> dict[str, Tensor]:
    """Return the gradients of a random weighted sum, the same wherever it is computed."""
    network.zero_grad()
    x.grad = None
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (out * weights.to(out)).sum().backward()
    assert x.grad is not None
    return {"x": x.grad} | {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, SINGLE), (torch.float64, DOUBLE)])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("chunk", [0, 7])
def test_gradients_are_those_of_layers_that_are_kept(
    make_packed: Make, dtype: torch.dtype, tolerance: float, dropout: float, chunk: int
) -> None:
    """In training: with dropout, and with rotations that are drawn, the same on the way back."""
    network, given = built(encoder(5, dropout, chunk)).to(dtype).train(), packed(make_packed)
    x = network.embed(given).detach().requires_grad_()
    torch.manual_seed(7)
    key = int(torch.randint(1 << 62, ()))
    expected_states = kept_whole(network, x, given, key)
    expected = gradients(network.layers, expected_states, x)
    torch.manual_seed(7)
    states = network.layers(x, Context(given, training=network.training))
    found = gradients(network.layers, states, x)
    assert found.keys() == expected.keys() == {"x", *dict(network.layers.named_parameters())}
    torch.testing.assert_close(states, expected_states, rtol=tolerance, atol=tolerance)
    for name, gradient in expected.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=10 * tolerance * scale, msg=name)


def test_gradients_agree_with_differences(make_packed: Make) -> None:
    """Steps of 1e-4, as a step must be far above the grid of the states."""
    model = encoder(2, attention=MultiHeadAttention(heads=2, dropout=0.0), feedforward=MLP(size=6))
    network = built(model).double().eval()
    given = make_packed([[2, 3]], 5, torch.arange(1, 6))
    x = network.embed(given).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda y: network.layers(y, Context(given)), (x,), eps=1e-4, atol=1e-5)
    weights = [parameter for name, parameter in network.layers.named_parameters() if "norm" in name or "inner" in name]
    again = lambda *_: network.layers(x, Context(given))  # noqa: E731
    assert torch.autograd.gradcheck(again, weights, eps=1e-4, atol=1e-5)


def test_states_come_back_to_the_last_bit(make_packed: Make) -> None:
    x = torch.randn(1000, dtype=torch.float64) * 50
    sums = [to_fixed_point(x)]
    adds = [to_fixed_point(torch.randn(1000).bfloat16()) for _ in range(100)]
    for add in adds:
        sums.append(sums[-1] + add)
    back = sums[-1]
    for add, expected in zip(reversed(adds), reversed(sums[:-1]), strict=True):
        back = back - add
        assert torch.equal(back, expected)
    assert (to_fixed_point(x) - x).abs().max() <= 0.5 / GRID
    assert to_fixed_point(torch.tensor([torch.nan, torch.inf])).isfinite().logical_not().all()


@pytest.mark.parametrize("block", [PreNorm(), UnscaledPreNorm()], ids=lambda block: type(block).__name__)
def test_any_attention_is_reversible(make_packed: Make, block: PreNorm) -> None:
    model = encoder(3, attention=MultiHeadAttention(heads=4, dropout=0.1), feedforward=MLP(size=24), block=block)
    network, given = built(model).double().train(), packed(make_packed)
    x = network.embed(given).detach().requires_grad_()
    torch.manual_seed(7)
    expected = gradients(network.layers, kept_whole(network, x, given, int(torch.randint(1 << 62, ()))), x)
    torch.manual_seed(7)
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    found = gradients(network.layers, network.layers(x, Context(given, training=network.training)), x)
    for name, gradient in expected.items():
        scale = largest if name.endswith("key.bias") else gradient.abs().max().item()  # which are 0 but for rounding
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=10 * DOUBLE * scale, msg=name)


def test_the_way_back_is_in_the_precision_of_the_way_onward(make_packed: Make) -> None:
    """Backward passes run outside of autocast; with other rounding, what is undone would not be what was done."""
    network, given = built(encoder(6, dropout=0.1)).train(), packed(make_packed)
    x = network.embed(given).detach().requires_grad_()
    torch.manual_seed(7)
    key = int(torch.randint(1 << 62, ()))
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        whole = kept_whole(network, x, given, key)
    expected = gradients(network.layers, whole, x)
    torch.manual_seed(7)
    with torch.autocast("cpu", torch.bfloat16):
        states = network.layers(x, Context(given, training=network.training))
    found = gradients(network.layers, states, x)
    torch.testing.assert_close(states, whole, rtol=1e-4, atol=1e-4)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=0.02 * gradient.abs().max().item(), msg=name)


def test_draws_follow_pytorchs_generator_and_leave_it_as_one_draw_does(make_packed: Make) -> None:
    network, given = built(encoder(2, dropout=0.2)).train(), packed(make_packed)
    batch = Batch({"tokens": given}, {})
    torch.manual_seed(3)
    first, after = network(batch)["tokens"], torch.rand(3)
    second = network(batch)["tokens"]
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(network(batch)["tokens"], first)
    assert torch.equal(torch.rand(3), after)
    network.eval()
    state = torch.get_rng_state()
    assert torch.equal(network(batch)["tokens"], network(batch)["tokens"])
    assert torch.equal(torch.get_rng_state(), state)


def saved(network: TransformerNetwork, batch: Batch) -> int:
    """Return the bytes that autograd keeps after a forward pass, each storage once, without parameters."""
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        out = network(batch)["tokens"]
        total = sum(kept.values())
    out.sum().backward()
    return total


class Alive(TorchDispatchMode):
    """Counts the bytes of storages that are alive, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(x, Tensor) and x.untyped_storage()._cdata not in self.known:
                storage = x.untyped_storage()
                self.known.add(storage._cdata)
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        return out

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def test_what_is_kept_does_not_grow_with_depth(make_packed: Make) -> None:
    batch = Batch({"tokens": packed(make_packed)}, {})
    few, many = (saved(built(encoder(layers, dropout=0.1)).train(), batch) for layers in (2, 12))
    assert few == many
    plain = [saved(built(encoder(layers).override("stack", {"kind": "Unshared"})).train(), batch) for layers in (2, 12)]  # type: ignore[arg-type]
    assert plain[1] > 5 * plain[0]


def test_nor_does_what_is_alive_at_once(make_packed: Make) -> None:
    """On the way onward and back, but for the gradients of the parameters: there are more, twice while handed over."""
    batch = Batch({"tokens": packed(make_packed)}, {})
    growth = {}
    for kind in ("ReversibleStack", "Unshared"):
        most, own = [], []
        for layers in (2, 12):
            network = built(encoder(layers, dropout=0.1).override("stack", {"kind": kind}))  # type: ignore[arg-type]
            with Alive() as alive:
                network(batch)["tokens"].sum().backward()
            most.append(alive.most)
            own.append(sum(4 * p.numel() for p in network.parameters()))
        growth[kind] = (most[1] - most[0]) / (own[1] - own[0])
    assert growth["ReversibleStack"] < 2.2
    assert growth["Unshared"] > 10


def test_the_chunks_of_a_feed_forward_layer_change_nothing_but_memory() -> None:
    whole, parts = (ChunkedMLPLayer(ChunkedMLP(size=512, chunk=chunk), 16).double() for chunk in (0, 8))
    parts.load_state_dict(whole.state_dict())
    x = torch.randn(400, 16, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(parts(x), whole(x), rtol=EXACT, atol=EXACT)
    expected = torch.autograd.grad(whole(x).square().sum(), [x, *whole.parameters()])
    found = torch.autograd.grad(parts(x).square().sum(), [x, *parts.parameters()])
    torch.testing.assert_close(found, expected, rtol=EXACT, atol=EXACT)
    most = []
    for layer in (whole, parts):
        with Alive() as alive:
            layer(x).square().sum().backward()
        most.append(alive.most)
    assert most[1] < most[0] / 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("training", [False, True])
def test_a_gpu_gives_what_the_cpu_gives(make_packed: Make, training: bool) -> None:
    """In evaluation, where rotations are the CPU's; in training, what layers that are kept give with the same draws."""
    network, given = built(encoder(4, dropout=0.1 if training else 0.0)).train(training), packed(make_packed)
    x = network.embed(given).detach().requires_grad_()
    if not training:
        expected = gradients(network.layers, network.layers(x, Context(given, training=network.training)), x)
    network, on_gpu = network.cuda(), x.detach().cuda().requires_grad_()
    there = given.to(torch.device("cuda"))
    torch.manual_seed(7)
    if training:
        key = int(torch.randint(1 << 62, ()))
        expected = gradients(network.layers, kept_whole(network, on_gpu, there, key), on_gpu)
        torch.manual_seed(7)
    found = gradients(network.layers, network.layers(on_gpu, there), on_gpu)
    for name, gradient in expected.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(found[name].cpu(), gradient.cpu(), rtol=0, atol=1e-3 * scale, msg=name)
