"""The LSTM over packed rows is PyTorch's, sequence by sequence: states, gradients, memory, cache, both directions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from torch import Tensor, nn

import decoding
from decoding import DOUBLE, cached, read
from genus.batch import Batch, Flow, Packed
from genus.catalog import load
from genus.cost import cost
from genus.model.embedding import Embedding
from genus.model.initialization import Normal
from genus.model.lstm import LSTM
from genus.model.lstm_layer import LayerMix
from genus.model.norm import Identity
from genus.model.position.learned import LearnedPosition
from genus.model.position.rotary import Rotary
from genus.model.recurrence import Recurrence, Steps, step_by_step
from hand import equal_rows

if TYPE_CHECKING:
    from genus.model.lstm import LSTMNetwork

VOCABULARY, LENGTH = 50, 20
ROWS = [[7, 9], [3, 12, 1], [], [20]]
"""Lengths of the sequences of each row: two rows end with padding, and one is nothing else."""
BFLOAT16 = 0.03
"""Products in 8 significant bits, of states between -1 and 1."""

MODELS = {
    "plain": LSTM(layers=2, hidden=8),
    "inputs": LSTM(layers=2, hidden=8, inputs=6, forget_bias=0.0),
    "projected": LSTM(layers=2, hidden=8, size=12),
    "more states than tokens": LSTM(layers=1, hidden=70),
    "both ways": LSTM(layers=3, hidden=6, size=10, directions=2, residual=True),
}
models = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())


def built(model: LSTM) -> LSTMNetwork:
    torch.manual_seed(0)
    return cast("LSTMNetwork", replace(model, initialization=Normal(std=0.4)).build(VOCABULARY).double())


def packed() -> Packed:
    torch.manual_seed(1)
    return Packed.laid(torch.randint(1, VOCABULARY, (len(ROWS) * LENGTH,)), ROWS, LENGTH)


def pytorch(direction: nn.Module) -> nn.LSTM:
    """Return PyTorch's layer with the weights of a direction."""
    state = direction.state_dict()
    (cells, inputs), hidden = (state["input.weight"].shape[0] // 4, state["input.weight"].shape[1]), 0
    if "out.weight" in state:
        hidden = state["out.weight"].shape[0]
    layer = nn.LSTM(inputs, cells, proj_size=hidden).double()
    theirs = {"weight_ih_l0": state["input.weight"], "weight_hh_l0": state["recurrent.weight"]}
    theirs |= {"bias_ih_l0": state["input.bias"], "bias_hh_l0": torch.zeros(4 * cells).double()}
    layer.load_state_dict(theirs | ({"weight_hr_l0": state["out.weight"]} if hidden else {}))
    return layer


def alone(network: LSTMNetwork, layers: list[list[nn.LSTM]], ids: Tensor) -> Tensor:
    """Return the states of a sequence by PyTorch's layers."""
    sides = []
    for number in range(network.choice.directions):
        x = network.embed.tokens(ids)
        x = x.flip(0) if number else x
        for depth, layer in enumerate(layers):
            y = layer[number](x[:, None])[0][:, 0]
            x = y + x if network.choice.residual and depth else y
        sides.append(x.flip(0) if number else x)
    return torch.cat(sides, -1)


@models
def test_states_and_gradients_are_pytorchs(model: LSTM) -> None:
    """Padding has states of 0."""
    network, rows = built(model), packed()
    layers = [[pytorch(direction) for direction in layer.directions] for layer in network.layers]
    states = network(Batch({"tokens": rows}, {}))["tokens"]
    spans = rows.spans()
    expected = [alone(network, layers, rows.ids[start:end]) for start, end in spans]
    found = [states[start:end] for start, end in spans]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=DOUBLE, atol=DOUBLE)
    assert not states[rows.sequence < 0].any()
    torch.manual_seed(2)
    weights = [torch.randn_like(one) for one in expected]
    sum((one * weight).sum() for one, weight in zip(found, weights, strict=True)).backward()
    ours = {name: weight.grad for name, weight in network.named_parameters()}
    network.zero_grad()
    sum((one * weight).sum() for one, weight in zip(expected, weights, strict=True)).backward()
    names = {"input.weight": "weight_ih_l0", "input.bias": "bias_ih_l0", "recurrent.weight": "weight_hh_l0"}
    for depth, layer in enumerate(layers):
        for number, theirs in enumerate(layer):
            for name, other_name in (names | {"out.weight": "weight_hr_l0"}).items():
                gradient = ours.get(f"layers.{depth}.directions.{number}.{name}")
                if gradient is not None:
                    wanted = getattr(theirs, other_name).grad
                    torch.testing.assert_close(gradient, wanted, rtol=DOUBLE, atol=DOUBLE)
    torch.testing.assert_close(ours["embed.tokens.weight"], network.embed.tokens.weight.grad, rtol=DOUBLE, atol=DOUBLE)


