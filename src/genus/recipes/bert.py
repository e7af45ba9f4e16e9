"""BERT: an encoder that restores masked tokens and tells next sentences (Devlin et al. 2018, arXiv:1810.04805).

The small sizes are the four named ones among the 24 miniatures of Turc et al. 2019, arXiv:1908.08962; "released code"
and "README" are those of google-research/bert. `bert/tiny` and `bert/mini` keep the published architecture, but what
training costs is ours: a laptop's CPU trains `bert/mini` in minutes.
"""

from dataclasses import replace

from genus.examples.formats.segment_pairs import SegmentPairs
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.initialization import Normal
from genus.model.pooler import Pooler
from genus.model.transformer import Transformer
from genus.objectives.masking.tokens import WholeWordMasking
from genus.objectives.pretraining.labels import SequenceLabels
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget, Explained, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.wordpiece import WordPiece

ENCODER = Transformer(
    layers=12,  # section 3: L=12, H=768, A=12
    hidden=768,  # section 3
    attention=MultiHeadAttention(heads=12, dropout=0.1),  # section 3; appendix A.2: dropout 0.1 on all layers
    feedforward=MLP(size=3072),  # section 3: 4H; appendix A.2: GELU
    embedding=Embedding(segments=2, dropout=0.1),  # section 3, figure 2; appendix A.2
    pooler=Pooler(),
    dropout=0.1,  # appendix A.2
    initialization=Normal(std=0.02),  # released code, modeling.py: initializer_range
)

BASE = Recipe(
    name="bert/base",
    published=Published(
        title="BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
        paper="arXiv:1810.04805",
        year=2018,
        parameters=110_000_000,  # section 3
        data="BooksCorpus (800M words), English Wikipedia (2,500M words)",  # section 3.1
    ),
    tokens=WordPiece(vocab_size=30_522, lowercase=True),  # released uncased vocabulary
    examples=SegmentPairs(
        short=0.1,  # released code, create_pretraining_data.py: short_seq_prob
        random_next=0.5,  # section 3.1, task 2
        dupe_factor=10,  # released code, create_pretraining_data.py: dupe_factor
    ),
    model=ENCODER,
    objectives=(  # appendix A.2: sum of the two means
        MaskedLM(),  # section 3.1: 15 %, of these 80/10/10
        SequenceLabels(label="next_sentence"),  # section 3.1
    ),
    optimizer=AdamW(
        lr=1e-4,  # appendix A.2
        betas=(0.9, 0.999),  # appendix A.2
        eps=1e-6,  # released code, optimization.py
        weight_decay=0.01,  # appendix A.2
        clip_norm=1.0,  # released code, optimization.py
        bias_correction=False,  # released code, optimization.py
    ),
    schedule=Linear(warmup=0.01),  # appendix A.2: 10,000 of 1,000,000 steps
    stages=(
        Stage(share=0.9, max_length=128, batch=256, micro_batch=64),  # appendix A.2: 90 % of the steps at length 128
        Stage(share=0.1, max_length=512, batch=256, micro_batch=16),
    ),
    budget=Budget(amount=1_000_000, unit="steps"),  # appendix A.2
    finetuning=FineTuning(
        optimizer=AdamW(  # appendix A.3: 5e-5, 3e-5 or 2e-5; the rest from the released code, optimization.py
            lr=3e-5, eps=1e-6, weight_decay=0.01, clip_norm=1.0, bias_correction=False
        ),
        schedule=Linear(warmup=0.1),  # released code, run_classifier.py: warmup_proportion
        epochs=3,  # appendix A.3: 2, 3 or 4
        batch=32,  # appendix A.3: 16 or 32
        max_length=128,  # released code, run_classifier.py: max_seq_length
    ),
)

LARGE = replace(
    BASE,
    name="bert/large",
    published=replace(BASE.published, parameters=340_000_000),  # section 3
    model=replace(
        ENCODER,
        layers=24,  # section 3: L=24, H=1024, A=16
        hidden=1024,
        attention=MultiHeadAttention(heads=16, dropout=0.1),
        feedforward=MLP(size=4096),
    ),
)

LARGE_WWM = replace(
    LARGE,
    name="bert/large-wwm",
    objectives=(
        MaskedLM(masking=WholeWordMasking()),  # README, May 31st, 2019: whole word masking
        SequenceLabels(label="next_sentence"),
    ),
)

