"""What is found in a text and in a run: each fault alone is told, with one thing to try, and no other."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from safetensors.torch import load_file, save_file

from genus import catalog, pipeline
from genus.cli import main
from genus.doctor import Finding, entropy, examine_run, examine_text
from genus.errors import GenusError
from genus.recipe import Recipe
from genus.run_folder import RunFolder
from genus.text import Corpus
from genus.tokens.store import Store
from small import RUN, documents, shrunk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SENTENCES = "The old river {} answers the long letter. Every teacher {} builds a narrow bridge in winter. "
GREEK = "\N{GREEK SMALL LETTER ALPHA WITH TONOS}\N{GREEK SMALL LETTER BETA}\N{GREEK SMALL LETTER PI} " * 5


def text(number: int) -> str:
    """Return a document of plain English, of its own."""
    return SENTENCES.format(number, number + 1) * (3 + number % 5)


def troubles(findings: list[Finding]) -> set[str]:
    """Return the names of what comes with advice, but for the size, as all texts here are small."""
    return {finding.what for finding in findings if finding.advice} - {"size"}


def examined(tmp_path: Path, made: list[str]) -> list[Finding]:
    """Return the findings in a file of documents."""
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": one}) + "\n" for one in made), encoding="utf-8")
    return examine_text(Corpus([str(path)]))


def test_nothing_is_wrong_with_plain_text(tmp_path: Path) -> None:
    assert troubles(examined(tmp_path, [text(number) for number in range(60)])) == set()


@pytest.mark.parametrize(
    ("made", "what"),
    [
        ([text(number % 30) for number in range(60)], "duplicates"),
        ([f"The old river answers letter {number} of all of them." for number in range(60)], "single sentences"),
        ([f"{text(number)} {'abcdefghij' * 90}" for number in range(60)], "unspaced text"),
        ([text(number) if number % 9 else " " for number in range(60)], "empty"),
        ([f"{GREEK} {number}. {GREEK}." * 3 for number in range(60)], "script"),
        ([text(number).replace("e", "é") for number in range(60)], "marks"),
        ([f"It is. So {number}." for number in range(60)], "lengths"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_fault_of_a_text_is_told(tmp_path: Path, made: list[str], what: str) -> None:
    found = examined(tmp_path, made)
    assert what in troubles(found)
    assert troubles(found) <= {what, "marks"}  # Greek has accents


def test_bytes_of_another_encoding_are_told(tmp_path: Path) -> None:
    made = "\n\n".join(text(number) for number in range(60)).replace("river", "riv\u00e9r")
    (tmp_path / "text.txt").write_text(made, encoding="latin-1")
    found = examine_text(Corpus([str(tmp_path / "text.txt")]))
    assert troubles(found) == {"encoding"}
    (line,) = (finding.found for finding in found if finding.what == "encoding")
    assert line == f"{made.count(chr(0xE9)):,} characters are no UTF-8"


def test_the_size_is_counted(tmp_path: Path) -> None:
    made = [text(number) for number in range(7)]
    (size,) = (finding for finding in examined(tmp_path, made) if finding.what == "size")
    assert size.found.startswith("7 documents")
    assert size.advice
    with pytest.raises(GenusError, match="empty"):
        examined(tmp_path, [" "])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned nothing yet: ten updates at a rate of next to nothing."""
    folder = tmp_path_factory.mktemp("doctor")
    (folder / "text.txt").write_text("\n\n".join(documents(60)), encoding="utf-8")
    recipe = shrunk(catalog.load("bert"))
    recipe = replace(recipe, optimizer=replace(recipe.optimizer, lr=1e-9))
    pipeline.pretrain(recipe, [folder / "text.txt"], folder / "run", RUN)
    return folder / "run"


