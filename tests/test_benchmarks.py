"""The studies that others can rerun do run, what one has finished serves the other; and crossovers."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from types import ModuleType

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
TASKS = {"parts-of-speech", "chunks", "names"}


def study(script: str, results: Path, *options: str | Path) -> dict[str, Any]:
    """Run a study in the smallest size and return what it writes."""
    small = ("--size", "tiny", "--tokens", "3000", "--results", results)
    done = subprocess.run(
        [sys.executable, BENCHMARKS / script, *small, *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(next(results.parent.rglob("*.json")).read_text(encoding="utf-8"))
    return found


def test_every_script_can_be_imported() -> None:
    """A name that one script takes from another is there: most run for hours, and no test does."""
    scripts = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import {', '.join(scripts)}"],
        cwd=BENCHMARKS, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_distillation_and_the_report_of_a_family_that_is_not_begun(shared: Path, tmp_path: Path) -> None:
    where = ("--data", shared / "data", "--out", tmp_path / "runs", "--jobs", "1", "--rows", "40")
    kept = study("distillation.py", tmp_path / "kept" / "kept.json", *where, "--rounds", "1")["contenders"]
    assert list(kept) == ["bert", "distilbert", "distilbert-without-teacher"]
    teacher, student, alone = kept.values()
    assert teacher["kept"] == teacher["size"] == 1
    assert student["parameters"] == alone["parameters"] < teacher["parameters"]
    for row in kept.values():
        assert row["scores"].keys() == TASKS
        assert all(len(found["pretrainings"]) == 2 for found in row["scores"].values())

    table = study("family.py", tmp_path / "table" / "here", *where, "--members", "xlnet", "--report")
    assert [row["name"] for row in table["rows"]] == ["bert", "xlnet"]
    assert {one["name"] for one in table["measured"]} == {"held-out-bits", "minimal-pairs", *(f"fine-tuning {task}" for task in TASKS)}  # noqa: E501
    assert len(table["missing"]) == 2 * 2 * 2
    page = (tmp_path / "table" / "here" / "report.md").read_text(encoding="utf-8")
    assert "| xlnet |" in page


@pytest.mark.slow
def test_a_few_faults_of_each_kind_are_borne(tmp_path: Path) -> None:
    """A second call makes nothing again but counts it, and `--again` what was wrong."""
    results, kinds = tmp_path / "faults.json", ("kills", "disk", "sizes", "damage", "values", "tables")
    few = [word for kind in kinds for word in (f"--{kind}", "2")]
    command = [sys.executable, BENCHMARKS / "faults.py", *few, "--work", tmp_path / "work", "--results", results]
    for printed, again in ((12, ()), (0, ()), (1, ("--again",)), (0, ("--again",))):
        done = subprocess.run([*command, *again], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == printed
        found = json.loads(results.read_text(encoding="utf-8"))
        assert found["trials"] == dict.fromkeys(kinds, 2)
        assert found["faults"] == []
        assert found["mended"] == ({"tables": 1} if again else {})
        if not printed and not again:
            with (tmp_path / "work" / "trials.jsonl").open("a") as log:
                log.write(
                    json.dumps({"kind": "tables", "number": 1, "real": False, "trial": "", "fault": "made up"}) + "\n"
                )


@pytest.mark.slow
def test_thai_in_pieces_and_words_and_again_from_the_results_alone(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("pythainlp")
    results = tmp_path / "kept" / "thai.json"
    where = ("--data", shared / "data", "--jobs", "1", "--pretraining-text", "200000", "--vocabulary-text", "100000")
    where = (*where, "--fine-tuning-text", "3000")
    found = study("thai.py", results, *where, "--out", tmp_path / "runs")
    kinds = [f"{kind} {start}" for kind in ("pieces", "words") for start in ("tokens", "random")]
    assert {name.rsplit(" ", 1)[0] for name in found["runs"]} == {*kinds}
    assert not found["missing"]
    for told in found["compared"].values():
        assert {start: score["runs"] for start, score in told["scores"].items()} == dict(
            zip(kinds, (2, 6, 1, 3), strict=True)
        )
        for name, difference in told["differences"].items():
            ours, theirs = (told["scores"].get(start, {"mean": told["constant"]}) for start in name.split(" - "))
            if not name.startswith("words tokens - pieces"):  # of which there is one more
                assert difference["over_rows"]["mean"] == pytest.approx(ours["mean"] - theirs["mean"])
    again = study("thai.py", results, *where, "--out", tmp_path / "elsewhere", "--report")
    assert again["compared"] == found["compared"]


@pytest.mark.slow
def test_small_models_and_again_from_the_runs_that_are_there(corpus: Path, tmp_path: Path) -> None:
    results, names = tmp_path / "kept.json", ["genus", "learned positions", "Lion"]
    command = [sys.executable, BENCHMARKS / "small_models.py", "--size", "tiny", "--tokens", "3000", "--text", corpus]
    command += ["--out", tmp_path / "runs", "--results", results, "--contenders", *names]
    found = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(results.read_text(encoding="utf-8"))["contenders"])
    assert found[0] == found[1]
    assert list(found[0]) == names
    assert len({row["recipe"] for row in found[0].values()}) == len(names)
    assert all(row["tokens"] >= 3000 and 0 <= row["accuracy"] <= 1 for row in found[0].values())


@pytest.mark.slow
def test_our_rows_beside_the_trainer_and_again_from_the_runs_that_are_there(
    shared: Path, corpus: Path, tmp_path: Path
) -> None:
    """A second each, of the smallest rows; the class's folder is measured and fine-tuned as ours are."""
    pytest.importorskip("accelerate")
    results = tmp_path / "kept.json"
    command = [sys.executable, BENCHMARKS / "trainer.py", "--data", shared / "data", "--text", corpus]
    command += ["--size", "tiny", "--seconds", "1", "--labels", "32", "--out", tmp_path / "runs", "--results", results]
    found = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(results.read_text(encoding="utf-8"))["contenders"])
    assert found[0] == found[1]
    pretrained = {name: row["pretraining"] for name, row in found[0].items() if row["pretraining"]}
    assert len(pretrained) == 4
    assert len(found[0]) == 6
    for row in pretrained.values():
        assert row["seconds"] >= 1
        assert row["tokens"] >= row["steps"] > 0
        assert 0 <= row["accuracy"] <= 1
        assert row["bits_per_byte"] > 0
    defaults, ours = (row["arguments"] for row in pretrained.values() if "arguments" in row)
    assert (defaults["learning_rate"], defaults["per_device_train_batch_size"], defaults["warmup_steps"]) == (
        5e-5,
        8,
        0,
    )
    assert (ours["learning_rate"], ours["per_device_train_batch_size"], ours["warmup_steps"]) == (1e-3, 32, 0.1)
    assert all(len(row["ag_news"]["accuracy"]) == 3 for row in found[0].values())


