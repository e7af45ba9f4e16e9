"""A small encoder, packed documents, and its layers written out slowly, document by document."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from genus.batch import Packed
from genus.model.attention.masks import Causal
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.attention.plan import Context
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.initialization import Normal
from genus.model.norm import Identity
from genus.model.position import NoPosition
from genus.model.stack import plans_of
from genus.model.transformer import Transformer

DOUBLE = 1e-10
"""Of float64: the same sums in another order."""
HIDDEN, VOCABULARY = 12, 40
ROWS = [[5, 6], [9], [3, 1, 7]]
"""Tokens of each document, by row of 12."""
ENCODER = Transformer(
    layers=2,
    hidden=HIDDEN,
    attention=MultiHeadAttention(heads=3, dropout=0.0),
    feedforward=MLP(size=20),
    embedding=Embedding(segments=0, position=NoPosition(), norm=Identity(), dropout=0.0),
    dropout=0.0,
    initialization=Normal(std=0.4),
)
DECODER = replace(ENCODER, attention=replace(cast("MultiHeadAttention", ENCODER.attention), mask=Causal()))


def packed() -> Packed:
    torch.manual_seed(2)
    return Packed.laid(torch.randint(1, VOCABULARY, (36,)), ROWS, 12)


def built(model: Transformer) -> Any:
    """Return the network in float64, with every parameter drawn."""
    torch.manual_seed(0)
    network = cast("Any", model.build(VOCABULARY)).double().eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return network


def spans() -> list[tuple[int, int]]:
    return packed().spans()


def attended(layer: Any, x: Tensor, source: Tensor | None = None, causal: bool = False) -> Tensor:
    """Return what each head attends to (L, A, D), for one document."""
    given = x if source is None else source
    q, k, v = (m(one).unflatten(-1, (-1, layer.head_size)) for m, one in
               ((layer.query, x), (layer.key, given), (layer.value, given)))  # fmt: skip
    out = torch.zeros_like(q)
    for i in range(len(x)):
        for a in range(q.shape[1]):
            seen = i + 1 if causal else len(given)
            out[i, a] = (k[:seen, a] @ q[i, a] / layer.head_size**0.5).softmax(0) @ v[:seen, a]
    return out


def through(network: Any, layer: Any, x: Tensor, **given: Any) -> Tensor:
    """Return what a layer makes of states of all documents, packed."""
    context = Context(packed(), **given)
    [plans] = plans_of([layer], context)
    return layer(x, plans, {})  # type: ignore[no-any-return]


def compare(found: Tensor, expected: dict[tuple[int, int], Tensor]) -> None:
    for (start, end), one in expected.items():
        torch.testing.assert_close(found[start:end], one, rtol=DOUBLE, atol=DOUBLE)


def states(seed: int = 5) -> Tensor:
    return torch.randn(36, HIDDEN, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def one_step(layer: Any, y: Tensor) -> Tensor:
    """Return a post-norm layer's states of one document."""
    y = layer.attention_norm(y + layer.attention.out(attended(layer.attention, y).flatten(1)))
    return layer.feedforward_norm(y + layer.feedforward(y))  # type: ignore[no-any-return]
