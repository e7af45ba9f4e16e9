"""A result of a seed that is damaged is named in one line; without it, the seed is trained again."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from genus.errors import GenusError
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files
from genus.tasks.finetune import finetune
from genus.tasks.start import Start

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run


def test_a_damaged_result_is_named(write_rows, tmp_path: Path, recipe: Recipe, tokenizer: Tokenizer, run: Run) -> None:
    for name in ("train", "validation"):
        write_rows(tmp_path / f"{name}.jsonl", 16, 1)
    settings = recipe.finetuning.override("epochs", 1.0)

    def go() -> None:
        start, files = Start(recipe, tokenizer), Files.find(tmp_path)
        finetune(start, Classification(), files, tmp_path / "out", settings=settings, seeds=(0,), run=run)

    go()
    file = tmp_path / "out" / "seed-0" / "result.json"
    whole = json.loads(file.read_text())
    table = {key: value for key, value in whole["trial"].items() if key != "metrics"}
    wrong = [
        "",
        "3",
        "[]",
        json.dumps(whole | {"trial": table}),
        json.dumps(whole | {"trial": table | {"metrics": {}}}),
        json.dumps({"choices": whole["choices"], "trial": table}),  # as older versions wrote it, without a checksum
        json.dumps(whole | {"trial": whole["trial"] | {"seconds": 1 + whole["trial"]["seconds"]}}),
        json.dumps(whole).replace('"seed": 0', '"seed": 1'),
    ]
    for text in [*wrong, json.dumps(whole)[:-9], "[" * 100_000, "\xff"]:
        file.write_text(text, encoding="latin-1")
        with pytest.raises(
            GenusError, match=r"result\.json: is damaged .*; remove .*seed-0, and its seed is"
        ) as caught:
            go()
        assert "\n" not in str(caught.value)
    shutil.rmtree(file.parent)
    go()
    assert json.loads(file.read_text())["choices"] == whole["choices"]
