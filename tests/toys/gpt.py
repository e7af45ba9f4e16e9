"""A toy row: a decoder of bytes and pairs of them over full documents, fine-tuned as GPT was."""

from __future__ import annotations

from dataclasses import replace

from genus.catalog import load
from genus.examples.formats.documents import FullDocuments
from genus.model.head.lm_head import LMHead
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget
from genus.stages import Stage
from genus.tokens import TaskTokens
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from toys.decoder import DECODER

BASE = load("bert/tiny")
ROW = replace(
    BASE,
    name="toy/gpt",
    tokens=ByteBPE(vocab_size=320, special_tokens=GPT2),
    examples=FullDocuments(),
    model=DECODER,
    objectives=(CausalLM(output=LMHead(bias="none")),),
    stages=(Stage(max_length=32, batch=8, micro_batch=8),),
    optimizer=AdamW(lr=3e-3, weight_decay=0.0),
    schedule=Linear(warmup=0.1),
    budget=Budget(amount=20, unit="steps"),
    finetuning=replace(
        BASE.finetuning,
        optimizer=AdamW(lr=3e-3, weight_decay=0.0, clip_norm=1.0),
        epochs=8,
        batch=16,
        max_length=48,
        dropout=0.0,
        pooler=None,
        task_tokens=TaskTokens(),
        language_model=0.5,
    ),
)
