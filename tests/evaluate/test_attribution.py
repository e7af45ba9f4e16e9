"""Source attribution, against forward passes of the code and the text by Hugging Face's CTRL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from genus.errors import GenusError, UsageError
from genus.evaluate.attribution import Attribution, attribute
from genus.evaluate.likelihood import Span, find_predictor, predicted
from genus.tokens.algorithms.end_of_word_bpe import ContinuedBPE
from written import WIDE, in_float64, write_model

if TYPE_CHECKING:
    from pathlib import Path

    from genus.export.folder import LoadedModel

FLOAT64 = 1e-9
"""Both are float64 sums of tens of terms."""
FLOAT32 = 1e-4
"""Hugging Face's CTRL encodes positions in float32, whatever its weights are."""
CODES = ["Books", "Wikipedia", "Reviews of cats"]
CORPUS = [f"{code} the cat sat on the mat and the dog ran to the door ." for code in CODES] * 20
TEXT = "the dog sat on the mat"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("ctrl"), "ctrl/tiny", ContinuedBPE(vocab_size=120), CORPUS, WIDE)


@pytest.fixture(scope="module")
def model(folder: Path) -> LoadedModel:
    return in_float64(folder)


def asked(model: LoadedModel, text: str = TEXT, codes: list[str] = CODES, **how: Any) -> dict[str, Attribution]:
    return {one.code: one for one in attribute(model.learner, model.tokenizer, text, codes, **how)}


def test_the_text_after_each_code_as_hugging_face_answers(folder: Path, model: LoadedModel) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.CTRLLMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    expected = []
    for code in CODES:
        head, text = model.tokenizer.encode([code, TEXT], specials=False)
        with torch.no_grad():
            chances = theirs(torch.tensor([head + text])).logits[0].log_softmax(-1)
        expected.append(sum(float(chances[len(head) + place - 1, token]) for place, token in enumerate(text)))
    found = asked(model)
    assert [found[code].nats for code in CODES] == pytest.approx(expected, rel=FLOAT32)
    tokens = len(model.tokenizer.encode([TEXT], specials=False)[0])
    assert [found[code].perplexity for code in CODES] == pytest.approx(np.exp(-np.array(expected) / tokens), rel=1e-3)


def test_probabilities_are_normalized_over_the_codes(model: LoadedModel) -> None:
    found = asked(model)
    chances = np.exp([found[code].nats for code in CODES])
    assert [found[code].probability for code in CODES] == pytest.approx(chances / chances.sum())
    order = [one.code for one in attribute(model.learner, model.tokenizer, TEXT, CODES)]
    assert order == sorted(CODES, key=lambda code: -found[code].nats)
    prior = np.array([5.0, 1.0, 0.5])
    weighted = asked(model, prior=prior)
    expected = chances * prior / (chances * prior).sum()
    assert [weighted[code].probability for code in CODES] == pytest.approx(expected)
    assert weighted["Books"].nats == found["Books"].nats


def test_a_long_text_is_read_in_pieces_each_after_its_code(model: LoadedModel) -> None:
    heads = model.tokenizer.encode(CODES, specials=False)
    longest = max(map(len, heads))
    (ids,) = model.tokenizer.encode([TEXT], specials=False)
    assert len(ids) > 4
    found = asked(model, max_length=longest + 2)  # pieces of three tokens, of which the last is not read
    for code, head in zip(CODES, heads, strict=True):
        spans = [Span(np.array(head + ids[first : first + 3]), len(head)) for first in range(0, len(ids), 3)]
        nats, _ = predicted(find_predictor(model.learner), model.tokenizer.vocabulary, spans, "float32")
        assert found[code].nats == pytest.approx(nats.sum(), abs=FLOAT64)
    whole = asked(model, max_length=longest + len(ids) - 1)
    assert whole["Books"].nats == pytest.approx(asked(model)["Books"].nats, abs=FLOAT64)


def test_what_cannot_be_attributed(model: LoadedModel) -> None:
    for codes in ([], ["Books", "Books"], ["Books", ""]):
        with pytest.raises(UsageError, match="codes: expected one or more"):
            asked(model, codes=codes)
    with pytest.raises(UsageError, match="prior: expected a number above 0 for each of 3"):
        asked(model, prior=[1.0, 0.0, 1.0])
    with pytest.raises(GenusError, match="the text has no tokens"):
        asked(model, "")
    with pytest.raises(GenusError, match="take shorter codes"):
        asked(model, max_length=1)