def test_a_run_on_the_plateau(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A loss at or above that of the frequencies of single tokens is told, on the command line too."""
    assert "loss" in troubles(examine_run(run))
    assert main(["doctor", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["what"] == "progress"
    assert main(["doctor", str(run)]) == 0
    assert "try: " in capsys.readouterr().out


def test_a_run_that_learned(run: Path, tmp_path: Path) -> None:
    """The same run with losses well below: nothing is said of the loss, but of held-out text that does not follow."""
    for name in ("recipe.json", "store"):
        (tmp_path / name).symlink_to(run / name)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row |= {name: 0.5 for name in row if name == "masked_lm"} | ({"epochs": 9.0} if "epochs" in row else {})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {"loss", "held-out loss"} & troubles(examine_run(tmp_path)) == {"held-out loss"}


def healthy(run: Path, folder: Path) -> list[dict[str, float]]:
    """Link a run into a folder, and return rows of one that learns well, the last of them of held-out text."""
    for name in ("recipe.json", "store", "model"):
        (folder / name).symlink_to(run / name)
    stage = RunFolder(run).choices(Recipe).stages[0]
    tokens = round(0.95 * stage.batch * stage.max_length)
    rates = {"tokens_per_second": 1000.0, "utilization": 0.4, "gradient_norm": 0.5}
    losses = {"loss": 1.0, "masked_lm": 1.0, "next_sentence": 0.3}
    rows = [{"step": n, "stage": 0, "tokens": n * tokens, "epochs": 0.1 * n, **losses, **rates} for n in range(1, 31)]
    return [*rows, {"step": 30, "held_out/masked_lm": 1.1}]


def examined_run(folder: Path, rows: list[dict[str, float]]) -> list[Finding]:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return examine_run(folder)


FAULTS: dict[str, tuple[str, Callable[[dict[str, float]], dict[str, float]]]] = {
    "half-empty rows": ("rows", lambda row: {"tokens": row["tokens"] // 2}),
    "a busy machine": ("speed", lambda row: {"utilization": 0.05}),
    "all updates clipped": ("gradients", lambda row: {"gradient_norm": 9.0}),
    "a jump of the gradient": ("gradients", lambda row: {"gradient_norm": 0.9 if row["step"] == 25 else 0.01}),
    "a loss on the plateau": ("loss", lambda row: {"masked_lm": 9.0}),
    "text that is learned by heart": ("held-out loss", lambda row: {"masked_lm": 0.2}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_a_run_is_told(run: Path, tmp_path: Path, fault: str) -> None:
    what, change = FAULTS[fault]
    rows = healthy(run, tmp_path)
    assert troubles(examined_run(tmp_path, rows)) == set()
    assert troubles(examined_run(tmp_path, [row | change(row) if "loss" in row else row for row in rows])) == {what}


def test_a_gap_to_held_out_text_after_one_reading_is_none_of_repetition(run: Path, tmp_path: Path) -> None:
    rows = healthy(run, tmp_path)
    once = [row | {"masked_lm": 0.2, "epochs": 0.9} if "loss" in row else row for row in rows]
    assert troubles(examined_run(tmp_path, once)) == set()


@pytest.mark.parametrize("number", [1e4, math.inf, -math.inf, math.nan])
def test_weights_that_are_too_large_are_told(run: Path, tmp_path: Path, number: float) -> None:
    rows = healthy(run, tmp_path)
    (tmp_path / "model").unlink()
    shutil.copytree(run / "model", tmp_path / "model")
    tensors = load_file(run / "model" / "model.safetensors")
    name = sorted(tensors)[3]
    tensors[name].view(-1)[0] = number
    save_file(tensors, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    found = examined_run(tmp_path, rows)
    assert troubles(found) == {"weights"}
    assert next(finding.found for finding in found if finding.what == "weights").endswith(f"in {name}")


def test_what_a_store_tells_of_its_text(run: Path, tmp_path: Path) -> None:
    rows = healthy(run, tmp_path)
    (tmp_path / "store").unlink()
    shutil.copytree(run / "store", tmp_path / "store")
    meta = json.loads((tmp_path / "store" / "meta.json").read_text())
    meta["counts"]["replaced"] = 7
    (tmp_path / "store" / "meta.json").write_text(json.dumps(meta))
    assert troubles(examined_run(tmp_path, rows)) == {"text"}


def test_folders_that_are_no_text_are_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.json").touch()
    (tmp_path / "a.txt").write_text("a")
    for arguments, told in {
        (tmp_path,): "holds a fine-tuning; its results are in its report.json. Examined are text",
        (run / "model",): "holds a model; genus evaluate measures it.",
        (run / "tokenizer",): "holds a tokenizer; give it as --tokenizer beside a text.",
        (run, tmp_path / "a.txt"): "holds a pretraining run; examine it alone.",
    }.items():
        assert main(["doctor", *map(str, arguments)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"genus: error: {arguments[0]}: {told}")
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    "line", [b"{}}", b"[1}", b"\xff}", b'{"loss": 1, "step": 3}', b'{"loss": "x", "step": {}}', b"[" * 100_000 + b"}"]
)
def test_damaged_metrics_are_told_in_one_line(run: Path, tmp_path: Path, line: bytes) -> None:
    for name in ("recipe.json", "store"):
        (tmp_path / name).symlink_to(run / name)
    (tmp_path / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes() + line + b"\n")
    with pytest.raises(GenusError, match=r"metrics.jsonl: is damaged .*resume the run"):
        examine_run(tmp_path)


def test_a_damaged_recipe_is_told_with_its_file(run: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to(run / "metrics.jsonl")
    (tmp_path / "recipe.json").write_text((run / "recipe.json").read_text().replace('"layers"', '"lairs"'))
    with pytest.raises(GenusError, match=r"recipe.json: is damaged .*lairs"):
        examine_run(tmp_path)


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(GenusError, match="no pretraining run"):
        examine_run(tmp_path)


def test_the_entropy_of_tokens(run: Path) -> None:
    """By its definition, over a dictionary."""
    store = Store.open(run / "store")
    ids = store.ids.tolist()
    share = {number: ids.count(number) / len(ids) for number in set(ids)}
    assert entropy(store) == pytest.approx(-sum(p * math.log(p) for p in share.values()), rel=1e-9)
