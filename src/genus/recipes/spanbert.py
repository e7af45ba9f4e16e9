"""SpanBERT: BERT that restores spans, also from their boundaries alone (Joshi et al. 2019, arXiv:1907.10529).

"Released code" is facebookresearch/SpanBERT. The head of the span-boundary objective has no place in Hugging Face's
BERT classes: a model folder holds the encoder and the head of the masked language model, checkpoints hold all.
`spanbert/mini` and `spanbert/tiny` are ours, not published: the same ideas at the sizes of `bert/mini` and `bert/tiny`,
with the same cost of training.
"""

from dataclasses import replace

from genus.examples.formats.sentences import DocSentences
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.initialization import Normal
from genus.model.transformer import Transformer
from genus.objectives.masking.spans import SpanMasking
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.objectives.pretraining.span_boundary import SpanBoundary
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.wordpiece import WordPiece

ENCODER = Transformer(
    layers=12,  # released code, README: 12-layer, 768-hidden, 12-heads, otherwise as BERT
    hidden=768,  # released code, README
    attention=MultiHeadAttention(heads=12, dropout=0.1),  # released code, README; section 4.2: dropout
    feedforward=MLP(size=3072),  # released code, README: as BERT; section 4.2: GELU
    embedding=Embedding(segments=2, dropout=0.1),  # released code, README: as BERT, though segment 0 alone is used
    dropout=0.1,  # section 4.2
    initialization=Normal(std=0.02),  # released code, pair_bert.py: initializer_range
)

BASE = Recipe(
    name="spanbert/base",
    published=Published(
        title="SpanBERT: Improving Pre-training by Representing and Predicting Spans",
        paper="arXiv:1907.10529",
        year=2019,
        parameters=110_000_000,  # released code, README
        data="BooksCorpus and English Wikipedia, as BERT",  # section 4.2
    ),
    tokens=WordPiece(vocab_size=28_996, lowercase=False),  # section 4.2: BERT's cased vocabulary
    examples=DocSentences(),  # section 3.3: one contiguous segment of one document, filled up; section 4.2: none short
    model=ENCODER,
    objectives=(
        MaskedLM(
            masking=SpanMasking(
                p=0.2,  # section 3.1
                longest=10,  # section 3.1
                rate=0.15,  # section 3.1; and 80 %, 10 %, 10 % of the spans
                rounding="up",  # released code, pretraining/fairseq/data/masking.py: ceil
                replacement="frequency",  # released code, masking.py: random tokens are drawn from the corpus
            )
        ),
        SpanBoundary(
            positions=15,  # released code, pretraining/README.md: max-pair-targets
            width=200,  # section 4.2
        ),
    ),
    optimizer=AdamW(
        lr=1e-4,  # section 4.2
        betas=(0.9, 0.999),  # section 4.2
        eps=1e-8,  # section 4.2
        weight_decay=0.1,  # section 4.2; the command in the released code's pretraining/README.md has 0.01
        decayed="all",  # released code: fairseq's one group of parameters
        clip_norm=1.0,  # released code, pretraining/README.md
    ),
    schedule=Linear(warmup=0.004167),  # section 4.2: 10,000 of 2,400,000 steps
    stages=(Stage(max_length=512, batch=256, micro_batch=16),),  # section 4.2
    budget=Budget(amount=2_400_000, unit="steps"),  # section 4.2
    finetuning=FineTuning(
        optimizer=AdamW(
            lr=2e-5,  # released code, README: GLUE's RTE
            eps=1e-6,  # released code, optimization.py: BertAdam, which run_glue.py takes without --fp16
            weight_decay=0.01,  # released code, run_glue.py
            clip_norm=1.0,  # released code, optimization.py
            clip_by="tensor",  # released code, optimization.py
            bias_correction=False,  # released code, optimization.py
        ),
        schedule=Linear(warmup=0.1),  # released code, run_glue.py
        epochs=10,  # released code, README: GLUE's RTE
        batch=32,  # released code, README
        max_length=128,  # released code, README
    ),
)

LARGE = replace(
    BASE,
    name="spanbert/large",
    published=replace(BASE.published, parameters=340_000_000),  # released code, README
    model=replace(
        ENCODER,
        layers=24,  # section 4.2: as BERT large
        hidden=1024,
        attention=MultiHeadAttention(heads=16, dropout=0.1),
        feedforward=MLP(size=4096),
    ),
)

MINI = replace(
    BASE,
    name="spanbert/mini",
    published=replace(BASE.published, parameters=None),  # ours, and so is every number of this row
    tokens=WordPiece(vocab_size=30_522, lowercase=True),  # ours: as bert/mini
    model=replace(
        ENCODER,
        layers=4,  # ours: as bert/mini
        hidden=256,
        attention=MultiHeadAttention(heads=4, dropout=0.0),
        feedforward=MLP(size=1024),
        embedding=Embedding(segments=2, dropout=0.0),
        dropout=0.0,
    ),
    optimizer=AdamW(lr=1e-3, eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # ours: as bert/mini
    schedule=Linear(warmup=0.1),  # ours
    stages=(Stage(max_length=128, batch=32, micro_batch=32),),  # ours
    budget=Budget(amount=1_000, unit="steps"),  # ours: 4 million tokens
    finetuning=replace(
        BASE.finetuning,
        optimizer=AdamW(lr=1e-4, eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # ours: as bert/mini
        epochs=4,  # ours
    ),
)

TINY = replace(
    MINI,
    name="spanbert/tiny",
    model=replace(
        ENCODER,
        layers=2,  # ours: as bert/tiny
        hidden=128,
        attention=MultiHeadAttention(heads=2, dropout=0.0),
        feedforward=MLP(size=512),
        embedding=Embedding(segments=2, dropout=0.0),
        dropout=0.0,
    ),
)
