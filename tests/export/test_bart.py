"""BART's folders: states, logits, loss and gradients of transformers' classes, both ways, and their parameters."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from genus import pipeline
from genus.batch import Batch, Targets
from genus.cost import cost
from genus.export.folder import load, save
from genus.export.verify import verify
from genus.model.skeleton import skeleton
from genus.objectives.masking.fragments import FragmentMasking
from genus.objectives.pretraining.masked_seq_to_seq import MaskedSeqToSeq
from genus.recipes import bart
from genus.tokens.tokenizer import CHOICES
from hand import equal_rows
from small import documents

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Learner
    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")

SINGLE = 1e-6
"""Of losses, which are computed in float32."""
LIKE = 1e-5
"""Of float32 sums in another order, through a few layers."""
ROWS = [bart.BASE, bart.TINY]
rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def narrow(row: Recipe) -> Recipe:
    """Return the row with two narrow layers on either side, and a vocabulary for a few documents."""
    own = {"layers": 2, "hidden": 32, "attention": {"heads": 4}, "feedforward": {"size": 48}}
    sides = {"encoder": own, "decoder": own | {"cross": {"heads": 4}}}
    return row.overlay({"tokens": {"vocab_size": 300}, "model": sides})


def made(row: Recipe) -> tuple[Recipe, Learner, Tokenizer]:
    """Return the row made narrow, with random weights, and an output bias that is not 0."""
    recipe = narrow(row)
    tokenizer = recipe.tokens.train(documents())
    torch.manual_seed(0)
    recipe, learner = pipeline.new_learner(recipe, tokenizer)
    for name, buffer in learner.named_buffers():
        if name.endswith("lm_head.bias"):
            buffer.normal_()
    return recipe, learner, tokenizer


def theirs(folder: Path, recipe: Recipe, learner: Learner, tokenizer: Tokenizer) -> torch.nn.Module:
    """Return a class of theirs with random weights of its own, which is written there with a tokenizer."""
    save(folder / "ours", recipe, learner, tokenizer)
    config = transformers.AutoConfig.from_pretrained(folder / "ours")
    torch.manual_seed(1)
    model = transformers.BartForConditionalGeneration(config).double().eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3 if weight.dim() > 1 else 0.1)
    model.final_logits_bias.normal_()
    model.save_pretrained(folder / "theirs")
    tokenizer.save(folder / "theirs")
    (folder / "theirs" / CHOICES).unlink()  # as nobody but genus writes it
    return model


@rows
def test_the_folder_is_that_of_transformers(row: Recipe, tmp_path: Path) -> None:
    recipe, learner, tokenizer = made(row)
    save(tmp_path / "model", recipe, learner, tokenizer)
    found = verify(tmp_path / "model", learner)
    both = {"hidden", "denoising_autoencoder"}
    assert found.keys() == both | {f"transformers/{name}" for name in both}
    assert max(found.values()) < LIKE


@rows
def test_round_trips_are_the_identity(row: Recipe, tmp_path: Path) -> None:
    """Of our tensors and recipe, and of the tensors and the configuration of a folder of theirs."""
    recipe, learner, tokenizer = made(row)
    model = theirs(tmp_path, recipe, learner, tokenizer)
    again = load(tmp_path / "ours")
    assert again.recipe == replace(recipe, tokens=tokenizer.tokens)
    assert again.tokenizer.hash() == tokenizer.hash()
    ours = learner.state_dict()
    assert ours.keys() == again.learner.state_dict().keys()
    assert all(torch.equal(ours[name], tensor) for name, tensor in again.learner.state_dict().items())
    read = load(tmp_path / "theirs", torch.float64)
    save(tmp_path / "back", read.recipe, read.learner, read.tokenizer)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "back"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    config, written = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("theirs", "back"))
    assert {key: config.get(key, written[key]) for key in written} == written
    kept = transformers.BartForConditionalGeneration.from_pretrained(tmp_path / "back").double()
    assert all(torch.equal(value, kept.state_dict()[name]) for name, value in model.state_dict().items())


@rows
def test_loss_states_and_gradients(row: Recipe, tmp_path: Path) -> None:
    """Of their class with its own random weights, read by us, which shifts the labels itself."""
    model = theirs(tmp_path, *made(row))
    read = load(tmp_path / "theirs", torch.float64).learner.eval()
    source, labels = torch.randint(3, 90, (3, 11)), torch.randint(3, 90, (3, 7))
    labels[:, 0], labels[:, -1] = 0, 2
    found = model(input_ids=source, labels=labels, output_hidden_states=True)
    (found.loss * labels.numel()).backward()
    given = torch.cat([torch.full((3, 1), 2), labels[:, :-1]], 1)  # shift_tokens_right
    targets = {"denoising_autoencoder": Targets(torch.arange(labels.numel()), labels.flatten())}
    batch = Batch({"tokens": equal_rows(given), "source": equal_rows(source)}, targets)
    states = read.network(batch)
    torch.testing.assert_close(states["tokens"].view(3, 7, -1), found.decoder_hidden_states[-1], rtol=0, atol=1e-10)
    torch.testing.assert_close(states["source"].view(3, 11, -1), found.encoder_last_hidden_state, rtol=0, atol=1e-10)
    logits = read.outputs(batch)["denoising_autoencoder"]["logits"]
    torch.testing.assert_close(logits.view(found.logits.shape), found.logits, rtol=0, atol=1e-9)
    ours = read(batch).sums["denoising_autoencoder"]
    ours.backward()
    torch.testing.assert_close(ours.double(), found.loss * labels.numel(), rtol=SINGLE, atol=0)
    encoder, decoder = read.network.encoder, read.network.decoder
    for mine, other in (
        (encoder.embed.tokens.weight, model.model.shared.weight),
        (encoder.embed.positions.table.weight, model.model.encoder.embed_positions.weight),
        (decoder.embed.norm.weight, model.model.decoder.layernorm_embedding.weight),
        (decoder.layers[1].cross.key.weight, model.model.decoder.layers[1].encoder_attn.k_proj.weight),
        (decoder.layers[0].feedforward.out.bias, model.model.decoder.layers[0].fc2.bias),
        (encoder.layers[0].attention.out.weight, model.model.encoder.layers[0].self_attn.out_proj.weight),
    ):
        torch.testing.assert_close(mine.grad, other.grad, rtol=SINGLE, atol=SINGLE)


def test_the_decoder_begins_as_labels_are_shifted(tmp_path: Path) -> None:
    """With the end token and the token that begins a text, also where the tokenizer's files say nothing of it."""
    recipe, learner, tokenizer = made(bart.TINY)
    theirs(tmp_path, recipe, learner, tokenizer)
    read = load(tmp_path / "theirs")
    for one in (tokenizer, read.tokenizer):
        ids, _, fixed = one.vocabulary.frame_target(torch.tensor([7, 8]).numpy())
        assert ids.tolist() == [2, 0, 7, 8, 2]
        assert fixed.tolist() == [True, True, False, False, True]
    labels = torch.tensor([[0, 7, 8, 2]])
    from transformers.models.bart.modeling_bart import shift_tokens_right

    assert shift_tokens_right(labels, 1, 2).tolist() == [[2, 0, 7, 8]]
    assert read.recipe.stages[0].source_length == recipe.model.encoder.max_length  # type: ignore[attr-defined]


