"""Deep nesting and huge numbers, in recipes, settings, texts and tables: one line of a length that can be read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from test_errors import refused

from genus import catalog
from genus.cli import main
from genus.errors import UsageError, shown

if TYPE_CHECKING:
    from pathlib import Path

    from small_run import Place

    Captured = pytest.CaptureFixture[str]

LONGEST = 400
"""Characters of a line that can be read, apart from names of folders and of all choices."""
DEEP = {"list": lambda n: "[" * n + "]" * n, "table": lambda n: '{"a": ' * n + "1" + "}" * n}
INLINE = {"list": lambda n: "[" * n + "]" * n, "table": lambda n: "{a = " * n + "1" + "}" * n}
LEVELS = [2, 30, 150, 320, 480, 700, 960, 2_000, 50_000]
"""Some that Python's JSON reads and its recursion does not bear, and some that neither does."""


def check(line: str, *words: str) -> None:
    assert len(line.partition("Valid: ")[0]) < LONGEST, line
    assert all(word in line for word in words), line
    assert "unexpected" not in line


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("kind", DEEP)
def test_files_of_recipes(kind: str, levels: int, capsys: Captured, tmp_path: Path) -> None:
    row = catalog.load("bert/tiny").written()
    for name, place in {"a": "layers", "b": "attention", "c": "published"}.items():
        table = json.loads(json.dumps(row))
        (table if place == "published" else table["model"])[place] = "HERE"
        (tmp_path / f"{name}.json").write_text(json.dumps(table).replace('"HERE"', DEEP[kind](levels)))
        check(refused(capsys, 2, "show", tmp_path / f"{name}.json"), f"{name}.json: ")
        where = place if place == "published" else f"model.{place}"
        (tmp_path / f"{name}.toml").write_text(f'base = "bert/tiny"\n{where} = {INLINE[kind](levels)}\n')
        check(refused(capsys, 2, "show", tmp_path / f"{name}.toml"), f"{name}.toml: ")
    (tmp_path / "d.json").write_text(DEEP[kind](levels))
    check(refused(capsys, 2, "show", tmp_path / "d.json"), "d.json: ")


@pytest.mark.parametrize("levels", LEVELS)
def test_settings(levels: int, capsys: Captured, tmp_path: Path) -> None:
    values = [value(levels) for value in INLINE.values()]
    for setting in ("model.layers={}", "model.attention={}", "model={}", "stages={}", "published={}"):
        for value in values:
            check(refused(capsys, 2, "show", "bert", "--set", setting.format(value)), "--set ")
    check(refused(capsys, 2, "pretrain", "bert", tmp_path, "--out", "x", "--run", f"threads={values[0]}"), "--run ")
    for path in ("a." * levels + "b", "model." * levels + "layers", "model.attention." + "heads." * levels + "x"):
        check(refused(capsys, 2, "show", "bert", "--set", f"{path}=1"), "--set ", "no choice" if path[0] == "a" else "")


HUGE = ["9" * 400, "9" * 4_000, "9" * 5_000, "-" + "9" * 5_000, "1e999", "-1e999", "9" * 400 + ".5", "0x" + "f" * 5_000]


@pytest.mark.parametrize("number", HUGE, ids=range(len(HUGE)))
def test_numbers_without_an_end(number: str, capsys: Captured, tmp_path: Path) -> None:
    for path in ("model.layers", "optimizer.lr", "seed", "stages.0.batch", "budget.amount"):
        check(refused(capsys, 2, "show", "bert", "--set", f"{path}={number}"), f"--set {path}=", path.split(".")[-1])
    row = json.dumps(catalog.load("bert/tiny").written())
    for name, other in {"a.json": row.replace('"seed": 0', f'"seed": {number}'), "b.toml": f"seed = {number}"}.items():
        (tmp_path / name).write_text(other if name == "a.json" else f'base = "bert/tiny"\n{other}\n')
        line = refused(capsys, 2, "show", tmp_path / name)
        check(line, name)
        assert "sys." not in line


def test_texts_and_tables(capsys: Captured, place: Place, tmp_path: Path) -> None:
    for levels in LEVELS[3:]:
        for deep in DEEP.values():
            row = {"text": "HERE", "label": "a"}
            for name, value in {"text": row, "more": row | {"text": "a b", "more": "HERE"}, "label": row}.items():
                value = value | ({"text": "a b", "label": "HERE"} if name == "label" else {})
                lines = [json.dumps(value).replace('"HERE"', deep(levels)), json.dumps({"text": "b c", "label": "b"})]
                (tmp_path / "a.jsonl").write_text("".join(f"{line}\n" for line in lines))
                given = ["finetune", place.run, tmp_path / "a.jsonl", "--out", tmp_path / "out", "--seeds", "1"]
                code = main([*map(str, ["doctor", tmp_path / "a.jsonl"])])
                error = capsys.readouterr().err
                assert code == 0 or (code == 1 and "a.jsonl, line 1: " in error)
                assert "unexpected" not in error
                if name != "more":
                    check(refused(capsys, 1, *given).replace(str(tmp_path), ""), "a.jsonl, line 1: ")
    (tmp_path / "a.jsonl").write_text('{"text": "a b", "label": ' + "9" * 5_000 + "}\n")
    for command in (["doctor"], ["finetune", place.run]):
        out = [] if command == ["doctor"] else ["--out", tmp_path / "out"]
        line = refused(capsys, 1, *command, tmp_path / "a.jsonl", *out)
        check(line.replace(str(tmp_path), ""), "a.jsonl, line 1: ", "thousands of digits")
    assert not (tmp_path / "out").exists()


def test_long_names(capsys: Captured) -> None:
    long = "x" * 50_000
    check(refused(capsys, 1, "doctor", long), "xxx...: File name too long")
    check(refused(capsys, 2, "pretrain", long, "--out", "x"), "xxx...: there is no such recipe or text")
    check(refused(capsys, 2, "show", long), "there is no member 'xxx")
    check(refused(capsys, 2, "show", "bert", "--set", f"model.{long}=1"), "has no choice 'xxx")
    check(refused(capsys, 2, "show", "bert", "--set", f"model.norm={long}"), "there is no Norm 'xxx")
    with pytest.raises(UsageError) as caught:
        catalog.load("bert").override("model.layers", [[1] * 1000] * 1000)
    check(str(caught.value))
    assert shown("abc") == "'abc'"
    assert len(shown(long)) < 100
