"""A toy member made of parts only: a causal decoder with rotary positions, grouped keys and norms before sub-layers."""

from __future__ import annotations

from genus.model.attention.alternating import Alternating
from genus.model.attention.masks import Banded, Causal
from genus.model.attention.multi_head import Softmax
from genus.model.block.residual import PreNorm
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import Dense
from genus.model.norm import NoNorm
from genus.model.position.rotary import Rotary
from genus.model.transformer import Encoder

VOCABULARY = 60
DENSE = Softmax(heads=4, key_heads=2, dropout=0.0, visibility=Causal())
BANDED = Softmax(heads=4, key_heads=2, dropout=0.0, visibility=Banded(width=4))

DECODER = Encoder(
    layers=3,
    hidden=32,
    attention=Alternating(attentions=(DENSE, BANDED), order=(0, 1)),
    feedforward=Dense(size=48),
    embedding=Embedding(segments=0, position=Rotary(), norm=NoNorm(), dropout=0.0),
    block=PreNorm(),
    dropout=0.0,
)