BASE_CASED = replace(
    BASE,
    name="bert/base-cased",
    tokens=WordPiece(vocab_size=28_996, lowercase=False),  # released cased vocabulary
)

LARGE_CASED = replace(LARGE, name="bert/large-cased", tokens=BASE_CASED.tokens)

BASE_CHINESE = replace(
    BASE,
    name="bert/base-chinese",
    published=Explained(
        title=BASE.published.title,
        paper=BASE.published.paper,
        year=BASE.published.year,
        parameters=110_000_000,  # multilingual.md
        data="Chinese Wikipedia, simplified and traditional",  # multilingual.md
        reason="the authors give the number of the English model, whose vocabulary is larger",
    ),
    tokens=WordPiece(vocab_size=21_128, lowercase=True),  # released vocabulary; tokenization.py: lower_models
)

BASE_MULTILINGUAL_CASED = replace(
    BASE,
    name="bert/base-multilingual-cased",
    published=Explained(
        title=BASE.published.title,
        paper=BASE.published.paper,
        year=BASE.published.year,
        parameters=110_000_000,  # multilingual.md
        data="Wikipedias of 104 languages, Thai and Mongolian beside the largest, shares smoothed by the power 0.7",
        # multilingual.md
        reason="the authors give the number of the English model, whose vocabulary is a quarter as large",
    ),
    tokens=WordPiece(vocab_size=119_547, lowercase=False),  # released vocabulary
)

MINIATURES = Published(
    title="Well-Read Students Learn Better: On the Importance of Pre-training Compact Models",
    paper="arXiv:1908.08962",
    year=2019,  # arXiv:1908.08962
    data=BASE.published.data,
)

MEDIUM = replace(
    BASE,
    name="bert/medium",
    published=replace(MINIATURES, parameters=41_700_000),  # Turc et al., table 1
    model=replace(
        ENCODER,
        layers=8,  # Turc et al., table 1: L=8, H=512; heads H / 64, feed-forward 4H as in the released configurations
        hidden=512,
        attention=MultiHeadAttention(heads=8, dropout=0.1),
        feedforward=MLP(size=2048),
    ),
    finetuning=replace(
        BASE.finetuning,
        optimizer=AdamW(  # README, March 11th, 2020: 3e-4, 1e-4, 5e-5 or 3e-5
            lr=1e-4, eps=1e-6, weight_decay=0.01, clip_norm=1.0, bias_correction=False
        ),
        epochs=4,  # README, March 11th, 2020
    ),
)

SMALL = replace(
    MEDIUM,
    name="bert/small",
    published=replace(MINIATURES, parameters=29_100_000),  # Turc et al., table 1
    model=replace(
        ENCODER,
        layers=4,  # Turc et al., table 1: L=4, H=512
        hidden=512,
        attention=MultiHeadAttention(heads=8, dropout=0.1),
        feedforward=MLP(size=2048),
    ),
)

MINI = replace(
    MEDIUM,
    name="bert/mini",
    published=replace(MINIATURES, parameters=11_300_000),  # Turc et al., table 1
    model=replace(
        ENCODER,
        layers=4,  # Turc et al., table 1: L=4, H=256
        hidden=256,
        attention=MultiHeadAttention(heads=4, dropout=0.0),  # dropout is ours: a short run sees no example often
        feedforward=MLP(size=1024),
        embedding=Embedding(segments=2, dropout=0.0),  # ours
        dropout=0.0,  # ours
    ),
    optimizer=AdamW(lr=1e-3, eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # ours: small models bear higher rates
    schedule=Linear(warmup=0.1),  # ours
    stages=(Stage(max_length=128, batch=32, micro_batch=32),),  # ours: one short length, small batches
    budget=Budget(amount=1_000, unit="steps"),  # ours: 4 million tokens
)

TINY = replace(
    MINI,
    name="bert/tiny",
    published=replace(MINIATURES, parameters=4_400_000),  # Turc et al., table 1
    model=replace(
        ENCODER,
        layers=2,  # Turc et al., table 1: L=2, H=128
        hidden=128,
        attention=MultiHeadAttention(heads=2, dropout=0.0),  # dropout as in bert/mini
        feedforward=MLP(size=512),
        embedding=Embedding(segments=2, dropout=0.0),
        dropout=0.0,
    ),
)
