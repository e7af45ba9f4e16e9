"""Random ELECTRAs of Hugging Face, read and written back: states, logits, losses, gradients; pairs of both models."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
import torch
from folders import edit
from oracle import FLOAT32, Shape, precisions, reading, token_logits, transformers

from genus import catalog
from genus.errors import GenusError
from genus.evaluate.fill import fill_mask
from genus.export.folder import load, save
from genus.export.starting.transplant import init_from
from genus.export.verify import verify
from genus.model.transformer import Transformer

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Learner
    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Electra(Shape):
    embedding: int

    def config(self, **more: Any) -> Any:
        return transformers.ElectraConfig(**self.settings() | {"embedding_size": self.embedding} | more)


SHAPES = [
    Electra("bert", 1, 8, 1, 16, 30, 12, "gelu", 2, 1e-12, 8),  # no projection
    Electra("bert", 2, 24, 3, 40, 101, 40, "gelu_new", 2, 1e-12, 12),
    Electra("bert", 3, 32, 4, 96, 64, 16, "relu", 3, 1e-6, 48),
]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.layers}")


@shapes
@precisions
def test_states(tmp_path: Path, shape: Electra, dtype: torch.dtype, tolerance: float) -> None:
    model = oracle.build(shape, "ElectraModel")
    learner = reading(tmp_path, model, shape).learner.to(dtype).eval()
    assert not learner.heads
    with torch.no_grad():
        expected = model.to(dtype)(**oracle.padded(shape)).last_hidden_state
        hidden = learner.network(oracle.packed(shape))["tokens"]
        assert oracle.relative(oracle.in_order(hidden), oracle.live(expected)) <= tolerance


@shapes
@pytest.mark.parametrize("labels", [1, 3])
def test_classification_logits(tmp_path: Path, shape: Electra, labels: int) -> None:
    """Over `[CLS]`: a linear map, GELU whatever the layers have, and a linear map."""
    model = oracle.build(shape, "ElectraForSequenceClassification", num_labels=labels)
    oracle.same_classes(reading(tmp_path, model, shape).learner, model, shape)


@shapes
def test_generator_logits_loss_and_gradients(tmp_path: Path, shape: Electra) -> None:
    model = oracle.build(shape, "ElectraForMaskedLM")
    found = reading(tmp_path, model, shape)
    given, labels = oracle.masked_targets(shape)
    oracle.same_masked(found, model, oracle.packed(shape, given), oracle.padded(shape), labels)


@shapes
def test_discriminator_logits_loss_and_gradients(tmp_path: Path, shape: Electra) -> None:
    """On tokens of which it is known which are replaced: the loss is a mean over all that is no padding."""
    model = oracle.build(shape, "ElectraForPreTraining")
    found = reading(tmp_path, model, shape)
    learner = found.learner.eval()
    assert list(learner.heads) == ["replaced_token_detection"]
    rng = np.random.default_rng(3)
    truly = [rng.integers(0, 2, length) for length in oracle.LENGTHS]
    labels = torch.zeros(len(oracle.LENGTHS), max(oracle.LENGTHS), dtype=torch.int64)
    for row, label in enumerate(truly):
        labels[row, : len(label)] = torch.from_numpy(label)
    expected = model(**oracle.padded(shape), labels=labels)
    expected.loss.backward()
    every = [{"replaced_token_detection": (np.arange(len(label)), label)} for label in truly]
    batch = oracle.packed(shape, every)
    batch = replace(
        batch, targets=batch.targets | {"original": batch.targets["replaced_token_detection"]}
    )  # which is only counted
    sums, counts = learner(batch).sums, learner.counts(batch)
    assert int(counts["replaced_token_detection"]) == sum(oracle.LENGTHS)
    with torch.no_grad():
        scores = learner.heads["replaced_token_detection"].scores(oracle.in_order(learner.network(batch)["tokens"]))
        assert oracle.relative(scores, oracle.live(expected.logits)) <= FLOAT32
        correct = ((oracle.live(expected.logits) > 0).long() == oracle.live(labels)).sum()
        assert sums["replaced_token_detection/correct"] == correct
    loss = sums["replaced_token_detection"] / counts["replaced_token_detection"]
    loss.backward()
    assert oracle.relative(loss.detach(), expected.loss.detach()) <= FLOAT32
    oracle.same_gradients(found, model)


KINDS = ["Model", "ForPreTraining", "ForMaskedLM", "ForSequenceClassification"]


@shapes
@pytest.mark.parametrize("kind", KINDS)
def test_from_there_to_here_and_back(tmp_path: Path, shape: Electra, kind: str) -> None:
    model = oracle.build(
        shape, f"Electra{kind}", **({"num_labels": 4, "classifier_dropout": 0.2} if "Sequence" in kind else {})
    )
    found = reading(tmp_path / "theirs", model, shape)
    oracle.there_and_back(tmp_path / "ours", found, model)
    assert max(verify(tmp_path / "ours", found.learner).values()) <= FLOAT32


# --- a model and its generator ------------------------------------------------------------------------------------


def tiny(folder: Path, *more: str) -> tuple[Recipe, Learner, Tokenizer]:
    tokenizer = oracle.tokenizer(folder / "tokenizer", "bert", 40)
    changes = ["model.hidden=16", "model.attention.heads=2", "model.feedforward.size=24", "model.embedding.size=12"]
    recipe = catalog.load("electra/tiny", [*changes, "objectives.0.generator.width=0.5", *more])
    recipe = replace(recipe, tokens=tokenizer.tokens)
    torch.manual_seed(0)
    return recipe, recipe.learner(), tokenizer


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Learner]:
    """A folder of a discriminator with its generator beside it, and the learner that is in it."""
    recipe, learner, tokenizer = tiny(tmp_path)
    save(tmp_path / "model", recipe, learner, tokenizer)
    return tmp_path / "model", learner


def same(found: Learner, expected: Learner) -> bool:
    state, wanted = found.state_dict(), expected.state_dict()
    return state.keys() == wanted.keys() and all(torch.equal(tensor, wanted[name]) for name, tensor in state.items())


def test_a_run_s_folder_holds_both_models(pair: tuple[Path, Learner]) -> None:
    folder, learner = pair
    found = load(folder)
    assert same(found.learner, learner)
    assert list(found.learner.heads) == ["masked_lm_generator", "replaced_token_detection"]
    embed = found.learner.network.token_embedding.weight
    assert len(list(found.learner.parameters())) == len(found.learner.tensors())
    assert found.learner.auxiliary_models()["generator"].learner.network.token_embedding.weight is embed
    page = (folder / "README.md").read_text()
    assert "Trained with a model that lies beside it, in `generator/`." in page
    assert "not in this folder" not in page
    assert "pipeline_tag: feature-extraction" in page
    assert "pipeline_tag: fill-mask" in (folder / "generator" / "README.md").read_text()


def test_hugging_face_reads_both(pair: tuple[Path, Learner]) -> None:
    folder, learner = pair
    discriminator = transformers.AutoModelForPreTraining.from_pretrained(folder)
    generator = transformers.AutoModelForMaskedLM.from_pretrained(folder / "generator")
    assert (type(discriminator).__name__, type(generator).__name__) == ("ElectraForPreTraining", "ElectraForMaskedLM")
    tables = [model.get_input_embeddings().weight for model in (discriminator, generator)]
    assert all(torch.equal(table, learner.network.token_embedding.weight) for table in tables)
    assert generator.config.hidden_size == 8
    pieces = transformers.AutoTokenizer.from_pretrained(folder / "generator").get_vocab()
    assert pieces == transformers.AutoTokenizer.from_pretrained(folder).get_vocab()


def test_both_are_verified(pair: tuple[Path, Learner]) -> None:
    folder, learner = pair
    names = {"hidden", "replaced_token_detection", "generator/hidden", "generator/masked_lm"}
    witnessed = {"transformers/hidden", "transformers/replaced_token_detection"}
    found = verify(folder, learner)
    assert found.keys() == names | witnessed | {
        f"generator/{name}" for name in ("transformers/hidden", "transformers/masked_lm")
    }
    with torch.no_grad():
        learner.heads["masked_lm_generator"].network.projection.bias += 1
    with pytest.raises(GenusError, match="generator: hidden differs"):
        verify(folder, learner)


def test_a_newer_model_takes_the_place_of_an_older(pair: tuple[Path, Learner], tmp_path: Path) -> None:
    folder, learner = pair
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(1)
    recipe, _, tokenizer = tiny(tmp_path)
    save(folder, recipe, learner, tokenizer)
    assert same(load(folder).learner, learner)


def test_the_generator_alone_is_a_masked_language_model(pair: tuple[Path, Learner]) -> None:
    folder, _ = pair
    found = load(folder / "generator")
    assert list(found.learner.heads) == ["masked_lm"]
    assert found.recipe.name == "electra/tiny-generator"
    own = load(folder)
    texts = fill_mask(own.learner, own.tokenizer, "p1 ___ p2", top=3)
    assert texts == fill_mask(found.learner, found.tokenizer, "p1 ___ p2", top=3)


def test_without_its_generator_a_new_one_begins(pair: tuple[Path, Learner], tmp_path: Path) -> None:
    folder, learner = pair
    shutil.rmtree(folder / "generator")
    found = load(folder)
    assert list(found.learner.heads) == ["replaced_token_detection"]
    with pytest.raises(GenusError, match="nor a generator beside it"):
        fill_mask(found.learner, found.tokenizer, "p1 ___ p2")
    recipe, fresh, tokenizer = tiny(tmp_path)
    assert {name.split(".")[1] for name in init_from(found, fresh, tokenizer)} == {"masked_lm_generator"}
    assert torch.equal(fresh.network.token_embedding.weight, learner.network.token_embedding.weight)
    assert recipe.objectives == found.recipe.objectives


@pytest.mark.parametrize("width", [24, 6])
def test_pairs_of_strangers(tmp_path: Path, width: int) -> None:
    """Two folders of Hugging Face without a recipe: the generator's own sizes are taken up, whatever they are."""
    shape = SHAPES[1]
    smaller = {"hidden_size": width, "num_attention_heads": 3, "intermediate_size": 20, "num_hidden_layers": 1}
    discriminator = oracle.build(shape, "ElectraForPreTraining")
    generator = oracle.build(shape, "ElectraForMaskedLM", seed=1, **smaller)
    generator.electra.embeddings.load_state_dict(discriminator.electra.embeddings.state_dict())
    generator.save_pretrained(tmp_path / "generator")
    oracle.write_tokenizer(tmp_path / "generator", "bert", shape.vocab)
    found = reading(tmp_path, discriminator, shape)
    assert list(found.learner.heads) == ["masked_lm_generator", "replaced_token_detection"]
    companion = found.learner.auxiliary_models()["generator"]
    assert isinstance(companion.model, Transformer)
    assert companion.model.hidden == width
    with torch.no_grad():
        hidden = companion.learner.eval().network(oracle.packed(shape))["tokens"]
        expected = generator(**oracle.padded(shape)).logits
        assert oracle.relative(token_logits(companion.learner, hidden), oracle.live(expected)) <= FLOAT32
    save(tmp_path / "again", found.recipe, found.learner, found.tokenizer)
    assert same(load(tmp_path / "again").learner, found.learner)


