"""Dropout before the norm of the embeddings, against the formula."""

from __future__ import annotations

import torch

from genus.batch import Packed
from genus.model.embedding import Embedding
from genus.model.embedding.tables import EarlyDropoutEmbedding
from genus.model.position.learned import LearnedPosition

DOUBLE = 1e-10
"""Sums of a few dozen float64 terms in another order."""


def packed() -> Packed:
    positions = torch.arange(7)
    ids = torch.tensor([3, 1, 4, 1, 5, 9, 2])
    return Packed.laid(ids, [[7]], 7, {"segment": positions % 2})


def test_what_dropout_leaves_is_normed() -> None:
    torch.manual_seed(0)
    embed = EarlyDropoutEmbedding(segments=2, position=LearnedPosition(length=8), dropout=0.5).build(11, 64).double()
    batch = packed()
    torch.manual_seed(1)
    found = embed(batch)
    torch.manual_seed(1)
    total = embed.tokens(batch.ids) + embed.positions(batch.positions) + embed.segments(batch.facts["segment"])
    kept = torch.nn.functional.dropout(total, 0.5)
    centered = kept - kept.mean(1, keepdim=True)
    expected = centered / kept.var(1, unbiased=False, keepdim=True).add(1e-12).sqrt()
    torch.testing.assert_close(found, expected, rtol=0, atol=DOUBLE)
    assert (found != 0).all()


def test_without_dropout_it_is_bert_s() -> None:
    torch.manual_seed(0)
    early = EarlyDropoutEmbedding(position=LearnedPosition(length=8)).build(11, 64).eval()
    late = Embedding(position=LearnedPosition(length=8)).build(11, 64).eval()
    late.load_state_dict(early.state_dict())
    assert torch.equal(early(packed()), late(packed()))
