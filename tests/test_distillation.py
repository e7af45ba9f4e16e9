"""A teacher trained seconds before teaches a student: from its folder, from its layers, and over an interruption."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from genus import catalog, pipeline
from genus.cli import main
from genus.errors import UsageError
from genus.export.folder import load, save
from genus.export.starting.distillation import TeacherFolder, spaced
from genus.model.skeleton import skeleton
from genus.objectives.pretraining.distillation import DistilledMaskedLM, DistilledMaskedLMHead, Teacher
from genus.objectives.pretraining.masked_lm import MaskedLM, MaskedLMHead
from genus.tokens.tokenizer import Tokenizer
from small import RUN, documents, losses, rows, shrunk

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Learner
    from genus.recipe import Recipe


def student(**changes: Any) -> Recipe:
    return shrunk(catalog.load("distilbert/mini")).overlay(changes)


@pytest.fixture(scope="module")
def teacher(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the model folder of a BERT of four layers."""
    folder = tmp_path_factory.mktemp("runs") / "bert"
    recipe = shrunk(catalog.load("bert/mini")).overlay({"model": {"layers": 4}, "budget": {"amount": 30.0}})
    pipeline.pretrain(recipe, [corpus], folder, RUN)
    return folder / "model"


@pytest.fixture(scope="module")
def taught(teacher: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run of a student of two layers."""
    folder = tmp_path_factory.mktemp("runs") / "distilbert"
    pipeline.pretrain(student(), [corpus], folder, RUN, teacher=teacher)
    return folder


def test_the_published_layers_of_the_teacher() -> None:
    """scripts/extract_distilbert.py of the released code."""
    assert spaced(6, 12) == [0, 2, 4, 7, 9, 11]
    assert spaced(2, 4) == [0, 3]
    assert spaced(1, 2) == [0]
    assert spaced(3, 1) == [0, 0, 0]
    assert spaced(0, 4) == spaced(4, 0) == []


def built(recipe: Recipe, folder: Path) -> tuple[TeacherFolder, Learner]:
    teaching = TeacherFolder(folder, load(folder))
    torch.manual_seed(5)
    return teaching, pipeline.new_learner(teaching.taught(recipe), teaching.model.tokenizer)[1]


def test_the_student_starts_from_the_teacher(teacher: Path) -> None:
    teaching, learner = built(student(), teacher)
    line = teaching.init_student(learner)
    assert line == "the student starts from layers 0, 3 of the teacher's, counted from 0"
    own, given = learner.state_dict(), teaching.model.learner.state_dict()
    for name, tensor in own.items():
        assert torch.equal(tensor, given[name.replace("layers.1.", "layers.3.")]), name
    assert given.keys() - own.keys() > {"network.embed.segments.weight", "network.pooler.0.weight"}
    with torch.no_grad():
        next(learner.parameters()).zero_()
    assert given["network.embed.tokens.weight"].any(), "a copy, not the teacher's own"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({"hidden": 16}, r"network\.embed\.tokens\.weight is \(\d+, 16\), the teacher's \(\d+, 32\)"),
        ({"stack": "CrossLayerSharing"}, r"starts from layers 0 of"),
        ({"feedforward": {"size": 48}}, r"layers\.0\.feedforward\.inner\.weight is \(48, 32\), .*'s \(64, 32\)"),
    ],
)
def test_a_student_of_other_shapes_starts_fresh_and_says_so(teacher: Path, model: Any, reason: str) -> None:
    recipe = student(model=model, objectives={"0": {"hidden_cosine": 0.0}})
    teaching, learner = built(recipe, teacher)
    before = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    line = teaching.init_student(learner)
    assert re.search(reason, line), line
    same = all(torch.equal(before[name], tensor) for name, tensor in learner.state_dict().items())
    assert same == ("fresh weights" in line)


def test_a_run_learns_and_records_its_teacher(taught: Path, teacher: Path) -> None:
    recorded = rows(taught)
    cosines = [row["hidden_cosine"] for row in recorded if "hidden_cosine" in row]
    assert cosines[-1] < 0.5 * cosines[0]
    recipe = catalog.load(taught)
    (objective,) = recipe.objectives
    assert isinstance(objective, DistilledMaskedLM)
    assert objective.teacher == Teacher(model=load(teacher).recipe.model)
    assert recipe.tokens == load(teacher).recipe.tokens
    assert json.loads((taught / "teacher.json").read_text())["folder"] == str(teacher)
    assert {"held_out/masked_lm/perplexity", "held_out/distilled", "held_out/hidden_cosine"} <= recorded[-1].keys()


def test_no_checkpoint_and_no_folder_holds_the_teacher(taught: Path) -> None:
    with skeleton():
        plain = catalog.load(taught).exported.learner()
    checkpoint = load_file(taught / "checkpoints" / "checkpoint-10" / "model.safetensors")
    assert checkpoint.keys() == plain.tensors().keys()
    model = load(taught / "model")
    assert model.recipe == catalog.load(taught)
    assert type(model.learner.heads["masked_lm"]) is MaskedLMHead
    assert json.loads((taught / "model" / "config.json").read_text())["architectures"] == ["DistilBertForMaskedLM"]
    assert all(torch.equal(checkpoint[name], tensor) for name, tensor in model.learner.tensors().items())


def test_a_stopped_run_resumes_as_if_it_never_stopped(taught: Path, corpus: Path, tmp_path: Path) -> None:
    """The teacher is found where it was."""
    shutil.copytree(taught, tmp_path / "run")
    for step in (8, 10):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / f"checkpoint-{step}")
    pipeline.pretrain(student(), [corpus], tmp_path / "run", RUN, resume=True)
    assert losses(tmp_path / "run") == losses(taught)
    before, after = (load(run / "model").learner.state_dict() for run in (taught, tmp_path / "run"))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_run_goes_on_with_its_teacher_only(taught: Path, teacher: Path, corpus: Path, tmp_path: Path) -> None:
    other = load(teacher)
    with torch.no_grad():
        other.learner.network.token_embedding.weight[7, 3] += 1e-3
    save(tmp_path / "other", other.recipe, other.learner, other.tokenizer)
    with pytest.raises(UsageError, match=r"is not the teacher that .* began with"):
        pipeline.pretrain(student(), [corpus], taught, RUN, teacher=tmp_path / "other", resume=True)
    shutil.copytree(teacher, tmp_path / "moved")
    summary = pipeline.pretrain(student(), [corpus], taught, RUN, teacher=tmp_path / "moved", resume=True)
    assert summary.progress.step == 10


def test_another_tokenizer_is_refused(teacher: Path, corpus: Path, tmp_path: Path) -> None:
    fewer = shrunk(catalog.load("bert")).override("tokens.vocab_size", 150)
    fewer.tokens.train(documents()).save(tmp_path / "fewer")
    with pytest.raises(UsageError, match=r"tokenizer is another than that of .*fewer \("):
        pipeline.pretrain(student(), [corpus], tmp_path / "run", RUN, teacher=teacher, words=tmp_path / "fewer")
    shutil.copytree(teacher, tmp_path / "swapped")
    file = tmp_path / "swapped" / "tokenizer.json"
    table = json.loads(file.read_text())
    pieces = {number: piece for piece, number in table["model"]["vocab"].items()}
    table["model"]["vocab"] |= {pieces[20]: 21, pieces[21]: 20}
    file.write_text(json.dumps(table))
    with pytest.raises(UsageError, match=rf"\(piece 20 is '{pieces[20]}', not '{pieces[21]}'\)"):
        pipeline.pretrain(student(), [corpus], tmp_path / "run", RUN, teacher=teacher, words=tmp_path / "swapped")
    assert not (tmp_path / "run" / "teacher.json").exists()


def test_a_teacher_of_shorter_sequences_or_without_a_head_is_refused(
    teacher: Path, corpus: Path, tmp_path: Path
) -> None:
    longer = student(model={"embedding": {"position": {"length": 128}}}, stages={"0": {"max_length": 128}})
    with pytest.raises(UsageError, match="max_length 128 is past the 64 positions of the teacher"):
        pipeline.pretrain(longer, [corpus], tmp_path / "run", RUN, teacher=teacher)
    bare = load(teacher)
    del bare.learner.heads["masked_lm"]
    save(tmp_path / "bare", bare.recipe, bare.learner, bare.tokenizer)
    with pytest.raises(UsageError, match="the teacher has no masked-language-model head"):
        pipeline.pretrain(student(), [corpus], tmp_path / "run", RUN, teacher=tmp_path / "bare")


@pytest.mark.parametrize("name", ["albert/tiny", "roberta/tiny", "distilbert/tiny"])
def test_any_masked_language_model_teaches_any_architecture(name: str, corpus: Path, tmp_path: Path) -> None:
    """Folders of other members, with their own tokenizers, heads and layers; here the student is a RoBERTa."""
    recipe = shrunk(catalog.load(name))
    tokenizer = recipe.tokens.train(documents())
    recipe, learner = pipeline.new_learner(replace(recipe, objectives=recipe.exported.objectives), tokenizer)
    save(tmp_path / "teacher", recipe, learner, tokenizer)
    other = shrunk(catalog.load("roberta/tiny")).overlay({"objectives": [{"kind": "DistilledMaskedLM"}]})
    pipeline.pretrain(other, [corpus], tmp_path / "run", RUN, teacher=tmp_path / "teacher")
    (objective,) = catalog.load(tmp_path / "run").objectives
    assert isinstance(objective, DistilledMaskedLM)
    (masked,) = (one for one in recipe.objectives if isinstance(one, MaskedLM))
    assert objective.teacher == Teacher(model=recipe.model, output=masked.output)
    assert Tokenizer.load(tmp_path / "run" / "tokenizer").pieces == tokenizer.pieces


def test_a_student_goes_on_from_a_folder_of_its_own(
    taught: Path, teacher: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --start, the weights are those of that folder and not the teacher's."""
    pipeline.pretrain(student(), [corpus], tmp_path / "run", RUN, teacher=teacher, start=taught / "model")
    assert "the student starts from layers" not in capsys.readouterr().err
    assert losses(tmp_path / "run")[0] < losses(taught)[5]


def test_the_command_line(corpus: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A teacher by its run's folder; then the student is measured and completes words."""
    small = ["--set", "stages=[{max_length=32, batch=8, micro_batch=4}]", "--set", "budget.amount=4"]
    small += ["--set", "model.layers=2", "--set", "model.hidden=32", "--set", "model.attention.heads=2"]
    small += ["--set", "model.feedforward.size=64", "--set", "model.embedding.position.length=64"]
    running = ["--run", "device=cpu", "--run", "workers=0", "--run", "held_out=0.1", "--run", "tracker=none"]
    out = tmp_path / "run"
    call = ["pretrain", "distilbert/mini", str(corpus), "--out", str(out), *small, *running]
    assert main(call) == 2
    assert "distilbert/mini learns from a trained model: say which with --teacher MODEL" in capsys.readouterr().err
    assert not out.exists()
    assert main([*call, "--teacher", str(teacher.parent)]) == 0
    told = capsys.readouterr()
    assert "the student starts from layers 0, 3 of the teacher's" in told.err
    assert "hidden_cosine" in told.out
    assert main(["evaluate", str(out), str(corpus), *running[:4], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["masked_lm/perplexity"] > 1
    assert main(["fill", str(out), "the old ___ carries seven stones"]) == 0
    capsys.readouterr()
    assert main(["pretrain", "bert/mini", str(corpus), "--out", str(tmp_path / "b"), "--teacher", str(teacher)]) == 2
    assert "--teacher: bert/mini learns from none" in capsys.readouterr().err


@pytest.mark.slow
def test_transformers_reads_the_student(taught: Path, tmp_path: Path) -> None:
    """`genus export` refuses what transformers makes other logits of."""
    assert main(["export", str(taught), "--out", str(tmp_path / "exported")]) == 0


def test_a_task_needs_no_teacher(taught: Path) -> None:
    """What is fine-tuned has the classifier of Hugging Face's class, and no teacher."""
    from genus.objectives.supervised.sequence import SequenceClassification
    from genus.tasks.start import Start

    source = load(taught / "model")
    start = Start(source.recipe, source.tokenizer, source.learner)
    recipe = start.fine_tuned(SequenceClassification(labels=("a", "b")), source.recipe.finetuning)
    learner = start.build(recipe, 0)
    assert not any(isinstance(head, DistilledMaskedLMHead) for head in learner.heads.values())
    save(taught.parent / "tuned", recipe, learner, source.tokenizer)
    config = json.loads((taught.parent / "tuned" / "config.json").read_text())
    assert config["architectures"] == ["DistilBertForSequenceClassification"]
