"""Tables of words and tags: their columns, what is learned of them, how it is measured; and real ones."""

import gzip
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genus import catalog
from genus.batch import IGNORE, Batch, Targets
from genus.errors import GenusError, UsageError
from genus.evaluate.metrics import Accuracy
from genus.evaluate.tags import EntityF1, EntityPrecision, EntityRecall, WordAccuracy
from genus.export.folder import load
from genus.objectives.supervised.sequence import SequenceClassification, SequenceRegression
from genus.objectives.supervised.token import TokenClassification
from genus.recipe import Recipe
from genus.tasks import Task, study, task_of
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files, LabeledRow, read
from genus.tasks.finetune import finetune
from genus.tasks.predict import predict, score
from genus.tasks.regression import Regression
from genus.tasks.splits import read_splits
from genus.tasks.start import Start
from genus.tasks.tagging import Tagging
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.tokens.tokenizer import Tokenizer
from genus.train.run import Run

ROUNDING = 1e-5
"""Float32 sums in another order."""
QUIET = dict.fromkeys(("model.dropout", "model.embedding.dropout", "model.attention.dropout"), 0.0)
"""Without dropout, a small network learns in seconds."""
ROWS = [
    {"tokens": ["a", "cat", "and", "a", "saw"], "ner_tags": ["O", "B-ANIMAL", "O", "O", "B-TOOL"]},
    {"tokens": ["horse", "bird"], "ner_tags": ["B-ANIMAL", "I-ANIMAL"]},
]


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_words_and_tags_of_a_table(tmp_path: Path) -> None:
    found = read(write(tmp_path / "a.jsonl", ROWS), Tagging())
    assert found == [LabeledRow(n, tuple(row["tokens"]), tuple(row["ner_tags"])) for n, row in enumerate(ROWS, 1)]
    other = [{"words": ["a", 1, None], "pos": [3, 1.0, "12"]}]
    task = Tagging(texts=("words",), label="pos")
    assert read(write(tmp_path / "b.jsonl", other), task) == [LabeledRow(1, ("a", "1", ""), ("3", "1", "12"))]
    blind = write(tmp_path / "c.jsonl", [{"tokens": ["a"]}])
    assert read(blind, Tagging(), labeled=False) == [LabeledRow(1, ("a",), None)]


def test_a_parquet_table_gives_the_same_rows(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", Tagging()) == read(write(tmp_path / "a.jsonl", ROWS), Tagging())


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"words": ["a"], "ner_tags": ["O"]}, "there is no column 'tokens'. Valid: ner_tags, words"),
        ({"tokens": ["a"], "tags": ["O"]}, "there is no column 'ner_tags'. Did you mean 'tags'"),
        ({"tokens": "a cat", "ner_tags": ["O"]}, "column 'tokens' holds no list of words, .*got 'a cat'"),
        ({"tokens": ["a"], "ner_tags": "O"}, "column 'ner_tags' holds no list of tags"),
        ({"tokens": ["a", "cat"], "ner_tags": ["O"]}, "2 words in column 'tokens', but 1 tags in column 'ner_tags'"),
        ({"tokens": [], "ner_tags": []}, "column 'tokens' holds no words"),
        ({"tokens": ["a", "cat"], "ner_tags": ["O", " "]}, "word 2 has no tag in column 'ner_tags'"),
    ],
)
def test_a_bad_row_is_one_line(tmp_path: Path, row: dict, says: str) -> None:
    path = write(tmp_path / "train.jsonl", [ROWS[0], row])
    with pytest.raises(GenusError, match=rf"train\.jsonl, line 2: {says}") as caught:
        read(path, Tagging())
    assert "\n" not in str(caught.value)


