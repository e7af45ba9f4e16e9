"""UniLM's four attention masks as orders of a sequence, and how often each is drawn."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from genus.batch import Batch
from genus.catalog import load
from genus.model.attention.kernels import attend, attend_reference
from genus.model.attention.masks import AttentionMask, Causal, Full, Ordered, Prefix
from genus.model.attention.plan import Kernel, Side, choose, plan_attention
from genus.model.attention.plan import allowed as allowed_pairs
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.objectives.pretraining.multitask_masked_lm import MultitaskMaskedLM
from hand import equal_rows

LENGTH = 10
ORDERS = {
    "left to right": np.arange(LENGTH),
    "right to left": np.arange(LENGTH)[::-1].copy(),
    "sequence to sequence": np.array([0, 0, 0, 0, 0, 1, 2, 3, 4, 5]),
    "both": np.zeros(LENGTH, dtype=np.int64),
}
"""Of ten tokens, for each of UniLM's masks: a token attends to those of no larger number."""


def test_shares_are_those_of_the_paper() -> None:
    """Lewis et al. 2019, section 4.1: 1/6, 1/6, 1/3, and 1/3 with the first half of the tokens seen by all."""
    objective, rng, draws = MultitaskMaskedLM(), np.random.default_rng(0), 6000
    known = {tuple(order.tolist()): name for name, order in ORDERS.items()}
    found = Counter(known[tuple(objective.order(LENGTH, rng).tolist())] for _ in range(draws))
    expected = {"left to right": 1 / 6, "right to left": 1 / 6, "sequence to sequence": 1 / 3, "both": 1 / 3}
    for name, share in expected.items():
        assert found[name] / draws == pytest.approx(share, abs=0.025)


@pytest.mark.parametrize(
    ("name", "mask"), [("left to right", Causal()), ("both", Full()), ("sequence to sequence", Prefix())]
)
def test_an_order_is_the_mask_of_its_kind(name: str, mask: AttentionMask) -> None:
    """Pairs of tokens, and the states of a model with the same weights."""
    facts = {"order": torch.from_numpy(np.tile(ORDERS[name], 3)), "prefix": (torch.arange(LENGTH) < 5).long().repeat(3)}
    torch.manual_seed(0)
    packed = equal_rows(torch.randint(5, 90, (3, LENGTH)), facts)
    side = Side.of(packed)
    assert torch.equal(allowed_pairs(side, side, Ordered()), allowed_pairs(side, side, mask))
    row = load("bert/tiny").overlay({"tokens": {"vocab_size": 90}})
    ordered, other = (
        replace(row.model, attention=replace(row.model.attention, mask=rule))  # type: ignore[attr-defined, call-arg]
        for rule in (Ordered(), mask)
    )
    networks = [one.build(90).eval() for one in (ordered, other)]
    networks[1].load_state_dict(networks[0].state_dict())
    states = [network(Batch({"tokens": packed}, {}))["tokens"] for network in networks]
    torch.testing.assert_close(*states, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kernel", ["math", "sdpa"])
@pytest.mark.parametrize("name", ORDERS)
def test_kernels_agree_with_the_reference(name: str, kernel: Kernel) -> None:
    """On CPUs; on GPUs it is FlexAttention's mask, made of the same rule."""
    side = Side.of(
        equal_rows(torch.ones(2, LENGTH, dtype=torch.long), {"order": torch.from_numpy(ORDERS[name]).repeat(2)})
    )
    q, k, v = (torch.randn(2 * LENGTH, 2, 8, dtype=torch.float64) for _ in range(3))
    plan = plan_attention(side, side, Ordered(), torch.float64, kernel=kernel)
    torch.testing.assert_close(attend(q, k, v, plan), attend_reference(q, k, v, side, side, Ordered()))
    assert choose(torch.device("cuda"), torch.bfloat16, 512, 0.0, Ordered()) == "flex"


def test_right_to_left_sees_nothing_before() -> None:
    side = Side.of(
        equal_rows(torch.zeros(1, LENGTH, dtype=torch.long), {"order": torch.from_numpy(ORDERS["right to left"])})
    )
    found = allowed_pairs(side, side, Ordered())[0]
    assert torch.equal(found, torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu())


def test_a_model_that_reads_no_order_is_refused() -> None:
    row = load("bert/tiny")
    with pytest.raises(ValueError, match=r"take model\.attention\.mask=Ordered"):
        replace(row, objectives=(MultitaskMaskedLM(),))
    ordered = row.model.overlay({"attention": {"mask": {"kind": "Ordered"}}})
    assert replace(row, model=ordered, objectives=(MultitaskMaskedLM(),)).model.facts == {"segment", "order"}
    with pytest.raises(ValueError, match="it reads order of every token, which SegmentPairs does not give"):
        replace(row, model=ordered, objectives=(MaskedLM(),))
    with pytest.raises(ValueError, match="at most 1"):
        MultitaskMaskedLM(left_to_right=0.5, right_to_left=0.4)
