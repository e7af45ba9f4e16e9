"""Texts after the same context: it is read once, and their likelihoods are those of reading it for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from genus.evaluate import likelihood
from genus.evaluate.likelihood import Likelihood, log_likelihoods
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from written import WIDE, in_float64, write_model

if TYPE_CHECKING:
    from pathlib import Path

    from genus.export.folder import LoadedModel

FLOAT64 = 1e-9
"""Sums of tens of log-probabilities of a few nats, in another order: far above rounding, far below a wrong token."""
CORPUS = ["the cat sat on the mat and the dog ran to the door . a bird sang in the old tree"] * 20
SHOTS = "the dog ran to the door . a bird sang in the old tree . the cat sat on the mat . "
CHOICES = [" the mat", " the old tree and the dog", " a door", " the mat", "."]
QUESTIONS = [SHOTS + "the cat sat on", SHOTS + "a bird sang in the d", ""]


ROWS = {
    "gpt2/tiny": WIDE,
    "llama/tiny": WIDE,
    "chinchilla/tiny": WIDE,
    "lstm/tiny": "model.initialization.embedding_std=2.0",
}


@pytest.fixture(scope="module", params=ROWS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    tokens = ByteBPE(vocab_size=300, special_tokens=GPT2)
    folder: Path = write_model(tmp_path_factory.mktemp("model"), request.param, tokens, CORPUS, ROWS[request.param])
    return in_float64(folder)


def judged(model: LoadedModel, positions: int = 2048) -> list[Likelihood]:
    """Return the likelihood of every choice after every question, questions in turns."""
    pairs = [(question, choice) for choice in CHOICES for question in QUESTIONS]
    contexts, texts = zip(*pairs, strict=True)
    return log_likelihoods(model.learner, model.tokenizer, texts, contexts=contexts, positions=positions)


@pytest.mark.parametrize("positions", [2048, 100])
def test_likelihoods_are_those_of_reading_the_context_for_each(
    model: LoadedModel, positions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of choices that share a question, of one that is there twice, of one that has a token of the question's end."""
    read: list[int] = []
    model.learner.network.register_forward_pre_hook(lambda _, given: read.append(given[0].tokens.tokens))
    found = judged(model, positions)
    shared = sum(read)
    read.clear()
    monkeypatch.setattr(likelihood, "shared_contexts", lambda *_: [])
    expected = judged(model, positions)
    assert shared < 0.5 * sum(read)
    assert len({round(one.nats, 6) for one in expected}) == 12
    for one, other in zip(found, expected, strict=True):
        assert one.nats == pytest.approx(other.nats, abs=FLOAT64)
        assert (one.tokens, one.greedy, one.cut) == (other.tokens, other.greedy, other.cut)
