"""Transformer-XL: a language model over words that remembers the text before (Dai et al. 2019, arXiv:1901.02860).

"Released code" is kimiyoung/transformer-xl: pytorch/run_wt103_base.sh and run_wt103_large.sh, with the defaults of
train.py. Three choices are those of all rows: biases u and v of each layer's own, as in the released large model, no
dropout between the two maps of the feed-forward layer, and maps of clusters that start as all weights do (released
code, proj_init_std: half of it). `transformer-xl/mini` and `/tiny` are ours, at the sizes and
the cost of `bert/mini` and `bert/tiny`. Its 12-layer model of enwik8 reads characters, for which there is no part yet.
"""

from dataclasses import replace

from genus.examples.formats.contiguous import Contiguous
from genus.model.activation import Relu
from genus.model.attention.masks import Causal
from genus.model.attention.relative import RelativeAttention
from genus.model.embedding.adaptive import AdaptiveEmbedding
from genus.model.feedforward.mlp import MLP
from genus.model.head.adaptive_softmax import AdaptiveSoftmax
from genus.model.initialization import Normal
from genus.model.norm import Identity, LayerNorm
from genus.model.position import NoPosition
from genus.model.segment_recurrence import SegmentRecurrentTransformer
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Cosine, Linear
from genus.recipe import Budget, Explained, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.word_level import WordLevel

EMBEDDING = AdaptiveEmbedding(
    cutoffs=(20_000, 40_000, 200_000),  # released code, train.py, for WikiText-103
    ratio=1,  # released code: div_val
    segments=0,  # section 3.1: one text, no segments
    position=NoPosition(),  # section 3.3: distances stand in the attention
    norm=Identity(),
    dropout=0.1,  # released code: dropout
)

DECODER = SegmentRecurrentTransformer(
    layers=16,  # released code: n_layer
    hidden=410,  # released code: d_model
    attention=RelativeAttention(heads=10, dropout=0.0, mask=Causal()),  # released code: n_head, dropatt
    feedforward=MLP(size=2100, activation=Relu()),  # released code: d_inner
    embedding=EMBEDDING,
    norm=LayerNorm(eps=1e-5),  # released code: PyTorch's default
    dropout=0.1,  # released code: dropout
    initialization=Normal(std=0.02),  # released code: init_std
    memory=150,  # released code: mem_len
)

BASE = Recipe(
    name="transformer-xl/base",
    published=Published(
        title="Transformer-XL: Attentive Language Models Beyond a Fixed-Length Context",
        paper="arXiv:1901.02860",
        year=2019,
        parameters=151_000_000,  # table 1
        data="WikiText-103 (103M words)",  # section 4.1
    ),
    tokens=WordLevel(vocab_size=267_735, min_frequency=3),  # WikiText-103's vocabulary; words of 3 occurrences or more
    examples=Contiguous(),  # released code, data_utils.py: LMOrderedIterator
    model=DECODER,
    objectives=(CausalLM(output=AdaptiveSoftmax()),),  # section 4.1
    optimizer=AdamW(
        lr=2.5e-4,  # released code: lr
        eps=1e-8,  # PyTorch's default
        weight_decay=0.0,  # released code: Adam
        clip_norm=0.25,  # released code, train.py: clip
    ),
    schedule=Cosine(warmup=0.0),  # released code: warmup_step; train.py: scheduler
    stages=(Stage(max_length=150, batch=60, micro_batch=60),),  # released code: tgt_len, batch_size
    budget=Budget(amount=200_000, unit="steps"),  # released code: max_step
    finetuning=FineTuning(  # ours: the paper does not fine-tune
        optimizer=AdamW(lr=5e-5, weight_decay=0.01, clip_norm=1.0),  # ours
        schedule=Linear(warmup=0.1),  # ours
        epochs=3,  # ours
        batch=32,  # ours
        max_length=128,  # ours
    ),
)

LARGE = replace(
    BASE,
    name="transformer-xl/large",
    published=Explained(
        title=BASE.published.title,
        paper=BASE.published.paper,
        year=BASE.published.year,
        data=BASE.published.data,
        parameters=257_000_000,  # table 1
        reason="the released code, which this row follows, makes 285 million",
    ),
    model=replace(
        DECODER,
        layers=18,  # released code: n_layer
        hidden=1024,
        attention=RelativeAttention(heads=16, dropout=0.2, mask=Causal()),
        feedforward=MLP(size=4096, activation=Relu()),
        embedding=replace(EMBEDDING, ratio=4, dropout=0.2),
        dropout=0.2,
        memory=384,
    ),
    schedule=Cosine(warmup=0.004),  # released code: 16,000 of 4,000,000 steps
    stages=(Stage(max_length=384, batch=128, micro_batch=16),),  # released code: tgt_len, batch_size
    budget=Budget(amount=4_000_000, unit="steps"),  # released code: max_step
)

MINI = replace(
    BASE,
    name="transformer-xl/mini",
    published=replace(BASE.published, parameters=None),  # ours, and so is every number of this row
    tokens=WordLevel(vocab_size=30_522, min_frequency=3),  # ours: as bert/mini
    model=replace(
        DECODER,
        layers=4,  # ours: as bert/mini
        hidden=256,
        attention=RelativeAttention(heads=4, dropout=0.0, mask=Causal()),
        feedforward=MLP(size=1024, activation=Relu()),
        embedding=replace(EMBEDDING, cutoffs=(2_000, 10_000), dropout=0.0),
        dropout=0.0,
        memory=128,
    ),
    optimizer=AdamW(lr=1e-3, weight_decay=0.0, clip_norm=0.25),  # ours
    schedule=Linear(warmup=0.1),  # ours
    stages=(Stage(max_length=128, batch=32, micro_batch=32),),  # ours
    budget=Budget(amount=1_000, unit="steps"),  # ours: 4 million tokens
    finetuning=replace(
        BASE.finetuning,
        optimizer=AdamW(lr=1e-4, weight_decay=0.01, clip_norm=1.0),  # ours: as bert/mini
        epochs=4,  # ours
    ),
)

TINY = replace(
    MINI,
    name="transformer-xl/tiny",
    model=replace(
        DECODER,
        layers=2,  # ours: as bert/tiny
        hidden=128,
        attention=RelativeAttention(heads=2, dropout=0.0, mask=Causal()),
        feedforward=MLP(size=512, activation=Relu()),
        embedding=replace(EMBEDDING, cutoffs=(2_000, 10_000), dropout=0.0),
        dropout=0.0,
        memory=128,
    ),
)
