"""Completions against Hugging Face's fill-mask pipeline."""

from pathlib import Path

import pytest
import torch

from genus import catalog
from genus.errors import GenusError, UsageError
from genus.evaluate.fill import fill_mask
from genus.export.folder import LoadedModel, load, save
from genus.inference.engine import Inference
from genus.recipe import Recipe
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.wordpiece import WordPiece

ROUNDING = 1e-6
"""Probabilities from float32 sums in another order."""

TEXTS = ["the cat sat on the mat and the dog ran to the door ."] * 20


def tiny(name: str) -> Recipe:
    sizes = ["model.layers=2", "model.attention.heads=2", "model.hidden=32"]
    return catalog.load(name, [*sizes, "model.initialization.std=0.5"])


@pytest.fixture(scope="module", params=["bert/base", "roberta/base"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights, large enough for its guesses to differ."""
    bert = request.param.startswith("bert")
    kind = WordPiece(vocab_size=100, lowercase=True) if bert else ByteBPE(vocab_size=300)
    tokenizer, folder = kind.train(TEXTS), tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    recipe = tiny(request.param).overlay({"tokens": tokenizer.tokens.to_json()})
    save(folder, recipe, recipe.learner(), tokenizer)
    return folder


@pytest.fixture
def model(folder: Path) -> LoadedModel:
    return load(folder)


def test_tokens_and_probabilities_equal_hugging_face(folder: Path, model: LoadedModel) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.pipeline("fill-mask", model=str(folder), top_k=30, dtype=torch.float64)
    mask = model.tokenizer.tokens.special_tokens.mask
    ours = fill_mask(model.learner.double(), model.tokenizer, "the cat ___ on the mat.", top=10)
    specials = set(model.tokenizer.tokens.special_tokens.names())
    expected = [each for each in theirs(f"the cat {mask} on the mat.") if each["token_str"] not in specials][:10]
    assert [each.token for each in ours[0]] == [each["token_str"].strip() for each in expected]
    assert [each.probability for each in ours[0]] == pytest.approx([each["score"] for each in expected], abs=ROUNDING)
    assert ours[0][0].text == f"the cat {ours[0][0].token} on the mat."


def test_several_masks_and_every_way_to_write_them(model: LoadedModel) -> None:
    mask = model.tokenizer.tokens.special_tokens.mask
    ours = fill_mask(model.learner, model.tokenizer, "the [MASK] sat on <mask> _____ .", top=3)
    assert ours == fill_mask(model.learner, model.tokenizer, f"the {mask} sat on {mask} {mask} .", top=3)
    assert [len(best) for best in ours] == [3, 3, 3]
    assert ours[1][0].text == f"the {mask} sat on {ours[1][0].token} {mask} ."
    assert ours[0] == sorted(ours[0], key=lambda each: -each.probability)


def test_what_cannot_be_completed(model: LoadedModel) -> None:
    with pytest.raises(UsageError, match="has no mask; write"):
        fill_mask(model.learner, model.tokenizer, "the cat sat")
    with pytest.raises(UsageError, match=r"the text has 60\d tokens, the model 512 positions"):
        fill_mask(model.learner, model.tokenizer, "cat " * 600 + "___", max_length=model.recipe.model.max_length)
    for top in (0, -1):
        with pytest.raises(UsageError, match=f"top: expected at least 1, got {top}"):
            fill_mask(model.learner, model.tokenizer, "the ___ sat", top=top)
    del model.learner.heads["masked_lm"]
    with pytest.raises(GenusError, match="no masked-language-model head"):
        fill_mask(model.learner, model.tokenizer, "the ___ sat")


def test_the_learner_stays_in_training_mode(tmp_path: Path) -> None:
    tokenizer = WordPiece(vocab_size=100, lowercase=True).train(TEXTS)
    learner = tiny("bert/base").overlay({"tokens": tokenizer.tokens.to_json()}).learner()
    before = torch.get_rng_state()
    fill_mask(learner, tokenizer, "the ___ sat")
    assert learner.training
    assert torch.equal(torch.get_rng_state(), before)


def test_every_module_stays_in_its_mode(model: LoadedModel) -> None:
    model.learner.train()
    model.learner.network.eval()
    fill_mask(model.learner, model.tokenizer, "the ___ sat")
    assert model.learner.training
    assert model.learner.heads["masked_lm"].training
    assert not any(module.training for module in model.learner.network.modules())


def test_the_precision_is_the_one_asked_for(model: LoadedModel) -> None:
    """Of the network; the head answers in float32, so that different tokens are no ties."""
    seen: dict[str, list[torch.dtype]] = {"network": [], "head": []}
    learners: list[object] = []
    layer = next(part for part in model.learner.network.modules() if isinstance(part, torch.nn.Linear))
    head = model.learner.heads["masked_lm"].lm_head
    with (
        model.learner.register_forward_hook(lambda *given: learners.append(given[0])),
        layer.register_forward_hook(lambda *given: seen["network"].append(given[2].dtype)),
        head.register_forward_hook(lambda *given: seen["head"].append(given[2].dtype)),  # type: ignore[operator, union-attr]
    ):
        rounded = fill_mask(model.learner, model.tokenizer, "the ___ sat", engine=Inference("bfloat16"))
        exact = fill_mask(model.learner, model.tokenizer, "the ___ sat")
    assert seen == {"network": [torch.bfloat16, torch.float32], "head": [torch.float32, torch.float32]}
    assert learners == [model.learner] * 2
    assert rounded != exact
