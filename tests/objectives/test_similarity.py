"""Losses of sentence embeddings against sentence-transformers' classes on the same vectors: values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from genus.batch import IGNORE
from genus.objectives.similarity import EmbeddedRows, SimilarityLoss
from genus.objectives.similarity.info_nce import InfoNCE
from genus.objectives.similarity.scores import CoSENT, CosineRegression
from genus.objectives.similarity.triplet import Triplet

ROWS, SIZE = 7, 5
EXACT = 1e-12


def made(texts: int, label: torch.Tensor | None = None, *, seed: int = 0) -> EmbeddedRows:
    """Return rows of random float64 vectors; without labels, all texts are different ones."""
    draw = torch.Generator().manual_seed(seed)
    vectors = torch.randn(ROWS, texts, SIZE, generator=draw, dtype=torch.float64).requires_grad_()
    there = torch.ones(ROWS, texts, dtype=torch.bool)
    return EmbeddedRows(vectors, there, torch.arange(ROWS * texts).view(ROWS, texts) if label is None else label)


def theirs(name: str, **choices: Any) -> Any:
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    return getattr(losses, name)(model=None, **choices)


def same(ours: SimilarityLoss, rows: EmbeddedRows, reference: Any) -> None:
    columns = [column.detach().clone().requires_grad_() for column in rows.vectors_MKE.unbind(1)]
    expected = reference.compute_loss_from_embeddings(columns, rows.label)
    expected.backward()
    found = ours(rows)
    (gradient,) = torch.autograd.grad(found, rows.vectors_MKE)
    assert found.item() == pytest.approx(expected.item(), rel=EXACT)
    torch.testing.assert_close(gradient, torch.stack([one.grad for one in columns], 1), rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("texts", [2, 3, 4])
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_in_batch_negatives(texts: int, scale: float) -> None:
    same(InfoNCE(scale=scale), made(texts), theirs("MultipleNegativesRankingLoss", scale=scale))


@pytest.mark.parametrize("texts", [2, 3])
def test_in_batch_negatives_in_both_directions(texts: int) -> None:
    reference = theirs(
        "MultipleNegativesRankingLoss", directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
    )
    same(InfoNCE(symmetric=True), made(texts), reference)


@pytest.mark.parametrize(("distance", "metric"), [("euclidean", "EUCLIDEAN"), ("cosine", "COSINE")])
@pytest.mark.parametrize("margin", [0.5, 5.0])
def test_triplets(distance: Any, metric: str, margin: float) -> None:
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    chosen = getattr(losses.TripletDistanceMetric, metric)
    reference = theirs("TripletLoss", distance_metric=chosen, triplet_margin=margin)
    same(Triplet(margin=margin, distance=distance), made(3), reference)


SCORES = torch.tensor([0.0, 0.25, 0.25, 1.0, 0.75, 0.75, 0.5], dtype=torch.float64)
"""Also in float32, in which sentence-transformers takes them."""


def test_regression_of_the_cosine() -> None:
    same(CosineRegression(), made(2, SCORES), theirs("CosineSimilarityLoss"))


def test_scores_of_another_range() -> None:
    """STS-B's are from 0 to 5, SICK's from 1 to 5."""
    plain = CosineRegression()(made(2, SCORES)).item()
    assert CosineRegression(high=5.0)(made(2, 5 * SCORES)).item() == pytest.approx(plain, rel=EXACT)
    assert CosineRegression(low=1.0, high=5.0)(made(2, 1 + 4 * SCORES)).item() == pytest.approx(plain, rel=EXACT)
    with pytest.raises(ValueError, match=r"scores from 0 to 5 are no cosines.*loss\.high=5"):
        CosineRegression().check([0.0, 5.0])
    with pytest.raises(ValueError, match="expected more than low"):
        CosineRegression(low=2.0)


def test_cosent_with_ties() -> None:
    for scale in (1.0, 20.0):
        same(CoSENT(scale=scale), made(2, SCORES), theirs("CoSENTLoss", scale=scale))


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_same_texts_are_no_negatives(symmetric: bool) -> None:
    """Against a loop over what remains: not the positive's text, the anchor's, nor positives of the same anchor."""
    texts = torch.tensor([[0, 1, 9], [2, 1, 3], [0, 4, 5], [6, 7, 0], [8, 2, 10], [11, 12, 13], [14, 15, IGNORE]])
    rows = made(3, texts)
    rows.there_MK[-1, 2] = False
    unit = torch.nn.functional.normalize(rows.vectors_MKE, dim=-1)
    expected = []
    for row, (anchor, positive, _) in enumerate(texts.tolist()):
        own = (unit[row, 0] @ unit[row, 1]) * 20
        scores, back = [own], [own]
        for other, (their_anchor, their_positive, negative) in enumerate(texts.tolist()):
            if other != row and their_positive not in (anchor, positive) and their_anchor != anchor:
                scores.append(unit[row, 0] @ unit[other, 1] * 20)
            if negative not in (anchor, positive, IGNORE):
                scores.append(unit[row, 0] @ unit[other, 2] * 20)
            if other != row and their_anchor not in (anchor, positive) and their_positive != positive:
                back.append(unit[other, 0] @ unit[row, 1] * 20)
        total = torch.stack(scores).logsumexp(0)
        expected.append((total + torch.stack(back).logsumexp(0)) / 2 - own if symmetric else total - own)
    assert InfoNCE(symmetric=symmetric)(rows).item() == pytest.approx(torch.stack(expected).mean().item(), rel=EXACT)


def test_a_triplet_that_lacks_a_negative_says_nothing_of_it() -> None:
    rows = made(4)
    rows.there_MK[2:, 3] = False
    rows.there_MK[5, 2] = False
    anchor, positive, *negatives = rows.vectors_MKE.unbind(1)
    terms = []
    for column, negative in enumerate(negatives, 2):
        for row in range(ROWS):
            if rows.there_MK[row, column]:
                near, far = (anchor[row] - positive[row]).norm(), (anchor[row] - negative[row]).norm()
                terms.append(max(0.0, (near - far + 5).item()))
    assert len(terms) == 8
    assert Triplet()(rows).item() == pytest.approx(sum(terms) / 8, rel=EXACT)
