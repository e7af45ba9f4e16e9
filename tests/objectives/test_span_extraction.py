"""Span extraction: its loss as it is defined, and its best spans as found by trying all."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genus import catalog
from genus.batch import IGNORE, Batch, Targets
from genus.errors import UsageError
from genus.objectives.supervised.span_extraction import N_BEST, SpanExtraction

ROUNDING = 1e-5
"""Float32 sums in another order."""
MODEL = catalog.load("bert/tiny").model
SPAN = "span_extraction"


def batch(index: torch.Tensor, label: torch.Tensor) -> Batch:
    return Batch({}, {SPAN: Targets(index, label)})


def test_the_loss_is_its_definition() -> None:
    """Three sequences of different candidates, one of which is no target; other tokens and weights change nothing."""
    torch.manual_seed(0)
    head = SpanExtraction().build(MODEL, 9)
    states = torch.randn(20, MODEL.width)
    index = torch.tensor([[0, 3, 4, 5, 6], [7, 9, 10, -1, -1], [12, 14, 15, 16, -1]])
    label = torch.tensor([[2, 4], [0, 0], [IGNORE, IGNORE]])
    sums = head(None, {"tokens": states}, batch(index, label))

    weight, bias = head.classes.weight.tolist(), head.classes.bias.tolist()
    expected, right = 0.0, 0
    for places, span in ((index[0].tolist(), label[0].tolist()), (index[1, :3].tolist(), label[1].tolist())):
        hits = []
        for side in (0, 1):
            logits = [
                sum(w * x for w, x in zip(weight[side], states[place].tolist(), strict=True)) + bias[side]
                for place in places
            ]
            total = sum(math.exp(one) for one in logits)
            expected += -0.5 * math.log(math.exp(logits[span[side]]) / total)
            hits.append(max(range(len(logits)), key=logits.__getitem__) == span[side])
        right += all(hits)
    assert sums[SPAN].item() == pytest.approx(expected, rel=ROUNDING)
    assert sums[f"{SPAN}/correct"].item() == right
    assert head.counts(batch(index, label))[SPAN] == 2

    others = [place for place in range(20) if place not in index[:2].flatten().tolist()]
    states[others] = 1e4
    assert head(None, {"tokens": states}, batch(index, label))[SPAN].item() == sums[SPAN].item()


def test_gradients_are_finite_where_sequences_have_fewer_candidates() -> None:
    head = SpanExtraction().build(MODEL, 9)
    states = torch.randn(6, MODEL.width, requires_grad=True)
    index, label = torch.tensor([[0, 1, 2], [3, -1, -1]]), torch.tensor([[1, 2], [0, 0]])
    head(None, {"tokens": states}, batch(index, label))[SPAN].backward()
    assert states.grad.isfinite().all()
    assert states.grad[:3].abs().min() > 0
    assert not states.grad[3:].any()  # one candidate has all the probability


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(1, 12),
    longest=st.integers(1, 14),
    seed=st.integers(0, 1000),
    levels=st.sampled_from([3, 1000]),
)
def test_the_best_spans_are_the_best_of_all(count: int, longest: int, seed: int, levels: int) -> None:
    """Few levels make equal sums, of which the first spans are taken."""
    rng = np.random.default_rng(seed)
    logits = (rng.integers(0, levels, (count, 2)) / 4).astype(np.float32)
    begins = rng.random(count) < 0.7
    spans = [
        (float(logits[a, 0]) + float(logits[b, 1]), a, b)
        for a in range(1, count)
        for b in range(a, min(count, a + longest))
        if begins[a]
    ]
    spans.sort(key=lambda span: -span[0])
    places, sums = SpanExtraction(answer_length=longest).ranked(logits, begins)
    assert sums.tolist() == [score for score, *_ in spans[: N_BEST**2]]
    assert [(score, *place) for place, score in zip(places.tolist(), sums.tolist(), strict=True)] == spans[: len(sums)]


def test_where_the_released_code_looks_it_finds_the_same() -> None:
    """run_squad.py pairs the 20 best begins with the 20 best ends, and drops what is none: seldom the best one."""
    rng, lost = np.random.default_rng(0), 0
    for _ in range(200):
        logits = rng.normal(size=(60, 2)).astype(np.float32)
        starts, ends = (sorted(range(60), key=lambda place: -side[place])[:20] for side in logits.T)
        theirs = [
            (float(logits[a, 0]) + float(logits[b, 1]), a, b)
            for a in starts
            for b in ends
            if a and b and a <= b and b - a + 1 <= 30
        ]
        best = max(theirs, key=lambda span: span[0])
        places, sums = SpanExtraction().ranked(logits)
        lost += sums[0] > best[0]
        assert sums[0] > best[0] or tuple(places[0]) == best[1:]
    assert lost < 10


def test_one_sequence_by_itself_and_several() -> None:
    logits = np.array([[9, 9], [0, 1], [3, 0], [1, 2]], np.float32)
    objective = SpanExtraction(answer_length=2)
    assert objective.decide(np.stack([logits, logits[[0, 3, 2, 1]]])).tolist() == [[2, 3], [2, 3]]
    text, scores = objective.explain(logits)
    assert (text, scores["2-3"], max(scores.values())) == ("2-3", 5.0, 5.0)
    assert objective.explain(logits[:1]) == ("", {})


def test_an_encoder_decoder_is_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match="tells no spans of a text; take an encoder, or --task text-to-text"):
        SpanExtraction().continued((), catalog.load("t5/tiny").model)


def test_it_is_a_part_with_a_target_a_sequence() -> None:
    for objective in (SpanExtraction(), SpanExtraction(stride=7, null_threshold=-0.5)):
        again: Any = SpanExtraction.from_json(objective.to_json())
        assert again == objective
        assert objective.max_targets(512, 4) == {SPAN: 4}
    assert SpanExtraction().tuned_thresholds == {}
    assert SpanExtraction(null_threshold=-0.5).tuned_thresholds == {"null_threshold": -0.5}