@pytest.mark.parametrize("projected", [False, True])
def test_written_out_back_propagation_is_the_gradient(projected: bool) -> None:
    """By differences, and as autograd follows the definition; states before the first step have none."""
    torch.manual_seed(0)
    short = Packed.laid(torch.zeros(12, dtype=torch.long), [[4, 1], [3]], 6)
    steps, cells, hidden = Steps.of(short), 3, 2 if projected else 3
    tokens = len(steps.index)
    begin = torch.randn(len(steps.starts), hidden).double(), torch.randn(len(steps.starts), cells).double()
    given = [torch.randn(tokens, 4 * cells), torch.randn(hidden, 4 * cells)]
    given += [torch.randn(cells, hidden)] if projected else []
    gates, matrix, *out = [one.double().requires_grad_() for one in given]

    def ours(*args: Tensor) -> Tensor:
        return cast("Any", Recurrence).apply(args[0], *begin, args[1], args[2] if projected else None, steps)[0]

    assert torch.autograd.gradcheck(ours, (gates, matrix, *out))
    definition = step_by_step(gates, begin, steps, lambda h: h @ matrix, lambda m: m @ out[0] if out else m)[0]
    torch.testing.assert_close(ours(gates, matrix, *out), definition, rtol=DOUBLE, atol=DOUBLE)


def test_products_in_bfloat16_leave_states_precise() -> None:
    network = built(MODELS["projected"]).float()
    exact = read(network, packed())
    with torch.autocast("cpu", torch.bfloat16):
        found = network(Batch({"tokens": packed()}, {}))["tokens"]
        found.sum().backward()
    assert found.dtype == torch.float32
    assert float((found.detach() - exact).abs().max()) < BFLOAT16
    assert all(weight.grad is not None and weight.grad.dtype == torch.float32 for weight in network.parameters())


def test_rows_go_on_where_their_texts_do() -> None:
    """A text in three rows has the states of the whole one; of what ended in the row before, nothing is remembered."""
    network = built(MODELS["projected"])
    torch.manual_seed(3)
    text, other = torch.randint(1, VOCABULARY, (50,)), torch.randint(1, VOCABULARY, (30,))
    rows = [[text[:20], other[:20]], [text[20:40], other[20:]], [text[40:], other[:9]]]
    memory, found = network.initial_memory(2), []
    for number, (one, two) in enumerate(rows):
        filled = torch.zeros(2, LENGTH, dtype=torch.long)
        filled[0, : len(one)], filled[1, : len(two)] = one, two
        flow = Flow(torch.tensor([number > 0, number == 1]), torch.tensor([len(one), len(two)]))
        laid = replace(Packed.laid(filled.flatten(), [[len(one)], [len(two)]], LENGTH), flow=flow)
        step = network(Batch({"tokens": laid}, {}, memory=memory))
        memory = step.memory
        assert not any(tensor.requires_grad for tensor in memory.values())
        found.append((step["tokens"][: len(one)], step["tokens"][LENGTH : LENGTH + len(two)]))
    first, second = zip(*found, strict=True)
    for states, ids in ((torch.cat(first), text), (torch.cat(second[:2]), other), (second[2], other[:9])):
        torch.testing.assert_close(states, read(network, equal_rows(ids[None])), rtol=DOUBLE, atol=DOUBLE)


