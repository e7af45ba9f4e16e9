"""Sources of text in a mixture: shares, limits, and rows of each in its own order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from corpora import natural, vocabulary

from genus.errors import UsageError
from genus.examples.feed.feed import Feed
from genus.examples.feed.mixing import MixedSource, Mixing, limited
from genus.examples.feed.mixture import Mixture
from genus.examples.formats.contiguous import Contiguous
from genus.examples.formats.sentences import DocSentences, FullSentences
from genus.objectives.pretraining.causal_lm import CausalLM

WHOLE = natural(90)
FIRST, SECOND = (
    replace(WHOLE, documents=WHOLE.documents[part], document_bytes=WHOLE.document_bytes[part])
    for part in (slice(0, 60), slice(60, 90))
)
"""Two stores of other tokens each, whose number says where they stand."""
BORDER = int(WHOLE.sentences[WHOLE.documents[60, 0]]) + 5
SHARES = {"one": 0.3, "two": 0.7}


def mixing(*weights: float | None, **choices: float) -> Mixing:
    sources = [MixedSource(name=f"s{number}", share=weight) for number, weight in enumerate(weights)]
    return Mixing(sources=(*sources,), **choices)  # type: ignore[arg-type]


def feeds(examples: FullSentences | Contiguous | None = None) -> dict[str, Feed]:
    words, form = vocabulary(WHOLE), examples or DocSentences()
    made = [
        Feed(store, words, form, (CausalLM(),), limits={"tokens": 64}, micro_batch=3, seed=seed)
        for seed, store in enumerate((FIRST, SECOND))
    ]
    return dict(zip(SHARES, made, strict=True))


def test_shares_as_stated_and_by_size() -> None:
    assert mixing(3, 1).shares({"s0": 10, "s1": 90}, None) == {"s0": 0.75, "s1": 0.25}
    assert mixing(None, None).shares({"s0": 10, "s1": 90}, None) == pytest.approx({"s0": 0.1, "s1": 0.9})
    rooted = mixing(None, None, temperature=2.0, limit=40).shares({"s0": 10, "s1": 90}, None)
    assert rooted == pytest.approx({"s0": 1 / 3, "s1": 2 / 3})  # sqrt(10) and sqrt(40)


def test_limits_are_kept_and_the_rest_is_in_proportion() -> None:
    """The conditions that have one solution: sum 1, none above its most, the others in proportion."""
    draw = np.random.default_rng(0)
    for _ in range(200):
        shares = draw.dirichlet([0.5] * 6)
        most = draw.uniform(0, 1, 6)
        most *= max(1.0, 1.05 / most.sum())
        found = limited(shares, most)
        assert found.sum() == pytest.approx(1)
        assert (found <= most * (1 + 1e-6)).all()
        full = found >= most * (1 - 1e-6)
        ratio = found / shares
        if not full.all():
            np.testing.assert_allclose(ratio[~full], ratio[~full][0])
            assert (ratio[full] <= ratio[~full][0] * (1 + 1e-6)).all()


def test_unimax_is_equal_weights_with_a_limit() -> None:
    """Chung et al. 2023, algorithm 1, written out: the smallest first, each at most its limit and an equal part."""
    sizes, budget, times = {"s0": 100, "s1": 5_000, "s2": 900, "s3": 40}, 6_000.0, 4.0
    left, expected = budget, {}
    for number, (name, size) in enumerate(sorted(sizes.items(), key=lambda one: one[1])):
        expected[name] = min(left / (len(sizes) - number), times * size)
        left -= expected[name]
    found = mixing(1, 1, 1, 1, epochs=times).shares(sizes, budget)
    assert found == pytest.approx({name: expected[name] / budget for name in sizes})


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="s1 has no weight, and others have"):
        mixing(1, None)
    with pytest.raises(ValueError, match="limit and temperature are of shares by size"):
        mixing(1, 2, temperature=2.0)
    with pytest.raises(UsageError, match="at most 200 tokens, and the budget reads up to 300"):
        mixing(1, 1, epochs=2.0).shares({"s0": 60, "s1": 40}, 300)
    with pytest.raises(
        UsageError, match="Contiguous reads text in order, which a mixture would interrupt; give it one"
    ):
        Mixture.of_sources(feeds(Contiguous()), SHARES, 0)


def test_tokens_of_each_source_have_its_share() -> None:
    mixture = Mixture.of_sources(feeds(), SHARES, seed=3)
    read = np.zeros(2)
    for number in range(sum(mixture.rows) // 2):
        ids = np.concatenate([example.tokens.ids for example in mixture.row(number)])
        text = ids[ids >= 5]
        sides = text >= BORDER
        assert sides.all() or not sides.any(), "a row is of one source"
        read[int(sides[0])] += len(ids)
    np.testing.assert_allclose(read / read.sum(), [*SHARES.values()], rtol=0.03)


def test_each_source_is_read_in_its_own_order() -> None:
    each = feeds()
    mixture = Mixture.of_sources(each, SHARES, seed=3)
    found: dict[bool, list[list[int]]] = {False: [], True: []}
    for number in range(40):
        row = [int(token) for example in mixture.row(number) for token in example.tokens.ids]
        found[max(row) >= BORDER].append(row)
    for side, feed in zip((False, True), each.values(), strict=True):
        rows = [
            [int(token) for example in feed.row(number) for token in example.tokens.ids]
            for number in range(len(found[side]))
        ]
        assert found[side] == rows
    assert torch.equal(mixture[9].tokens.ids, Mixture.of_sources(feeds(), SHARES, seed=3)[9].tokens.ids)


def test_what_was_seen_is_told() -> None:
    each = feeds()
    mixture = Mixture.of_sources(each, SHARES, seed=3)
    counts = np.bincount([mixture._cycle.member(row) for row in range(500)], minlength=2)
    sizes = [feed.size[1] for feed in each.values()]
    assert mixture.seen(500) == pytest.approx(dict(zip(SHARES, counts / sizes, strict=True)))
    assert mixture.epoch_of_row(500) == pytest.approx(500 / sum(sizes), rel=0.02)


def test_a_rare_source_gets_a_longer_cycle() -> None:
    mixture = Mixture.of_sources(feeds(), {"one": 1e-4, "two": 1 - 1e-4}, seed=0)
    assert min(mixture.rows) / sum(mixture.rows) == pytest.approx(1e-4, rel=0.1)
