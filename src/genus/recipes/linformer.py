"""Linformer: RoBERTa whose keys and values are projected along the sequence (Wang et al. 2020, arXiv:2006.04768).

The rows are those of table 2 of the paper, which pretrains all of them alike (section 5.1). It names neither batch nor
rate; these are what its released code, fairseq's examples/linformer, refers to: README.pretraining.md and
config/pretraining/base.yaml of fairseq's examples/roberta. "Shared kv" is one projection a layer, "shared kv, layer"
one for all layers; `linformer/base-unshared` is equation 7 as it stands, with an E and an F for each head. Other ranks
and lengths, as in figure 3, are overrides of model.attention.rank, and of model.attention.length,
model.embedding.position.length and stages.0.max_length. `linformer/mini` and `linformer/tiny` are ours, not published.
"""

from dataclasses import replace

from genus.model.attention.linformer import LinformerAttention
from genus.model.feedforward.mlp import MLP
from genus.model.position.learned import LearnedPosition
from genus.model.stack.sharing import SharedProjection
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget, Published
from genus.recipes import roberta
from genus.stages import Stage

HEADS = LinformerAttention(
    heads=12,  # table 2
    rank=256,  # table 2
    length=512,  # table 2
    sharing="heads",  # section 4: E and F for all heads of a layer
)
ONE = replace(HEADS, sharing="key-value")

ENCODER = replace(roberta.ENCODER, attention=HEADS)  # section 5.1: as RoBERTa; released code: linformer_roberta_base
LONG = replace(
    ENCODER,
    attention=replace(HEADS, length=1024),  # table 2: n = 1024, k = 256
    embedding=replace(ENCODER.embedding, position=LearnedPosition(length=1024, offset=2)),  # as RoBERTa's, for n places
)

BASE = replace(
    roberta.BASE,
    name="linformer/base",
    published=Published(
        title="Linformer: Self-Attention with Linear Complexity",
        paper="arXiv:2006.04768",
        year=2020,
        data="BookCorpus and English Wikipedia (3,300M words)",  # section 5.1
    ),
    model=ENCODER,
    optimizer=AdamW(  # config/pretraining/base.yaml
        lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01, decayed="all", clip_norm=None
    ),
    schedule=Linear(warmup=0.04),  # config/pretraining/base.yaml: 10,000 steps, here of 250,000
    stages=(Stage(max_length=512, batch=2048, micro_batch=16),),  # table 2: n = 512; README.pretraining.md: 2048
    budget=Budget(amount=250_000, unit="steps"),  # section 5.1
)

BASE_SHARED_KV = replace(BASE, name="linformer/base-shared-kv", model=replace(ENCODER, attention=ONE))

BASE_SHARED_LAYER = replace(
    BASE,
    name="linformer/base-shared-layer",
    model=replace(ENCODER, attention=ONE, stack=SharedProjection()),
)

BASE_UNSHARED = replace(
    BASE,
    name="linformer/base-unshared",
    model=replace(ENCODER, attention=replace(HEADS, sharing="none")),
)

BASE_128 = replace(
    BASE,
    name="linformer/base-128",
    model=replace(ENCODER, attention=replace(HEADS, rank=128)),  # table 2: k = 128
)

BASE_128_SHARED_KV = replace(
    BASE,
    name="linformer/base-128-shared-kv",
    model=replace(ENCODER, attention=replace(ONE, rank=128)),  # table 2: k = 128
)

BASE_128_SHARED_LAYER = replace(
    BASE,
    name="linformer/base-128-shared-layer",
    model=replace(ENCODER, attention=replace(ONE, rank=128), stack=SharedProjection()),  # table 2: k = 128
)

BASE_1024 = replace(
    BASE,
    name="linformer/base-1024",
    model=LONG,
    stages=(Stage(max_length=1024, batch=2048, micro_batch=8),),  # table 2: n = 1024; rows as at 512
)

BASE_1024_SHARED_KV = replace(
    BASE_1024,
    name="linformer/base-1024-shared-kv",
    model=replace(LONG, attention=replace(ONE, length=1024)),  # table 2: n = 1024
)

BASE_1024_SHARED_LAYER = replace(
    BASE_1024,
    name="linformer/base-1024-shared-layer",
    model=replace(LONG, attention=replace(ONE, length=1024), stack=SharedProjection()),  # table 2: n = 1024
)

SMALL = replace(
    ENCODER,
    layers=4,  # ours: as bert/mini
    hidden=256,  # ours: as bert/mini
    attention=LinformerAttention(
        heads=4, rank=64, length=128, dropout=0.0
    ),  # ours: half the length, as in the base row
    feedforward=MLP(size=1024),  # ours: as bert/mini
    embedding=replace(ENCODER.embedding, position=LearnedPosition(length=128, offset=2), dropout=0.0),  # ours
    dropout=0.0,  # ours: as bert/mini
)

MINI = replace(roberta.MINI, name="linformer/mini", published=BASE.published, model=SMALL)  # ours, as roberta/mini

TINY = replace(
    MINI,
    name="linformer/tiny",
    model=replace(
        SMALL,
        layers=2,  # ours: as bert/tiny
        hidden=128,  # ours: as bert/tiny
        attention=LinformerAttention(heads=2, rank=64, length=128, dropout=0.0),  # ours: as linformer/mini
        feedforward=MLP(size=512),  # ours: as bert/tiny
    ),
)
