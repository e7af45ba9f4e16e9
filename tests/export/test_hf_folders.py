"""Model folders: what is written, what is read, and every way in which one can be wrong."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, Any

import oracle
import pytest
import torch
import transformers
from folders import edit, rewrite, same_weights, tiny, without_prefix
from oracle import BERT, FLOAT32
from safetensors.torch import load_file, save_file

from genus.errors import GenusError
from genus.export import shards
from genus.export.folder import load, save
from genus.export.verify import TOLERANCE, verify
from genus.objectives.masking.tokens import WholeWordMasking
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.objectives.supervised.sequence import SequenceClassification, SequenceRegression

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


LABELS = ("bad", "so-so", "good")


CASES = [
    ("bert", (), "BertForPreTraining"),
    ("bert", (MaskedLM(masking=WholeWordMasking()),), "BertForMaskedLM"),
    ("bert", (SequenceClassification(labels=LABELS),), "BertForSequenceClassification"),
    ("bert", (SequenceRegression(),), "BertForSequenceClassification"),
    ("roberta", (), "RobertaForMaskedLM"),
    ("roberta", (SequenceClassification(labels=LABELS),), "RobertaForSequenceClassification"),
    ("roberta", (SequenceRegression(),), "RobertaForSequenceClassification"),
]


@pytest.mark.parametrize(("member", "objectives", "architecture"), CASES)
def test_what_is_written_is_read_by_both(
    tmp_path: Path, member: str, objectives: tuple[Any, ...], architecture: str
) -> None:
    recipe, learner, tokenizer = tiny(member, tmp_path, *objectives)
    folder = tmp_path / "model"
    save(folder, recipe, learner, tokenizer)
    assert json.loads((folder / "config.json").read_text())["architectures"] == [architecture]

    differences = verify(folder, learner)
    outputs = {"hidden", *learner.heads}
    assert differences.keys() == outputs | {f"transformers/{name}" for name in outputs}
    assert max(differences.values()) <= FLOAT32

    again = load(folder)
    assert again.recipe == recipe
    state = again.learner.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in learner.state_dict().items())
    assert again.tokenizer.hash() == tokenizer.hash()


@pytest.mark.parametrize(("member", "objectives", "architecture"), CASES)
def test_without_its_recipe_a_folder_is_read_as_anyone_s(
    tmp_path: Path, member: str, objectives: tuple[Any, ...], architecture: str
) -> None:
    recipe, learner, tokenizer = tiny(member, tmp_path, *objectives)
    save(tmp_path / "model", recipe, learner, tokenizer)
    (tmp_path / "model" / "recipe.json").unlink()
    again = load(tmp_path / "model")
    assert again.recipe.model == recipe.model
    assert list(again.learner.heads) == list(learner.heads)
    if isinstance(recipe.objectives[0], SequenceClassification):
        assert again.recipe.objectives == recipe.objectives


def test_auto_classes_and_pipelines_take_the_folder(tmp_path: Path) -> None:
    save(tmp_path / "model", *tiny("roberta", tmp_path, SequenceClassification(labels=LABELS)))
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert model.config.id2label == dict(enumerate(LABELS))
    assert model.config.label2id == {label: number for number, label in enumerate(LABELS)}
    assert model.config.problem_type == "single_label_classification"
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer("ab").input_ids[0] == model.config.bos_token_id
    assert type(transformers.AutoModel.from_pretrained(tmp_path / "model")).__name__ == "RobertaModel"


def test_tied_weights_are_written_once(folder: Path) -> None:
    names = load_file(folder / "model.safetensors").keys()
    assert "cls.predictions.decoder.weight" not in names
    assert "bert.embeddings.word_embeddings.weight" in names


def test_the_card_has_metadata_and_no_promises(folder: Path) -> None:
    _, metadata, text = (folder / "README.md").read_text().split("---\n", 2)
    assert "library_name: transformers\npipeline_tag: fill-mask\n" in metadata
    assert "license" not in metadata
    assert "BertForPreTraining" in text


def test_saving_again_replaces_files_and_leaves_nothing_beside(tmp_path: Path, folder: Path) -> None:
    recipe, learner, tokenizer = tiny("bert", tmp_path)
    with torch.no_grad():
        learner.network.token_embedding.weight.add_(1)
    (folder / "notes.txt").write_text("mine")
    save(folder, recipe, learner, tokenizer)
    assert torch.equal(load(folder).learner.network.token_embedding.weight, learner.network.token_embedding.weight)
    assert (folder / "notes.txt").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"model", "tokenizer"}


def test_what_a_killed_process_left_is_removed(tmp_path: Path, folder: Path) -> None:
    (tmp_path / ".model.new").mkdir()
    (tmp_path / ".model.new" / "model.safetensors").write_bytes(b"half")
    save(folder, *tiny("bert", tmp_path))
    assert same_weights(folder)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "tokenizer"}


def test_a_full_disk_is_one_line_and_leaves_the_old_folder(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(shards, "write_tensors", full)
    with pytest.raises(GenusError, match="model: cannot be written: No space left on device"):
        save(folder, *tiny("bert", tmp_path))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"model", "tokenizer"}


def test_weights_may_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save(tmp_path / "model", *tiny("bert", tmp_path))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "model").iterdir()} == {0o640}


def test_verify_refuses_weights_that_are_not_the_learner_s(tmp_path: Path, folder: Path) -> None:
    _, learner, _ = tiny("bert", tmp_path)
    assert verify(folder, learner)["hidden"] == 0
    with torch.no_grad():
        learner.heads["masked_lm"].lm_head.bias[7] += 0.1
    with pytest.raises(GenusError, match=r"masked_lm differs by .* more than 1e-04"):
        verify(folder, learner)
    assert TOLERANCE == 1e-4


def test_verification_says_nothing_and_leaves_transformers_as_it_was(
    tmp_path: Path, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logging = transformers.utils.logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    assert verify(folder, tiny("bert", tmp_path)[1])
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    transformers.AutoModel.from_pretrained(folder)
    assert "Loading weights" in capfd.readouterr().err


def old_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors as the first releases wrote them: gamma and beta, tied copies, buffers."""
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors.items()
    }
    old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"].clone()
    old["cls.predictions.decoder.bias"] = old["cls.predictions.bias"].clone()
    old["bert.embeddings.position_ids"] = torch.arange(512)
    return old