def test_training_rows_must_have_tags(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", [*ROWS, {"tokens": ["a"], "ner_tags": None}])
    with pytest.raises(GenusError, match="line 3: there is no label in column 'ner_tags'"):
        read_splits(Files(path), Tagging())


def test_a_tag_that_does_not_occur_in_training(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path, rows = tmp_path / "validation.jsonl", [LabeledRow(7, ("cat",), ("B-FISH",))]
    with pytest.raises(
        GenusError, match=r"validation\.jsonl, line 7: label 'B-FISH' does not occur in training, which"
    ):
        Tagging().encode(tokenizer, rows, TokenClassification(labels=("O", "B-TOOL")), 32, path)


def test_tags_in_order_and_the_usual_one() -> None:
    assert Tagging().objective(["O", "B-X", "B-X"]) == TokenClassification(labels=("B-X", "O"), usual="O")
    assert Tagging().objective(["10", "9", "9"]) == TokenClassification(labels=("9", "10"), usual="9")
    with pytest.raises(GenusError, match="column 'ner_tags': all rows have the label 'O'"):
        Tagging().objective(["O", "O"])


def test_metrics_follow_the_tags() -> None:
    names, parts = TokenClassification(labels=("B-X", "I-X", "O")), TokenClassification(labels=("NN", "VB"))
    assert Tagging().resolved_for(names).metrics == (EntityF1(), EntityPrecision(), EntityRecall(), WordAccuracy())
    assert Tagging().resolved_for(parts).metrics == (WordAccuracy(),)
    assert Tagging(metrics=(EntityRecall(),)).resolved_for(names).metrics == (EntityRecall(),)
    with pytest.raises(UsageError, match=r"entity_recall counts entities.*; those that fit: word_accuracy"):
        Tagging(metrics=(EntityRecall(),)).resolved_for(parts)
    with pytest.raises(UsageError, match="Tagging is not what the model learned: SequenceRegression"):
        Tagging().resolved_for(SequenceRegression())


def test_the_task_of_a_kind_of_objective() -> None:
    assert task_of(SequenceClassification(labels=("a", "b"))) == Classification()
    assert task_of(SequenceRegression()) == Regression()
    assert task_of(TokenClassification(labels=("NN", "VB"))) == Tagging(metrics=(WordAccuracy(),))


def test_it_is_a_part_that_refuses_what_it_cannot_do() -> None:
    for task in (Tagging(), Tagging(texts=("words",), metrics=(WordAccuracy(),))):
        assert Task.from_json(task.to_json()) == task
    with pytest.raises(UsageError, match="texts: expected the one column of the words, got 2"):
        Tagging(texts=("a", "b"))
    with pytest.raises(
        UsageError, match="metrics: accuracy judges classes, not tags; those that fit: entity_f1, entity_precision"
    ):
        Tagging(metrics=(WordAccuracy(), Accuracy()))
    with pytest.raises(
        UsageError, match="metrics: entity_f1 judges tags, not classes; those that fit: accuracy, f1, macro_f1"
    ):
        Classification(metrics=(EntityF1(),))


def test_loss_is_cross_entropy_at_the_targets(recipe: Recipe) -> None:
    """Summed; what has no label counts nothing."""
    tag = TokenClassification(labels=("O", "B-X", "I-X"), dropout=0.0)
    head = tag.build(recipe.model, 9)
    states = torch.randn(6, recipe.model.width)
    index, label = torch.tensor([1, 4, 5]), torch.tensor([2, IGNORE, 0])
    batch = Batch({}, {"token_classification": Targets(index, label)})
    sums = head(None, {"tokens": states}, batch)
    chances = (states @ head.classes.weight.T + head.classes.bias).softmax(-1)
    assert sums["token_classification"].item() == pytest.approx(
        -(chances[1, 2].log() + chances[5, 0].log()).item(), rel=ROUNDING
    )
    assert sums["token_classification/correct"] == sum(
        chances[place].argmax() == wanted for place, wanted in ((1, 2), (5, 0))
    )
    assert head.counts(batch)["token_classification"] == 2
    assert tag.max_targets(12, 3) == {"token_classification": 12}


def animals(path: Path, count: int, seed: int) -> Path:
    """Write sentences in which animals are names, of two words where an adjective stands before."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        words, tags = [], []
        for _ in range(rng.integers(2, 5)):
            kind = rng.choice(["old", "animal", "tool"])
            words += ["a", *(["old"] if kind == "old" else []), str(rng.choice(TOOLS if kind == "tool" else ANIMALS))]
            tags += {"tool": ["O", "O"], "animal": ["O", "B-X"], "old": ["O", "B-X", "I-X"]}[kind]
        rows.append({"tokens": words, "ner_tags": tags})
    return write(path, rows)


ANIMALS, TOOLS = ("cat", "dog", "horse", "bird"), ("saw", "hammer", "pliers", "drill")


@pytest.fixture(scope="module")
def tuned(recipe: Recipe, tokenizer: Tokenizer, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two seeds fine-tuned from weights with a pooler, beside its data."""
    folder = tmp_path_factory.mktemp("tagged")
    files = Files(*(animals(folder / f"{name}.jsonl", n, n) for name, n in (("train", 96), ("dev", 24), ("test", 25))))
    start = pretrained(recipe, tokenizer)
    assert start.learner.network.pooler is not None
    finetune(start, Tagging(), files, folder / "out", seeds=(0, 1), run=run)
    return folder


def pretrained(recipe: Recipe, tokenizer: Tokenizer) -> Start:
    torch.manual_seed(0)
    recipe = recipe.overrides(QUIET | {"finetuning.optimizer.lr": 5e-3})
    return Start(recipe, tokenizer, replace(recipe, tokens=tokenizer.tokens).learner())


def test_it_learns_and_reports_over_seeds(tuned: Path) -> None:
    report = json.loads((tuned / "out" / "report.json").read_text())
    assert report["objective"]["labels"] == ["B-X", "I-X", "O"]
    for metric in ("entity_f1", "entity_precision", "entity_recall", "word_accuracy"):
        found = report["summary"]["test"][metric]
        assert found["mean"] > 0.7  # O for every word has none of the names
        assert found["runs"] == 2
    assert report["task"]["metrics"][0]["kind"] == "EntityF1"
    lines = [json.loads(line) for line in (tuned / "out" / "seed-0" / "test.jsonl").read_text().splitlines()]
    rows = [json.loads(line) for line in (tuned / "test.jsonl").read_text().splitlines()]
    assert [line["label"] for line in lines] == [row["ner_tags"] for row in rows]
    assert [len(line["predicted"]) for line in lines] == [len(line["scores"]) for line in lines]
    assert [len(line["predicted"]) for line in lines] == [len(row["tokens"]) for row in rows]


def test_a_second_call_tries_no_seed_again(
    tuned: Path, recipe: Recipe, tokenizer: Tokenizer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, before = pretrained(recipe, tokenizer), (tuned / "out" / "report.json").read_text()
    monkeypatch.setattr(study, "train", None)
    finetune(start, Tagging(), Files.find(tuned), tuned / "out", seeds=(0, 1), run=run)
    assert (tuned / "out" / "report.json").read_text() == before
    with pytest.raises(UsageError, match="holds results of other choices or data"):
        finetune(replace(start, learner=None), Tagging(), Files.find(tuned), tuned / "out", run=run)


def test_the_model_answers_as_the_best_seed_did(tuned: Path, run: Run) -> None:
    model, report = load(tuned / "out" / "model"), json.loads((tuned / "out" / "report.json").read_text())
    best = report["best_seed"]
    rows = [json.loads(line) for line in (tuned / "test.jsonl").read_text().splitlines()]
    written = [json.loads(line) for line in (tuned / "out" / f"seed-{best}" / "test.jsonl").read_text().splitlines()]
    for answer, line in zip(predict(model, [tuple(row["tokens"]) for row in rows], run), written, strict=True):
        assert answer.predicted == line["predicted"]
        assert answer.scores == pytest.approx(line["scores"], abs=ROUNDING)
    split = read_splits(Files.find(tuned), Tagging())["test"]
    task = task_of(model.recipe.objectives[0])
    assert score(model, task, split.rows, run)[1] == report["seeds"][best]["metrics"]["test"]


def test_hugging_face_gives_the_same_tags(tuned: Path, run: Run) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForTokenClassification.from_pretrained(tuned / "out" / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tuned / "out" / "model")
    sentences = [json.loads(line)["tokens"] for line in (tuned / "test.jsonl").read_text().splitlines()]
    found = predict(load(tuned / "out" / "model"), [tuple(words) for words in sentences], run)
    for words, answer in zip(sentences, found, strict=True):
        inputs = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        with torch.no_grad():
            chances = theirs(**inputs).logits[0].softmax(-1)
        first = [inputs.word_ids().index(word) for word in range(len(words))]
        assert [theirs.config.id2label[number] for number in chances[first].argmax(-1).tolist()] == answer.predicted
        assert answer.scores == pytest.approx(chances[first].max(-1).values.tolist(), abs=ROUNDING)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", ["conll2003", "thainer_1.3"])
def test_real_names_are_found_from_random_weights(shared: Path, tmp_path: Path, run: Run, name: str) -> None:
    """Some 150 updates on 900 sentences; who answers O to every word finds no name, and is right four times of five."""
    with gzip.open(shared / "data" / name / "train.jsonl.gz", "rt", encoding="utf-8") as file:
        short = [line for line in itertools.islice(file, 2000) if len(json.loads(line)["tokens"]) <= 40][:900]
    (tmp_path / "train.jsonl").write_text("".join(short), encoding="utf-8")
    rows = read(tmp_path / "train.jsonl", Tagging())
    tokenizer = WordPiece(vocab_size=3000, lowercase=False).train([" ".join(row.texts) for row in rows])
    row = catalog.load("bert/mini", ["model.layers=2", "model.hidden=128", "model.attention.heads=2"])
    row = row.overrides(QUIET | {"model.feedforward.size": 256, "finetuning.epochs": 3, "finetuning.batch": 16})
    row = row.overrides({"finetuning.optimizer.lr": 2e-3, "finetuning.optimizer.bias_correction": True})
    files = Files(tmp_path / "train.jsonl")
    report = finetune(Start(row, tokenizer), Tagging(), files, tmp_path / "out", seeds=(0,), run=run)
    answers = map(json.loads, (tmp_path / "out" / "seed-0" / "validation.jsonl").read_text().splitlines())
    truth = [tag for answer in answers for tag in answer["label"]]
    found = report.trials[0].metrics["validation"]
    assert found["entity_f1"] > 0.2
    assert found["word_accuracy"] > truth.count("O") / len(truth)
