"""Gradient times input against finite differences in double precision, in every member."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contract"))
from test_whole_way import each, smallest

from genus import catalog
from genus.analysis import Told, analysis_for
from genus.analysis.examples import contributions, example
from genus.analysis.gradients import gradient_times_input, log_odds
from genus.objectives import answering
from genus.tasks.character_spans import CharacterSpans
from genus.tasks.choice import Choice
from genus.tasks.classification import Classification
from genus.tasks.dataset import LabeledRow
from genus.tasks.feed import batch_of
from genus.tasks.question_answering import QuestionAnswering
from genus.tasks.start import Start
from genus.tasks.tagging import RecurrentTagging, Tagging
from small import documents, of_texts, shrunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.batch import Batch
    from genus.objectives import Learner

STEP = 1e-5
ERROR = 1e-6
"""Of a central difference in double precision, relative to the largest number of the sequence: O(STEP²), and what
rounding leaves, 1e-16 / STEP, times the condition of a network of two layers."""


def odds(outputs: dict[str, torch.Tensor]) -> torch.Tensor:
    (logits,) = outputs.values()
    return log_odds(logits[0], 1)


def scaled(learner: Learner, batch: Batch, stream: str, token: int, factor: float, number: Any, target: str) -> float:
    """Return the number with one token's embedding scaled."""

    def hook(_: Any, given: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        if given[0] is not batch.streams[stream].ids:
            return output
        factors = torch.ones(len(output), 1, dtype=output.dtype)
        factors[token] = factor
        return output * factors

    hooks = [module.register_forward_hook(hook) for module in learner.network.token_embeddings]
    try:
        with answering(learner):
            return float(number(learner.outputs(replace(batch, heads=frozenset({target})))[target]))
    finally:
        for one in hooks:
            one.remove()


@pytest.mark.parametrize("member", each())
def test_it_is_the_derivative_by_the_size_of_an_embedding(member: str) -> None:
    recipe = shrunk(catalog.load(smallest(member)))
    if not of_texts(recipe):
        pytest.skip("reads images too")
    tokenizer = recipe.tokens.train(documents())
    recipe = replace(recipe, tokens=tokenizer.tokens)
    task = Classification()
    objective = task.objective(["a", "b", "c"]).continued(recipe.objectives, recipe.model)
    start = Start(recipe, tokenizer)
    learner = start.build(start.fine_tuned(objective, recipe.finetuning), 0).double()
    rows = [LabeledRow(1, (documents()[0],), "a")]
    encoded = task.encode(start.reader(objective, recipe.finetuning), rows, objective, 32)
    batch = batch_of(encoded, np.array([0]))
    before = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    found = gradient_times_input(learner, batch, objective.name, odds)
    assert found.keys() == batch.streams.keys()
    for stream, totals in found.items():
        largest = np.abs(totals).max()
        assert largest > 0
        for token in np.argsort(-np.abs(totals))[:3].tolist():
            ends = [scaled(learner, batch, stream, token, 1 + sign * STEP, odds, objective.name) for sign in (1, -1)]
            assert totals[token] == pytest.approx((ends[0] - ends[1]) / (2 * STEP), abs=ERROR * max(1.0, largest))
    assert all(torch.equal(before[name], tensor) for name, tensor in learner.state_dict().items())
    assert all(parameter.grad is None for parameter in learner.parameters())


def test_log_odds() -> None:
    logits = torch.tensor([1.0, 3.0, -2.0], dtype=torch.float64)
    chance = logits.softmax(0)[1]
    assert log_odds(logits, 1) == pytest.approx(float((chance / (1 - chance)).log()))
    assert torch.isfinite(log_odds(torch.tensor([0.0, 2000.0]), 1))
    assert log_odds(torch.tensor([0.5, 2.0, -torch.inf]), 1) == pytest.approx(1.5)


SENTENCE = "The old river carries seven stones."
PAIR = [{"one": SENTENCE, "two": "A train.", "label": "a"}]
ANSWER = {"text": ["river"], "answer_start": [8]}
CASES: dict[str, tuple[Any, list[str], list[dict[str, Any]], dict[str, Any]]] = {
    "a text": (Classification(), ["a", "b"], [{"text": SENTENCE, "label": "a"}], {}),
    "a pair": (Classification(texts=("one", "two")), ["a", "b"], PAIR, {}),
    "a pair in both orders": (Classification(texts=("one", "two"), symmetric=True), ["a", "b"], PAIR, {}),
    "a text read twice": (Classification(), ["a", "b"], [{"text": SENTENCE, "label": "a"}], {"member": "bart/tiny"}),
    "a choice": (
        Choice(), [], [{"question": "who waits", "choices": ["a river", "the train near the harbor", "x"], "label": 1}],
        {},
    ),
    "words": (
        Tagging(), ["O", "B-X"],
        [{"tokens": SENTENCE.split() * 9, "ner_tags": ["O", "B-X", "O", "O", "O", "O"] * 9}], {},
    ),
    "words over an LSTM": (
        RecurrentTagging(layers=1, size=16), ["O", "B-X"],
        [{"tokens": SENTENCE.split(), "ner_tags": ["O", "B-X", "O", "O", "O", "O"]}], {},
    ),
    "characters": (
        CharacterSpans(), ["X"],
        [{"text": (SENTENCE + " ") * 9, "spans": [{"start": 8, "end": 13, "label": "X"}]}], {},
    ),
    "an answer": (
        QuestionAnswering(), ["x"],
        [{"question": "who carries", "context": (SENTENCE + " ") * 9, "answers": ANSWER}], {"stride": 8},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_words_and_special_tokens_have_all_of_it(case: str, asked: Callable[..., Any]) -> None:
    """A piece's number is that of the token at its place: sums agree, and so does a word's with its own scaled."""
    task, labels, rows, changes = CASES[case]
    given = asked(task, labels, rows, **changes)
    given.model.learner.double()
    analysis = analysis_for(given.task)
    decision = len(analysis.decisions(given).row_U) - 1
    told = analysis.told(given, decision)
    pieces, special = contributions(analysis, given, 0, told)
    batch = batch_of(given.encoded, np.array([told.example]))
    totals = gradient_times_input(given.model.learner, batch, given.encoded.target, told.number)
    everything = sum(total.sum() for total in totals.values())
    of_words = sum(value for several in pieces.values() for *_, value in several)
    assert of_words + special == pytest.approx(everything, abs=1e-12)
    shown = example(analysis, given, decision, 0, None)
    assert sum(passage.total for passage in shown.passages) == pytest.approx(of_words)
    for passage in shown.passages:
        assert sum(value for *_, value in passage.words if value is not None) == pytest.approx(passage.total)
    check_one_word(given, told, shown.passages, batch)


def check_one_word(given: Any, told: Told, passages: Any, batch: Batch) -> None:
    """The number of the largest word is the derivative by the size of all tokens with the ids of its pieces."""
    words = [(abs(v), p.text[s:e], v) for p in passages for s, e, v in p.words if v is not None]
    texts = " ".join(p.text for p in passages).lower().split()
    single = [word for word in words if texts.count(word[1].lower()) == 1 and word[1].isalpha()]
    if not single:
        return
    _, text, value = max(single)
    ids = given.model.tokenizer.encode([text], specials=False)[0]
    if len(ids) != 1:
        return
    total = 0.0
    for stream, packed in batch.streams.items():
        for token in torch.nonzero(packed.ids == ids[0])[:, 0].tolist():
            ends = [
                scaled(given.model.learner, batch, stream, token, 1 + sign * STEP, told.number, given.encoded.target)
                for sign in (1, -1)
            ]
            total += (ends[0] - ends[1]) / (2 * STEP)
    assert value == pytest.approx(total, abs=1e-6)
