"""Candidate words for a masked place against Hugging Face's pipeline, and against each token masked in turn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch

from genus import catalog
from genus.batch import Batch, Packed, Targets
from genus.errors import GenusError, UsageError
from genus.evaluate.candidates import score_candidates
from genus.export.folder import LoadedModel, save
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.wordpiece import WordPiece

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ["the cat sat on the mat and the dog ran to the door ."] * 20
ROUNDING = 1e-9


@pytest.fixture(scope="module", params=["bert/base", "roberta/base"])
def model(request: pytest.FixtureRequest) -> LoadedModel:
    """A model of random weights, large enough for its guesses to differ."""
    kind = WordPiece(vocab_size=60, lowercase=True) if request.param == "bert/base" else ByteBPE(vocab_size=290)
    tokenizer = kind.train(TEXTS)
    sizes = ["model.layers=2", "model.attention.heads=2", "model.hidden=32", "model.initialization.std=0.5"]
    recipe = catalog.load(request.param, sizes).overlay({"tokens": tokenizer.tokens.to_json()})
    torch.manual_seed(0)
    return LoadedModel(recipe, recipe.learner().double(), tokenizer)


def test_words_of_one_token_equal_the_pipeline(model: LoadedModel, tmp_path: Path) -> None:
    """Its targets are tokens; those of a byte-level BPE hold the space before, which it replaces."""
    transformers = pytest.importorskip("transformers")
    save(tmp_path / "model", model.recipe, model.learner, model.tokenizer)
    theirs = transformers.pipeline("fill-mask", model=str(tmp_path / "model"), dtype=torch.float64)
    spaced = "\u0120the" in model.tokenizer.pieces
    words = ["the", "cat", "on", "mat", "to"]
    found = score_candidates(model.learner, model.tokenizer, "the cat sat on ___ mat", words)
    ones = [one for one in found if one.tokens == 1]
    assert len(ones) == 5 if not spaced else ones
    mask, between = theirs.tokenizer.mask_token, "" if spaced else " "
    for one in ones:
        (given,) = theirs(f"the cat sat on{between}{mask} mat", targets=["\u0120" * spaced + one.word])
        assert one.nats == pytest.approx(math.log(given["score"]), abs=1e-6)


def test_words_of_several_tokens_are_masked_one_by_one(model: LoadedModel) -> None:
    """Against forward passes of one sequence each; a token of white space alone is none of the word's."""
    text, words = ("the dog ran to ", " ."), ["door", "mat", "catdog"]
    found = {one.word: one for one in score_candidates(model.learner, model.tokenizer, "___".join(text), words)}
    assert max(one.tokens for one in found.values()) > 1
    vocabulary, head = model.tokenizer.vocabulary, model.learner.heads["masked_lm"]
    for word in words:
        around = [model.tokenizer.encode([side], specials=False)[0] for side in (text[0].rstrip(), text[1])]
        (whole,) = model.tokenizer.encode([word.join(text)], specials=False)
        own = [
            n for n in range(len(around[0]), len(whole) - len(around[1])) if model.tokenizer.decode([whole[n]]).strip()
        ]
        ids = torch.from_numpy(vocabulary.frame(torch.tensor(whole).numpy())[0])
        total = 0.0
        for place in own:
            hidden = ids.clone()
            hidden[place + 1] = vocabulary.mask
            packed = Packed.laid(hidden, [[len(ids)]], len(ids), {"segment": torch.zeros_like(ids)})
            at = Targets(torch.tensor([place + 1]), ids[place + 1][None])
            batch = Batch({"tokens": packed}, {head.target: at}, heads=frozenset({"masked_lm"}))
            with torch.no_grad():
                logits = model.learner.eval().outputs(batch)["masked_lm"]["logits"][0]
            total += float(logits.log_softmax(-1)[ids[place + 1]])
        assert (found[word].nats, found[word].tokens) == (pytest.approx(total, abs=ROUNDING), len(own))
    assert sum(one.probability for one in found.values()) == pytest.approx(1)
    shares = {word: math.exp(one.nats) for word, one in found.items()}
    for word, one in found.items():
        assert one.probability == pytest.approx(shares[word] / sum(shares.values()))


def test_what_cannot_be_scored_is_refused(model: LoadedModel) -> None:
    for text, words, message in [
        ("the cat sat", ["on"], "has 0 masks"),
        ("the ___ sat ___", ["on"], "has 2 masks"),
        ("the ___ sat", [], "no candidate"),
        ("the ___ sat", [""], "leaves nothing of the candidate ''"),
    ]:
        with pytest.raises(UsageError, match=message):
            score_candidates(model.learner, model.tokenizer, text, words)
    with pytest.raises(UsageError, match="the model 4 positions"):
        score_candidates(model.learner, model.tokenizer, "the ___ sat on the mat", ["cat"], max_length=4)
    headless = LoadedModel(model.recipe, type(model.learner)(model.learner.network, {}), model.tokenizer)
    with pytest.raises(GenusError, match="no masked-language-model head"):
        score_candidates(headless.learner, model.tokenizer, "the ___ sat", ["cat"])
