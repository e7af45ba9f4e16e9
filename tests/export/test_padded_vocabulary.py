"""Embeddings with more rows than the tokenizer has tokens: read, run, trained further, and written back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import oracle
import pytest
import torch
import transformers
from folders import SIZE, edit, rewrite, tiny
from test_native import made

from genus import pipeline
from genus.cost import cost
from genus.errors import GenusError
from genus.evaluate.fill import fill_mask
from genus.export.folder import load, save
from genus.export.starting.distillation import TeacherFolder
from genus.export.starting.transplant import init_from
from genus.export.verify import verify
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.tasks.start import Start

if TYPE_CHECKING:
    from pathlib import Path

    from genus.export.folder import LoadedModel

PADDED = 64
"""40 tokens, filled up to a multiple of 64."""
MODEL = {"bert": "BertForMaskedLM", "roberta": "RobertaForMaskedLM"}
ROWS = {"bert": 64, "roberta": 320}


def padded(tmp_path: Path, member: str = "bert") -> Path:
    """Write what a user has after `resize_token_embeddings`, with random rows at the end; without a recipe of ours."""
    save(tmp_path / "model", *tiny(member, tmp_path, *([MaskedLM()] if member == "bert" else [])))
    model = getattr(transformers, MODEL[member]).from_pretrained(tmp_path / "model")
    model.resize_token_embeddings(SIZE[member], pad_to_multiple_of=64)
    oracle.scramble(model).save_pretrained(tmp_path / "padded")
    transformers.AutoTokenizer.from_pretrained(tmp_path / "model").save_pretrained(tmp_path / "padded")
    return tmp_path / "padded"


@pytest.mark.parametrize("member", ["bert", "roberta"])
def test_it_is_read_as_transformers_reads_it_and_written_back(tmp_path: Path, member: str) -> None:
    folder = padded(tmp_path, member)
    found = load(folder)
    assert found.recipe.padded_vocab_size == ROWS[member]
    assert found.learner.network.token_embedding.num_embeddings == ROWS[member]
    model = getattr(transformers, MODEL[member]).from_pretrained(folder)
    oracle.there_and_back(tmp_path / "again", found, model, free={"classifier_dropout"})
    differences = verify(tmp_path / "again", found.learner)
    assert differences["transformers/masked_lm"] <= oracle.FLOAT32


def test_completions_are_tokens_with_the_probabilities_that_transformers_gives(tmp_path: Path) -> None:
    """The rows beyond the tokens take their share of the probability, and are never shown."""
    folder = padded(tmp_path)
    found = load(folder)
    text = "p1 p2 ___ p4"
    (best,) = fill_mask(found.learner, found.tokenizer, text, top=PADDED)
    reader = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder)
    given = reader(text.replace("___", "[MASK]"), return_tensors="pt")
    with torch.no_grad():
        chances = model(**given).logits[0, 3].softmax(-1)
    shown = {one.token: one.probability for one in best if one.probability}
    assert len(shown) == SIZE["bert"] - 5
    for token, probability in shown.items():
        assert probability == pytest.approx(float(chances[reader.convert_tokens_to_ids(token)]), rel=1e-4)


def test_a_recipe_may_ask_for_more_rows(tmp_path: Path) -> None:
    """Of the network, the heads and the costs; it goes out with its recipe, and comes back with it."""
    recipe, _, tokenizer = tiny("bert", tmp_path)
    recipe = recipe.override("padded_vocab_size", PADDED)
    learner = recipe.learner()
    assert learner.state_dict()["network.embed.tokens.weight"].shape == (PADDED, 16)
    assert cost(recipe).parameters == sum(one.numel() for one in learner.parameters())
    save(tmp_path / "model", recipe, learner, tokenizer)
    again = load(tmp_path / "model")
    assert again.recipe == recipe
    assert torch.equal(again.learner.network.token_embedding.weight, learner.network.token_embedding.weight)


def test_folders_that_only_genus_reads_too(tmp_path: Path) -> None:
    recipe, _, words = made("memory", tmp_path)
    recipe = replace(recipe, tokens=words.tokens, padded_vocab_size=PADDED)
    learner = recipe.learner()
    save(tmp_path / "model", recipe, learner, words)
    found = load(tmp_path / "model")
    assert found.recipe == recipe
    assert found.learner.network.token_embedding.num_embeddings == PADDED


def test_a_model_that_was_padded_after_genus_wrote_it(tmp_path: Path) -> None:
    """Its recipe says nothing of the rows that have come since."""
    save(tmp_path / "model", *tiny("bert", tmp_path))
    model = transformers.BertForPreTraining.from_pretrained(tmp_path / "model")
    model.resize_token_embeddings(SIZE["bert"], pad_to_multiple_of=64)
    model.save_pretrained(tmp_path / "model")
    found = load(tmp_path / "model")
    assert found.recipe == replace(tiny("bert", tmp_path)[0], padded_vocab_size=PADDED)


def test_training_goes_on_with_all_rows(tmp_path: Path) -> None:
    """Fine-tuning, a start with the same tokenizer, and a student of such a teacher."""
    found = load(padded(tmp_path))
    start = Start(found.recipe, found.tokenizer, found.learner)
    tuned = start.fine_tuned(regression(), found.recipe.finetuning)
    rows = found.learner.network.token_embedding.weight
    assert torch.equal(start.build(tuned, 0).network.token_embedding.weight, rows)

    fresh = replace(found.recipe, seed=1).learner()
    assert init_from(found, fresh, found.tokenizer) == []
    assert torch.equal(fresh.network.token_embedding.weight, rows)

    recipe, learner = pipeline.from_pretrained(
        tiny("bert", tmp_path, MaskedLM())[0], found.tokenizer, tmp_path / "padded"
    )
    assert recipe.padded_vocab_size == PADDED
    assert torch.equal(learner.network.token_embedding.weight, rows)

    taught = TeacherFolder(tmp_path, found).taught(tiny("bert", tmp_path)[0])
    assert taught.padded_vocab_size == PADDED


def regression() -> Any:
    from genus.objectives.supervised.sequence import SequenceRegression

    return SequenceRegression()


@pytest.mark.parametrize("rows", [None, 96])
def test_a_new_vocabulary_takes_the_rows_of_tokens_alone(tmp_path: Path, rows: int | None) -> None:
    """A new piece gets the mean of old pieces', never of rows that no token has."""
    found: LoadedModel = load(padded(tmp_path))
    new = oracle.tokenizer(tmp_path / "new", "bert", 50)
    fresh = replace(found.recipe, tokens=new.tokens, padded_vocab_size=rows).learner()
    before = fresh.network.token_embedding.weight.detach().clone()
    assert init_from(found, fresh, new) == []
    after, old = fresh.network.token_embedding.weight, found.learner.network.token_embedding.weight
    assert torch.equal(after[:40], old[:40])
    assert torch.allclose(after[45], old[:40].mean(0))
    assert torch.equal(after[50:], before[50:])


WRONG = "the tokenizer has 40 pieces, the model 64: they do not belong together"


def test_rows_of_which_the_configuration_says_nothing_are_refused(tmp_path: Path) -> None:
    folder = padded(tmp_path)
    edit(folder / "config.json", vocab_size=40)
    with pytest.raises(GenusError, match=WRONG):
        load(folder)


def test_a_tokenizer_that_is_not_the_recipe_s_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "model", *tiny("bert", tmp_path))
    oracle.tokenizer(tmp_path / "other", "bert", 30).save(tmp_path / "model")
    with pytest.raises(GenusError, match="the tokenizer has 30 pieces, the model 40: they do not belong together"):
        load(tmp_path / "model")


def test_fewer_rows_than_tokens_are_refused(tmp_path: Path) -> None:
    folder = padded(tmp_path)
    rewrite(folder, lambda tensors: {n: t[:32] if len(t) == PADDED else t for n, t in tensors.items()})
    edit(folder / "config.json", vocab_size=32)
    with pytest.raises(GenusError, match="the tokenizer has 40 pieces, the model 32: they do not belong together"):
        load(folder)
