"""A toy member made of parts only: a causal decoder with rotary positions, grouped keys and norms before sub-layers."""

from __future__ import annotations

from genus.model.attention.alternating import AlternatingAttention
from genus.model.attention.masks import Banded, Causal
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.residual import PreNorm
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.norm import Identity
from genus.model.position.rotary import Rotary
from genus.model.transformer import Transformer

VOCABULARY = 60
DENSE = MultiHeadAttention(heads=4, key_heads=2, dropout=0.0, mask=Causal())
BANDED = MultiHeadAttention(heads=4, key_heads=2, dropout=0.0, mask=Banded(width=4))

DECODER = Transformer(
    layers=3,
    hidden=32,
    attention=AlternatingAttention(attentions=(DENSE, BANDED), order=(0, 1)),
    feedforward=MLP(size=48),
    embedding=Embedding(segments=0, position=Rotary(), norm=Identity(), dropout=0.0),
    block=PreNorm(),
    dropout=0.0,
)