def test_sequences_join_leave_and_go_on_by_several_tokens() -> None:
    network, given = built(MODELS["projected"]), decoding.texts(VOCABULARY)
    cache = decoding.opened(network, {0: 13, 1: 8, 2: 14})  # type: ignore[arg-type]
    assert cache is not None
    cached(network, cache, {slot: given[slot].tolist() for slot in range(3)})  # type: ignore[arg-type]
    cache.close(1)
    cache.open(7, 6)
    told = cached(network, cache, {2: [4, 9, 2], 7: given[3].tolist(), 0: [7]})  # type: ignore[arg-type]
    cache.reorder({0: 2})
    told |= {10 + slot: state for slot, state in cached(network, cache, {0: [5]}).items()}  # type: ignore[arg-type]
    ends = {2: [4, 9, 2], 7: [], 0: [7], 10: [4, 9, 2, 5]}
    for (slot, more), text in zip(ends.items(), (given[2], given[3], given[0], given[2]), strict=True):
        whole = read(network, equal_rows(torch.cat([text, torch.tensor(more, dtype=torch.long)])[None]))  # type: ignore[arg-type]
        torch.testing.assert_close(told[slot], whole[-1], rtol=DOUBLE, atol=DOUBLE)


def test_what_the_cache_holds_does_not_grow_with_the_text() -> None:
    network = built(MODELS["projected"])
    cache = cast("Any", network.cache(10_000))
    cache.open(0, 5_000)
    assert [[tuple(kept.shape) for kept in pair] for pair in cache.states] == [[(1, 8), (1, 12)]] * 2
    assert built(MODELS["both ways"]).cache(10) is None


def test_each_direction_sees_its_own_side() -> None:
    """Another token moves no bit of what comes before it one way, and no bit of what comes after it the other way."""
    network, ids = built(MODELS["both ways"]), torch.randint(1, VOCABULARY, (1, 12))
    other = ids.clone()
    other[0, 7] = ids[0, 7] % (VOCABULARY - 1) + 1
    before, after = (read(network, equal_rows(each)).chunk(2, -1) for each in (ids, other))  # type: ignore[arg-type]
    ahead, back = ((one != two).any(-1).tolist() for one, two in zip(before, after, strict=True))
    assert ahead == [False] * 7 + [True] * 5
    assert back == [True] * 8 + [False] * 4


def test_a_mixture_of_layers() -> None:
    """gamma Σ softmax(s)_j h_j, at first the mean; tasks get it, and the embeddings are those of both directions."""
    model = cast("LSTM", MODELS["both ways"].unpooled())
    assert model.mixed
    assert not MODELS["plain"].unpooled().mixed  # type: ignore[attr-defined]
    network = built(replace(model, hidden=6))
    found = network(Batch({"tokens": packed()}, {}), layers=True)
    assert len(found.layers) == 4
    assert torch.equal(found.layers[0], torch.cat([network.embed(packed())] * 2, -1))
    torch.testing.assert_close(found["tokens"], torch.stack(found.layers).mean(0), rtol=DOUBLE, atol=DOUBLE)
    mix = LayerMix(3)
    with torch.no_grad():
        mix.scores.copy_(torch.tensor([0.0, 1.0, 2.0]))
        mix.gamma.fill_(2.0)
    e = torch.tensor([1.0, torch.e, torch.e**2])
    states = torch.randn(3, 4, 5)
    torch.testing.assert_close(mix(list(states)), 2 * (states * (e / e.sum())[:, None, None]).sum(0))


def test_parameters_by_the_formula() -> None:
    """4 ((E + H) H + H) of Dai and Le's, and 4 ((E + P) S + S) + S P of each direction and layer of ELMo's."""
    assert cost(load("lstm/base")).network == 86_934 * 512 + 4 * ((512 + 1024) * 1024 + 1024)
    assert cost(load("elmo/base")).network == 793_471 * 512 + 4 * (4 * ((512 + 512) * 4096 + 4096) + 4096 * 512)


def test_what_does_not_fit_is_refused() -> None:
    rotary = Embedding(segments=0, position=Rotary(), norm=Identity())
    with pytest.raises(ValueError, match="an LSTM does not take Rotary"):
        LSTM(layers=1, hidden=8, embedding=rotary)
    with pytest.raises(ValueError, match="mixed: embeddings of 6 numbers"):
        LSTM(layers=1, hidden=8, inputs=6, mixed=True)
    learned = Embedding(segments=0, position=LearnedPosition(length=9), norm=Identity())
    assert LSTM(layers=1, hidden=8, embedding=learned).max_length == 9
