"""Turing-NLG: a very deep GPT-2 (Rosset 2020, after Megatron-LM, arXiv:1909.08053).

There is no paper. Sizes and the peak rate were read in accounts of Microsoft's announcement ("account"), which says
that data and settings are those of Megatron-LM's GPT-2; what no account says is ours. `turing-nlg/mini` and `/tiny` are
ours, deeper and narrower than `bert/mini` and `bert/tiny` and about as costly.
"""

from dataclasses import replace

from genus.model.activation import Gelu
from genus.model.attention.masks import Causal
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.feedforward.mlp import MLP
from genus.optim.adamw import AdamW
from genus.optim.schedule import Cosine
from genus.recipe import Budget, Published
from genus.recipes import gpt2
from genus.stages import Stage

B17 = replace(
    gpt2.SMALL,
    name="turing-nlg/17b",
    published=Published(
        title="Turing-NLG: A 17-billion-parameter language model by Microsoft",
        paper="microsoft.com/en-us/research/blog",
        year=2020,
        parameters=17_000_000_000,  # announcement
        data="the text of Megatron-LM's GPT-2",  # account
    ),
    model=replace(
        gpt2.DECODER,
        layers=78,  # account
        hidden=4256,  # account
        attention=MultiHeadAttention(heads=28, dropout=0.1, mask=Causal()),  # account; dropout as GPT-2's
        feedforward=MLP(size=17_024, activation=Gelu(approximate="tanh")),  # as GPT-2's: 4 d
    ),
    optimizer=AdamW(
        lr=1.5e-4,  # account
        betas=(0.9, 0.999),  # ours
        eps=1e-8,  # ours
        weight_decay=0.01,  # ours
        clip_norm=1.0,  # ours
    ),
    schedule=Cosine(warmup=0.01),  # ours
    stages=(Stage(max_length=1024, batch=512, micro_batch=1),),  # ours: as GPT-2's
    budget=Budget(amount=300_000, unit="steps"),  # ours: 157 billion tokens
)

MINI = replace(
    gpt2.MINI,
    name="turing-nlg/mini",
    published=replace(B17.published, parameters=None),  # ours, and so is every number of this row
    model=replace(
        gpt2.DECODER,
        layers=8,  # ours: twice as deep as bert/mini
        hidden=192,
        attention=MultiHeadAttention(heads=3, dropout=0.0, mask=Causal()),
        feedforward=MLP(size=768, activation=Gelu(approximate="tanh")),
        embedding=replace(gpt2.DECODER.embedding, dropout=0.0),
        dropout=0.0,
    ),
)

TINY = replace(
    MINI,
    name="turing-nlg/tiny",
    tokens=gpt2.TINY.tokens,
    model=replace(
        gpt2.DECODER,
        layers=4,  # ours: twice as deep as bert/tiny
        hidden=96,
        attention=MultiHeadAttention(heads=2, dropout=0.0, mask=Causal()),
        feedforward=MLP(size=384, activation=Gelu(approximate="tanh")),
        embedding=replace(gpt2.DECODER.embedding, dropout=0.0),
        dropout=0.0,
    ),
)
