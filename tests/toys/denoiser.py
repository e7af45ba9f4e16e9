"""A toy row: an encoder-decoder that restores spans, by the ordinary stations of a recipe."""

from __future__ import annotations

from dataclasses import replace

from genus.catalog import load
from genus.examples.formats.sentences import DocSentences
from genus.objectives.noise.tokens import SpanNoise
from genus.objectives.pretraining.text_to_text import Denoising
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget
from genus.stages import Stage
from genus.tokens import SpecialTokens
from genus.tokens.algorithms.wordpiece import WordPiece
from toys.encoder_decoder import MODEL

SPECIALS = SpecialTokens(
    pad="[PAD]",
    unk="[UNK]",
    bos="<s>",
    eos="</s>",
    extra=tuple(f"<extra_id_{number}>" for number in range(8)),
    single="$A </s>",
    pair="$A </s> $B </s>",
    target="<s> $A </s>",
)
ROW = replace(
    load("bert/tiny"),
    name="toy/denoiser",
    tokens=WordPiece(vocab_size=200, special_tokens=SPECIALS),
    examples=DocSentences(),
    model=MODEL,
    objectives=(Denoising(noise=SpanNoise(rate=0.3)),),
    stages=(Stage(max_length=36, source_length=48, batch=16, micro_batch=8),),
    optimizer=AdamW(lr=3e-3, weight_decay=0.0),
    schedule=Linear(warmup=0.1),
    budget=Budget(amount=60, unit="steps"),
)
