"""GPT: a decoder that is first trained to predict the next piece, then fine-tuned (Radford et al. 2018, OpenAI).

"Released code" is openai/finetune-transformer-lm: train.py, which fine-tunes the released weights; the paper's section
4.1 says how they were pretrained. `gpt/mini` and `/tiny` are ours, at the sizes and the cost of `bert/mini` and
`bert/tiny`.
"""

from dataclasses import replace

from genus.examples.formats.documents import FullDocuments
from genus.model.activation import Gelu
from genus.model.attention.masks import Causal
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.residual import PostNorm
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LMHead
from genus.model.initialization import Normal
from genus.model.norm import Identity, LayerNorm
from genus.model.position.learned import LearnedPosition
from genus.model.transformer import Transformer
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Cosine, Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens import TaskTokens
from genus.tokens.algorithms.end_of_word_bpe import EndOfWordBPE

DECODER = Transformer(
    layers=12,  # section 4.1; released code: n_layer
    hidden=768,  # section 4.1; released code: n_embd
    attention=MultiHeadAttention(heads=12, dropout=0.1, mask=Causal()),  # section 4.1; released code: attn_pdrop
    feedforward=MLP(size=3072, activation=Gelu(approximate="tanh")),  # section 4.1; released code: gelu
    embedding=Embedding(
        segments=0,
        position=LearnedPosition(length=512),  # section 4.1: learned positions, 512 tokens
        norm=Identity(),  # released code: embed
        dropout=0.1,  # section 4.1; released code: embd_pdrop
    ),
    norm=LayerNorm(eps=1e-5),  # released code: _norm
    block=PostNorm(),  # released code: block
    dropout=0.1,  # section 4.1; released code: resid_pdrop
    initialization=Normal(std=0.02),  # section 4.1
)

BASE = Recipe(
    name="gpt/base",
    published=Published(
        title="Improving Language Understanding by Generative Pre-Training",
        paper="OpenAI 2018",
        year=2018,
        parameters=117_000_000,  # CS224N, lecture 9; the paper does not count
        data="BooksCorpus (over 7,000 books)",  # section 4.1
    ),
    tokens=EndOfWordBPE(vocab_size=40_478),  # section 4.1: 40,000 merges; released vocabulary
    examples=FullDocuments(),  # section 4.1: sampled contiguous sequences; the vocabulary has no end token
    model=DECODER,
    objectives=(CausalLM(output=LMHead(bias="none")),),  # released code: lm_logits by we
    optimizer=AdamW(
        lr=2.5e-4,  # section 4.1
        betas=(0.9, 0.999),  # released code: b1, b2
        eps=1e-8,  # released code: e
        weight_decay=0.01,  # section 4.1, on all weights that are no bias or gain
        clip_norm=1.0,  # released code: max_grad_norm, of fine-tuning
    ),
    schedule=Cosine(warmup=0.0007),  # section 4.1: 2,000 updates; ours: of 3 million, 1 billion tokens an epoch
    stages=(Stage(max_length=512, batch=64, micro_batch=16),),  # section 4.1
    budget=Budget(amount=100, unit="epochs"),  # section 4.1
    finetuning=FineTuning(
        optimizer=AdamW(  # section 4.1: 6.25e-5; released code: the rest
            lr=6.25e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, clip_norm=1.0
        ),
        schedule=Linear(warmup=0.002),  # section 4.1; released code: lr_warmup
        epochs=3,  # section 4.1
        batch=32,  # section 4.1
        max_length=512,  # released code: n_ctx
        pooler=None,  # released code: clf
        dropout=0.1,  # section 4.1; released code: clf_pdrop
        task_tokens=TaskTokens(),  # section 3.3; released code: _start_, _delimiter_, _classify_
        language_model=0.5,  # section 4.1; released code: lm_coef
    ),
)

MINI = replace(
    BASE,
    name="gpt/mini",
    published=replace(BASE.published, parameters=None),  # ours, and so is every number of this row
    tokens=EndOfWordBPE(vocab_size=16_000),  # ours
    model=replace(
        DECODER,
        layers=4,  # ours: as bert/mini
        hidden=256,
        attention=MultiHeadAttention(heads=4, dropout=0.0, mask=Causal()),
        feedforward=MLP(size=1024, activation=Gelu(approximate="tanh")),
        embedding=replace(DECODER.embedding, dropout=0.0),
        dropout=0.0,
    ),
    optimizer=AdamW(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, clip_norm=1.0),  # ours
    schedule=Cosine(warmup=0.1),  # ours
    stages=(Stage(max_length=128, batch=32, micro_batch=32),),  # ours: as bert/mini
    budget=Budget(amount=1_000, unit="steps"),  # ours: 4 million tokens
    finetuning=replace(
        BASE.finetuning,
        optimizer=AdamW(lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, clip_norm=1.0),  # ours: as bert/mini
        epochs=4,  # ours
        max_length=128,  # ours
    ),
)

TINY = replace(
    MINI,
    name="gpt/tiny",
    tokens=EndOfWordBPE(vocab_size=8_000),  # ours
    model=replace(
        DECODER,
        layers=2,  # ours: as bert/tiny
        hidden=128,
        attention=MultiHeadAttention(heads=2, dropout=0.0, mask=Causal()),
        feedforward=MLP(size=512, activation=Gelu(approximate="tanh")),
        embedding=replace(DECODER.embedding, dropout=0.0),
        dropout=0.0,
    ),
)
