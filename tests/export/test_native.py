"""Folders that only genus reads: written where no layout fits, read back the same, refused where they are damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import oracle
import pytest
import torch
import transformers
from folders import edit, rewrite
from safetensors.torch import load_file

from genus import catalog
from genus.errors import GenusError
from genus.export.folder import load, save
from genus.export.starting.transplant import init_from
from genus.export.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genus.objectives import Learner
    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer

SIZE = 40
SMALL = ["model.layers=2", "model.hidden=16", "model.attention.heads=2", "model.feedforward.size=24"]
CLUSTERS = "model.embedding={kind='AdaptiveEmbedding', cutoffs=[10, 20], ratio=2, segments=0}"
NEXT = "{kind='SequenceLabels', label='next_sentence'}"
ROWS: dict[str, tuple[str, list[str]]] = {
    "memory": ("transformer-xl/tiny", [*SMALL, "model.memory=8", "model.embedding.cutoffs=[10, 20]"]),
    "clusters": ("transformer-xl/tiny", [*SMALL, "model.memory=8", CLUSTERS]),
    "one sub-layer for all layers": ("albert/tiny", [*SMALL, "model.stack=SharedAttention"]),
    "no segments": ("bert/tiny", [*SMALL, "model.embedding.segments=0", "objectives=[{kind='MaskedLM'}]"]),
    "rotary": ("bert/tiny", [*SMALL, "model.embedding.position=Rotary", "model.block=PreNorm"]),
    "grouped keys": ("bert/tiny", [*SMALL, "model.attention.key_heads=1", "model.attention.size=6"]),
    "parallel, with buckets": (
        "bert/tiny",
        [*SMALL, "model.block=Parallel", "model.embedding.position=RelativeBuckets"],
    ),
    "heads of two classes": ("xlnet/tiny", [*SMALL, f"objectives=['PermutationLM', {NEXT}]"]),
}
rows = pytest.mark.parametrize("row", ROWS)


def made(row: str, folder: Path) -> tuple[Recipe, Learner, Tokenizer]:
    """Return a fresh learner that no Hugging Face class has, and a tokenizer of another member that fits its size."""
    name, changes = ROWS[row]
    words = oracle.tokenizer(folder / "words", "bert", SIZE)
    recipe = catalog.load(name, [*changes, f"tokens.vocab_size={SIZE}"])
    torch.manual_seed(0)
    return recipe, recipe.learner(), words


def alike(found: Learner, expected: Learner) -> bool:
    state, other = found.state_dict(), expected.state_dict()
    return state.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in state.items())


@rows
def test_there_and_back_is_the_identity(row: str, tmp_path: Path) -> None:
    recipe, learner, words = made(row, tmp_path)
    save(tmp_path / "model", recipe, learner, words)
    found = load(tmp_path / "model")
    assert alike(found.learner, learner)
    assert found.recipe == replace(recipe, tokens=words.tokens)
    assert found.tokenizer.hash() == words.hash()
    assert not any(parameter.is_meta for parameter in found.learner.parameters())
    number = sum(parameter.numel() for parameter in learner.parameters())
    assert sum(parameter.numel() for parameter in found.learner.parameters()) == number
    save(tmp_path / "again", found.recipe, found.learner, found.tokenizer)
    for name in ("config.json", "model.safetensors", "recipe.json", "README.md", "tokenizer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "model" / name).read_bytes(), name


@rows
def test_the_folder_gives_what_the_learner_gives(row: str, tmp_path: Path) -> None:
    recipe, learner, words = made(row, tmp_path)
    save(tmp_path / "model", recipe, learner, words)
    differences = verify(tmp_path / "model", learner)
    assert "hidden" in differences
    assert set(differences.values()) == {0.0}


def test_it_says_that_only_genus_reads_it(tmp_path: Path) -> None:
    recipe, learner, words = made("memory", tmp_path)
    save(tmp_path / "model", recipe, learner, words)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["model_type"] == "genus"
    assert config["architectures"] == ["transformer-xl/tiny"]
    page = (tmp_path / "model" / "README.md").read_text()
    assert "so only genus reads this folder" in page
    assert "library_name: genus" in page
    assert "transformers import" not in page
    with pytest.raises(ValueError, match="genus"):
        transformers.AutoModel.from_pretrained(tmp_path / "model")


def test_weights_are_in_float32_whatever_was_written(tmp_path: Path) -> None:
    recipe, learner, words = made("memory", tmp_path)
    save(tmp_path / "model", recipe, learner.bfloat16(), words)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model" / "model.safetensors").values()} == {torch.bfloat16}
    found = load(tmp_path / "model").learner.state_dict()
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert all(torch.equal(found[name], tensor.float()) for name, tensor in learner.state_dict().items())


def test_heads_that_were_taken_away_stay_away(tmp_path: Path) -> None:
    recipe, learner, words = made("heads of two classes", tmp_path)
    del learner.heads["permutation_lm"]
    save(tmp_path / "model", recipe, learner, words)
    assert list(load(tmp_path / "model").learner.heads) == ["next_sentence"]
    assert "permutation_lm (its head is not in this folder)" in (tmp_path / "model" / "README.md").read_text()


def test_it_can_be_started_from(tmp_path: Path) -> None:
    recipe, learner, words = made("memory", tmp_path)
    save(tmp_path / "model", recipe, learner, words)
    torch.manual_seed(1)
    fresh = recipe.learner()
    assert not alike(fresh, learner)
    assert not init_from(load(tmp_path / "model"), fresh, words)
    assert alike(fresh, learner)


def test_clusters_keep_their_vocabulary(tmp_path: Path) -> None:
    recipe, learner, words = made("clusters", tmp_path)
    save(tmp_path / "model", recipe, learner, words)
    other = oracle.tokenizer(tmp_path / "other", "bert", SIZE + 3)
    fresh = replace(recipe, tokens=other.tokens).learner()
    with pytest.raises(
        GenusError, match="clusters by frequency, so no other vocabulary can take it over: start without"
    ):
        init_from(load(tmp_path / "model"), fresh, other)


WORD = "network.layers.1.attention.query.weight"
WRONG: list[tuple[Callable[[Path], Any], str]] = [
    (lambda folder: (folder / "recipe.json").unlink(), "recipe.json is missing, which says what this model is"),
    (
        lambda folder: edit(folder / "config.json", architectures=["xlnet/tiny"]),
        "recipe.json is of transformer-xl/tiny, config.json of xlnet/tiny: they do not belong together",
    ),
    (lambda folder: edit(folder / "config.json", architectures=3), "config.json of 3: they do not"),
    (lambda folder: edit(folder / "config.json", heads=None), "config.json: heads: expected a list of names, got None"),
    (
        lambda folder: edit(folder / "config.json", heads=["causal_lms"]),
        "config.json: recipe.json has no head 'causal_lms'. Did you mean 'causal_lm'?",
    ),
    (lambda folder: edit(folder / "config.json", heads=[]), "the weights have no place for heads.causal_lm.lm_head"),
    (
        lambda folder: rewrite(folder, lambda tensors: {k: v for k, v in tensors.items() if k != WORD}),
        f"the weights lack {WORD}",
    ),
    (
        lambda folder: rewrite(folder, lambda tensors: tensors | {"network.more": torch.zeros(1)}),
        "the weights have no place for network.more",
    ),
    (
        lambda folder: rewrite(folder, lambda tensors: tensors | {WORD: torch.zeros(2, 3)}),
        f"the weights do not fit {WORD} (2, 3), which is (16, 16) here",
    ),
    (
        lambda folder: rewrite(folder, lambda tensors: {f"model.{k}": v for k, v in tensors.items()}),
        "the weights lack heads.causal_lm.lm_head.bias, heads.causal_lm.lm_head.further.bias, ",
    ),
    (lambda folder: (folder / "model.safetensors").write_bytes(b"{}"), "model.safetensors: is damaged or cut off"),
    (
        lambda folder: oracle.tokenizer(folder.parent / "other", "bert", SIZE + 1).save(folder),
        "the tokenizer has 41 pieces, the model 40: they do not belong together",
    ),
]


@pytest.mark.parametrize(("harm", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_folder_is_one_line(tmp_path: Path, harm: Callable[[Path], Any], message: str) -> None:
    save(tmp_path / "model", *made("memory", tmp_path))
    harm(tmp_path / "model")
    with pytest.raises(GenusError) as error:
        load(tmp_path / "model")
    assert message in str(error.value)
    assert str(tmp_path / "model") in str(error.value)
    assert "\n" not in str(error.value)
