"""Fine-tuning learns, keeps its best weights, goes on by seed, and agrees with Hugging Face about what it made."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genus import catalog
from genus.errors import GenusError, UsageError
from genus.export.folder import load
from genus.model.pooler import Pooler
from genus.objectives.supervised.sequence import SequenceClassification
from genus.recipe import Recipe
from genus.tasks import study
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files
from genus.tasks.encode import encode
from genus.tasks.feed import Shuffled
from genus.tasks.finetune import finetune
from genus.tasks.glue import GLUE
from genus.tasks.predict import predict, score
from genus.tasks.regression import Regression
from genus.tasks.splits import read_splits
from genus.tasks.start import Start
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.tokens.tokenizer import Tokenizer
from genus.train.run import Run

ROUNDING = 1e-5
"""Float32 sums in another order."""


@pytest.fixture(scope="module")
def data(write_rows, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, count, seed in (("train", 160, 1), ("validation", 32, 2), ("test", 40, 3)):
        write_rows(folder / f"{name}.jsonl", count, seed)
    return folder


@pytest.fixture(scope="module")
def tuned(data: Path, recipe: Recipe, tokenizer: Tokenizer, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two seeds fine-tuned from random weights."""
    folder = tmp_path_factory.mktemp("tuned") / "out"
    finetune(Start(recipe, tokenizer), Classification(), Files.find(data), folder, seeds=(0, 1), run=run)
    return folder


def report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def test_it_learns_and_reports(tuned: Path) -> None:
    found = report(tuned)
    assert found["summary"]["test"]["accuracy"]["mean"] > 0.9
    assert found["summary"]["test"]["accuracy"]["runs"] == 2
    assert found["objective"]["labels"] == ["animals", "tools"]
    assert (found["initial"], found["data"]["validation"]["held_out"]) == ("random", False)
    for trial in found["seeds"]:
        assert trial["metrics"]["validation"]["accuracy"] == max(step["accuracy"] for step in trial["history"])


def test_the_head_drops_out_what_the_settings_say_or_else_the_task(
    data: Path, start: Start, run: Run, tmp_path: Path
) -> None:
    settings = replace(start.recipe.finetuning, epochs=1, dropout=0.3)
    for dropout, rate in ((None, 0.3), (0.0, 0.0)):
        task, folder = Classification(dropout=dropout), tmp_path / f"{rate}"
        found = finetune(start, task, Files.find(data), folder, settings=settings, seeds=(0,), run=run)
        assert (found.objective.rate, found.task.dropout) == (rate, rate)
        assert load(folder / "model").recipe.objectives[0].to_json()["dropout"] == rate


def test_answers_stand_in_the_order_of_the_file(tuned: Path, data: Path) -> None:
    truth = [json.loads(line)["label"] for line in (data / "test.jsonl").read_text().splitlines()]
    lines = [json.loads(line) for line in (tuned / "seed-1" / "test.jsonl").read_text().splitlines()]
    assert [line["line"] for line in lines] == list(range(1, 41))
    assert [line["label"] for line in lines] == truth
    right = np.mean([line["predicted"] == line["label"] for line in lines])
    assert right == report(tuned)["seeds"][1]["metrics"]["test"]["accuracy"]
    for line in lines:
        assert sum(line["scores"].values()) == pytest.approx(1, abs=ROUNDING)
        assert line["predicted"] == max(line["scores"], key=line["scores"].get)


def test_the_exported_model_answers_as_the_best_seed_did(tuned: Path, data: Path, run: Run) -> None:
    model, best = load(tuned / "model"), report(tuned)["best_seed"]
    assert model.recipe.seed == best
    rows = [json.loads(line) for line in (data / "test.jsonl").read_text().splitlines()]
    written = [json.loads(line) for line in (tuned / f"seed-{best}" / "test.jsonl").read_text().splitlines()]
    for answer, line in zip(predict(model, [(row["text"],) for row in rows], run), written, strict=True):
        assert answer.predicted == line["predicted"]
        assert answer.scores == pytest.approx(line["scores"], abs=ROUNDING)
    split = read_splits(Files.find(data), Classification())["test"]
    assert score(model, Classification(), split.rows, run)[1] == report(tuned)["seeds"][best]["metrics"]["test"]


