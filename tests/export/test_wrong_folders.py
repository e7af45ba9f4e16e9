"""Model folders that are damaged, foreign or contradictory: one line that says what, where and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import oracle
import pytest
import torch
import transformers
from folders import edit, rewrite, same_weights, without_prefix
from oracle import ROBERTA

from genus.errors import GenusError
from genus.export.folder import load
from genus.tokens.algorithms.wordpiece import WordPiece
from written import write_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove(key: str) -> Callable[[Path], None]:
    return lambda folder: rewrite(folder, lambda tensors: {k: v for k, v in tensors.items() if k != key})


def code(folder: Path) -> None:
    """Put a pickle that calls a function in place of the weights."""
    (folder / "model.safetensors").unlink()
    torch.save({"a": transformers.BertConfig()}, folder / "pytorch_model.bin")


WORD = "bert.embeddings.word_embeddings.weight"
QUERY = "bert.encoder.layer.1.attention.self.query.weight"
WRONG: list[tuple[Callable[[Path], Any], str]] = [
    (lambda folder: (folder / "config.json").unlink(), "config.json: there is no such file"),
    (lambda folder: cut(folder / "config.json"), "config.json: cannot be read as JSON"),
    (lambda folder: (folder / "config.json").write_text("[]"), "config.json: expected a JSON table"),
    (lambda folder: cut(folder / "model.safetensors"), "model.safetensors: is damaged or cut off"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b""), "model.safetensors: is damaged or cut off"),
    (lambda folder: (folder / "model.safetensors").unlink(), "there are no weights here; expected model.safetensors"),
    (code, "pytorch_model.bin: is damaged, or holds more than tensors"),
    (lambda folder: edit(folder / "config.json", model_type="albrt"), "config.json: model_type 'albrt' cannot be read"),
    (
        lambda folder: edit(folder / "config.json", architectures=["BertForMultipleChoice"]),
        "config.json: BertForMultipleChoice cannot be read; known are BertForMaskedLM",
    ),
    (
        lambda folder: edit(folder / "config.json", position_embedding_type="relative_key"),
        "position_embedding_type = 'relative_key' cannot be read, only 'absolute'",
    ),
    (lambda folder: edit(folder / "config.json", hidden_act="mish"), "hidden_act = 'mish' has no counterpart here"),
    (
        lambda folder: edit(folder / "config.json", hidden_act=["gelu"]),
        "config.json: hidden_act = ['gelu'] has no counterpart here",
    ),
    (lambda folder: edit(folder / "config.json", num_attention_heads=3), "3 attention heads do not divide"),
    (lambda folder: edit(folder / "config.json", hidden_size="16"), "hidden: expected int, got '16'"),
    (
        lambda folder: edit(folder / "config.json", num_hidden_layers=3),
        "recipe.json has model.layers = 2, config.json 3: they do not belong together",
    ),
    (lambda folder: (folder / "recipe.json").write_text("{}"), "recipe.json: Recipe needs the choice 'name'"),
    (remove(QUERY), f"the weights lack {QUERY}"),
    (remove(WORD), f"the weights lack {WORD}"),
    (
        lambda folder: rewrite(folder, lambda tensors: tensors | {"bert.extra.weight": torch.zeros(2)}),
        "the weights have no place for bert.extra.weight",
    ),
    (
        lambda folder: rewrite(folder, lambda tensors: tensors | {QUERY: torch.zeros(8, 16)}),
        f"the weights do not fit {QUERY} (8, 16), which makes (8, 16), not (16, 16)",
    ),
    (
        lambda folder: rewrite(folder, lambda t: t | {"cls.predictions.decoder.weight": torch.zeros(40, 16)}),
        f"cls.predictions.decoder.weight differs from {WORD}, which genus keeps as one tensor",
    ),
    (
        lambda folder: rewrite(
            folder, lambda t: t | {WORD: torch.zeros(50, 16), "cls.predictions.bias": torch.zeros(50)}
        ),
        "the tokenizer has 40 pieces, the model 50: they do not belong together",
    ),
]


@pytest.mark.parametrize(("harm", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_folder_is_one_line(folder: Path, harm: Callable[[Path], Any], message: str) -> None:
    harm(folder)
    with pytest.raises(GenusError) as error:
        load(folder)
    assert message in str(error.value)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(GenusError, match="nowhere: there is no such folder"):
        load(tmp_path / "nowhere")


def test_a_folder_of_ours_without_its_recipe_is_read_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path, "bert/tiny", WordPiece(vocab_size=100), ["The old river answers the long letter."] * 9)
    load(tmp_path)
    assert capsys.readouterr().err == ""
    (tmp_path / "recipe.json").unlink()
    load(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path / 'recipe.json'}: is missing, which genus writes beside tokens.json; ")


def test_a_configuration_without_type_is_told_by_its_tensors(folder: Path) -> None:
    edit(folder / "config.json", model_type=None)
    assert same_weights(folder)
    rewrite(folder, without_prefix)
    with pytest.raises(GenusError, match="names no model_type"):
        load(folder)


def test_roberta_counts_positions_from_its_padding_id(tmp_path: Path) -> None:
    oracle.build(ROBERTA[0], "RobertaModel", pad_token_id=0).save_pretrained(tmp_path)
    oracle.write_tokenizer(tmp_path, "roberta", ROBERTA[0].vocab)
    with pytest.raises(GenusError, match="pad_token_id = 0, from which positions are counted"):
        load(tmp_path)
