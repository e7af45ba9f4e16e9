"""Spans of characters: what is marked is what stands there, in any script; scores by hand; folders as transformers'."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genus.errors import GenusError, UsageError
from genus.export.folder import load
from genus.tasks.answer import Outputs, measure
from genus.tasks.character_spans import CharacterSpans
from genus.tasks.dataset import Files, LabeledRow, read
from genus.tasks.finetune import finetune
from genus.tasks.predict import score
from genus.tasks.start import Start
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.unigram import Unigram
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.tokens.tokenizer import Tokenizer
from genus.train.run import Run

TEXTS = (
    "Ada Lovelace met Charles Babbage\nin  London .",
    "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย",
    "وُلِدَ نجيب محفوظ في القاهرة",
    "👩‍👩‍👧 in Zürich and Zu\u0308rich , 🇹🇭 !",
    "",
    "e\u0301te\u0301 a\u0300 Saint-Étienne",
)


@pytest.fixture(scope="module", params=["bytes", "wordpiece", "unigram"])
def words(request: pytest.FixtureRequest) -> Tokenizer:
    kind = {
        "bytes": ByteBPE(vocab_size=400),
        "wordpiece": WordPiece(vocab_size=400, lowercase=True),
        "unigram": Unigram(vocab_size=260),
    }[request.param]
    return kind.train([text for text in TEXTS if text] * 20)


def perfect(encoded: object, classes: int) -> Outputs:
    """Return the outputs of a model that tells each token's own tag."""
    return Outputs(np.eye(classes, dtype=np.float32)[encoded.labels] * 9)


def row_of(text: str, spans: list[tuple[int, int, str]]) -> dict:
    return {"text": text, "spans": [{"start": a, "end": b, "label": label} for a, b, label in spans]}


def test_spans_that_tokens_show_come_back_as_they_are(words: Tokenizer) -> None:
    """Spans are drawn between ends of tokens; what is told is that text, by its own characters, in parts too."""
    draw, task = random.Random(0), CharacterSpans()
    for length in (64, 9):
        rows = []
        for number, text in enumerate(TEXTS * 3):
            _, places = words.encode_with_offsets(text)
            spans, free = [], 0
            for first in range(len(places)):
                after = first + draw.randint(1, 4)
                if after <= len(places) and draw.random() < 0.4:
                    a, b = int(places[first, 0]), int(places[after - 1, 1])
                    a, b = a + len(text[a:b]) - len(text[a:b].lstrip()), b - len(text[a:b]) + len(text[a:b].rstrip())
                    inside = (after == len(places) or places[after, 0] >= b) and (
                        not first or places[first - 1, 1] <= a
                    )
                    if free <= a < b and inside:
                        spans.append((a, b, draw.choice(["X", "Y"])))
                        free = b
            rows.append(task.row(number, row_of(text, spans)))
        objective = task.objective(["X", "Y"])
        encoded = task.encode(words, rows, objective, length)
        assert max(encoded.lengths) <= length
        found = perfect(encoded, len(objective.labels))
        for row, (told, chances) in zip(rows, encoded.answers(objective, found), strict=True):
            text = row.texts[0]
            assert all(one["text"] == text[one["start"] : one["end"]] for one in told)
            # neighbors of one kind are two spans, as each begins with B
            assert [(one["start"], one["end"], one["label"]) for one in told] == [
                *zip(row.starts, row.ends, row.labels, strict=True)
            ]
            assert len(chances) == len(told)
        assert measure(task.metrics, objective, encoded, found) == dict.fromkeys(
            ("entity_f1", "entity_precision", "entity_recall"), 1.0
        )


def test_scores_count_exact_spans(words: Tokenizer) -> None:
    task, text = CharacterSpans(), "Ada Lovelace met Charles Babbage\nin  London ."
    true = [(0, 12, "PER"), (17, 32, "PER"), (37, 43, "LOC")]
    told = [(0, 12, "PER"), (17, 24, "PER"), (37, 43, "PER"), (44, 45, "LOC")]
    objective = task.objective(["PER", "LOC"])
    truth = task.encode(words, [task.row(1, row_of(text, true))], objective, 64)
    guess = task.encode(words, [task.row(1, row_of(text, told))], objective, 64)
    found = measure(task.metrics, objective, truth, perfect(guess, len(objective.labels)))
    # one of three is found, of four that are told: 1/3, 1/4, and 2 / (3 + 4)
    assert found == pytest.approx({"entity_recall": 1 / 3, "entity_precision": 1 / 4, "entity_f1": 2 / 7})