def test_answers_leave_the_model_as_it_was(tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each module in its mode, every tensor where it was and of the same type, and an evaluated model untouched."""
    model = load(tuned / "model")
    model.learner.train()
    model.learner.network.pooler.eval()  # type: ignore[union-attr]
    modes = [module.training for module in model.learner.modules()]
    tensors = [tensor.data_ptr() for tensor in model.learner.parameters()]
    found = predict(model, [("one text",), ("another",)])
    assert [module.training for module in model.learner.modules()] == modes
    assert [tensor.data_ptr() for tensor in model.learner.parameters()] == tensors
    model.learner.eval()
    monkeypatch.setattr(torch.nn.Module, "train", lambda *given: pytest.fail("the mode is touched"))
    assert [answer.predicted for answer in predict(model, [("one text",), ("another",)])] == [
        answer.predicted for answer in found
    ]


def test_hugging_face_gives_the_same_answers(tuned: Path, data: Path, run: Run) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tuned / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tuned / "model")
    texts = [json.loads(line)["text"] for line in (data / "test.jsonl").read_text().splitlines()]
    with torch.no_grad():
        chances = theirs(**tokenizer(texts, padding=True, return_tensors="pt")).logits.softmax(-1)
    for answer, expected in zip(predict(load(tuned / "model"), [(text,) for text in texts], run), chances, strict=True):
        assert answer.scores[theirs.config.id2label[1]] == pytest.approx(expected[1].item(), abs=ROUNDING)


def test_roberta_on_pairs_answers_as_hugging_face(write_rows, tmp_path: Path, run: Run) -> None:
    """RoBERTa has no pooler: the one that fine-tuning adds is Hugging Face's `classifier.dense`."""
    transformers = pytest.importorskip("transformers")
    texts = [row["text"] for row in write_rows(tmp_path / "rows.jsonl", 80, 1)]
    pairs = [{"one": a, "two": b, "longer": int(len(a) > len(b))} for a, b in zip(texts[::2], texts[1::2], strict=True)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    tokenizer = ByteBPE(vocab_size=320).train(texts)
    row = catalog.load("roberta/base", ["model.layers=2", "model.attention.heads=2", "model.hidden=32"])
    row = row.override("finetuning.epochs", 2).override("finetuning.max_length", 24)
    start = Start(row, tokenizer, recipe_learner(row, tokenizer))
    task = Classification(texts=("one", "two"), label="longer")
    finetune(start, task, Files.find(tmp_path), tmp_path / "out", seeds=(0,), run=run)

    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "model").eval()
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path / "out" / "model")
    both = [[pair[column] for pair in pairs] for column in ("one", "two")]
    inputs = reader(*both, truncation="longest_first", max_length=24, padding=True, return_tensors="pt")
    with torch.no_grad():
        chances = theirs(**inputs).logits.softmax(-1)
    found = predict(load(tmp_path / "out" / "model"), list(zip(*both, strict=True)), run)
    ours = [[answer.scores["0"], answer.scores["1"]] for answer in found]
    torch.testing.assert_close(torch.tensor(ours), chances, atol=ROUNDING, rtol=ROUNDING)


