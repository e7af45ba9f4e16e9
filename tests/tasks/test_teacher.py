"""A student learns a task from a teacher's answers: the losses are those of the papers, and labels are not needed."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.special import log_softmax, softmax

from genus.errors import GenusError, UsageError
from genus.export.folder import load
from genus.model.attention.multi_head import MultiHeadAttention
from genus.objectives import answering
from genus.objectives.supervised.multi_label import MultiLabelClassification
from genus.objectives.supervised.sequence import SequenceRegression
from genus.objectives.supervised.taught import TAUGHT, Teaching
from genus.recipe import Recipe
from genus.tasks import teacher as teachers
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files, read
from genus.tasks.feed import Shuffled
from genus.tasks.finetune import finetune
from genus.tasks.predict import score
from genus.tasks.regression import Regression
from genus.tasks.start import Start
from genus.tasks.tagging import Tagging
from genus.tasks.teacher import Teacher
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.tokenizer import Tokenizer
from genus.train.run import Run

FLOAT32 = 1e-5
"""Float32 sums in another order."""
WORDS = ["a cat saw a dog and a horse .", "abcdefghijklmnopqrstuvwxyz hammer pliers drill bird"] * 20


@pytest.fixture(scope="module")
def data(write_rows: Callable[..., list[dict]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of labeled rows, `unlabeled.jsonl` and tags."""
    folder = tmp_path_factory.mktemp("data")
    for name, count, seed in (("train", 160, 1), ("validation", 32, 2), ("test", 40, 3)):
        rows = write_rows(folder / f"{name}.jsonl", count, seed)
        tagged = [{"tokens": (words := row["text"].split()), "ner_tags": [tag(word) for word in words]} for row in rows]
        write(folder / f"tagged-{name}.jsonl", tagged)
        write(
            folder / f"unlabeled-{name}.jsonl", [{"text": row["text"], "tokens": row["text"].split()} for row in rows]
        )
    return folder