def test_what_tokens_do_not_show_is_said() -> None:
    words = WordPiece(vocab_size=300, lowercase=True).train(["lovelace met babbage"] * 9)
    task = CharacterSpans()
    rows = [
        task.row(1, row_of("lovelace met", [(0, 4, "X")])),
        task.row(2, row_of("met \u200b\x00 met", [(4, 6, "X")])),
    ]
    encoded = task.encode(words, rows, task.objective(["X"]), 32)
    said = " ".join(encoded.warnings)
    assert "a span begins or ends within a token, and is learned as the whole token (1, first in line 1)" in said
    assert "the tokenizer leaves nothing of a span, which is not learned (1, first in line 2)" in said


@pytest.mark.parametrize(
    ("spans", "says"),
    [
        ([[0, 3, "A"], [2, 5, "B"]], "spans of A and B overlap at character 2"),
        ([[0, 99, "A"]], "the span 0 to 99 is not within a text of 11 characters"),
        ([[-1, 3, "A"]], "is not within"),
        ([[3, 3, "A"]], "is not within"),
        ([[0, 3, " "]], "the span 0 to 3 has no label"),
        ([[0, 3]], "expected spans {start, end, label}"),
        ([{"start": 0, "end": 3}], "expected spans {start, end, label}"),
        ([{"start": "0", "end": 3, "label": "A"}], "start '0' is no number of characters"),
        ([[True, 3, "A"]], "start True is no number"),
        ("0-3:A", "holds no list of spans"),
    ],
)
def test_spans_that_cannot_be_are_one_line(tmp_path: Path, spans: object, says: str) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": "hello world", "spans": spans}) + "\n")
    with pytest.raises(GenusError, match="line 1: ") as error:
        read(tmp_path / "t.jsonl", CharacterSpans())
    assert says in str(error.value)


def test_a_table_without_spans_a_label_out_of_training_and_two_columns_are_refused(tokenizer: Tokenizer) -> None:
    task = CharacterSpans()
    with pytest.raises(GenusError, match="no text has a span"):
        task.objective([])
    with pytest.raises(GenusError, match="row 3: label 'B-B' does not occur in training"):
        task.encode(tokenizer, [task.row(3, row_of("a cat", [(2, 5, "B")]))], task.objective(["A"]), 16)
    with pytest.raises(UsageError, match="expected the one column"):
        CharacterSpans(texts=("a", "b"))
    assert task.row(1, {"text": "a", "spans": None}).label is None
    assert task.row(1, {"text": "a", "spans": []}).label == ()


def test_it_is_learned_and_transformers_marks_the_same(
    tokenizer: Tokenizer, start: Start, run: Run, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    draw = random.Random(1)
    for name, number in (("train", 120), ("validation", 24)):
        lines = []
        for _ in range(number):
            text, spans = "", []
            for _ in range(draw.randint(1, 4)):
                word = draw.choice(["cat", "dog horse", "saw", "hammer"])
                text += draw.choice(["a ", "and  a "])
                if word in ("cat", "dog horse"):
                    spans.append([len(text), len(text) + len(word), "ANIMAL"])
                text += word + " . "
            lines.append(json.dumps({"text": text, "spans": spans}) + "\n")
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    report = finetune(start, CharacterSpans(), Files.find(tmp_path), tmp_path / "out", seeds=(0,), run=run)
    assert report.trials[0].metrics["validation"]["entity_f1"] > 0.95
    folder = tmp_path / "out" / "model"
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["BertForTokenClassification"]
    rows = [replace(row, label=None) for row in read(tmp_path / "validation.jsonl", CharacterSpans())]
    answers, _ = score(load(folder), CharacterSpans(), rows)
    pipe = transformers.pipeline("token-classification", str(folder), aggregation_strategy="simple")
    for row, answer in zip(rows, answers, strict=True):
        theirs = pipe(row.texts[0])
        assert [(one["start"], one["end"], one["entity_group"]) for one in theirs] == [
            (one["start"], one["end"], one["label"]) for one in answer.predicted
        ]
        assert np.allclose([one["score"] for one in theirs], answer.scores, atol=1e-5)
    # a folder without our recipe tells words' tags, as its classes say nothing of characters
    assert torch.is_tensor(load(folder).learner.state_dict()["heads.token_classification.classes.weight"])


def test_predictions_of_an_unlabeled_text(tokenizer: Tokenizer) -> None:
    task = CharacterSpans()
    encoded = task.encode(tokenizer, [LabeledRow(1, ("a cat",), None)], task.objective(["A"]), 16)
    assert (encoded.labels < 0).all()
