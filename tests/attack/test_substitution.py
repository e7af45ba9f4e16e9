"""Substitution of words: order, bounds, the limit of queries, and the planted weakness."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from genus.attack import Example
from genus.attack.substitution import WORD, GreedySearch, Substitution, proposals
from genus.attack.table import AttackedTable
from genus.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from genus.attack.models import Models
    from genus.export.folder import LoadedModel
    from genus.tasks.dataset import LabeledRow

EVERY = Substitution(candidates=140, similarity=0.0, queries=5000)
"""The masked model has random weights: only if all words are tried, the right one is among them."""


def example(text: str) -> Example:
    return Example(0, (text,), 0, 0)


def test_it_finds_the_planted_weakness(models: Models, quiet: list[LabeledRow], tmp_path: Path) -> None:
    label = models.target.classes.index("quiet")
    found = AttackedTable(models, EVERY, quiet, tmp_path / "rows.jsonl").outcomes(tmp_path)
    assert all(one.fooled for one in found)
    for one in found:
        assert one.changed.lower().count("zebra") == 1
        assert models.target.classes[label] == one.before
        assert 0 < one.queries <= 5000


def test_queries_are_counted_and_limited(
    models: Models, quiet: list[LabeledRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    kind = type(models.target)
    logits = kind.logits
    monkeypatch.setattr(kind, "logits", lambda self, texts: (asked.append(len(texts)), logits(self, texts))[1])
    label = models.target.classes.index("quiet")
    for most in (3, 12, 25, 60):
        asked.clear()
        one = Example(0, quiet[0].texts, label, 0)
        (attempt,) = replace(EVERY, queries=most, words=1.0).attempts(models, [one], lambda _: None)
        assert attempt.queries == sum(asked) - 1 <= most, "the text as it is was known"


def test_the_bound_of_similarity_holds(models: Models, quiet: list[LabeledRow], tmp_path: Path) -> None:
    found = AttackedTable(models, replace(EVERY, similarity=1.0), quiet, tmp_path / "x").outcomes(tmp_path / "one")
    assert all(one.changed == one.texts[0] for one in found), "no other text is as similar as the text itself"
    bounded = replace(EVERY, similarity=0.8)
    for one in AttackedTable(models, bounded, quiet, tmp_path / "x").outcomes(tmp_path / "two"):
        assert one.similarity.f1 >= 0.8 - 1e-6


def test_no_more_words_change_than_may(models: Models, quiet: list[LabeledRow]) -> None:
    label = models.target.classes.index("quiet")
    few = replace(EVERY, words=0.1, candidates=3)
    for row in quiet:
        one = Example(0, row.texts, label, 0)
        (attempt,) = few.attempts(models, [one], lambda _: None)
        differ = [a != b for a, b in zip(attempt.text.split(), row.texts[0].split(), strict=True)]
        assert sum(differ) <= 1


def test_the_most_important_word_comes_first(models: Models) -> None:
    """Of a loud text it is the one by which it is told."""
    text = "The cat, a dog and zebra saw river stone."
    one = Example(0, (text,), models.target.classes.index("loud"), 0)
    words = [match.span() for match in WORD.finditer(text)]
    order = GreedySearch(models, one).by_importance(words)
    assert text[slice(*words[order[0]])] == "zebra"
    assert sorted(order) == list(range(len(words)))


def test_candidates_are_words_and_keep_their_capitals(masked: LoadedModel) -> None:
    text = "Horse and qx's, x_1!"
    words = [match.span() for match in WORD.finditer(text)]
    assert [text[slice(*word)] for word in words] == ["Horse", "and", "qx's", "x", "1"]
    found = proposals(masked, text, words, 10)
    assert all(len(several) == 10 for several in found[:4])
    assert all(other[:1].isupper() or not other[:1].isalpha() for other in found[0])
    assert "horse" not in [other.lower() for other in found[0]]
    for several in found:
        assert all(any(map(str.isalnum, other)) and "#" not in other and " " not in other for other in several)


def test_a_model_that_proposes_nothing_is_refused(models: Models) -> None:
    with pytest.raises(UsageError, match=r"name a masked language model that proposes words with --masked$"):
        EVERY.check(replace(models, masked=None))
    with pytest.raises(UsageError, match="predicts no masked tokens"):
        EVERY.check(replace(models, masked=models.fluency))


def test_a_text_without_a_word(models: Models) -> None:
    (attempt,) = EVERY.attempts(models, [example("., !")], lambda _: None)
    assert (attempt.text, attempt.queries) == ("., !", 0)
