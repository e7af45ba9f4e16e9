"""Multiple choice by prompt: its accuracies written out, BLiMP by whole sentences, choices of every form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from genus.errors import GenusError
from genus.evaluate.likelihood import log_likelihoods
from genus.prompts.catalog import load
from genus.prompts.evaluation import evaluate_prompts
from genus.prompts.multiple_choice import MultipleChoice
from prompts.questions import ROWS

if TYPE_CHECKING:
    from pathlib import Path

    from genus.export.folder import LoadedModel

EXACT = 1e-9
"""Both are float64 sums of tens of terms, in batches of other sizes."""
METRICS = ("acc", "acc_norm", "acc_bytes", "acc_token", "acc_mutual_info")
TASK = MultipleChoice(
    name="questions",
    version=1,
    description="questions of a cat",
    prompt="Q: {question}\nA:",
    choices=("{choices.text}",),
    names="{choices.label}",
    answer="{key}",
    neutral="A:",
    metrics=METRICS,
)


def nats(model: LoadedModel, context: str, text: str) -> float:
    return log_likelihoods(model.learner, model.tokenizer, [text], contexts=[context])[0].nats


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_accuracies_written_out(kind: str, table: Path, request: pytest.FixtureRequest) -> None:
    model: LoadedModel = request.getfixturevalue(kind)
    right = dict.fromkeys(METRICS, 0)
    every = []
    for row in ROWS:
        choices: Any = row["choices"]
        context, answer = f"Q: {row['question']}\nA:", choices["label"].index(row["key"])
        scores: dict[str, list[float]] = {metric: [] for metric in METRICS}
        for choice in choices["text"]:
            one = nats(model, context, f" {choice}")
            alone, whole = model.tokenizer.encode([context, f"{context} {choice}"], specials=False)
            assert whole[: len(alone)] == alone
            scores["acc"].append(one)
            scores["acc_norm"].append(one / len(choice))
            scores["acc_bytes"].append(one / len(choice.encode()))
            scores["acc_token"].append(one / (len(whole) - len(alone)))
            scores["acc_mutual_info"].append(one - nats(model, "A:", f" {choice}"))
        every.append(scores["acc"])
        for metric, values in scores.items():
            right[metric] += values.index(max(values)) == answer
    report = evaluate_prompts(model, TASK, [table])
    found = [[one["nats"] for one in answer.told["choices"]] for answer in report.answered]
    assert [value for row in found for value in row] == pytest.approx([v for row in every for v in row], abs=EXACT)
    assert {name: one.mean for name, one in report.metrics().items()} == {m: n / 5 for m, n in right.items()}
    assert report.scoring == ("log-likelihood" if kind == "decoder" else "pseudo-log-likelihood")


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_blimp_is_the_likelier_sentence(kind: str, shared: Path, request: pytest.FixtureRequest) -> None:
    model: LoadedModel = request.getfixturevalue(kind)
    files = [shared / "data" / "blimp" / f"{name}.jsonl.gz" for name in ("transitive", "npi_present_1")]
    report = evaluate_prompts(model, "blimp", files, limit=6)
    right = []
    for one in report.asked:
        good, bad = (one.row.values[f"sentence_{side}"] for side in ("good", "bad"))
        first, second = log_likelihoods(model.learner, model.tokenizer, [good, bad])
        right.append(0.5 if first.nats == second.nats else float(first.nats > second.nats))
    assert [answer.values["acc"] for answer in report.answered] == right
    assert report.metrics()["acc"].mean == pytest.approx(sum(right) / 12)
    assert {file: one["acc"] for file, one in report.by_file().items()} == {
        str(file): pytest.approx(sum(right[6 * number : 6 * number + 6]) / 6) for number, file in enumerate(files)
    }


def row(**values: object) -> Any:
    from pathlib import Path

    return TASK.row(Path("t.jsonl"), 3, dict(values))


def test_the_right_choice_by_template_name_number_and_text() -> None:
    from genus.part import Part

    def task(**changes: object) -> MultipleChoice:
        made: Part = TASK.overlay(changes)
        assert isinstance(made, MultipleChoice)
        return made

    by_column = task(choices=["{wrong}", "{good}"], names=None, answer="{good}")
    assert by_column.right(row(wrong="1", good="0")) == 1  # whatever it says
    fixed = task(choices=["no", "yes"], names=None, answer="{label}")
    assert [fixed.right(row(label=label)) for label in (1, "B", "yes", 0)] == [1, 1, 1, 0]
    lettered = task(choices=["({text})"], names=None, answer="{label}")
    assert lettered.offered(row(text=["a", "b"])) == ["(a)", "(b)"]
    with pytest.raises(ValueError, match="'maybe' is none of the 2 choices"):
        fixed.right(row(label="maybe"))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (["the cat", " "], r"line 1: choice 2 of 2 is empty"),
        (["the cat"], r"line 1: expected two choices or more, got 1"),
        ("the cat", r"line 1: expected two choices or more, got 1"),
    ],
)
def test_choices_that_are_none(decoder: LoadedModel, tmp_path: Path, choices: object, message: str) -> None:
    import json

    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps({"question": "who?", "choices": {"text": choices, "label": ["A", "B"]}, "key": "A"}))
    with pytest.raises(GenusError, match=message):
        evaluate_prompts(decoder, TASK, [path])


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "folder", "rows", "prompt", "answer"),
    [
        ("arc_easy", "arc", 200, "Question: Which technology was developed most recently?\nAnswer:",
         " cellular telephone"),
        ("arc_challenge", "arc", 200, None, " Record the details of the investigation."),
        ("xcopa_th", "xcopa_th", 200, "สิ่งของถูกห่อไว้ในพลาสติก ดังนั้น", " มันบอบบาง"),
        ("lambada", "lambada", 200, None, " signs"),
        ("blimp", "blimp", 34 * 200, "", "Who should Derek hug after shocking Richard?"),
    ],
)  # fmt: skip
def test_the_tasks_of_the_package_read_their_data(
    shared: Path, name: str, folder: str, rows: int, prompt: str | None, answer: str
) -> None:
    from genus.prompts.examples import read, tables

    task = load(name)
    found = read(task, tables([shared / "data" / folder], task.data), limit=200)
    assert len(found) == rows
    first = task.asked(found[0], [])
    assert prompt is None or first.prompt == prompt
    assert task.following(first, task.right_answer(found[0])) == answer
    for one in found:
        task.worked(one)


def test_own_table_in_the_form_of_sciq(decoder: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(
        "support,question,distractor1,distractor2,distractor3,correct_answer\n"
        "  The cat sat.,who sat?,dog,bird,3,cat\n,who ran?,1,2,4,3\n"
    )
    report = evaluate_prompts(decoder, "sciq", [path], shots=1)
    assert report.asked[0].prompt == ("\nQuestion: who ran?\nAnswer: 3\n\nThe cat sat.\nQuestion: who sat?\nAnswer:")
    assert [answer.told["answer"] for answer in report.answered] == [3, 3]
