"""Completion and generation by prompt, against the likelihood and the engine that they stand on."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from genus.errors import GenusError, UsageError
from genus.evaluate.likelihood import log_likelihoods
from genus.generate import Request
from genus.generate.engine import Engine
from genus.generate.sampling import Greedy
from genus.prompts.completion import Completion
from genus.prompts.evaluation import evaluate_prompts
from genus.prompts.generation import Generation

if TYPE_CHECKING:
    from pathlib import Path

    from genus.export.folder import LoadedModel

PASSAGES = ["the cat sat on the mat", "a bird sang\nin the old tree", "the dog ran to the door"]


def free(**choices: Any) -> Generation:
    given = {"prompt": "Q: {question}\nA:", "answer": "{key}", **choices}
    return Generation(name="free", version=1, description="free answers", **given)


def jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_lambada_is_the_last_word(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model: LoadedModel = request.getfixturevalue(kind)
    report = evaluate_prompts(model, "lambada", [jsonl(tmp_path / "test.jsonl", [{"text": one} for one in PASSAGES])])
    contexts, words = zip(*(text.rsplit(" ", 1) for text in PASSAGES), strict=True)
    expected = log_likelihoods(model.learner, model.tokenizer, [f" {word}" for word in words], contexts=contexts)
    found = report.metrics()
    assert found["perplexity"].mean == pytest.approx(math.exp(-sum(one.nats for one in expected) / 3))
    assert found["acc"].mean == sum(one.greedy for one in expected) / 3
    assert [answer.told["answer"] for answer in report.answered] == list(words)


def test_what_is_written_is_the_engines(decoder: LoadedModel, table: Path) -> None:
    report = evaluate_prompts(decoder, free(max_tokens=5, stop=("!",)), [table])
    engine = Engine(decoder.learner, decoder.recipe.model, decoder.tokenizer)
    asked = [f"Q: {one.row.values['question']}\nA:" for one in report.asked]
    expected = engine.generate([Request(prompt, 5, stop=("!",)) for prompt in asked], Greedy())
    assert [one.prompt for one in report.asked] == asked
    assert [answer.told["text"] for answer in report.answered] == [texts[0].text for texts in expected]
    assert report.scoring == "generation"


def test_labels_are_the_only_answers(decoder: LoadedModel, table: Path) -> None:
    report = evaluate_prompts(decoder, free(labels=("A", "B", "C", "1")), [table])
    predicted = [answer.told["predicted"] for answer in report.answered]
    assert {*predicted} <= {"A", "B", "C", "1"}
    right = [one.row.values["key"] == own for one, own in zip(report.asked, predicted, strict=True)]
    assert report.metrics()["exact_match"].mean == sum(right) / 5


def test_the_answer_is_extracted_from_a_chain_of_thought(table: Path) -> None:
    task = free(shot="{why} So it is {key}.", extract=r"So it is (\w+)\.")
    row = task.row(table, 1, {"question": "who?", "why": "The cat sat.", "key": "B"})
    assert task.worked(row) == "Q: who?\nA: The cat sat. So it is B."
    assert task.extracted(" The dog ran. So it is A. So it is B.") == "A"
    assert task.extracted(" I do not know.") is None
    assert free().extracted(" mat ") == "mat"


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"labels": ["no", "none"]}, "labels: 'no' is the beginning of 'none'"),
        ({"labels": ["yes", "yes"]}, "labels: 'yes' is the beginning of 'yes'"),
        ({"labels": ["yes", " "]}, "labels: one is empty"),
        ({"stop": [""]}, "stop: an empty string"),
        ({"extract": "("}, "is no regular expression"),
        ({"prompt": "{question"}, "a lone '{'"),
        ({"metrics": []}, "metrics: expected at least one"),
    ],
)
def test_a_task_that_is_none(choices: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        free().overlay(choices)


def test_an_encoder_writes_nothing(encoder: LoadedModel, table: Path) -> None:
    with pytest.raises(GenusError, match="does not predict the next token"):
        evaluate_prompts(encoder, free(), [table])


def test_answers_that_are_none(decoder: LoadedModel, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"question": "who?", "key": "D"}]
    with pytest.raises(GenusError, match=r"line 1: the answer 'D' is none of the labels 'A', 'B'"):
        evaluate_prompts(decoder, free(labels=("A", "B")), [jsonl(tmp_path / "test.jsonl", rows)])
    with pytest.raises(GenusError, match=r"line 1: template '\{key\}': column 'key' has no value"):
        evaluate_prompts(decoder, free(), [jsonl(tmp_path / "test.jsonl", [{"question": "who?", "key": None}])])


def test_a_prompt_too_long_is_refused_or_cut(decoder: LoadedModel, encoder: LoadedModel, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"question": "who sat?", "key": "A"}, {"question": "the cat " * 600, "key": "B"}]
    path = jsonl(tmp_path / "test.jsonl", rows)
    with pytest.raises(UsageError, match=r"test.jsonl, line 2: the prompt has no fewer tokens than the model positio"):
        evaluate_prompts(decoder, free(max_tokens=2), [path])
    assert evaluate_prompts(decoder, free(max_tokens=2), [path], cut=True).cut == 1
    task = Completion(name="free", version=1, description="answers", prompt="Q: {question}\nA:", answer="{key}")
    for model in (decoder, encoder):
        with pytest.raises(UsageError, match=r"test.jsonl, line 2 has .* tokens with the special ones, the model"):
            evaluate_prompts(model, task, [path])
        assert evaluate_prompts(model, task, [path], cut=True).cut == 1
