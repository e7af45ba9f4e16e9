"""The threshold of a decision is the best of all that there are, and SQuAD's where its program has one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from genus.evaluate.thresholds import best_threshold

pairs = st.lists(st.tuples(st.integers(-3, 3), st.integers(-4, 4)), min_size=1, max_size=12)


def total(scores: np.ndarray, gains: np.ndarray, threshold: float) -> float:
    return float(gains[scores <= threshold].sum())


@given(pairs)
@example([(0, -1), (0, 2)])
@example([(1, -1), (2, -1)])
def test_no_threshold_is_better_and_no_smaller_one_as_good(several: list[tuple[int, int]]) -> None:
    """Scores are few, so that many are equal; gains are quarters, so that sums are exact."""
    scores, gains = (np.array(side, np.float64) / 4 for side in zip(*several, strict=True))
    found = best_threshold(scores, gains)
    others = {known: total(scores, gains, known) for known in (-np.inf, *scores)}
    assert total(scores, gains, found) == max(others.values())
    assert np.isfinite(found)
    if found in scores:
        assert found == min(known for known, gain in others.items() if gain == max(others.values()))
    else:
        assert max(others.values()) == 0
        assert found < scores.min()


def find_best_thresh(
    preds: list[str], scores: list[float], na_probs: list[float], has_ans: list[bool]
) -> tuple[float, float]:
    """SQuAD's evaluate-v2.0.py, of lists in place of dictionaries."""
    cur_score = best_score = sum(1 for known in has_ans if not known)
    best_thresh = 0.0
    for which in sorted(range(len(na_probs)), key=lambda one: na_probs[one]):
        diff = scores[which] if has_ans[which] else -1 if preds[which] else 0
        cur_score += diff
        if cur_score > best_score:
            best_score, best_thresh = cur_score, na_probs[which]
    return 100.0 * best_score / len(scores), best_thresh


def test_it_is_that_of_squad() -> None:
    """Where scores differ, and it is best to answer something."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        count = int(rng.integers(2, 30))
        scores, has_ans = rng.normal(size=count), (rng.random(count) < 0.6).tolist()
        gained = [float(rng.integers(0, 5)) / 4 * known for known in has_ans]
        best, threshold = find_best_thresh(["text"] * count, gained, scores.tolist(), has_ans)
        gains = np.array([gain if known else -1.0 for gain, known in zip(gained, has_ans, strict=True)])
        found = best_threshold(scores, gains)
        nothing = sum(not known for known in has_ans)
        assert (nothing + total(scores, gains, found)) / count * 100 == pytest.approx(best)
        if best > 100 * nothing / count + 1e-9:
            assert found == threshold
