"""Ranking metrics against sentence-transformers' evaluators, and written out where ties and gaps are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from genus.evaluate.ranking import MAP, MRR, NDCG, Ranks, Recall, ranks_within
from genus.tasks.embedded_rows import ranked

QUERIES, PASSAGES, SIZE = 20, 300, 8
METRICS = (NDCG(), NDCG(k=3), MRR(), MRR(k=1), Recall(), Recall(k=3), MAP())


@pytest.fixture(scope="module")
def vectors() -> tuple[torch.Tensor, torch.Tensor, list[list[int]]]:
    """Random vectors; a query has up to twelve relevant passages, and is near to some of them."""
    draw = torch.Generator().manual_seed(0)
    passages = torch.randn(PASSAGES, SIZE, generator=draw)
    relevant = [sorted(torch.randperm(PASSAGES, generator=draw)[: 1 + query % 12].tolist()) for query in range(QUERIES)]
    near = torch.stack([passages[few].mean(0) for few in relevant])
    return near + 0.7 * torch.randn(QUERIES, SIZE, generator=draw), passages, relevant


class Given:
    """What the evaluators ask of an embedder: vectors by text, which here is a number."""

    similarity_fn_name = "cosine"
    model_card_data = None

    def __init__(self, **vectors: torch.Tensor) -> None:
        self.vectors = vectors

    def similarity(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        one, other = (torch.nn.functional.normalize(side.double(), dim=-1) for side in (one, other))
        return one @ other.T

    def encode_query(self, texts: list[str], **_: Any) -> torch.Tensor:
        return self.vectors["queries"][[int(text) for text in texts]]

    def encode_document(self, texts: list[str], **_: Any) -> torch.Tensor:
        return self.vectors["passages"][[int(text) for text in texts]]


@pytest.mark.parametrize("cells", [1 << 24, QUERIES * 7])
def test_retrieval_equals_sentence_transformers(vectors: Any, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = pytest.importorskip("sentence_transformers.sentence_transformer.evaluation")
    monkeypatch.setattr("genus.tasks.embedded_rows.CELLS", cells)
    queries, passages, relevant = vectors
    reference = evaluation.InformationRetrievalEvaluator(
        {str(number): str(number) for number in range(QUERIES)},
        {str(number): str(number) for number in range(PASSAGES)},
        {str(number): {str(one) for one in few} for number, few in enumerate(relevant)},
        ndcg_at_k=[3, 10], mrr_at_k=[1, 10], precision_recall_at_k=[3, 10], map_at_k=[100], write_csv=False,
    )  # fmt: skip
    monkeypatch.setattr(reference, "store_metrics_in_model_card_data", lambda *_: None)
    expected = reference(Given(queries=queries, passages=passages))
    found = ranked(queries, passages, relevant, [None] * QUERIES)
    for metric in METRICS:
        value = metric(found.counts, found.of_relevant())
        assert value == pytest.approx(expected[f"cosine_{metric.name}"], rel=1e-12), metric.name


def test_reranking_equals_sentence_transformers() -> None:
    """Its average precision and gain are scikit-learn's; groups lie anywhere in the table."""
    evaluation = pytest.importorskip("sentence_transformers.cross_encoder.evaluation")
    draw = np.random.default_rng(0)
    groups = draw.integers(0, 9, 120)
    relevant, scores = draw.random(120) < 0.3, draw.random(120)
    relevant[[int(np.flatnonzero(groups == group)[0]) for group in range(9)]] = True
    evaluator = evaluation.CrossEncoderRerankingEvaluator.__new__(evaluation.CrossEncoderRerankingEvaluator)
    evaluator.at_k = 10
    each = [evaluator.compute_metrics(relevant[groups == one].astype(int), scores[groups == one]) for one in range(9)]
    expected = np.mean(each, axis=0)
    truth, found = ranks_within(scores, relevant, groups.tolist())
    assert [metric(truth, found) for metric in (MRR(), NDCG(), MAP(k=1000))] == pytest.approx(expected, rel=1e-12)


def test_ties_go_to_what_is_not_relevant() -> None:
    """A score for all alike is no ranking, in whatever order the table has its rows."""
    scores, relevant = np.array([0.5, 0.5, 0.5, 0.9, 0.1, 0.5]), np.array([1, 0, 1, 0, 1, 0], bool)
    truth, found = ranks_within(scores, relevant, ["q"] * 6)
    assert (truth.tolist(), found.tolist()) == ([3], [[4.0, 5.0, 6.0]])
    assert MRR()(truth, found) == 1 / 4
    assert MAP()(truth, found) == pytest.approx((1 / 4 + 2 / 5 + 3 / 6) / 3)
    gain = sum(1 / math.log2(1 + rank) for rank in (4, 5, 6)) / sum(1 / math.log2(1 + rank) for rank in (1, 2, 3))
    assert NDCG()(truth, found) == pytest.approx(gain)
    assert Recall(k=4)(truth, found) == 1 / 3


def test_queries_to_which_nothing_is_relevant_are_left_out_and_told() -> None:
    scores, relevant = np.array([0.2, 0.8, 0.7, 0.1]), np.array([1, 0, 0, 0], bool)
    truth, found = ranks_within(scores, relevant, ["a", "a", "b", "c"])
    assert MRR()(truth, found) == 0.5
    assert MRR().signature(truth) == "without 2 of 3 queries, to which nothing is relevant"
    assert not MRR().defined(np.zeros(3, np.int64))
    assert MRR()(np.zeros(3, np.int64), np.full((3, 1), np.inf)) == 0.0


def test_blocks_change_no_rank() -> None:
    draw = torch.Generator().manual_seed(1)
    scores = torch.randint(0, 6, (5, 40), generator=draw).double() / 6
    relevant = [torch.tensor([0.5, 0.5]), torch.tensor([1 / 6]), torch.tensor([]), torch.tensor([5 / 6]), scores[4, :3]]
    whole, parts = Ranks([one.double() for one in relevant]), Ranks([one.double() for one in relevant])
    whole.add(scores)
    for block in scores.split(7, dim=1):
        parts.add(block)
    assert np.array_equal(whole.of_relevant(), parts.of_relevant())
    for row, own in enumerate(relevant):
        above = sorted(int((scores[row] >= one - 1e-9).sum()) for one in own)
        expected = [passed + place for place, passed in enumerate(above, 1)]
        assert whole.of_relevant()[row, : len(own)].tolist() == expected
