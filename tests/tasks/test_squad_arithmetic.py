"""Scores of answers are those of SQuAD's programs, versions 1.1 and 2.0, written out, of adversarial texts too."""

from __future__ import annotations

import collections
import re
import string
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from genus.evaluate.written import AnswerExactMatch, AnswerF1, referenced
from genus.objectives.supervised.span_extraction import SpanExtraction
from genus.tasks.answer import Outputs, measure
from genus.tasks.dataset import LabeledRow
from genus.tasks.question_answering import QuestionAnswering
from genus.tasks.spans import BestSpans, Span
from genus.tasks.windows import EncodedWindows

if TYPE_CHECKING:
    from genus.tokens.tokenizer import Tokenizer

PIECES = ["the", "The", "a", "an", "AN", "!", "…", "-", "'s", '"', "é", "É", "İ", "ﬁ", "U.S.", "the-end", "1,000.50"]
PIECES += ["ไทย", "مرحبا", "👩‍👩‍👧", "cat", "cats", "Cat", "_", "theatre", "a.b", "“the”"]
GAPS = [" ", "  ", "\n", "\t", "\u00a0", "\u3000", "", "\u200b"]
texts = st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(GAPS)), max_size=5).map(
    lambda pairs: "".join(piece + gap for piece, gap in pairs)
)


def normalize_answer(s: str) -> str:
    def remove_articles(text: str) -> str:
        return re.sub(r"\b(a|an|the)\b", " ", text)

    def white_space_fix(text: str) -> str:
        return " ".join(text.split())

    def remove_punc(text: str) -> str:
        exclude = set(string.punctuation)
        return "".join(ch for ch in text if ch not in exclude)

    return white_space_fix(remove_articles(remove_punc(s.lower())))


def compute_exact(a_gold: str, a_pred: str) -> float:
    return float(normalize_answer(a_gold) == normalize_answer(a_pred))


def f1_of_2(a_gold: str, a_pred: str) -> float:
    gold_toks, pred_toks = normalize_answer(a_gold).split(), normalize_answer(a_pred).split()
    if len(gold_toks) == 0 or len(pred_toks) == 0:
        return float(gold_toks == pred_toks)
    return f1_of_1(a_gold, a_pred)


def f1_of_1(ground_truth: str, prediction: str) -> float:
    prediction_tokens, ground_truth_tokens = (
        normalize_answer(prediction).split(),
        normalize_answer(ground_truth).split(),
    )
    common = collections.Counter(prediction_tokens) & collections.Counter(ground_truth_tokens)
    num_same = sum(common.values())
    if num_same == 0:
        return 0.0
    precision, recall = num_same / len(prediction_tokens), num_same / len(ground_truth_tokens)
    return (2 * precision * recall) / (precision + recall)


def version_1(golds: list[list[str]], preds: list[str]) -> tuple[float, float]:
    """evaluate-v1.1.py: exact match and F1, as fractions."""
    pairs = list(zip(golds, preds, strict=True))
    exact = sum(max(compute_exact(gold, pred) for gold in several) for several, pred in pairs)
    return exact / len(pairs), sum(max(f1_of_1(gold, pred) for gold in several) for several, pred in pairs) / len(pairs)


def version_2(golds: list[list[str]], preds: list[str], na_probs: list[float], threshold: float) -> tuple[float, float]:
    """evaluate-v2.0.py of predictions that are empty where no answer is more probable: exact match and F1, fractions.

    With `--na-prob-thresh` it is the same, but for questions of whose answers nothing is compared.
    """
    exact, f1, with_thresh = 0.0, 0.0, 0.0
    for given_, pred, na_prob in zip(golds, preds, na_probs, strict=True):
        gold_answers = [a for a in given_ if normalize_answer(a)] or [""]
        a_pred = "" if na_prob > threshold else pred
        exact += max(compute_exact(a, a_pred) for a in gold_answers)
        f1 += max(f1_of_2(a, a_pred) for a in gold_answers)
        with_thresh += float(not given_) if na_prob > threshold else max(f1_of_2(a, pred) for a in gold_answers)
    if all(any(map(normalize_answer, gold)) for gold in golds if gold):
        assert with_thresh == pytest.approx(f1)
    return exact / len(golds), f1 / len(golds)


@settings(deadline=None)
@given(st.lists(st.tuples(st.lists(texts, min_size=1, max_size=3), texts), min_size=1, max_size=6))
@example([(["The cat"], "cat"), (["İ"], "i̇"), (["a.b c"], "ab C!"), (["cat cat"], "cat")])
def test_version_1(several: list[tuple[list[str], str]]) -> None:
    golds, preds = [gold for gold, _ in several], [pred for _, pred in several]
    truth, said = referenced([tuple(gold) for gold in golds]), np.array(preds, dtype=object)
    exact, f1 = version_1(golds, preds)
    assert AnswerExactMatch()(truth, said) == pytest.approx(exact)
    nothing = [not normalize_answer(pred) and "" in map(normalize_answer, gold) for gold, pred in several]
    assert AnswerF1()(truth, said) == pytest.approx(f1 + sum(nothing) / len(nothing))  # as version 2 has it


class Answering(EncodedWindows):
    """Rows whose best spans are given."""

    def best(self, objective: object, outputs: object) -> list[BestSpans]:
        return [BestSpans(row.texts[1], (Span(0, len(row.texts[1]), 0.0),), float(row.line)) for row in self.rows]


def answering(tokenizer: Tokenizer, golds: list[list[str]], preds: list[str], na_probs: list[int]) -> EncodedWindows:
    """Return rows of which the whole context is the answer, and the line how far no answer is above it."""
    rows = [
        LabeledRow(probability, ("?", pred), tuple(filter(str.strip, gold)) or ("",), id=None)
        for gold, pred, probability in zip(golds, preds, na_probs, strict=True)
    ]
    found = QuestionAnswering().encode(
        tokenizer, [LabeledRow(1, row.texts, None) for row in rows], SpanExtraction(), 32
    )
    return Answering(**vars(found) | {"rows": rows})


questions = st.tuples(st.lists(texts, max_size=3), texts.filter(str.strip), st.integers(-2, 2))


@settings(deadline=None)
@given(st.lists(questions, min_size=1, max_size=8), st.sampled_from([-1.5, -1.0, 0.0, 2.0]))
@example([(["the", "cat"], "the", 0), (["!"], "a", 1), ([], "cat", -1)], 0.0)
def test_version_2(tokenizer: Tokenizer, several: list[tuple[list[str], str, int]], threshold: float) -> None:
    golds, preds, na_probs = ([*side] for side in zip(*several, strict=True))
    golds = [[text for text in gold if text.strip()] for gold in golds]
    encoded, nothing = answering(tokenizer, golds, preds, na_probs), Outputs(np.empty((0, 0, 2), np.float32))
    task = QuestionAnswering()
    found = measure(task.metrics, SpanExtraction(null_threshold=threshold), encoded, nothing)
    expected = version_2(golds, preds, na_probs, threshold)
    assert (found["answer_exact_match"], found["answer_f1"]) == pytest.approx(expected)

    tuned = task.tuned(SpanExtraction(null_threshold=0.0), encoded, nothing)
    best = measure(task.metrics, tuned, encoded, nothing)["answer_f1"]
    every = [version_2(golds, preds, na_probs, one)[1] for one in (-9.0, *map(float, na_probs))]
    assert best == pytest.approx(max(every))
