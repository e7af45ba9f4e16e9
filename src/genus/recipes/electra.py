"""ELECTRA: a discriminator of replaced tokens, taught by a small generator (Clark et al. 2020, arXiv:2003.10555).

"Released code" is google-research/electra. Its small checkpoint is not `electra/small` of the paper but
ELECTRA-Small++: README has 4 million steps and a generator as wide as the discriminator. Deviation: released code draws
masked positions with replacement, so that some coincide; here they differ. The generator reads with the discriminator's
embeddings: tokens, positions, segments and their norm. `electra/mini` and `electra/tiny` are ours, not published: the
same ideas at the sizes of `bert/mini` and `bert/tiny`, with the same cost of training.
"""

from dataclasses import replace

from genus.examples.formats.halved_chunks import HalvedChunks
from genus.model.activation import Gelu
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding.tables import ProjectedEmbedding
from genus.model.feedforward.mlp import MLP
from genus.model.generator import GeneratorConfig
from genus.model.initialization import Normal
from genus.model.pooler import Pooler
from genus.model.transformer import Transformer
from genus.objectives.masking.tokens import TokenMasking
from genus.objectives.pretraining.generator import MaskedLMGenerator
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.objectives.pretraining.replaced_token_detection import ReplacedTokenDetection
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.wordpiece import WordPiece

MASKED = MaskedLM(
    masking=TokenMasking(
        rate=0.15,  # appendix A, table 6
        mask=0.85,  # released code, pretrain_helpers.py: the rest is left as it is, and guessed all the same
        random=0.0,
    )
)

ENCODER = Transformer(
    layers=12,  # appendix A, table 6
    hidden=256,  # table 6
    attention=MultiHeadAttention(heads=4, dropout=0.1),  # table 6
    feedforward=MLP(size=1024),  # table 6
    embedding=ProjectedEmbedding(size=128, segments=2, dropout=0.1),  # table 6
    dropout=0.1,  # table 6
    initialization=Normal(std=0.02),  # released code, modeling.py: initializer_range
)

SMALL = Recipe(
    name="electra/small",
    published=Published(
        title="ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators",
        paper="arXiv:2003.10555",
        year=2020,
        parameters=14_000_000,  # table 1
        data="English Wikipedia and BooksCorpus, 3.3B tokens",  # section 3.1
    ),
    tokens=WordPiece(vocab_size=30_522, lowercase=True),  # README: BERT's uncased vocabulary
    examples=HalvedChunks(short=0.05, single=0.1),  # released code, build_pretraining_dataset.py
    model=ENCODER,
    objectives=(
        MaskedLMGenerator(generator=GeneratorConfig(width=0.25), masked=MASKED),  # table 6: 1/4
        ReplacedTokenDetection(weight=50.0),  # appendix A: λ = 50; released code, configure_pretraining.py: disc_weight
    ),
    optimizer=AdamW(
        lr=5e-4,  # table 6
        betas=(0.9, 0.999),  # table 6
        eps=1e-6,  # table 6
        weight_decay=0.01,  # table 6
        clip_norm=1.0,  # released code, optimization.py
        bias_correction=False,  # released code, optimization.py
    ),
    schedule=Linear(warmup=0.01),  # table 6: 10,000 of 1,000,000 steps
    stages=(Stage(max_length=128, batch=128, micro_batch=128),),  # table 6; section 3.3: length 128
    budget=Budget(amount=1_000_000, unit="steps"),  # table 6
    finetuning=FineTuning(
        optimizer=AdamW(
            lr=1e-4,  # released code, configure_finetuning.py
            eps=1e-6,  # released code, optimization.py
            weight_decay=0.01,  # released code, configure_finetuning.py; a copy of the paper's table 7 has none
            clip_norm=1.0,  # released code, optimization.py
            bias_correction=False,  # released code, optimization.py
            layer_decay=0.8,  # released code, configure_finetuning.py
        ),
        schedule=Linear(warmup=0.1),  # released code, configure_finetuning.py
        epochs=3,  # released code, configure_finetuning.py; 10 for RTE and STS
        batch=32,  # released code, configure_finetuning.py
        max_length=128,  # released code, configure_finetuning.py
        pooler=Pooler(activation=Gelu()),  # Hugging Face's head; the released code has no layer between
    ),
)