def test_folders_without_the_bias_have_none(tmp_path: Path) -> None:
    """A class that is named has its head; a bare model has none. A bare model's own files have names without prefix."""
    recipe, learner, tokenizer = made(bart.TINY)
    theirs(tmp_path, recipe, learner, tokenizer)
    file, config = (tmp_path / "theirs" / name for name in ("model.safetensors", "config.json"))
    save_file({name: one for name, one in load_file(file).items() if name != "final_logits_bias"}, file)
    read = load(tmp_path / "theirs").learner
    assert not read.heads["denoising_autoencoder"].lm_head.bias.any()
    config.write_text(json.dumps(json.loads(config.read_text()) | {"architectures": ["BartModel"]}))
    assert not load(tmp_path / "theirs").learner.heads
    bare = transformers.BartModel.from_pretrained(tmp_path / "theirs")
    bare.save_pretrained(tmp_path / "bare")
    tokenizer.save(tmp_path / "bare")
    assert not load(tmp_path / "bare").learner.heads
    config = tmp_path / "bare" / "config.json"
    named = {"architectures": ["BartForConditionalGeneration"]}
    config.write_text(json.dumps(json.loads(config.read_text()) | named))
    again = load(tmp_path / "bare").learner.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in read.state_dict().items())


@pytest.mark.parametrize("key", ["scale_embedding", "normalize_before", "add_final_layer_norm"])
def test_relatives_that_compute_something_else_are_refused(key: str, tmp_path: Path) -> None:
    recipe, learner, tokenizer = made(bart.TINY)
    save(tmp_path / "model", recipe, learner, tokenizer)
    (tmp_path / "model" / "recipe.json").unlink()
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {key: True}))
    with pytest.raises(Exception, match=f"{key} = True has no counterpart here"):
        load(tmp_path / "model")


def test_other_objectives_of_the_model_are_written_as_it_too(tmp_path: Path) -> None:
    masked = MaskedSeqToSeq(masking=FragmentMasking(rate=0.5), output=bart.BASE.objectives[0].output)  # type: ignore[attr-defined]
    recipe, learner, tokenizer = made(replace(bart.TINY, objectives=(masked,)))
    save(tmp_path / "model", recipe, learner, tokenizer)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["architectures"] == [
        "BartForConditionalGeneration"
    ]
    assert max(verify(tmp_path / "model", learner).values()) < LIKE


@pytest.mark.parametrize("name", ["base", "large"])
def test_parameters_are_those_of_the_class(name: str) -> None:
    """Of the released sizes: BartConfig's are those of the large one."""
    row = {"base": bart.BASE, "large": bart.LARGE}[name]
    sizes = {"d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072}
    sizes |= {"encoder_attention_heads": 12, "decoder_attention_heads": 12}
    config = transformers.BartConfig(**sizes if name == "base" else {})
    with skeleton():
        model = transformers.BartForConditionalGeneration(config)
    assert cost(row).parameters == sum(weight.numel() for weight in model.parameters())
    assert row.published.parameters is not None
    assert abs(cost(row).parameters / row.published.parameters - 1) < 0.02
