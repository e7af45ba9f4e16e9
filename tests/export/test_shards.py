"""Weights in shards: written above a size, read by us and by transformers, whole at any moment, refused if damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import oracle
import pytest
import torch
from folders import SIZE, edit, same_weights, tiny
from safetensors.torch import load_file, save_file
from test_native import alike, made
from torch.multiprocessing.reductions import StorageWeakRef

from genus import catalog
from genus.errors import GenusError
from genus.export import shards
from genus.export.files import files_in, replaced_by_model
from genus.export.folder import load, save
from genus.export.shards import SHARD_BYTES, write_weights
from genus.export.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from genus.objectives import Learner

BYTES = 4_000
"""A shard of a tiny model's: it makes several."""
INDEX = "model.safetensors.index.json"


def weights_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("model*"))


def sharded(folder: Path) -> list[str]:
    """Return the names of the shards that the index names, in order."""
    return sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))


def test_a_large_model_is_written_in_shards_that_both_read(tmp_path: Path) -> None:
    recipe, learner, tokenizer = tiny("bert", tmp_path)
    save(tmp_path / "model", recipe, learner, tokenizer, shard_bytes=BYTES)
    found = sharded(tmp_path / "model")
    count = len(found)
    assert count > 2
    assert found == [f"model-{number + 1:05}-of-{count:05}.safetensors" for number in range(count)]
    assert weights_in(tmp_path / "model") == sorted([*found, INDEX])
    for name in found:
        held = load_file(tmp_path / "model" / name)
        assert len(held) == 1 or sum(tensor.nbytes for tensor in held.values()) <= BYTES
    facts = json.loads((tmp_path / "model" / INDEX).read_text())["metadata"]
    total = sum(tensor.numel() for tensor in learner.tensors().values())
    assert facts == {"total_parameters": total, "total_size": 4 * total}
    assert same_weights(tmp_path / "model")
    differences = verify(tmp_path / "model", learner)
    assert "transformers/hidden" in differences
    assert set(differences.values()) == {0.0} | {value for value in differences.values() if value <= oracle.FLOAT32}


def test_a_small_model_is_one_file(folder: Path) -> None:
    assert SHARD_BYTES == 5_000_000_000
    assert weights_in(folder) == ["model.safetensors"]


def test_folders_that_only_genus_reads_come_in_shards_too(tmp_path: Path) -> None:
    recipe, learner, words = made("memory", tmp_path)
    save(tmp_path / "model", recipe, learner, words, shard_bytes=BYTES)
    assert len(sharded(tmp_path / "model")) > 2
    assert alike(load(tmp_path / "model").learner, learner)


def test_shards_that_transformers_writes_are_read(tmp_path: Path) -> None:
    model = oracle.build(oracle.BERT[1], "BertForPreTraining")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(sharded(tmp_path)) > 2
    oracle.write_tokenizer(tmp_path, "bert", oracle.BERT[1].vocab)
    oracle.there_and_back(tmp_path / "again", load(tmp_path), model, free={"classifier_dropout"})


SIZES = [(SHARD_BYTES, BYTES), (BYTES, SHARD_BYTES), (BYTES, BYTES), (BYTES, 2 * BYTES)]


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_nothing_of_an_older_model_s_weights_stays(tmp_path: Path, before: int, after: int) -> None:
    recipe, learner, tokenizer = tiny("bert", tmp_path)
    other = other_than(learner, recipe.learner())
    for number in range(3):
        save(tmp_path / "model", recipe, other, tokenizer, shard_bytes=before)
        save(tmp_path / "model", recipe, learner, tokenizer, shard_bytes=after)
        assert same_weights(tmp_path / "model"), number
        assert "transformers/hidden" in verify(tmp_path / "model", learner)
        there = weights_in(tmp_path / "model")
        assert there == (
            sorted([*sharded(tmp_path / "model"), INDEX]) if after < SHARD_BYTES else ["model.safetensors"]
        )


def other_than(learner: Learner, other: Learner) -> Learner:
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            parameter.copy_(dict(learner.named_parameters())[name] + 1)
    return other


def test_a_model_within_a_model_is_written_in_shards_too(tmp_path: Path) -> None:
    """As ELECTRA's generator: its shards take other names than those that they replace, and these go."""
    tokenizer = oracle.tokenizer(tmp_path / "tokenizer", "bert", SIZE["bert"])
    recipe = replace(catalog.load("electra/tiny"), tokens=tokenizer.tokens)
    learner = recipe.learner()
    found = []
    for _ in range(3):
        save(tmp_path / "model", recipe, learner, tokenizer, shard_bytes=BYTES)
        found.append(sharded(tmp_path / "model" / "generator"))
        assert weights_in(tmp_path / "model" / "generator") == sorted([*found[-1], INDEX])
        assert alike(load(tmp_path / "model").learner, learner)
    assert found[0] == found[2]
    assert not set(found[0]) & set(found[1])


