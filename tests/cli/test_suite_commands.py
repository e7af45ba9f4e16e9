"""All of GLUE by one command: what a folder holds is learned, what is missing is named; sweeps; what papers report."""

from __future__ import annotations

import json
import random
import statistics
from typing import TYPE_CHECKING

import pytest
from small_run import WORDS, document

from genus.cli import main
from genus.evaluate.interval import interval
from genus.export.folder import load

if TYPE_CHECKING:
    from pathlib import Path

    from small_run import Place

    Captured = pytest.CaptureFixture[str]

QUICK = ["--run", "device=cpu", "--run", "workers=0", "--set", "finetuning.epochs=2", "--set", "finetuning.batch=8"]
QUICK += ["--set", "finetuning.max_length=32"]


def drawn(number: int, seed: int) -> list[tuple[str, str, int]]:
    """Return pairs of texts, and whether both are of one kind."""
    draw, found = random.Random(seed), []
    for _ in range(number):
        kinds = [draw.choice(sorted(WORDS)) for _ in range(2)]
        one, other = (" ".join(draw.choices(WORDS[kind], k=4)) for kind in kinds)
        found.append((one, other, int(kinds[0] == kinds[1])))
    return found


def table(path: Path, header: list[str], cells: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tsv":
        path.write_text("".join("\t".join(map(str, row)) + "\n" for row in [header, *cells]))
    else:
        path.write_text("".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in cells))