def tag(word: str) -> str:
    return "B-X" if word in ("cat", "dog", "horse", "bird") else "O"


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def taught_folder(
    data: Path, recipe: Recipe, tokenizer: Tokenizer, run: Run, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Return a function that fine-tunes a teacher for a task, once."""
    root, known = tmp_path_factory.mktemp("teachers"), {}

    def make(kind: str) -> Path:
        if kind not in known:
            tables, task = files(data, kind)
            finetune(Start(recipe, tokenizer), task, tables, root / kind, seeds=(0,), run=run)
            known[kind] = root / kind / "model"
        return known[kind]

    return make


def files(data: Path, kind: str, train: str = "") -> tuple[Files, object]:
    """Return the tables of a task, and the task."""
    tasks = {"classes": Classification(), "numbers": Regression(label="share"), "tags": Tagging()}
    start = "tagged-" if kind == "tags" else ""
    names = [f"{train or start}train", f"{start}validation", f"{start}test"]
    return Files(*(data / f"{name}.jsonl" for name in names)), tasks[kind]


@pytest.fixture(scope="module")
def small(recipe: Recipe) -> Recipe:
    """A student of one narrow layer, without dropout."""
    model = replace(recipe.model, layers=1, hidden=16, attention=MultiHeadAttention(heads=2, dropout=0.0), dropout=0.0)
    model = replace(model, embedding=replace(model.embedding, dropout=0.0))
    return replace(recipe, model=model, finetuning=replace(recipe.finetuning, dropout=0.0, epochs=20))


def guide(folder: Path, **teaching: float) -> Teacher:
    return Teacher(folder, load(folder), Teaching(**teaching))


@pytest.mark.parametrize("kind", ["classes", "numbers", "tags"])
def test_a_student_needs_no_labels(
    kind: str, data: Path, small: Recipe, tokenizer: Tokenizer, run: Run, taught_folder, tmp_path: Path
) -> None:
    tables, task = files(data, kind, "unlabeled-")
    other = ByteBPE(vocab_size=300).train(WORDS)
    student = Start(replace(small, tokens=other.tokens), other)
    report = finetune(student, task, tables, tmp_path, seeds=(0,), run=run, teacher=guide(taught_folder(kind)))
    found = report.best.metrics["test"]
    assert found[report.task.metrics[0].name] > 0.8
    written = json.loads((tmp_path / "report.json").read_text())["teacher"]
    assert written["folder"] == str(taught_folder(kind))
    assert written["teaching"]["temperature"] == 2.0


def test_the_teacher_is_not_saved(
    data: Path, small: Recipe, tokenizer: Tokenizer, run: Run, taught_folder, tmp_path: Path
) -> None:
    """Nor is the map between hidden states of other widths."""
    few = replace(small, finetuning=replace(small.finetuning, epochs=0.5))
    finetune(
        Start(few, tokenizer), Classification(), Files.find(data), tmp_path / "taught", seeds=(0,), run=run,
        teacher=guide(taught_folder("classes"), hidden=1.0),
    )  # fmt: skip
    finetune(Start(few, tokenizer), Classification(), Files.find(data), tmp_path / "plain", seeds=(0,), run=run)
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("taught", "plain"))
    assert {name: tensor.shape for name, tensor in one.items()} == {name: t.shape for name, t in other.items()}
    recipe = json.loads((tmp_path / "taught" / "model" / "recipe.json").read_text())
    assert [objective["kind"] for objective in recipe["objectives"]] == ["SequenceClassification"]


def test_answers_are_computed_once_and_results_depend_on_the_teacher(
    data: Path, small: Recipe, tokenizer: Tokenizer, run: Run, taught_folder, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked = []
    ask = teachers.outputs
    monkeypatch.setattr(teachers, "outputs", lambda *given, **more: asked.append(1) or ask(*given, **more))
    few = replace(small, finetuning=replace(small.finetuning, epochs=0.5))
    given = Start(few, tokenizer), Classification(), Files.find(data), tmp_path
    finetune(*given, seeds=(0, 1), run=run, teacher=guide(taught_folder("classes")))
    assert len(asked) == 1
    finetune(*given, seeds=(0, 1), run=run, teacher=guide(taught_folder("classes")))  # finished seeds need none
    assert len(asked) == 1
    for other in (None, guide(taught_folder("classes"), soft=0.6)):
        with pytest.raises(UsageError, match="holds results of other choices"):
            finetune(*given, seeds=(0,), run=run, teacher=other)
    changed = guide(taught_folder("classes"))
    next(changed.model.learner.parameters()).data.add_(0.1)
    with pytest.raises(UsageError, match="holds results of other choices"):
        finetune(*given, seeds=(0,), run=run, teacher=changed)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_losses_are_those_of_the_papers(
    temperature: float, data: Path, small: Recipe, tokenizer: Tokenizer, run: Run, taught_folder
) -> None:
    """Hinton et al. 2015, section 2, and Jiao et al. 2019, equation 8, written out row by row."""
    teacher = guide(taught_folder("classes"), temperature=temperature, soft=0.7, hard=0.2, hidden=0.1)
    task, rows = Classification(), read(data / "train.jsonl", Classification())[:8]
    objective = teacher.student_objective(task, rows, run).dropped(0.0)
    start = Start(small, tokenizer)
    recipe = start.fine_tuned(objective, small.finetuning, teacher.taught(objective, small, tokenizer))
    learner = start.build(recipe, 0)
    teacher.begin(learner)
    encoded = task.encode(tokenizer, rows, objective, 32)
    answers = teacher.answers(task, objective, rows, encoded, run)
    batch = Shuffled(encoded, 8, 0, recipe.objectives[1:], answers)[0]
    step = learner(batch)
    total = learner.objective(step.sums, learner.counts(batch)).item()

    soft, hard, hidden, tokens = [], [], [], 0
    theirs, fit = teacher.model, learner.heads[TAUGHT].fit
    chosen = (0, 2)  # of the embeddings and two layers of the teacher, those of a student of one layer
    with answering(learner), answering(theirs.learner):
        for row in rows:
            alone = task.encode(tokenizer, [row], objective, 32)
            one = Shuffled(alone, 1, 0)[0]
            own = learner.network(one, layers=True)
            taught = theirs.learner.network(one, layers=True)
            where = one.targets[objective.name].index
            logits, known = (
                model.heads[objective.name].classes(model.network.pool(states["tokens"][where]))[0].double().numpy()
                for model, states in ((learner, own), (theirs.learner, taught))
            )
            p = softmax(known / temperature)
            soft.append(temperature**2 * (p * (np.log(p) - log_softmax(logits / temperature))).sum())
            hard.append(-log_softmax(logits)[objective.classes.index(row.label)])
            for state, place in zip(own.layers, chosen, strict=True):
                difference = fit(state) - taught.layers[place]
                hidden += difference.square().mean(-1).tolist()
            tokens += one.tokens.tokens
    assert step.sums[TAUGHT].item() == pytest.approx(sum(soft), rel=FLOAT32)
    assert step.sums["sequence_classification"].item() == pytest.approx(sum(hard), rel=FLOAT32)
    expected = 0.7 * np.mean(soft) + 0.2 * np.mean(hard) + 0.1 * sum(hidden) / tokens
    assert total == pytest.approx(expected, rel=FLOAT32)


def test_soft_losses_of_values_and_of_several_labels() -> None:
    numbers = SequenceRegression(mean=3.0, std=2.0)
    own, taught = torch.tensor([[0.5], [-1.0]]), torch.tensor([[3.0], [5.0]])  # the teacher's in units of the labels
    assert numbers.soft_loss(own, taught, 2.0).tolist() == pytest.approx([0.25, 4.0])
    several = MultiLabelClassification(labels=("x", "y"))
    own, taught = torch.tensor([[0.3, -2.0]]), torch.tensor([[1.0, 0.5]])
    p, q = (1 / (1 + np.exp(-x.numpy().astype(float) / 2)) for x in (taught, own))
    expected = 4 * -(p * np.log(q) + (1 - p) * np.log(1 - q)).sum()
    assert several.soft_loss(own, taught, 2.0).tolist() == pytest.approx([expected], rel=FLOAT32)


def test_a_taught_student_is_read_like_any_other(
    data: Path, small: Recipe, tokenizer: Tokenizer, run: Run, taught_folder, tmp_path: Path
) -> None:
    """Classes in another order than the teacher's are its classes all the same."""
    teacher = guide(taught_folder("classes"))
    turned = replace(teacher.objective, labels=teacher.objective.classes[::-1])
    head = teacher.model.learner.heads[turned.name].classes
    with torch.no_grad():
        head.weight.copy_(head.weight.flip(0)), head.bias.copy_(head.bias.flip(0))
    recipe = replace(teacher.model.recipe, objectives=(turned,))
    other = Teacher(teacher.folder, replace(teacher.model, recipe=recipe), Teaching())
    finetune(Start(small, tokenizer), *files(data, "classes", "unlabeled-")[::-1], tmp_path, seeds=(0,), run=run,
             teacher=other)  # fmt: skip
    found = load(tmp_path / "model")
    assert score(found, Classification(), read(data / "test.jsonl", Classification()), run)[1]["accuracy"] > 0.8


def test_teachers_that_do_not_fit(
    data: Path, small: Recipe, tokenizer: Tokenizer, run: Run, taught_folder, tmp_path: Path,
    write_rows: Callable[..., list[dict]],
) -> None:  # fmt: skip
    start, out = Start(small, tokenizer), tmp_path / "out"

    def fails(teacher: Teacher, tables: Files, task: object, match: str, error: type[GenusError] = UsageError) -> None:
        with pytest.raises(error, match=match) as told:
            finetune(start, task, tables, out, seeds=(0,), run=run, teacher=teacher)
        assert "\n" not in str(told.value)
        assert not (out / "report.json").exists()

    classes, tables = guide(taught_folder("classes")), Files.find(data)
    fails(guide(taught_folder("numbers")), tables, Classification(), "was fine-tuned for sequence_regression, and not")
    write_rows(tmp_path / "other.jsonl", 20, 1, ("tools", "people"))
    fails(classes, Files(tmp_path / "other.jsonl"), Classification(), "does not know the label 'people'")
    plain = replace(classes.model, recipe=small)
    fails(Teacher(Path("plain"), plain, Teaching()), tables, Classification(), "was not fine-tuned")
    pairs = Classification(texts=("text", "text"))
    fails(classes, tables, pairs, "was fine-tuned on single texts, and not on pairs")
    fails(classes, Files(data / "unlabeled-train.jsonl"), Classification(), "its rows have no labels", GenusError)
    other = ByteBPE(vocab_size=300).train(WORDS)
    start = Start(replace(small, tokens=other.tokens), other)
    fails(guide(taught_folder("classes"), hidden=1.0), tables, Classification(), "another tokenizer than the student")