def test_strangers_that_are_no_pair_are_refused(pair: tuple[Path, Learner], tmp_path: Path) -> None:
    folder, _ = pair
    shape = SHAPES[1]
    reading(tmp_path / "other" / "generator", oracle.build(shape, "ElectraForMaskedLM"), shape)
    with pytest.raises(
        GenusError, match=r"generator: its network\.embed\.tokens\.weight differs from the model's, of which"
    ):
        reading(tmp_path / "other", oracle.build(shape, "ElectraForPreTraining", seed=1), shape)
    larger = oracle.build(shape, "ElectraForMaskedLM", hidden_size=48, num_attention_heads=4)
    reading(tmp_path / "large" / "generator", larger, shape)
    with pytest.raises(GenusError, match="generator: width is 2 of the model's own, but a generator may not be larger"):
        reading(tmp_path / "large", oracle.build(shape, "ElectraForPreTraining"), shape)
    recipe, learner, tokenizer = tiny(tmp_path, "objectives.0.generator.width=1.0")
    save(tmp_path / "wider", recipe, learner, tokenizer)
    shutil.rmtree(folder / "generator")
    shutil.copytree(tmp_path / "wider" / "generator", folder / "generator")
    with pytest.raises(GenusError, match=r"generator: is of another architecture than recipe\.json beside it says"):
        load(folder)


def test_a_damaged_generator_is_named(pair: tuple[Path, Learner]) -> None:
    folder, _ = pair
    edit(folder / "generator" / "config.json", hidden_act="mish")
    with pytest.raises(GenusError, match=r"generator: config.json: hidden_act = 'mish' has no counterpart here"):
        load(folder)
