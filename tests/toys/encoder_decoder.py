"""A small encoder-decoder, for tests of cross-attention, caches and streams."""

from __future__ import annotations

from dataclasses import replace

from genus.model.attention.masks import Causal
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.residual import PreNorm
from genus.model.embedding import Embedding
from genus.model.encoder_decoder import EncoderDecoder
from genus.model.feedforward.mlp import MLP
from genus.model.norm import Identity
from genus.model.position.rotary import Rotary
from genus.model.transformer import Transformer

ATTENTION = MultiHeadAttention(heads=4, dropout=0.0)
ENCODER = Transformer(
    layers=2,
    hidden=48,
    attention=ATTENTION,
    feedforward=MLP(size=96),
    embedding=Embedding(segments=0, position=Rotary(), norm=Identity(), dropout=0.0),
    block=PreNorm(),
    dropout=0.0,
)
DECODER = replace(ENCODER, attention=replace(ATTENTION, mask=Causal()), cross=replace(ATTENTION, key_heads=2))
MODEL = EncoderDecoder(encoder=ENCODER, decoder=DECODER)
