"""BERTScore beside the equations of the paper written out, and beside the authors' package where it is installed."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from genus import catalog
from genus.errors import UsageError
from genus.evaluate.bert_score import BertScorer, check_encoder, greedy_recall, inverse_document_frequency
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.objectives import answering
from genus.tokens.algorithms.wordpiece import WordPiece
from small import documents, shrunk

if TYPE_CHECKING:
    from genus.tokens.tokenizer import Tokenizer

TEXTS = ["The old river carries seven stones.", "A small train remembers the long letter", "river river stones", "x"]
OTHERS = ["The old train carries seven letters.", "A small train remembers the long letter", "a narrow bridge", "house"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return WordPiece(vocab_size=400, lowercase=True).train(documents())


@pytest.fixture(scope="module")
def scorer(tokenizer: Tokenizer) -> BertScorer:
    torch.manual_seed(0)
    recipe = shrunk(catalog.load("bert/tiny")).override("model.initialization.std", 0.2)
    learner = replace(recipe, tokens=tokenizer.tokens).learner()
    return BertScorer(learner, tokenizer, 64, references=tuple(documents()[:30]))


def states(scorer: BertScorer, text: str) -> tuple[list[int], list[list[float]], list[bool]]:
    """Return ids and states of a text that is read alone, and which tokens are those of the template."""
    vocabulary = scorer.tokenizer.vocabulary
    ids = np.array(scorer.tokenizer.encode([text], specials=False)[0], np.int64)
    sequence = Sequence(*vocabulary.frame(ids))
    batch = pack([[Example({"tokens": sequence}, {})]], len(sequence.ids), vocabulary.pad, streams=False)
    with answering(scorer.learner):
        network = scorer.learner.network
        if scorer.layer == -1:
            found = network(batch)["tokens"]
        else:
            found = (network(batch, layers=True).layers or ())[scorer.layer]
    return sequence.ids.tolist(), found.double().tolist(), sequence.fixed.tolist()


def cosine(one: list[float], other: list[float]) -> float:
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))


def recall(scorer: BertScorer, of: str, among: str) -> float:
    """Σ idf(x_i) max_j cos(x_i, y_j) / Σ idf(x_i), with the idf of the references, and none of special tokens."""
    ids, x, fixed = states(scorer, of)
    _, y, _ = states(scorer, among)
    each = [set(one) for one in scorer.tokenizer.encode(list(scorer.references), specials=False)]
    weights = [
        0.0 if framing else 1.0 if not each
        else math.log((len(each) + 1) / (sum(token in one for one in each) + 1))
        for token, framing in zip(ids, fixed, strict=True)
    ]  # fmt: skip
    best = [max(cosine(one, other) for other in y) for one in x]
    return sum(w * value for w, value in zip(weights, best, strict=True)) / sum(weights)


@pytest.mark.parametrize("layer", [-1, 0, 1])
@pytest.mark.parametrize("weighted", [True, False])
def test_scores_are_those_of_the_paper(scorer: BertScorer, layer: int, weighted: bool) -> None:
    own = replace(scorer, layer=layer, references=scorer.references if weighted else ())
    for candidate, reference, found in zip(OTHERS, TEXTS, own(OTHERS, TEXTS), strict=True):
        r, p = recall(own, reference, candidate), recall(own, candidate, reference)
        assert found.recall == pytest.approx(r, abs=1e-5)
        assert found.precision == pytest.approx(p, abs=1e-5)
        assert found.f1 == pytest.approx(2 * p * r / (p + r), abs=1e-5)


def test_a_text_is_as_similar_as_can_be_to_itself(scorer: BertScorer) -> None:
    for one in scorer(TEXTS, TEXTS):
        assert (one.precision, one.recall, one.f1) == pytest.approx((1.0, 1.0, 1.0), abs=1e-5)
    assert all(one.f1 < 0.999 for one in scorer(OTHERS[2:], TEXTS[2:]))


def test_layers_differ_and_neighbors_change_nothing(scorer: BertScorer) -> None:
    (alone,) = scorer(OTHERS[:1], TEXTS[:1])
    assert scorer(OTHERS * 3, TEXTS * 3)[0].f1 == pytest.approx(alone.f1, abs=1e-6)
    assert replace(scorer, layer=0)(OTHERS[:1], TEXTS[:1])[0].f1 != pytest.approx(alone.f1, abs=1e-4)
    with pytest.raises(UsageError, match="there is no 9"):
        replace(scorer, layer=9)(OTHERS, TEXTS)


def test_texts_without_a_token_have_no_similarity(scorer: BertScorer) -> None:
    assert [one.f1 for one in scorer(["", "a", ""], ["a river", "", ""])] == [0.0, 0.0, 0.0]


def test_long_texts_are_cut(scorer: BertScorer) -> None:
    long = "river " * 300
    short = replace(scorer, max_length=12)
    assert short([long], ["river " * 10])[0].f1 == pytest.approx(1.0, abs=1e-5)


def test_idf_is_that_of_the_authors() -> None:
    found = inverse_document_frequency([[1, 1, 2], [2, 3], [2]], 5)
    assert found.tolist() == pytest.approx([math.log(4 / n) for n in (1, 2, 4, 2, 1)])


def test_all_tokens_count_alike_where_none_has_a_weight(tokenizer: Tokenizer, scorer: BertScorer) -> None:
    """In one reference every token has the idf 0."""
    one = replace(scorer, references=("a small train",))
    alike = replace(scorer, references=())
    assert one(["a train"], ["a small train"])[0].recall == pytest.approx(
        alike(["a train"], ["a small train"])[0].recall
    )


def test_recall_reaches_both_sides_with_gradients() -> None:
    x, y = (torch.randn(size, 8, dtype=torch.float64, requires_grad=True) for size in (4, 6))
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    found = greedy_recall(x, torch.stack([y, y.flip(0)]), weights)
    assert found.shape == (2,)
    assert found[0].item() == pytest.approx(found[1].item())
    assert torch.autograd.gradcheck(lambda a, b: greedy_recall(a, b, weights), (x, y))


def test_a_model_that_reads_a_source_is_refused() -> None:
    with pytest.raises(UsageError, match="reads a source beside its text"):
        check_encoder(catalog.load("t5/tiny").model, "t5")


@pytest.mark.skipif(importlib.util.find_spec("bert_score") is None, reason="needs the authors' package")
def test_scores_are_those_of_the_authors_package(scorer: BertScorer) -> None:
    utils: Any = importlib.import_module("bert_score.utils")
    for candidate, reference, found in zip(OTHERS, TEXTS, scorer(OTHERS, TEXTS), strict=True):
        sides = []
        for text in (reference, candidate):
            ids, own, fixed = states(scorer, text)
            weights = scorer.weights_V.double()[ids] * ~torch.tensor(fixed)
            sides += [torch.tensor([own]), torch.ones(1, len(ids)), weights[None].clone()]
        precision, recalled, f1 = utils.greedy_cos_idf(*sides)
        assert (found.precision, found.recall, found.f1) == pytest.approx(
            (precision.item(), recalled.item(), f1.item()), abs=1e-5
        )