@pytest.mark.parametrize("classify", [True, False])
def test_loss_and_gradients_equal_hugging_face(tokenizer: Tokenizer, tmp_path: Path, classify: bool) -> None:
    """The same weights and examples; no dropout, so that training mode can be compared."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    none = {
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout": 0.0,
        "num_labels": 3 if classify else 1,
    }
    kind = {"problem_type": "single_label_classification" if classify else "regression"}
    config = transformers.BertConfig(**sizes, **none, **kind, vocab_size=tokenizer.vocabulary.size)
    theirs = transformers.BertForSequenceClassification(config)
    theirs.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    learner, name = load(tmp_path).learner, "sequence_classification" if classify else "sequence_regression"

    texts = ["a cat", "a cat and a hammer and a saw", "bird", "a dog and a drill ."]
    labels = np.array([2, 0, 1, 1]) if classify else np.array([0.5, -1, 2, 4], np.float32)
    batch = Shuffled(encode(tokenizer, [(text,) for text in texts], labels, name, 32), 4, seed=0)[0]
    loss = learner.objective(learner(batch).sums, learner.counts(batch))
    loss.backward()

    reader = transformers.AutoTokenizer.from_pretrained(tmp_path)
    expected = theirs(**reader(texts, padding=True, return_tensors="pt"), labels=torch.from_numpy(labels)).loss
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=ROUNDING)
    for ours, other in (
        (learner.network.token_embedding.weight, theirs.bert.embeddings.word_embeddings.weight),
        (learner.heads[name].classes.weight, theirs.classifier.weight),
    ):
        torch.testing.assert_close(ours.grad, other.grad, rtol=ROUNDING, atol=ROUNDING * other.grad.abs().max().item())


def test_overfits_a_handful_of_rows(tmp_path: Path, recipe: Recipe, tokenizer: Tokenizer, run: Run) -> None:
    rng = np.random.default_rng(5)
    letters = [" ".join(rng.choice(list("abcdefghijklmnop"), 6)) for _ in range(64)]
    rows = [{"text": text, "label": int(rng.integers(3))} for text in letters]  # nothing but memory helps
    for name in ("train", "validation"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    row = recipe
    for path in ("model.dropout", "model.embedding.dropout", "model.attention.dropout"):
        row = row.override(path, 0.0)
    row = row.override("finetuning.epochs", 60).override("model.initialization.std", 0.1).override("model.hidden", 64)
    task = Classification(dropout=0.0)
    found = finetune(Start(row, tokenizer), task, Files.find(tmp_path), tmp_path / "out", seeds=(0,), run=run)
    assert found.best.metrics["validation"]["accuracy"] == 1.0
    assert len(found.best.history) <= study.EVALUATIONS + 1


@pytest.mark.shared
@pytest.mark.parametrize("name", ["sst2", "mrpc"])
def test_overfits_real_rows(shared: Path, tmp_path: Path, recipe: Recipe, run: Run, name: str) -> None:
    lines = gzip.decompress((shared / "data" / "glue" / name / "train.jsonl.gz").read_bytes()).splitlines()[:64]
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_bytes(b"\n".join(lines))
    task, row = GLUE[name], recipe
    texts = [json.loads(line)[column] for line in lines for column in task.texts]
    for path in ("model.dropout", "model.embedding.dropout", "model.attention.dropout"):
        row = row.override(path, 0.0)
    for path, value in (("epochs", 40), ("max_length", 96)):
        row = row.override(f"finetuning.{path}", value)
    tokenizer = WordPiece(vocab_size=1000, lowercase=True).train(texts)
    start = Start(row.override("model.initialization.std", 0.1), tokenizer)
    found = finetune(start, task, Files.find(tmp_path), tmp_path / "out", seeds=(0,), run=run)
    assert found.best.metrics["validation"]["accuracy"] > 0.98


def test_regression_without_a_validation_table(
    write_rows, tmp_path: Path, recipe: Recipe, tokenizer: Tokenizer, run: Run
) -> None:
    write_rows(tmp_path / "train.jsonl", 160, 1)
    task, settings = Regression(label="share"), replace(recipe.finetuning, epochs=12)
    found = finetune(
        Start(recipe, tokenizer), task, Files.find(tmp_path), tmp_path / "out", settings=settings, seeds=(0,), run=run
    )
    assert (found.data["train"].rows, found.data["validation"].rows, found.data["validation"].held_out) == (
        144,
        16,
        True,
    )
    assert found.best.metrics["validation"]["pearson"] > 0.8
    lines = [json.loads(line) for line in (tmp_path / "out" / "seed-0" / "validation.jsonl").read_text().splitlines()]
    assert all(isinstance(line["predicted"], float) and line["scores"] == {} for line in lines)
    answer = predict(load(tmp_path / "out" / "model"), [("a cat and a dog .",)], run)[0]
    assert isinstance(answer.predicted, float)


def test_finished_seeds_are_kept_and_others_added(
    tuned: Path, data: Path, start: Start, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (tuned / "seed-0" / "result.json").stat().st_mtime_ns
    trained = []
    really = study.train
    monkeypatch.setattr(study, "train", lambda *a, **k: trained.append(k["seed"]) or really(*a, **k))
    first = report(tuned)
    (tuned / "seed-1" / "result.json").unlink()
    found = finetune(start, Classification(), Files.find(data), tuned, seeds=(0, 1), run=run)
    assert trained == [1]
    assert (tuned / "seed-0" / "result.json").stat().st_mtime_ns == before
    assert [trial.metrics for trial in found.trials] == [trial["metrics"] for trial in first["seeds"]]
    assert found.best.seed == first["best_seed"] == load(tuned / "model").recipe.seed


def test_few_rows_are_not_one_update(
    write_rows, start: Start, run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nine rows to train on, batches of 16, 8 epochs: eight updates of nine rows, each evaluated."""
    write_rows(tmp_path / "train.jsonl", 10, 1)
    found = finetune(start, Classification(), Files.find(tmp_path), tmp_path / "out", seeds=(0,), run=run)
    assert (found.data["train"].rows, len(found.best.history)) == (9, 8)
    assert "no validation table: 1 of 10 training rows are held out" in capfd.readouterr().err