BASE = replace(
    SMALL,
    name="electra/base",
    published=replace(SMALL.published, parameters=110_000_000),  # table 1
    model=replace(
        ENCODER,
        hidden=768,  # table 6
        attention=MultiHeadAttention(heads=12, dropout=0.1),
        feedforward=MLP(size=3072),
        embedding=ProjectedEmbedding(size=768, segments=2, dropout=0.1),
    ),
    objectives=(
        MaskedLMGenerator(
            generator=GeneratorConfig(width=0.33333), masked=MASKED
        ),  # table 6: 1/3; released code: 0.33333
        ReplacedTokenDetection(weight=50.0),
    ),
    optimizer=replace(SMALL.optimizer, lr=2e-4),  # table 6
    schedule=Linear(warmup=0.013055),  # table 6: 10,000 of 766,000 steps
    stages=(Stage(max_length=512, batch=256, micro_batch=16),),  # table 6; released code, configure_pretraining.py: 512
    budget=Budget(amount=766_000, unit="steps"),  # table 6
)

LARGE = replace(
    BASE,
    name="electra/large",
    published=replace(
        SMALL.published,
        parameters=335_000_000,  # table 2
        data="the data of XLNet, 33B tokens",  # section 3.1
    ),
    model=replace(
        ENCODER,
        layers=24,  # table 6
        hidden=1024,
        attention=MultiHeadAttention(heads=16, dropout=0.1),
        feedforward=MLP(size=4096),
        embedding=ProjectedEmbedding(size=1024, segments=2, dropout=0.1),
    ),
    objectives=(
        MaskedLMGenerator(
            generator=GeneratorConfig(width=0.25),  # table 6: 1/4
            masked=replace(MASKED, masking=replace(MASKED.masking, rate=0.25)),  # table 6
        ),
        ReplacedTokenDetection(weight=50.0),
    ),
    schedule=Linear(warmup=0.025),  # table 6: 10,000 of 400,000 steps
    stages=(Stage(max_length=512, batch=2048, micro_batch=8),),  # table 6
    budget=Budget(amount=400_000, unit="steps"),  # table 6: ELECTRA-400K
    finetuning=replace(
        SMALL.finetuning,
        optimizer=replace(SMALL.finetuning.optimizer, lr=5e-5, layer_decay=0.9),  # configure_finetuning.py
    ),
)

LARGE_1750K = replace(
    LARGE,
    name="electra/large-1750k",
    schedule=Linear(warmup=0.0057143),  # 10,000 steps, as with 400,000
    budget=Budget(amount=1_750_000, unit="steps"),  # section 3.4: ELECTRA-1.75M, the released one
)

MINI = replace(
    SMALL,
    name="electra/mini",
    published=replace(SMALL.published, parameters=None),  # ours, and so is every number of this row
    model=replace(
        ENCODER,
        layers=4,  # ours: as bert/mini
        hidden=256,
        attention=MultiHeadAttention(heads=4, dropout=0.0),
        feedforward=MLP(size=1024),
        embedding=ProjectedEmbedding(size=128, segments=2, dropout=0.0),
        dropout=0.0,
    ),
    optimizer=AdamW(lr=1e-3, eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # ours: as bert/mini
    schedule=Linear(warmup=0.1),  # ours
    stages=(Stage(max_length=128, batch=32, micro_batch=32),),  # ours
    budget=Budget(amount=1_000, unit="steps"),  # ours: 4 million tokens
)

TINY = replace(
    MINI,
    name="electra/tiny",
    model=replace(
        ENCODER,
        layers=2,  # ours: as bert/tiny
        hidden=128,
        attention=MultiHeadAttention(heads=2, dropout=0.0),
        feedforward=MLP(size=512),
        embedding=ProjectedEmbedding(
            size=64, segments=2, dropout=0.0
        ),  # ours: half the hidden size, as in electra/small
        dropout=0.0,
    ),
)
