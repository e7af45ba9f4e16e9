"""Tables of questions, contexts and answers: what is read, refused and counted, learned and answered."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from genus import catalog
from genus.errors import GenusError, UsageError
from genus.evaluate.metrics import Accuracy
from genus.evaluate.written import AnswerExactMatch, AnswerF1
from genus.export.folder import load
from genus.inference.engine import Inference
from genus.objectives.supervised.sequence import SequenceRegression
from genus.objectives.supervised.span_extraction import SpanExtraction
from genus.tasks import Task, task_of
from genus.tasks.answer import Outputs, outputs
from genus.tasks.dataset import Files, LabeledRow, read
from genus.tasks.finetune import finetune
from genus.tasks.predict import predict, score
from genus.tasks.question_answering import QuestionAnswering
from genus.tasks.splits import read_splits
from genus.tasks.start import Start
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.bytes import Bytes
from genus.tokens.algorithms.unigram import XLNET, Unigram
from genus.tokens.algorithms.unigram_no_spaces import UnigramNoSpaces
from genus.tokens.algorithms.wordpiece import WordPiece

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import Recipe
    from genus.tokens import TokenizerConfig
    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run

TASK = QuestionAnswering()
CONTEXT = "A cat and a saw."


def row(answers: Any = None, **others: Any) -> dict[str, Any]:
    found = {"question": "What is it?", "context": CONTEXT, "answers": answers or {"text": [], "answer_start": []}}
    return found | others


CAT = {"text": ["cat"], "answer_start": [2]}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def test_rows_of_a_table(tmp_path: Path) -> None:
    several = {"text": ["cat", "A cat"], "answer_start": [2.0, 0]}
    rows = [
        row(several, id="x1"),
        row(id=7),
        row([{"text": "saw", "answer_start": 12}]),
        row({"text": [""], "answer_start": [0]}),
    ]
    asked = ("What is it?", CONTEXT)
    expected = [
        LabeledRow(1, asked, ("cat", "A cat"), (2, 0), "x1"),
        LabeledRow(2, asked, ("",), (), "7"),
        LabeledRow(3, asked, ("saw",), (12,)),
        LabeledRow(4, asked, ("",)),
    ]
    assert read(write(tmp_path / "a.jsonl", rows), TASK) == expected
    renamed = [{"q": "Q?", "passage": CONTEXT, "spans": CAT, "name": "n"}]
    task = QuestionAnswering(texts=("q", "passage"), label="spans", id="name")
    assert read(write(tmp_path / "b.jsonl", renamed), task) == [LabeledRow(1, ("Q?", CONTEXT), ("cat",), (2,), "n")]
    blind = write(tmp_path / "c.jsonl", [{"question": "Q?", "context": CONTEXT}, row(None) | {"answers": None}])
    assert [one.label for one in read(blind, TASK, labeled=False)] == [None, None]
    with pytest.raises(GenusError, match="line 2: there is no label in column 'answers'"):
        read_splits(Files(write(tmp_path / "d.jsonl", [row(CAT), row() | {"answers": None}])), TASK)


def test_parquet_and_squad_s_own_json_give_the_same_rows(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [row(CAT, id="1"), row(id="2")]
    expected = read(write(tmp_path / "a.jsonl", rows), TASK)
    parquet.write_table(pyarrow.Table.from_pylist([one | {"title": "t"} for one in rows]), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", TASK) == expected
    questions = [
        {"id": "1", "question": "What is it?", "answers": [{"text": "cat", "answer_start": 2}], "is_impossible": False},
        {"id": "2", "question": "What is it?", "answers": [], "is_impossible": True},
    ]
    nested = {"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": questions}]}]}
    (tmp_path / "train-v2.0.json").write_text(json.dumps(nested))
    assert read(Files.find(tmp_path).train, TASK) == expected
    for wrong in ("[]", '{"data": 3}', '{"data": [{"paragraphs": [{"qas": []}, {"qas": [{}]}]}]}', '{"data"'):
        (tmp_path / "dev.json").write_text(wrong)
        with pytest.raises(GenusError, match=r"dev\.json, question 1: not JSON as SQuAD's") as caught:
            read(tmp_path / "dev.json", TASK)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("one", "says"),
    [
        ({"question": "Q?", "contex": CONTEXT, "answers": CAT}, "there is no column 'context'. Did you mean 'contex'"),
        ({"question": "Q?", "context": CONTEXT}, "there is no column 'answers'"),
        (row("cat"), "column 'answers' holds no answers; expected .*answer_start.*got 'cat'"),
        (row({"text": ["cat"]}), "column 'answers' holds no answers"),
        (row({"answer_start": [2]}), "column 'answers' holds no answers"),
        (row(["cat"]), "column 'answers' holds no answers"),
        (row({"text": ["cat", "saw"], "answer_start": [2]}), "column 'answers' holds 2 answers, but 1 of answer_start"),
        (
            row({"text": ["cat"], "answer_start": ["two"]}),
            "column 'answers': answer_start 'two' is no number of characters",
        ),
        (
            row({"text": ["cat"], "answer_start": [2.5]}),
            "column 'answers': answer_start 2.5 is no number of characters",
        ),
        (row({"text": [["cat"]], "answer_start": [2]}), "column 'answers' holds a list, not one text"),
        (row(CAT, context=["a"]), "column 'context' holds a list, not one text"),
    ],
)
def test_a_bad_row_is_one_line(tmp_path: Path, one: dict[str, Any], says: str) -> None:
    path = write(tmp_path / "train.jsonl", [row(CAT), one])
    with pytest.raises(GenusError, match=rf"train\.jsonl, line 2: {says}") as caught:
        read(path, TASK)
    assert "\n" not in str(caught.value)


def warnings(tmp_path: Path, tokenizer: Tokenizer, rows: list[dict[str, Any]], **choices: Any) -> list[str]:
    objective = SpanExtraction(**{"null_threshold": 0.0} | choices)
    return TASK.encode(tokenizer, read(write(tmp_path / "a.jsonl", rows), TASK), objective, 32).warnings


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (row({"text": ["cat"], "answer_start": [3]}), "answers do not stand at their answer_start, but elsewhere"),
        (row({"text": ["cat"], "answer_start": [-1]}), "answers do not stand at their answer_start, but elsewhere in"),
        (row({"text": ["dog"], "answer_start": [2]}), "answers do not stand in their context; they are no targets"),
        (row({"text": ["\u200b"], "answer_start": [0]}, context="\u200bcat"), "answers have no token"),
        (row({"text": ["at"], "answer_start": [3]}), "answers begin or end where no token does: the nearest"),
        (row(CAT, context="  "), "contexts are empty, or the tokenizer leaves nothing of them: no text is the answer"),
        (row(CAT, question=""), "questions are empty"),
        (row(CAT, question="and " * 20), "questions have over 14 tokens and lose their end; take a larger"),
        (row(CAT, id=1), "ids are those of earlier rows; tell rows apart by their lines"),
        (row({"text": ["A cat and a saw."], "answer_start": [0]}), "answers have over 3 tokens, and are never given"),
        (row({"text": ["cat " * 40], "answer_start": [0]}, context="cat " * 40), "answers are in no window"),
    ],
)  # fmt: skip
def test_what_is_lost_is_counted(tmp_path: Path, tokenizer: Tokenizer, one: dict[str, Any], says: str) -> None:
    """Twice in three rows, of which the first is all right."""
    found = warnings(
        tmp_path, tokenizer, [row({"text": ["saw"], "answer_start": [12]}, id=1), one, one], answer_length=3
    )
    assert [line for line in found if line.startswith(says) and line.endswith("(2, first in line 2)")]
    assert warnings(tmp_path, tokenizer, [row(CAT, id=1), row(CAT, id=2), row()]) == []


def test_a_model_that_always_answers_says_what_it_is_not_able_to(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (line,) = warnings(tmp_path, tokenizer, [row(CAT), row(), row()], null_threshold=None)
    assert re.match(
        r"questions have no answer, which this model never says; .*null_threshold=0 \(2, first in line 2", line
    )
    (line,) = warnings(tmp_path, tokenizer, [row(CAT, context=CONTEXT * 9), row(CAT)])
    assert re.fullmatch(r"2 rows are read in \d+ windows of at most 32 tokens", line)


def test_a_table_of_which_nothing_is_learned_is_refused(tmp_path: Path, start: Start, run: Run) -> None:
    wrong = write(tmp_path / "train.jsonl", [row({"text": ["cat"], "answer_start": [9]})] * 4)
    with pytest.raises(GenusError, match=r"train\.jsonl: no row has an answer at its answer_start"):
        finetune(start, TASK, Files(wrong), tmp_path / "out", seeds=(0,), run=run)


def test_it_is_a_part_that_refuses_what_it_cannot_do() -> None:
    for task in (TASK, QuestionAnswering(stride=9, null_threshold=-1.5, metrics=(AnswerExactMatch(),))):
        assert Task.from_json(task.to_json()) == task
    with pytest.raises(UsageError, match="texts: name the column of the question, then that of the context"):
        QuestionAnswering(texts=("context",))
    with pytest.raises(UsageError, match="texts: name the column of the question"):
        QuestionAnswering(symmetric=True)
    with pytest.raises(
        UsageError, match=r"accuracy judges classes, not written texts; .*answer_exact_match, answer_f1"
    ):
        QuestionAnswering(metrics=(Accuracy(),))
    with pytest.raises(UsageError, match="QuestionAnswering is not what the model learned: SequenceRegression"):
        TASK.resolved_for(SequenceRegression())
    assert task_of(SpanExtraction()) == TASK
    assert TASK.objective(["cat", "saw"]) == SpanExtraction()
    assert TASK.objective(["cat", ""]) == SpanExtraction(null_threshold=0.0)
    assert QuestionAnswering(stride=5, answer_length=9).chosen(SpanExtraction(stride=7, question_length=3)) == (
        SpanExtraction(stride=5, question_length=3, answer_length=9)
    )


TEXTS = {
    "english": "The Walt Disney Company,\nof Burbank (California),\r\n\r\nowns  ABC — since 1996!",
    "accents": "Le CAFÉ d'e\u0301te\u0301 à Zürich: ﬁne ½, İstanbul, naïve.",
    "thai": "นายสมชายไปกรุงเทพฯ เมื่อวันที่ 3 มกราคม พ.ศ. 2533 ด้วยกุ้งน้ำ",
    "arabic": "ذهب مَرْحَبًا بِكَ إلى القاهرة في عام ٢٠٢٠، ثم عاد.",
    "emoji": "One 👩‍👩‍👧 and 👍🏽 or 🇹🇭!\tEnd\u200b of\u00a0it 🙂",
}
NOTHING = "\u200b"
TOKENIZERS: dict[str, TokenizerConfig] = {
    "wordpiece": WordPiece(vocab_size=200, lowercase=True),
    "byte bpe": ByteBPE(vocab_size=300),
    "unigram": Unigram(vocab_size=160),
    "unigram of xlnet": Unigram(vocab_size=160, lowercase=False, plain=False, special_tokens=XLNET),
    "unigram without spaces": UnigramNoSpaces(vocab_size=160),
    "bytes": Bytes(),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_answers_are_cut_out_of_the_text_that_was_given(kind: str) -> None:
    """Whatever the logits; with those of the right begin and end, the answer of every word is the word.

    Where a word begins or ends within a token, it is in the answer, but for what tokenizers drop at its end.
    """
    tokenizer = TOKENIZERS[kind].train([*TEXTS.values()] * 9)
    rows = [
        LabeledRow(line, ("Which?", text), (found[0],), (found.start(),))
        for text in TEXTS.values()
        for line, found in enumerate(re.finditer(r"\w[^\s,.:!()]*", text), 1)
    ]
    objective = SpanExtraction(answer_length=100)
    encoded = TASK.encode(tokenizer, rows, objective, 40)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(len(encoded), encoded.candidates, 2)).astype(np.float32)
    for one, (text, told) in zip(rows, encoded.answers(objective, Outputs(logits)), strict=True):
        assert text
        assert text == one.texts[1][told["start"] : told["end"]] == text.strip()

    encoded = TASK.encode(tokenizer, rows, objective, 1000)
    windows, logits = np.arange(len(rows)), np.zeros((len(rows), encoded.candidates, 2), np.float32)
    logits[windows[:, None], encoded.labels[windows], [[0, 1]]] = 50.0
    exact, answers = 0, encoded.answers(objective, Outputs(logits))
    for one, (text, told) in zip(rows, answers, strict=True):
        (answer,), (start,) = one.labels, one.starts
        answer = answer.strip(NOTHING)
        assert answer in text
        assert told["start"] <= start <= start + len(answer) <= told["end"]
        exact += text == one.labels[0]
    within = sum(int(found[1]) for line in encoded.warnings if (found := re.match(r"answers begin or.*\((\d+)", line)))
    assert exact == len(rows) - within
    assert exact > len(rows) / 2


QUESTIONS = [
    ("who owns it ?", "a dog", "the house by the river is of a dog and the garden is of a bird"),
    ("who sings ?", "a bird", "the house by the river is of a dog and in the garden sings a bird"),
    ("what is red ?", "the saw", "a hammer is blue and the drill is green but the saw is red"),
    ("what is blue ?", "a hammer", "a hammer is blue and the drill is green but the saw is red"),
    ("what is green ?", "the drill", "a hammer is blue and the drill is green but the saw is red"),
    ("where is the horse ?", "by the river", "the horse is by the river and the cat is in the house"),
    ("where is the cat ?", "in the house", "the horse is by the river and the cat is in the house"),
    ("where is the dog ?", None, "the horse is by the river and the cat is in the house"),
]


def learnable(path: Path, *, unanswerable: bool) -> Path:
    rows = []
    for number, (question, answer, context) in enumerate(QUESTIONS):
        if answer is None and not unanswerable:
            question, answer = "what is in the house ?", "the cat"
        starts = {} if answer is None else {answer: context.index(answer)}
        answers = {"text": [*starts], "answer_start": [*starts.values()]}
        rows.append({"id": f"q{number}", "question": question, "context": context, "answers": answers})
    return write(path, rows)


@pytest.fixture(scope="module")
def reader(recipe: Recipe) -> Start:
    """Random weights of a small BERT that knows the words of the questions."""
    tokenizer = WordPiece(vocab_size=200, lowercase=True).train([" ".join(map(str, one)) for one in QUESTIONS] * 20)
    quiet = dict.fromkeys(("model.dropout", "model.embedding.dropout", "model.attention.dropout"), 0.0)
    settings = {"finetuning.epochs": 150, "finetuning.batch": 16, "finetuning.max_length": 20}
    row = recipe.overrides(quiet | settings | {"finetuning.optimizer.lr": 5e-3})
    torch.manual_seed(0)
    return Start(row, tokenizer, replace(row, tokens=tokenizer.tokens).learner())


@pytest.mark.parametrize("unanswerable", [False, True])
def test_eight_questions_are_learned_by_heart(tmp_path: Path, reader: Start, run: Run, unanswerable: bool) -> None:
    """Their contexts are longer than a sequence; what is published answers as the best seed did."""
    table = learnable(tmp_path / "train.jsonl", unanswerable=unanswerable)
    report = finetune(reader, TASK, Files(table, table, table), tmp_path / "out", seeds=(0,), run=run)
    assert report.trials[0].metrics["test"] == {"answer_f1": 1.0, "answer_exact_match": 1.0}
    lines = [json.loads(line) for line in (tmp_path / "out" / "seed-0" / "test.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"q{number}" for number in range(8)]
    assert [line["predicted"] for line in lines][:7] == [answer for _, answer, _ in QUESTIONS[:7]]
    assert lines[7]["predicted"] == ("" if unanswerable else "the cat")

    model = load(tmp_path / "out" / "model")
    (objective,) = model.recipe.objectives
    assert isinstance(objective, SpanExtraction)
    assert (objective.null_threshold is not None) == unanswerable == ("null_threshold" in report.trials[0].thresholds)
    answers = predict(model, [(question, context) for question, _, context in QUESTIONS[:7]], run)
    for answer, line, (_, _, context) in zip(answers, lines, QUESTIONS, strict=False):
        assert answer.predicted == line["predicted"] == context[int(answer.scores["start"]) : int(answer.scores["end"])]
        assert answer.scores == pytest.approx(line["scores"], abs=1e-4)
    rows = read(table, TASK)
    assert score(model, task_of(objective), rows, run, table)[1] == report.trials[0].metrics["test"]
    never = replace(task_of(objective), null_threshold=1e9)  # a choice of the one who asks
    found, metrics = score(model, never, rows, run, table)
    assert found[7].predicted
    assert metrics["answer_exact_match"] == (7 / 8 if unanswerable else 1.0)


def test_hugging_face_gives_the_same_windows_and_logits(tmp_path: Path, reader: Start, run: Run) -> None:
    """Of the published model, whose tokenizer cuts windows by their overlap; padding stands beside the shorter ones."""
    transformers = pytest.importorskip("transformers")
    table = learnable(tmp_path / "train.jsonl", unanswerable=False)
    start = replace(reader, recipe=reader.recipe.override("finetuning.epochs", 1))
    finetune(start, TASK, Files(table, table), tmp_path / "out", seeds=(0,), run=run)
    theirs = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out" / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out" / "model")
    model = load(tmp_path / "out" / "model")
    for question, _, context in QUESTIONS:
        asked = len(model.tokenizer.encode([question])[0])
        inputs = tokenizer(
            question, context, truncation="only_second", max_length=20, stride=20 - 3 - asked - 4, padding=True,
            return_overflowing_tokens=True, return_offsets_mapping=True, return_tensors="pt",
        )  # fmt: skip
        places, _ = inputs.pop("offset_mapping"), inputs.pop("overflow_to_sample_mapping")
        with torch.no_grad():
            expected = theirs(**inputs)
        rows = [LabeledRow(1, (question, context), None)]
        encoded = TASK.encode(model.tokenizer, rows, SpanExtraction(stride=4), 20)
        logits = outputs(model.learner, model.recipe.model, encoded, Inference("float32")).values
        assert len(encoded) == len(places) > 1
        for window, first in enumerate(encoded.first):
            ids, there = encoded.example(window).tokens.ids, encoded.candidates_of(window)
            assert ids.tolist() == inputs["input_ids"][window, : len(ids)].tolist()
            mine = encoded.places[0][first : first + len(there) - 1]
            assert mine.tolist() == places[window][there[1:]].tolist()
            both = torch.stack([expected.start_logits[window, there], expected.end_logits[window, there]], dim=1)
            assert logits[window, : len(there)] == pytest.approx(both.numpy(), abs=1e-4)


def test_it_is_chosen_by_name() -> None:
    from genus.cli.task import choose

    found = choose("question-answering", ["q", "c"], "a", ["answer_exact_match"], settings=["answer_length=50"])
    assert found == QuestionAnswering(texts=("q", "c"), label="a", metrics=(AnswerExactMatch(),), answer_length=50)
    assert TASK.metrics == (AnswerF1(), AnswerExactMatch())
    with pytest.raises(UsageError, match="an encoder-decoder tells no spans of a text"):
        TASK.objective([]).continued((), catalog.load("bart/tiny").model)