@pytest.mark.slow
def test_translations_of_both_sides_are_scored_and_not_made_twice(shared: Path, tmp_path: Path) -> None:
    results = tmp_path / "translation.json"
    command: list[str | Path] = [sys.executable, BENCHMARKS / "translation.py", "--data", shared / "data"]
    command += ["--size", "tiny", "--pieces", "500", "--seconds", "3", "--limit", "4", "--checkpoint-every", "1"]
    command += ["--out", tmp_path / "runs", "--results", results]
    found = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(results.read_text(encoding="utf-8"))["contenders"])
    assert found[0] == found[1]
    assert len(found[0]) == 4
    for row in found[0].values():
        assert row["training"]["tokens"] >= row["training"]["steps"] > 0
        assert 0 <= row["test_2016"]["bleu"] <= 100
        assert "tok:13a" in row["test_2016"]["signature"]
        assert row["test_2016"]["sentences"] == len(row["test_2016"]["shown"]) == 4


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_the_tutorials_network_reads_packed_pairs_as_each_alone() -> None:
    """Padded for the time of the forward pass, so that one engine translates by it."""
    from genus.batch import Batch, Packed
    from genus.recipes import transformer

    peer = module("translation_peer")
    small = {"layers": 1, "hidden": 16}
    recipe = transformer.TINY.overlay({"model": {"encoder": small, "decoder": small}})
    network = peer.learner(recipe, 40).network.eval()
    ids = {"source": torch.randint(1, 40, (12,)), "tokens": torch.randint(1, 40, (14,))}
    lengths = {"source": [[3, 2], [6]], "tokens": [[1, 5], [4]]}
    rows = {"source": 6, "tokens": 7}
    whole = Batch({name: Packed.laid(ids[name], lengths[name], rows[name]) for name in ids}, {})
    with torch.no_grad():
        together = network(whole)["tokens"]
        spans = {name: packed.spans() for name, packed in whole.streams.items()}
        for (a, b), (c, d) in zip(spans["source"], spans["tokens"], strict=True):
            one = {"source": ids["source"][a:b], "tokens": ids["tokens"][c:d]}
            alone = network(
                Batch({name: Packed.laid(one[name], [[len(one[name])]], len(one[name])) for name in one}, {})
            )
            torch.testing.assert_close(together[c:d], alone["tokens"], rtol=1e-4, atol=1e-5)


LENGTHS = [512, 1024, 2048, 4096, 8192, 16_384]


def module(name: str) -> ModuleType:
    """Return a script as a module."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found  # where its dataclasses look for the names in their annotations
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def long() -> ModuleType:
    """The script that finds crossovers, as a module."""
    return module("long")


@pytest.mark.parametrize(
    ("ratios", "length"),
    [
        ([-1.0] * 6, 512),  # below from the first length on
        ([1.0] * 6, None),
        ([-1.0] * 5 + [0.0], None),  # as much at the end is not below
        ([3.0, 1.0, -1.0, -2.0, -3.0, -4.0], 1448),  # midway on a logarithmic axis, 1,024 times the root of 2
        ([1.0, -1.0, 3.0, -1.0, -1.0, -1.0], 3444),  # the last of three, 2,048 x 2^(3/4)
        ([1.0, 1.0, 0.0, -1.0, -1.0, -1.0], 2048),
    ],
)
def test_below_for_good(long: ModuleType, ratios: list[float], length: int | None) -> None:
    assert long.below(LENGTHS, ratios) == length


def test_a_crossover_is_where_the_lines_meet(long: ModuleType) -> None:
    """L^2 nanoseconds and 3,000 L meet at 3,000 tokens, unless full attention is measured up to 2,048 only."""
    full = [long.Measured("full", n, n * n * 1e-9, 8 * n * n) for n in LENGTHS]
    other = [long.Measured("other", n, 3e-6 * n, round(n * math.log2(n))) for n in LENGTHS]
    assert long.crossover(full, other) == long.Crossover("other", "full", faster=3000, smaller=512)
    assert long.crossover(other, full) == long.Crossover("full", "other", faster=None, smaller=None)
    assert long.crossover(full[:3], other).faster is None
