"""The permutation language model's corruption: what is predicted, in which order, and that nothing is replaced."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from genus import catalog
from genus.errors import UsageError
from genus.examples import Example, Sequence
from genus.objectives.masking.targets import ContextSpans, RandomTokens, TargetSelection
from genus.objectives.pretraining.permutation_lm import PermutationLM
from genus.tokens.vocabulary import Vocabulary

SEP, CLS, FIRST, SIZE = 3, 2, 5, 400
WORDS = Vocabulary(
    size=SIZE, roles={"pad": 0, "unk": 1, "cls": CLS, "sep": SEP, "mask": 4},
    special=np.arange(SIZE) < FIRST,
    word_start=np.arange(SIZE) % 3 != 0, summary="last",
    single=((None, 0, 0), (SEP, None, 0), (CLS, None, 2)),
    pair=((None, 0, 0), (SEP, None, 0), (None, 1, 1), (SEP, None, 1), (CLS, None, 2)),
)  # fmt: skip
partials = pytest.mark.parametrize("partial", [ContextSpans(), RandomTokens(), ContextSpans(one_in=7)], ids=str)


def framed(first: int, second: int, seed: int, *, through: int | None = None, backward: bool = False) -> Example:
    rng = np.random.default_rng(seed)
    texts = (rng.integers(FIRST, SIZE, length) for length in (first, second))
    return Example({"tokens": Sequence(*WORDS.frame(*texts), through=through, backward=backward)}, {})


def corrupted(partial: TargetSelection, example: Example, seed: int = 0) -> tuple[Sequence, np.ndarray, np.ndarray]:
    found = PermutationLM(selection=partial).prepare_example(example, WORDS, np.random.default_rng(seed))
    return found.tokens, *found.targets["permutation_lm"]


@partials
@pytest.mark.parametrize("through", [None, 40])
@pytest.mark.parametrize("backward", [False, True])
def test_one_in_k_is_predicted_and_nothing_is_replaced(
    partial: TargetSelection, through: int | None, backward: bool
) -> None:
    for seed in range(20):
        example = framed(60, 33, seed, through=through, backward=backward)
        before = example.tokens.ids.copy()
        tokens, index, label = corrupted(partial, example, seed)
        np.testing.assert_array_equal(tokens.ids, before)
        np.testing.assert_array_equal(before[index], label)
        assert not tokens.fixed[index].any()
        middle = through or len(before)
        parts = [middle // partial.one_in, (len(before) - middle) // partial.one_in]
        assert [int((index < middle).sum()), int((index >= middle).sum())] == parts


@partials
def test_who_is_predicted_comes_late_and_all_others_first(partial: TargetSelection) -> None:
    tokens, index, _ = corrupted(partial, framed(60, 33, 0))
    late = np.zeros(len(tokens.ids), dtype=bool)
    late[index] = True
    late |= tokens.fixed
    assert tokens.order is not None
    assert (tokens.order[~late] == 0).all()
    assert sorted(tokens.order[late].tolist()) == list(range(1, late.sum() + 1))


def test_what_only_looks_ahead_comes_after_all_that_is_remembered() -> None:
    tokens, _, _ = corrupted(ContextSpans(), framed(60, 33, 0, through=40))
    assert tokens.order is not None
    assert tokens.order[:40].max() < tokens.order[40:].min()


def test_every_order_is_as_likely() -> None:
    """Three lone tokens and the frame's three: of the orders of the predicted three, each sixth of the draws."""
    seen: Counter[tuple[int, ...]] = Counter()
    draws = 3000
    for seed in range(draws):
        tokens, index, _ = corrupted(RandomTokens(one_in=3), framed(4, 4, 1), seed)
        assert tokens.order is not None
        seen[tuple(np.argsort(tokens.order[index]).tolist())] += 1
    assert len(seen) == 6
    assert max(abs(number / draws - 1 / 6) for number in seen.values()) < 5 * (1 / 6 * 5 / 6 / draws) ** 0.5


def test_every_token_is_as_likely_alone() -> None:
    draws = 4000
    chosen = sum(
        RandomTokens().choose(5, np.ones(30, dtype=bool), np.arange(30) != 7, np.random.default_rng(seed))
        for seed in range(draws)
    )
    assert chosen[7] == 0
    share = np.delete(chosen, 7) / draws
    assert np.abs(share - 5 / 29).max() < 5 * (5 / 29 / draws) ** 0.5


def test_spans_begin_at_words_and_their_lengths_follow_the_law() -> None:
    """p(n) ~ 1/n for n up to 5, in a text with room, where every token starts a word and spans stay apart."""
    lengths: Counter[int] = Counter()
    for seed in range(400):
        starts = np.ones(600, dtype=bool)
        chosen = ContextSpans().choose(100, starts, starts, np.random.default_rng(seed))
        assert chosen.sum() == 100
        edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(int), [0]])))
        lengths.update((edges[1::2] - edges[::2]).tolist())
    total = sum(lengths.values())
    law = 1 / np.arange(1, 6)
    found = np.array([lengths[n] for n in range(1, 6)]) / total
    assert np.abs(found - law / law.sum()).max() < 0.06  # the last span of a text is cut, and some spans touch


def test_a_span_counts_tokens_and_may_end_within_a_word() -> None:
    """In words of four tokens, where what is wanted leaves room for every span and none is made up of single tokens."""
    starts = np.arange(600) % 4 == 0
    lengths: Counter[int] = Counter()
    for seed in range(100):
        chosen = ContextSpans().choose(20, starts, np.ones(600, dtype=bool), np.random.default_rng(seed))
        edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(int), [0]])))
        assert starts[edges[::2]].all()
        lengths.update((edges[1::2] - edges[::2]).tolist())
    assert {1, 2, 3, 4, 5} <= lengths.keys()


def test_spans_of_backward_text_begin_where_words_do_as_it_reads() -> None:
    """A span is drawn in reading order: turned round, the choice is the one of the text turned round."""
    forward = framed(60, 33, 0)
    tokens = forward.tokens
    turned = Sequence(tokens.ids[::-1].copy(), tokens.segments, tokens.fixed[::-1].copy(), backward=True)
    _, index, _ = corrupted(ContextSpans(), forward, 4)
    _, other, _ = corrupted(ContextSpans(), Example({"tokens": turned}, {}), 4)
    np.testing.assert_array_equal(np.sort(len(tokens.ids) - 1 - other), index)


@pytest.mark.parametrize("other", ["transformer-xl/tiny", "bert/tiny"])
def test_a_model_without_second_states_is_refused(other: str) -> None:
    message, model = (
        r"PermutationLM predicts from second states.*model\.attention=TwoStreamAttention",
        catalog.load(other).model,
    )
    with pytest.raises(ValueError, match=message):
        replace(catalog.load("xlnet/tiny"), model=model)
    with pytest.raises(UsageError, match=message):
        PermutationLM().build(model, 50)


def test_even_the_shortest_sequence_has_a_target() -> None:
    for first in range(1, 4):
        _, index, _ = corrupted(ContextSpans(), framed(first, 1, 0))
        assert len(index) >= 1
