"""Scores of membership against transcriptions of the paper, one token and one window at a time."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from genus.errors import UsageError
from genus.evaluate.likelihood import Span, find_predictor, log_likelihoods, predicted
from genus.evaluate.token_likelihoods import token_log_likelihoods
from genus.memorization.attack import Judged, by_repetitions, precisions
from genus.memorization.canaries import Canary
from genus.memorization.exposure import Exposure
from genus.memorization.overlap import best, is_duplicate, trigrams
from genus.memorization.samples import Sample
from genus.memorization.scores import SCORES, Measured, least_window, measure, zlib_bits
from genus.memorization.verbatim import Run
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from genus.tokens.algorithms.wordpiece import WordPiece
from written import WIDE, in_float64, write_model

if TYPE_CHECKING:
    from pathlib import Path

    from genus.export.folder import LoadedModel

CORPUS = ["the cat sat on the mat and the Dog ran to the door . a bird sang in the old tree"] * 20
TEXTS = ["The cat sat", "a Dog ran to the old tree and the cat sat on the mat again . " * 3, "bird", ""]
FLOAT64 = 1e-9


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    tokens = ByteBPE(vocab_size=300, special_tokens=GPT2)
    return in_float64(write_model(tmp_path_factory.mktemp("own"), "gpt2/tiny", tokens, CORPUS, WIDE))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    tokens = ByteBPE(vocab_size=280, special_tokens=GPT2)
    return in_float64(write_model(tmp_path_factory.mktemp("other"), "gpt2/tiny", tokens, CORPUS, WIDE))


def slow(model: LoadedModel, text: str) -> list[float]:
    """Log-probabilities of tokens, each from a forward pass of its own that predicts nothing else."""
    (ids,) = model.tokenizer.encode([text], specials=False)
    predictor, vocabulary = find_predictor(model.learner), model.tokenizer.vocabulary
    whole = np.array([vocabulary.sep, *ids], np.int64)
    spans = [Span(whole[: end + 1], end) for end in range(1, len(whole))]
    return predicted(predictor, vocabulary, spans, "float32")[0].tolist()


def test_each_token_has_its_own_log_probability(model: LoadedModel) -> None:
    found = token_log_likelihoods(model.learner, model.tokenizer, TEXTS, 128)
    whole = log_likelihoods(model.learner, model.tokenizer, TEXTS, 128)
    for text, mine, one in zip(TEXTS, found, whole, strict=True):
        assert len(mine) == one.tokens
        assert mine.sum() == pytest.approx(one.nats, abs=FLOAT64)
        assert mine.tolist() == pytest.approx(slow(model, text), abs=FLOAT64)


def test_what_the_model_has_no_position_for_is_left_out(model: LoadedModel) -> None:
    (whole,) = token_log_likelihoods(model.learner, model.tokenizer, [TEXTS[1]], 128)
    (cut,) = token_log_likelihoods(model.learner, model.tokenizer, [TEXTS[1]], 16)
    assert 0 < len(cut) < len(whole)
    assert cut.tolist() == pytest.approx(whole[: len(cut)].tolist(), abs=FLOAT64)


def test_scores_are_those_of_the_paper(model: LoadedModel, other: LoadedModel) -> None:
    text = TEXTS[1]
    (one,) = measure(model, [text], other, model)
    nats = slow(model, text)
    theirs, lowered = (slow(model_, text_) for model_, text_ in ((other, text), (model, text.lower())))
    own, small, low = (-math.fsum(each) / len(each) for each in (nats, theirs, lowered))
    windows = [nats[first : first + 50] for first in range(len(nats) - 49)]
    assert len(windows) > 1
    expected = {
        "perplexity": math.exp(own),
        "small": own / small,
        "medium": 1.0,
        "zlib": own / (8 * len(zlib.compress(text.encode()))),
        "lowercase": math.exp(own) / math.exp(low),
        "window": min(math.exp(-math.fsum(each) / 50) for each in windows),
    }
    assert {name: score(one) for name, score in SCORES.items()} == pytest.approx(expected, rel=1e-7)


def test_a_short_text_is_its_own_window_and_an_empty_one_the_last(model: LoadedModel) -> None:
    short, empty = measure(model, ["The cat sat", ""])
    assert short.window == pytest.approx(short.log_perplexity)
    assert SCORES["small"](short) is None
    assert empty.log_perplexity == math.inf
    assert SCORES["perplexity"](empty) == max(SCORES["perplexity"](one) for one in (short, empty))
    assert zlib_bits("ab" * 500) < zlib_bits("".join(map(chr, range(200, 1200))))


def test_windows_against_every_window() -> None:
    nats = np.random.default_rng(0).normal(-3, 2, 173)
    expected = min(-nats[first : first + 50].mean() for first in range(124))
    assert least_window(nats) == pytest.approx(expected, rel=1e-12)


def test_a_model_of_both_sides_is_refused(tmp_path: Path) -> None:
    tokens = WordPiece(vocab_size=100, lowercase=True)
    bert = in_float64(write_model(tmp_path, "bert/tiny", tokens, CORPUS, WIDE))
    with pytest.raises(UsageError, match="a model that predicts the next token, as gpt2"):
        token_log_likelihoods(bert.learner, bert.tokenizer, TEXTS)


def test_trigrams_are_those_of_the_papers_example() -> None:
    assert trigrams("my name my name my name") == Counter({("my", "name", "my"): 2, ("name", "my", "name"): 2})


def test_duplicates_by_counting_each_trigram() -> None:
    texts = ["a b c d e f", "x a b c d y", "a b c a b c a b c", "q r s t u v", "a, b! c", ""]
    for one in texts:
        for other in texts:
            mine, theirs = ([*trigrams(text).elements()] for text in (one, other))
            common = 0
            for each in mine:
                if each in theirs:
                    theirs.remove(each)
                    common += 1
            assert is_duplicate(trigrams(one), trigrams(other)) == (common >= len(mine) / 2)


def test_the_best_are_without_duplicates() -> None:
    texts = ["one two three four", "one two three four five", "nine eight seven six", "one two three four"]
    assert best(texts, [0.3, 0.1, 0.2, 0.0], 3) == [3, 2]
    assert best(texts, [0.3, 0.1, 0.2, 0.0], 1) == [3]


def test_precision_counts_the_best_and_no_way_that_is_missing() -> None:
    texts = ["a b c d", "e f g h", "i j k l", "m n o p"]
    judged = [
        Judged(Sample("top-n", number, "", text), Measured(1.0 + number, 2.0, 5.0 - number, 800), Run(tokens, ""))
        for number, (text, tokens) in enumerate(zip(texts, (60, 49, 50, 0), strict=True))
    ]
    found = {one.score: one for one in precisions(judged, 2, 50)}
    assert found.keys() == {"perplexity", "zlib", "lowercase", "window"}
    assert (found["perplexity"].numbers, found["perplexity"].memorized) == ([0, 1], 1)
    assert (found["window"].numbers, found["window"].precision.mean) == ([3, 2], 0.5)


def test_canaries_are_grouped_by_repetitions() -> None:
    found = [
        Exposure(Canary("x", str(number), "", repetitions), bits, 1, 100, extracted)
        for number, (repetitions, bits, extracted) in enumerate([(5, 2.0, False), (1, 1.0, False), (5, 4.0, True)])
    ]
    one, five = by_repetitions(found, [1, 0, 5])
    assert (one["repetitions"], one["extracted"]["mean"], one["exposure"]["mean"], one["occurrences"]) == (1, 0, 1, 0)
    assert (five["extracted"]["mean"], five["exposure"]["mean"], five["occurrences"]) == (0.5, 3.0, 3)