def test_an_interruption_leaves_no_result(
    data: Path, start: Start, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = study.train
    monkeypatch.setattr(study, "train", lambda *a, **k: replace(really(*a, **k), stopped=True))
    with pytest.raises(GenusError, match="stopped at seed 5; the same command goes on"):
        finetune(start, Classification(), Files.find(data), tmp_path / "out", seeds=(5,), run=run)
    assert not list(tmp_path.rglob("result.json"))


def test_a_folder_of_other_choices_is_refused(tuned: Path, data: Path, start: Start, run: Run, recipe: Recipe) -> None:
    files, other = Files.find(data), replace(recipe.finetuning, batch=8)
    with pytest.raises(UsageError, match="holds results of other choices or data"):
        finetune(start, Classification(), files, tuned, settings=other, run=run)
    with pytest.raises(UsageError, match="holds results of other choices or data"):
        finetune(start, Classification(), replace(files, test=None), tuned, run=run)
    pretrained = replace(start, learner=recipe_learner(recipe, start.tokenizer))
    with pytest.raises(UsageError, match="holds results of other choices or data"):
        finetune(pretrained, Classification(), files, tuned, run=run)


def recipe_learner(recipe: Recipe, tokenizer: Tokenizer):
    return replace(recipe, tokens=tokenizer.tokens).learner()


def test_trained_weights_are_laid_over_fresh_ones(recipe: Recipe, tokenizer: Tokenizer) -> None:
    trained = recipe_learner(recipe, tokenizer)
    start = Start(recipe, tokenizer, trained)
    row = start.fine_tuned(SequenceClassification(labels=("a", "b")), recipe.finetuning)
    one, other = start.build(row, 0), start.build(row, 1)
    for learner in (one, other):
        for name, tensor in trained.network.state_dict().items():
            assert torch.equal(learner.network.state_dict()[name], tensor)
    assert set(one.heads) == {"sequence_classification"}
    assert not torch.equal(
        one.heads["sequence_classification"].classes.weight, other.heads["sequence_classification"].classes.weight
    )
    with torch.no_grad():
        one.network.token_embedding.weight.zero_()
    assert trained.network.token_embedding.weight.abs().sum() > 0


def test_a_network_without_a_pooler_gets_one(recipe: Recipe, tokenizer: Tokenizer) -> None:
    bare = replace(recipe, model=replace(recipe.model, pooler=None), objectives=recipe.objectives[:1])
    start = Start(bare, tokenizer, recipe_learner(bare, tokenizer))
    row = start.fine_tuned(SequenceClassification(labels=("a", "b")), bare.finetuning)
    assert row.model == replace(recipe.model, pooler=Pooler())
    assert start.build(row, 0).network.pooler is not None


def test_what_does_not_belong_together_is_refused(recipe: Recipe, tokenizer: Tokenizer) -> None:
    objective = SequenceClassification(labels=("a", "b"))
    alien = replace(recipe, tokens=replace(tokenizer.tokens, vocab_size=77)).learner()
    pieces = tokenizer.vocabulary.size
    with pytest.raises(
        GenusError, match=f"the tokenizer has {pieces} pieces, the weights 77: they do not belong together"
    ):
        Start(recipe, tokenizer, alien).fine_tuned(objective, recipe.finetuning)
    deeper = recipe_learner(replace(recipe, model=replace(recipe.model, layers=3)), tokenizer)
    start = Start(recipe, tokenizer, deeper)
    with pytest.raises(GenusError, match=r"the weights do not belong to bert/base: layers\.2"):
        start.build(start.fine_tuned(objective, recipe.finetuning), 0)
    with pytest.raises(UsageError, match="max_length: 513 is over the model's 512 positions"):
        start.fine_tuned(objective, replace(recipe.finetuning, max_length=513))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seeds": (1, 1)}, "seeds: expected different numbers, got 1, 1"),
        ({"seeds": ()}, "got none"),
        ({"accumulate": 3}, "16 is no multiple of the 3"),
    ],
)
def test_settings_that_contradict_each_other(
    data: Path, start: Start, tmp_path: Path, options: dict, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        finetune(start, Classification(), Files.find(data), tmp_path, **options)


def test_a_model_that_was_not_fine_tuned_answers_nothing(recipe: Recipe, tokenizer: Tokenizer, tmp_path: Path) -> None:
    from genus.export.folder import save

    row = replace(recipe, tokens=tokenizer.tokens)
    save(tmp_path / "model", row, row.learner(), tokenizer)
    with pytest.raises(GenusError, match="was not fine-tuned"):
        predict(load(tmp_path / "model"), [("cat",)])
