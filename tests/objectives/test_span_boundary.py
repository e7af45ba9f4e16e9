"""The span-boundary head against a slow transcription of the paper's equations, span by span."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from genus import catalog
from genus.errors import UsageError
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack

if TYPE_CHECKING:
    from genus.batch import Batch
    from genus.objectives import Learner

TOLERANCE = 1e-6
"""The head takes its softmax in float32, which has 24 bits; all before it is float64 here."""
LENGTHS = (14, 9, 20, 4)


def learner() -> Learner:
    """Return a tiny float64 learner in which every parameter is random, biases and norms too."""
    changes = ["model.hidden=16", "model.attention.heads=2", "model.feedforward.size=24", "tokens.vocab_size=40"]
    changes += ["objectives.1.positions=5", "objectives.1.width=6"]
    torch.manual_seed(0)
    made = catalog.load("spanbert/tiny", changes).learner().double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.3)
    return made


def batch() -> tuple[Batch, list[tuple[int, int, int, list[int]]]]:
    """Return a packed batch, and (place of the sequence, s, e, tokens) of every span that has both its boundaries.

    The second sequence has a span at its very start and the third one at its very end, whose boundaries would be tokens
    of other sequences; the first has a span of seven, deeper than there are positions.
    """
    spans = [[(2, 8), (10, 11)], [(0, 2), (5, 5)], [(4, 6), (17, 19)], []]
    rng = np.random.default_rng(0)
    examples, expected = [], []
    places = [0, 14, 24, 44]  # rows of 24: 14 and 9 tokens and one dead; 20 and 4
    for length, own, place in zip(LENGTHS, spans, places, strict=True):
        ids = rng.integers(5, 40, length)
        index = np.array([at for first, last in own for at in range(first, last + 1)], dtype=np.int64)
        label = rng.integers(5, 40, len(index))
        for first, last in own:
            if first > 0 and last + 1 < length:
                chosen = label[(index >= first) & (index <= last)].tolist()
                expected.append((place, first, last, chosen))
        sequence = Sequence(ids, np.zeros_like(ids), np.zeros(length, dtype=bool))
        examples.append(Example({"tokens": sequence}, {"masked_lm": (index, label)}))
    rows = [[examples[0], examples[1]], [examples[2], examples[3]]]
    return pack(rows, 24, 0, max_targets={"masked_lm": 30}), expected


def gelu(x: Tensor) -> Tensor:
    return torch.tensor([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()], dtype=torch.float64)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    variance = ((x - x.mean()) ** 2).mean()
    return (x - x.mean()) / torch.sqrt(variance + 1e-12) * weight + bias


def slow(made: Learner, hidden: Tensor, expected: list[tuple[int, int, int, list[int]]]) -> tuple[float, int]:
    """Return the summed loss and its number of tokens, by section 3.2's equations for one token after the other."""
    weights = dict(made.heads["span_boundary"].named_parameters())
    embedding = made.network.token_embedding.weight
    total, number = 0.0, 0
    for place, s, e, tokens in expected:
        for i, token in enumerate(tokens[:5]):
            h0 = torch.cat([hidden[place + s - 1], hidden[place + e + 1], weights["before.positions.weight"][i]])
            a1 = weights["before.transform.dense.weight"] @ h0 + weights["before.transform.dense.bias"]
            h1 = layer_norm(gelu(a1), weights["before.transform.norm.weight"], weights["before.transform.norm.bias"])
            a2 = weights["lm_head.transform.dense.weight"] @ h1 + weights["lm_head.transform.dense.bias"]
            y = layer_norm(gelu(a2), weights["lm_head.transform.norm.weight"], weights["lm_head.transform.norm.bias"])
            logits = embedding @ y + weights["lm_head.bias"]
            total -= float((logits - logits.exp().sum().log())[token])
            number += 1
    return total, number


def test_the_loss_is_the_paper_s() -> None:
    made, (packed, expected) = learner().eval(), batch()
    with torch.no_grad():
        hidden = made.network(packed)["tokens"]
        total, number = slow(made, hidden, expected)
        found = made.heads["span_boundary"](made.network, {"tokens": hidden}, packed)
    assert made.heads["span_boundary"].counts(packed) == {"span_boundary": number}
    assert number == 5 + 2 + 1 + 3
    assert float(found["span_boundary"]) == pytest.approx(total, rel=TOLERANCE)


def test_both_losses_are_means_that_are_summed() -> None:
    """Over the same spans: L = L_MLM + L_SBO."""
    made, (packed, _) = learner(), batch()
    with torch.no_grad():
        sums, counts = made(packed).sums, made.counts(packed)
    assert counts["masked_lm"] == 7 + 2 + 3 + 1 + 3 + 3
    total = sums["masked_lm"] / 19 + sums["span_boundary"] / 11
    assert float(made.objective(sums, counts)) == pytest.approx(float(total), rel=TOLERANCE)


def test_a_token_within_a_span_does_not_reach_the_loss() -> None:
    made, (packed, _) = learner(), batch()
    hidden = torch.randn(48, 16, dtype=torch.float64, requires_grad=True)
    made.heads["span_boundary"](made.network, {"tokens": hidden}, packed)["span_boundary"].backward()
    assert hidden.grad is not None
    reached = hidden.grad.abs().sum(-1).nonzero()[:, 0].tolist()
    assert reached == [1, 9, 12, 14 + 4, 14 + 6, 24 + 3, 24 + 7]


def test_it_needs_a_masked_language_model_before_it() -> None:
    alone = {"kind": "SpanBoundary"}
    with pytest.raises(UsageError, match="SpanBoundary needs masked_lm, which DocSentences does not give"):
        catalog.load("spanbert/tiny").overlay({"objectives": [alone]})
    with pytest.raises(UsageError, match="SpanBoundary needs masked"):
        catalog.load("spanbert/tiny").overlay({"objectives": [alone, {"kind": "MaskedLM"}]})


def test_any_masking_will_do() -> None:
    recipe = catalog.load("bert/tiny").overlay(
        {"objectives": [{"kind": "MaskedLM"}, {"kind": "SpanBoundary"}], "examples": {"kind": "FullSentences"}}
    )
    assert [type(objective).__name__ for objective in recipe.objectives] == ["MaskedLM", "SpanBoundary"]
