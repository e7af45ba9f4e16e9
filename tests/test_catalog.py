"""The catalog: names, files, overlays, overrides, and what it says when they are wrong."""

from __future__ import annotations

import importlib
import json
import pkgutil
from typing import TYPE_CHECKING

import pytest

import genus.recipes
from genus import catalog
from genus.errors import UsageError
from genus.part import diff
from genus.recipe import Recipe

if TYPE_CHECKING:
    from pathlib import Path


def test_a_bare_name_means_the_first_size() -> None:
    assert catalog.load("bert") == catalog.load("bert/base")
    assert catalog.load("roberta") == catalog.load("roberta/base")


@pytest.mark.parametrize("name", catalog.names())
def test_a_row_goes_by_its_name(name: str) -> None:
    assert catalog.load(name).name == name


def test_every_row_of_every_recipe_file_is_found() -> None:
    rows = {
        value.name
        for module in pkgutil.iter_modules(genus.recipes.__path__)
        for value in vars(importlib.import_module(f"genus.recipes.{module.name}")).values()
        if isinstance(value, Recipe)
    }
    assert rows == set(catalog.names())


def test_overrides_apply_in_order() -> None:
    recipe = catalog.load("bert/tiny", ["model.layers=6", "model.layers = 3", "seed=1"])
    assert diff(catalog.load("bert/tiny"), recipe) == [("model.layers", 2, 3), ("seed", 0, 1)]


def test_overrides_that_only_fit_together_apply_at_once() -> None:
    widths = "model.embedding.position.widths=[16, 48]"
    for order in (["model.hidden=64", widths], [widths, "seed=1", "model.hidden=64"]):
        found = diff(catalog.load("reformer/mini"), catalog.load("reformer/mini", order))
        assert {"model.hidden", "model.embedding.position.widths"} <= {path for path, _, _ in found}
    with pytest.raises(UsageError, match=r"--set model.hidden=64: model: position.widths: \[64, 192\] sum to 256"):
        catalog.load("reformer/mini", ["seed=1", "model.hidden=64", "budget.amount=3"])


def test_a_recipe_json_and_the_folder_it_lies_in(tmp_path: Path) -> None:
    recipe = catalog.load("bert/mini", ["seed=5"])
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_json()))
    assert catalog.load(tmp_path / "recipe.json") == recipe
    assert catalog.load(tmp_path) == recipe


def test_an_overlay_over_a_name_and_one_over_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('base = "bert/tiny"\nname = "mine/tiny"\n[model]\nlayers = 3\n')
    (tmp_path / "more.toml").write_text('base = "mine.toml"\n[model.feedforward]\nsize = 64\n')
    mine, more = catalog.load(tmp_path / "mine.toml"), catalog.load(tmp_path / "more.toml", ["seed=2"])
    assert diff(catalog.load("bert/tiny"), mine) == [("model.layers", 2, 3), ("name", "bert/tiny", "mine/tiny")]
    assert diff(mine, more) == [("model.feedforward.size", 512, 64), ("seed", 0, 2)]


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("brt", [], r"there is no member 'brt'\. Did you mean 'bert'"),
        ("bert/bsae", [], r"there is no member 'bert/bsae'\. Did you mean 'bert/base'"),
        ("nothing.toml", [], "nothing.toml: there is no such file"),
        (".", [], "recipe.json: there is no such file"),
        ("bert", ["model.layers"], "--set model.layers: expected name=value"),
        ("bert", ["=3"], "--set =3: expected name=value"),
        ("bert", ["model.layres=6"], "model: Transformer has no choice 'layres'. Did you mean 'layers'?"),
        ("bert", ["model.attention.heads=7"], "model: 7 attention heads do not divide a hidden size of 768"),
        ("bert", ["stages.1.max_length=1024"], "stages.1: max_length 1024 is past the model's 512 positions"),
        ("bert", ["stages.0.micro_batch=100"], "stages.0: batch 256 is not a multiple of 100"),
        ("bert", ["stages.0.share=0.5"], "stages: the shares sum to 0.6, not 1"),
        ("bert", ["objectives=[]"], "a recipe needs at least one objective and one stage"),
        ("bert", ["budget.unit=hours"], "budget.unit: expected one of 'steps', 'tokens', 'flops'"),
        ("bert", ["examples=FullSentences"], "SequenceLabels needs next_sentence, which FullSentences does not give"),
    ],
)  # fmt: skip
def test_a_wrong_name_or_override_is_one_line(
    name: str, overrides: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as error:
        catalog.load(name, overrides)
    assert message.replace("\\", "") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.json", b"{", "a.json: cannot be read as JSON"),
        ("a.json", b"[1]", "a.json: expected a table of choices"),
        ("a.json", b"\xff\xfe", "a.json: cannot be read as JSON"),
        ("a.json", b"{}", "a.json: Recipe needs the choice 'name'"),
        ("a.toml", b"base = ", "a.toml: cannot be read as TOML"),
        ("a.toml", b"base = 3", "a.toml: base: expected a name or a file, got 3"),
        ("a.toml", b'base = "a.toml"', "is its own base"),
        ("a.toml", b'base = "brt"', "a.toml: there is no member 'brt'"),
        ("a.toml", b'base = "bert"\nmodle.layers = 2', "a.toml: Recipe has no choice 'modle'. Did you mean 'model'?"),
        ("a.toml", b'base = "bert"\nmodel.layers = "2"', "a.toml: model.layers: expected int, got '2'"),
    ],
)
def test_a_wrong_file_is_one_line(file: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UsageError) as error:
        catalog.load(tmp_path / file)
    assert message in str(error.value)