class Killed(BaseException):
    """As a signal that ends the process."""


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_killed_at_any_moment_a_folder_holds_the_old_weights_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, after: int
) -> None:
    """Where folders cannot be exchanged in one step: killed before each file is moved into place or removed."""
    monkeypatch.setattr("genus.files._exchange", lambda *_: False)
    recipe, new, tokenizer = tiny("bert", tmp_path)
    old, moments = other_than(new, recipe.learner()), 0
    while True:
        folder = tmp_path / f"model-{moments}"
        save(folder, recipe, old, tokenizer, shard_bytes=before)
        with monkeypatch.context() as patch:
            left = iter(range(moments))
            for step in ("replace", "unlink"):
                patch.setattr(Path, step, dying(getattr(Path, step), folder, left))
            try:
                save(folder, recipe, new, tokenizer, shard_bytes=after)
                break
            except Killed:
                moments += 1
        found = load(folder).learner
        assert alike(found, old) or alike(found, new), moments
    assert moments > 5


def dying(step: Callable[..., Any], folder: Path, left: Iterator[int]) -> Callable[..., Any]:
    """Return a step that ends everything when no more of its kind in the folder are left."""

    def taken(path: Path, *given: Any, **named: Any) -> Any:
        target = Path(given[0]) if given else path
        if target.parent == folder and next(left, None) is None:
            raise Killed
        return step(path, *given, **named)

    return taken


def test_an_export_over_shards_leaves_none_behind(tmp_path: Path) -> None:
    recipe, learner, tokenizer = tiny("bert", tmp_path)
    save(tmp_path / "model", recipe, learner, tokenizer, shard_bytes=BYTES)
    assert replaced_by_model(tmp_path / "model") == files_in(tmp_path / "model")


def test_no_more_than_a_shard_is_in_memory_while_it_is_written(tmp_path: Path) -> None:
    """Tensors come one by one, as from a device; each is of 400 bytes, a shard takes five."""
    live: list[StorageWeakRef] = []
    most = 0

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        nonlocal most
        for number in range(32):
            tensor = torch.full((100,), float(number))
            live.append(StorageWeakRef(tensor.untyped_storage()))
            most = max(most, sum(not one.expired() for one in live))
            yield str(number), tensor

    assert write_weights(tmp_path, tensors(), tmp_path / "target", 2_000) == 3_200
    assert most <= 6
    assert len(sharded(tmp_path)) == 7


def test_a_full_disk_is_one_line(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *_: object) -> None:
        if path.name.startswith("1"):
            raise shards.SafetensorError("I/O error: No space left on device (os error 28)")
        path.write_bytes(b"")

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(shards, "write_tensors", full)
    with pytest.raises(GenusError, match="model: cannot be written: No space left on device"):
        save(folder, *tiny("bert", tmp_path), shard_bytes=BYTES)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def second(folder: Path) -> Path:
    return folder / sharded(folder)[1]


def drop(folder: Path) -> None:
    """Write a shard without its first tensor."""
    tensors = load_file(second(folder))
    save_file(dict(list(tensors.items())[1:]) or {"other": torch.zeros(1)}, second(folder))


WRONG: list[tuple[Callable[[Path], Any], str]] = [
    (lambda folder: second(folder).unlink(), ".safetensors: there is no such file"),
    (lambda folder: cut(second(folder)), ".safetensors: is damaged or cut off"),
    (lambda folder: cut(folder / INDEX), f"{INDEX}: cannot be read as JSON"),
    (lambda folder: (folder / INDEX).write_text("[" * 100_000), f"{INDEX}: cannot be read as JSON"),
    (lambda folder: (folder / INDEX).write_text("[]"), f"{INDEX}: expected a JSON table"),
    (
        lambda folder: (folder / INDEX).write_text("{}"),
        f"{INDEX}: expected a table weight_map of tensors and the files",
    ),
    (lambda folder: edit(folder / INDEX, weight_map=["a"]), f"{INDEX}: expected a table weight_map"),
    (lambda folder: edit(folder / INDEX, weight_map={"a": 3}), f"{INDEX}: weight_map: a lies in 3, which is no file's"),
    (
        lambda folder: edit(folder / INDEX, weight_map={"a": "../model.safetensors"}),
        f"{INDEX}: weight_map: a lies in '../model.safetensors', which is no file's name",
    ),
    (drop, f", which {INDEX} says is there"),
]


@pytest.mark.parametrize(("harm", "message"), WRONG, ids=[message for _, message in WRONG])
def test_damaged_shards_are_one_line(tmp_path: Path, harm: Callable[[Path], Any], message: str) -> None:
    folder = tmp_path / "model"
    save(folder, *tiny("bert", tmp_path), shard_bytes=BYTES)
    harm(folder)
    with pytest.raises(GenusError) as error:
        load(folder)
    assert message in str(error.value)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)
