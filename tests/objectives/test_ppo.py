"""The losses of proximal policy optimization, against the equations written out token by token."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genus.batch import Batch, Targets
from genus.model.head.lm_head import LMHead
from genus.objectives import Learner
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.objectives.reinforcement.ppo import (
    ROLLOUT,
    ClippedPolicy,
    ClippedValue,
    Rollouts,
    clipped_surrogate,
    clipped_value,
)
from hand import equal_rows
from toys.decoder import DECODER, VOCABULARY

NUMBER = st.floats(-3, 3, allow_nan=False, width=32)
TOKEN = st.tuples(NUMBER, NUMBER, NUMBER)
CLIP = st.floats(0.01, 0.9)


@given(st.lists(TOKEN, min_size=1, max_size=8), CLIP)
def test_the_clipped_surrogate(tokens: list[tuple[float, float, float]], clip: float) -> None:
    """-min(r A, clip(r, 1 - c, 1 + c) A) (Schulman et al. 2017, equation 7)."""
    new, old, advantage = torch.tensor(tokens, dtype=torch.float64).unbind(1)
    losses, clipped = clipped_surrogate(new, old, advantage, clip)
    for number, (a, b, gain) in enumerate(tokens):
        ratio = math.exp(a - b)
        within = min(max(ratio, 1 - clip), 1 + clip)
        assert losses[number].item() == pytest.approx(-min(ratio * gain, within * gain), rel=1e-6, abs=1e-9)
        assert clipped[number].item() == (within * gain < ratio * gain)


def test_the_gradient_of_a_clipped_token_is_zero() -> None:
    new = torch.tensor([0.5, -0.5, 0.5, -0.5], requires_grad=True)
    gains = torch.tensor([1.0, -1.0, -1.0, 1.0])
    losses, clipped = clipped_surrogate(new, torch.zeros(4), gains, 0.2)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert clipped.tolist() == [True, True, False, False]
    assert new.grad is not None
    assert new.grad[:2].tolist() == [0.0, 0.0]
    assert new.grad[2:].tolist() == pytest.approx([math.exp(0.5), -math.exp(-0.5)])


@given(st.lists(TOKEN, min_size=1, max_size=8), CLIP)
def test_the_clipped_value_loss(tokens: list[tuple[float, float, float]], clip: float) -> None:
    value, old, target = torch.tensor(tokens, dtype=torch.float64).unbind(1)
    losses, clipped = clipped_value(value, old, target, clip)
    for number, (v, before, wanted) in enumerate(tokens):
        near = min(max(v, before - clip), before + clip)
        assert losses[number].item() == pytest.approx(max((v - wanted) ** 2, (near - wanted) ** 2) / 2, abs=1e-9)
        assert clipped[number].item() == ((near - wanted) ** 2 > (v - wanted) ** 2)


def test_heads_give_the_losses_of_a_batch() -> None:
    """Against log-probabilities that are computed row by row, at a temperature of 0.5."""
    torch.manual_seed(0)
    model = DECODER
    choice = ClippedPolicy(language_model=CausalLM(output=LMHead(bias="none")), rollouts=Rollouts(temperature=0.5))
    value = ClippedValue()
    heads = {choice.name: choice.build(model, VOCABULARY), value.name: value.build(model, VOCABULARY)}
    learner = Learner(model.build(VOCABULARY), heads, value.weights()).double()
    torch.nn.init.normal_(learner.heads["value"].linear.weight)  # type: ignore[union-attr, arg-type]
    ids = torch.randint(1, VOCABULARY, (2, 7))
    index = torch.tensor([2, 3, 4, 5, 7 + 4, 7 + 5])
    known = torch.randn(6, 4)
    batch = Batch(
        {"tokens": equal_rows(ids)},
        {"causal_lm": Targets(index, ids.flatten()[index + 1]), ROLLOUT: Targets(index, known)},
    )
    sums = learner(batch).sums
    states = learner.network(Batch({"tokens": equal_rows(ids)}, {}))["tokens"]
    total = worth = spread = 0.0
    for place, (log, gain, before, wanted) in zip(index.tolist(), known.double().tolist(), strict=True):
        chances = torch.softmax(learner.heads["causal_lm"].lm_head(states[place][None])[0] / 0.5, -1)  # type: ignore[operator]
        ratio = chances[ids.flatten()[place + 1]].item() / math.exp(log)
        total += -min(ratio * gain, min(max(ratio, 0.8), 1.2) * gain)
        spread += -sum(p * math.log(p) for p in chances.tolist())
        told = (learner.heads["value"].linear(states[place])[0]).item()  # type: ignore[operator]
        worth += max((told - wanted) ** 2, (min(max(told, before - 0.2), before + 0.2) - wanted) ** 2) / 2
    assert sums["policy"].item() == pytest.approx(total, rel=1e-4)
    assert sums["policy/entropy"].item() == pytest.approx(spread, rel=1e-4)
    assert sums["value"].item() == pytest.approx(worth, rel=1e-4)
    counts = learner.counts(batch)
    assert {name: count.item() for name, count in counts.items()} == {"policy": 6, "value": 6}
    assert learner.objective(sums, counts).item() == pytest.approx((total + 0.1 * worth) / 6, rel=1e-4)