@pytest.fixture(scope="module")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six of the nine tasks: of the hub's columns, of GLUE's own, MNLI with two validation tables, one untrained."""
    folder = tmp_path_factory.mktemp("glue")
    splits = [("train", 40, 0), ("validation", 20, 1)]
    for split, number, seed in splits:
        pairs = drawn(number, seed)
        table(
            folder / "SST-2" / f"{split}.jsonl",
            ["sentence", "label"],
            [[a, int(a.split()[0] in WORDS["sea"])] for a, _, _ in pairs],
        )
        table(folder / "rte" / f"{split}.jsonl", ["sentence1", "sentence2", "label"], [[*pair] for pair in pairs])
        own = ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
        table(folder / "MRPC" / f"{split}.tsv", own, [[same, 1, 2, f'"{a}', b] for a, b, same in pairs])
        own = ["index", "sentence1", "sentence2", "score"]
        table(folder / "STS-B" / f"{split}.tsv", own, [[i, a, b, 5.0 * x] for i, (a, b, x) in enumerate(pairs)])
    names = ["entailment", "neutral", "contradiction"]
    for name, number, seed in [("train", 24, 0), ("dev_matched", 12, 1), ("dev_mismatched", 9, 2)]:
        cells = [[a, b, names[i % 3]] for i, (a, b, _) in enumerate(drawn(number, seed))]
        table(folder / "MNLI" / f"{name}.tsv", ["sentence1", "sentence2", "gold_label"], cells)
    table(folder / "qnli" / "validation.jsonl", ["question", "sentence", "label"], [["a", "b", 0]])
    return folder


def test_glue_is_one_command_which_goes_on_and_names_what_is_missing(
    capsys: Captured, place: Place, glue: Path, tmp_path: Path
) -> None:
    command = ["finetune", place.run, glue, "--out", tmp_path / "out", "--task", "glue", "--seeds", "2", *QUICK]
    found = document(capsys, *command)
    assert [*found["tasks"]] == ["sst2", "mrpc", "stsb", "mnli", "rte"]
    assert sorted(found["missing"]) == ["cola", "qnli", "qqp", "wnli"]
    assert "no training table" in found["missing"]["qnli"]
    firsts = []
    for name, metric in (("sst2", "accuracy"), ("mrpc", "f1"), ("stsb", "spearman"), ("mnli", "accuracy")):
        single = json.loads((tmp_path / "out" / name / "report.json").read_text())
        each = [seed["metrics"]["validation"][metric] for seed in single["seeds"]]
        told = found["tasks"][name]["validation"][metric]
        assert told["each"] == [value for value in each if value is not None]
        if each[0] is not None:
            assert (told["median"], told["mean"]) == (statistics.median(each), interval(each).mean)
        firsts.append(each)
    assert found["tasks"]["mnli"]["test"]["accuracy"]["each"]  # the mismatched rows
    assert single["data"]["test"]["rows"] == 9
    # stopped between two tasks: what is done stays, bit for bit, and the rest is made again
    before = (tmp_path / "out" / "sst2" / "seed-1" / "result.json").read_bytes()
    for path in sorted((tmp_path / "out" / "rte").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert document(capsys, *command) == found
    assert (tmp_path / "out" / "sst2" / "seed-1" / "result.json").read_bytes() == before
    assert main([*map(str, command)]) == 0
    shown = capsys.readouterr().out
    assert "missing: qnli" in shown
    assert "BERT base" in shown
    assert "84.6/83.4" in shown


def test_small_tasks_start_from_mnli(capsys: Captured, place: Place, glue: Path, tmp_path: Path) -> None:
    command = ["finetune", place.run, glue, "--task", "glue", "--seeds", "1", *QUICK, "--set", "finetuning.epochs=0.1"]
    slow = ["--set", "finetuning.optimizer.lr=1e-12", "--from-mnli"]
    document(capsys, *command, *slow, "--out", tmp_path / "helped")
    states = {name: load(tmp_path / "helped" / name / "model").learner.state_dict() for name in ("mnli", "rte", "sst2")}
    name = "network.embed.tokens.weight"
    pretrained = load(place.run / "model").learner.state_dict()[name]
    # one update of 1e-12 leaves the weights that they started from
    assert (states["rte"][name] - states["mnli"][name]).abs().max() < 1e-9
    assert (states["sst2"][name] - pretrained).abs().max() < 1e-9


def test_a_sweep_takes_the_best_in_validation(capsys: Captured, place: Place, glue: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ["--sweep", "finetuning.optimizer.lr=1e-30,1e-2", "--sweep", "finetuning.epochs=1,12"]
    found = document(
        capsys, "finetune", place.run, glue / "SST-2", "--out", out, "--task", "sst2", "--seeds", "1", *QUICK, *asked
    )
    swept = json.loads((out / "sweep" / "sweep.json").read_text())
    assert len(swept["validation"]) == 4
    best = max(one["accuracy"] for one in swept["validation"].values())
    assert swept["validation"][swept["best"]]["accuracy"] == best
    assert "lr=1e-2" in swept["best"]
    assert found["settings"]["optimizer"]["lr"] == 1e-2
    assert found["summary"]["validation"]["accuracy"]["mean"] == best
    assert not list((out / "sweep").rglob("*.safetensors"))
    assert (out / "model" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["--task", "glue", "--label", "x"],
            "columns, metrics, tables, passes, few labels, teachers and noise are of one task",
        ),
        (["--task", "sst2", "--from-mnli"], "--from-mnli: only with --task glue"),
        (
            ["--task", "glue", "--sweep", "robert"],
            "paper's grid: bert, bert-miniatures, roberta. Did you mean 'roberta'",
        ),
        (["--task", "glue", "--sweep", "finetuning.batch="], "expected finetuning.NAME=a,b,c"),
        (["--task", "glue", "--sweep", "model.layers=1,2"], "expected finetuning.NAME=a,b,c"),
        (["--task", "glue", "--sweep", "finetuning.batch=8,x"], "finetuning.batch"),
    ],
)
def test_wrong_calls_are_one_line(
    capsys: Captured, place: Place, glue: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    assert main(["finetune", str(place.run), str(glue), "--out", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert error.count("genus: error:") == 1
    assert says in error


def test_a_folder_without_tasks_is_refused(capsys: Captured, place: Place, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none", place.folder / "text.jsonl"):
        call = ["finetune", str(place.run), str(folder), "--out", str(tmp_path / "out"), "--task", "glue"]
        assert main(call) == 2
        assert "genus: error: " in capsys.readouterr().err


def test_races_passages_are_rows_of_questions(capsys: Captured, place: Place, tmp_path: Path) -> None:
    passages = [
        {
            "article": " ".join(WORDS["sea"][:3]),
            "questions": ["which _ ?", "what _ ?"],
            "options": [["wave", "oven"], ["soup", "tide", "bread"]],
            "answers": ["A", "B"],
        }
        for _ in range(6)
    ]
    for name in ("train", "validation"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in passages))
    found = document(
        capsys, "finetune", place.run, tmp_path, "--out", tmp_path / "out", "--task", "race-passages", "--seeds", "1",
        *QUICK,
    )  # fmt: skip
    assert found["data"]["train"]["rows"] == 12
    assert found["settings"]["max_length"] == 32
    answers = [json.loads(line) for line in (tmp_path / "out" / "seed-0" / "validation.jsonl").read_text().splitlines()]
    assert [one["true"] if "true" in one else one["label"] for one in answers[:2]] in ([0, 1], ["0", "1"])
    passages[0]["answers"] = ["A"]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(one) + "\n" for one in passages))
    call = ["finetune", place.run, tmp_path, "--out", tmp_path / "again", "--task", "race-passages", *QUICK]
    assert main([*map(str, call)]) == 1
    assert "line 1: column 'answers' holds no list of 2, one for each question" in capsys.readouterr().err
