"""Metrics of written texts against the libraries that define them, and against counts by hand."""

from __future__ import annotations

import builtins
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sacrebleu
from rouge_score import rouge_scorer

from genus.errors import GenusError
from genus.evaluate.metrics import F1, Metric
from genus.evaluate.written import (
    AnswerExactMatch,
    AnswerF1,
    Bleu,
    ChrF,
    ExactMatch,
    Rouge1,
    Rouge2,
    RougeL,
    RougeLsum,
    SpanF1,
    referenced,
)
from genus.part import slots_of

if TYPE_CHECKING:
    from pathlib import Path

TRUTH = ["The old river carries the long letter.", "Seven stones lie in winter .", "A dog , two cats . And a bird ."]
FOUND = ["the old river carried a long letter", "Seven stones lay in the winter .", "A dog and two cats . A bird ."]


def texts(lines: list[str]) -> Any:
    return np.array(lines, dtype=object)


def alone(lines: list[str]) -> Any:
    return referenced([(line,) for line in lines])


@pytest.mark.parametrize("tokenize", ["13a", "intl", "char"])
def test_bleu_is_sacrebleu(tokenize: str) -> None:
    metric = Bleu(tokenize=tokenize)  # type: ignore[arg-type]
    expected = sacrebleu.corpus_bleu(FOUND, [TRUTH], tokenize=tokenize).score
    assert metric(alone(TRUTH), texts(FOUND)) == pytest.approx(expected, abs=0)
    assert expected > 5
    assert f"nrefs:1|case:mixed|eff:no|tok:{tokenize}|smooth:exp|version:" in metric.signature(alone(TRUTH))


def test_several_references_may_differ_in_number() -> None:
    several = referenced([(TRUTH[0], FOUND[0]), (TRUTH[1],), (TRUTH[2], "A bird .", "Two cats .")])
    columns = [[row[place] if place < len(row) else None for row in several] for place in range(3)]
    assert Bleu()(several, texts(FOUND)) == pytest.approx(sacrebleu.corpus_bleu(FOUND, columns).score, abs=0)
    assert "nrefs:var" in Bleu().signature(several)
    assert ExactMatch()(several, texts(FOUND)) == pytest.approx(1 / 3)


@pytest.mark.parametrize("words", [0, 2])
def test_chrf_is_sacrebleu(words: int) -> None:
    expected = sacrebleu.corpus_chrf(FOUND, [TRUTH], word_order=words).score
    assert ChrF(words=words)(alone(TRUTH), texts(FOUND)) == pytest.approx(expected, abs=0)  # type: ignore[arg-type]
    assert f"nw:{words}" in ChrF(words=words).signature(alone(TRUTH))  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", [Rouge1(), Rouge2(), RougeL(), RougeLsum()])
def test_rouge_is_rouge_score(metric: Rouge1) -> None:
    scorer = rouge_scorer.RougeScorer([metric.kind], use_stemmer=True)
    lines = [[line.replace(" . ", " .\n") for line in side] for side in (TRUTH, FOUND)]
    each = [scorer.score(one, other)[metric.kind].fmeasure for one, other in zip(*lines, strict=True)]
    assert metric(alone(TRUTH), texts(FOUND)) == pytest.approx(np.mean(each))
    best = referenced([(other, one) for one, other in zip(TRUTH, FOUND, strict=True)])
    assert metric(best, texts(FOUND)) == 1


def official(answers: list[str], prediction: str) -> tuple[float, float]:
    """Exact match and F1 as SQuAD's evaluation script has them, written out."""
    import re
    import string

    def plain(text: str) -> str:
        text = "".join(one for one in text.lower() if one not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())

    def f1(one: str, other: str) -> float:
        mine, theirs = plain(other).split(), plain(one).split()
        same = sum((Counter(mine) & Counter(theirs)).values())
        if not mine or not theirs:
            return float(mine == theirs)
        return (
            0.0 if not same else 2 * (same / len(mine)) * (same / len(theirs)) / (same / len(mine) + same / len(theirs))
        )

    return max(float(plain(one) == plain(prediction)) for one in answers), max(f1(one, prediction) for one in answers)


def test_short_answers_are_compared_as_in_squad() -> None:
    answers = [["The Beatles", "Beatles"], ["a"], ["New York City"], ["42"]]
    found = ["the beatles!", "an", "York", ""]
    truth, said = referenced([tuple(several) for several in answers]), texts(found)
    expected = np.array([official(*pair) for pair in zip(answers, found, strict=True)]).mean(0)
    assert [AnswerExactMatch()(truth, said), AnswerF1()(truth, said)] == pytest.approx(expected.tolist())
    assert expected[0] == 0.5


def test_answers_of_real_questions_score_as_the_script_has_it(shared: Path) -> None:
    """Answers of SQuAD against their neighbors' and their own other answers."""
    import gzip

    with gzip.open(shared / "data" / "squad_v1.1" / "validation.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line, _ in zip(file, range(400), strict=False)]
    answers = [row["answers"]["text"] for row in rows]
    found = [several[-1] if number % 2 else answers[number - 1][0] for number, several in enumerate(answers)]
    truth = referenced([tuple(several) for several in answers])
    expected = np.array([official(*pair) for pair in zip(answers, found, strict=True)]).mean(0)
    assert [AnswerExactMatch()(truth, texts(found)), AnswerF1()(truth, texts(found))] == pytest.approx(
        expected.tolist()
    )


def test_spans_are_counted_over_all_texts() -> None:
    truth = alone(["PER: Ada $$ LOC: Rome $$ LOC: Rome", "", "ORG: A: B"])
    found = texts(["LOC: Rome $$ PER: Bob $$ nonsense", "LOC: Oslo", "ORG: A: B"])
    assert SpanF1()(truth, found) == pytest.approx(2 * 2 / (4 + 4))
    assert SpanF1().defined(truth)
    assert not SpanF1().defined(alone(["", "none"]))
    assert SpanF1()(alone([""]), texts([""])) == 0


def test_an_answer_that_is_no_class_counts_as_the_wrong_one() -> None:
    """T5's f1_score_with_invalid, written out; other metrics are as before."""
    truth, predicted = np.array([1, 1, 0, 0, 1]), np.array([1, 2, 0, 2, 0])
    expected = np.where(predicted > 1, 1 - truth, predicted)
    hit = (truth & expected).sum()
    assert F1()(truth, predicted) == pytest.approx(2 * hit / (truth.sum() + expected.sum()))
    assert F1(positive=2)(np.array([2, 0, 2]), np.array([2, 2, 0])) == 0.5


def test_equal_texts_have_the_best_score_and_names_are_unique() -> None:
    kinds: list[Any] = [kind for kind in slots_of(Metric).values() if kind.judges == "written texts"]  # type: ignore[type-abstract]
    lines = ["PER: the long old river", "LOC: two small dogs sleep"]
    for kind in kinds:
        assert kind()(alone(lines), texts(lines)) == pytest.approx(100 if kind.__name__ in ("Bleu", "ChrF") else 1)
    assert len({kind().name for kind in kinds}) == len(kinds) == 10


@pytest.mark.parametrize(
    ("metric", "library"), [(Bleu(), "sacrebleu"), (ChrF(), "sacrebleu"), (RougeL(), "rouge-score")]
)
def test_a_missing_library_is_one_line(metric: Metric, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] in ("sacrebleu", "rouge_score"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(GenusError, match=rf"the library {library}: pip install 'genus\[eval\]'"):
        metric(alone(TRUTH), texts(FOUND))