def output_bias_under_its_other_name(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    tensors["cls.predictions.decoder.bias"] = tensors.pop("cls.predictions.bias")
    return tensors


@pytest.mark.parametrize("change", [old_names, without_prefix, output_bias_under_its_other_name])
def test_old_names_are_read(folder: Path, change: Callable[..., dict[str, torch.Tensor]]) -> None:
    rewrite(folder, change)
    assert same_weights(folder)


def test_a_bin_file_is_read(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert same_weights(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_shards_are_read(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stem, suffix = name.split(".")
    names = sorted(tensors)
    shards = {f"{stem}-0000{part + 1}-of-00003.{suffix}": names[part::3] for part in range(3)}
    for shard, held in shards.items():
        part = {key: tensors[key] for key in held}
        (save_file if suffix == "safetensors" else torch.save)(part, folder / shard)
    weight_map = {key: shard for shard, held in shards.items() for key in held}
    (folder / f"{name}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert same_weights(folder)


def test_half_precision_is_read_as_float32(folder: Path) -> None:
    rewrite(folder, lambda tensors: {name: tensor.half() for name, tensor in tensors.items()})
    assert {tensor.dtype for tensor in load(folder).learner.state_dict().values()} == {torch.float32}


def test_a_classifier_s_unused_pooler_is_passed_over(tmp_path: Path) -> None:
    """As in the RoBERTa classifiers of 2019."""
    save(tmp_path / "model", *tiny("roberta", tmp_path, SequenceClassification(labels=LABELS)))
    unused = {f"roberta.pooler.dense.{leaf}": torch.zeros(16) for leaf in ("weight", "bias")}
    rewrite(tmp_path / "model", lambda tensors: tensors | unused)
    assert list(load(tmp_path / "model").learner.heads) == ["sequence_classification"]


def test_labels_that_the_configuration_does_not_name(tmp_path: Path) -> None:
    save(tmp_path / "model", *tiny("bert", tmp_path, SequenceClassification(labels=LABELS)))
    (tmp_path / "model" / "recipe.json").unlink()
    edit(tmp_path / "model" / "config.json", id2label={"0": "LABEL_0", "1": "LABEL_1"}, problem_type=None)
    (objective,) = load(tmp_path / "model").recipe.objectives
    assert objective == SequenceClassification(labels=("LABEL_0", "LABEL_1", "LABEL_2"))


def test_an_encoder_alone_is_a_learner_without_heads(tmp_path: Path) -> None:
    oracle.build(BERT[0], "BertModel").save_pretrained(tmp_path)
    oracle.write_tokenizer(tmp_path, "bert", BERT[0].vocab)
    found = load(tmp_path)
    assert len(found.learner.heads) == 0
    assert [objective.name for objective in found.recipe.objectives] == ["masked_lm", "next_sentence"]
    assert found.recipe.learner().network.state_dict().keys() == found.learner.network.state_dict().keys()
    assert found.recipe.stages[0].max_length == BERT[0].positions
