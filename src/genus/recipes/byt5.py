"""ByT5 (Xue et al. 2021, arXiv:2105.13626): T5 over bytes, with an encoder three times as deep as the decoder.

"Released code" is google-research/byt5: sizes are those of its byt5/gin/models, each on T5's model of version 1.1 of
that size, which has the heads (google-research/text-to-text-transfer-transformer, t5.1.1.*.gin); objective and lengths
are those of byt5/tasks.py and README.md. All else is T5's. The authors trained on mC4, whose 101 languages they mixed
by temperature; here a corpus is as it is. `byt5/mini` and `byt5/tiny` are ours. Left out: z_loss, as in T5's rows.
"""

from dataclasses import replace

from genus.model.encoder_decoder import mirrored
from genus.objectives.noise.tokens import SpanNoise
from genus.recipe import Budget, Published
from genus.recipes import t5
from genus.stages import Stage
from genus.tokens.algorithms.byt5 import ByT5Bytes

SMALL = replace(
    t5.V11_SMALL,
    name="byt5/small",
    published=Published(
        title="ByT5: Towards a Token-Free Future with Pre-trained Byte-to-Byte Models",
        paper="arXiv:2105.13626",
        year=2021,
        parameters=300_000_000,  # table 1
        data="mC4 (101 languages)",  # section 3.1: as mT5
    ),
    tokens=ByT5Bytes(
        vocab_size=384,  # transformers: 125 further special tokens; released code: 259, rounded up to a multiple of 128
        reused=100,  # section 3.1
    ),
    model=mirrored(  # byt5.small.gin: layers, d_model, d_ff; t5.1.1.small.gin: heads
        replace(
            t5.GATED,
            layers=12,
            hidden=1472,
            attention=replace(t5.SPARE, heads=6),
            feedforward=replace(t5.GEGLU, size=3584),
        ),
        t5.BACK,
        layers=4,
    ),
    objectives=(
        replace(t5.APART, noise=SpanNoise(rate=0.15, span=20.0)),  # T5's span.gin; tasks.py: MEAN_NOISE_SPAN_LENGTH
    ),
    stages=(
        Stage(max_length=190, source_length=1024, batch=1024, micro_batch=8),  # README.md: 189 bytes and a start token
    ),
    budget=Budget(amount=1_000_000, unit="steps"),  # README.md
    finetuning=replace(t5.SMALL.finetuning, max_length=1024),  # ours: as long as in pretraining
)

BASE = replace(
    SMALL,
    name="byt5/base",
    published=replace(SMALL.published, parameters=582_000_000),  # table 1
    model=mirrored(  # byt5.base.gin; t5.1.1.base.gin: heads
        replace(
            t5.GATED,
            layers=18,
            hidden=1536,
            attention=replace(t5.SPARE, heads=12),
            feedforward=replace(t5.GEGLU, size=3968),
        ),
        t5.BACK,
        layers=6,
    ),
)

LARGE = replace(
    SMALL,
    name="byt5/large",
    published=replace(SMALL.published, parameters=1_230_000_000),  # table 1
    model=mirrored(  # byt5.large.gin; t5.1.1.large.gin: heads
        replace(
            t5.GATED,
            layers=36,
            hidden=1536,
            attention=replace(t5.SPARE, heads=16),
            feedforward=replace(t5.GEGLU, size=3840),
        ),
        t5.BACK,
        layers=12,
    ),
)

XL = replace(
    SMALL,
    name="byt5/xl",
    published=replace(SMALL.published, parameters=3_740_000_000),  # table 1
    model=mirrored(  # byt5.xl.gin; t5.1.1.xl.gin: heads
        replace(
            t5.GATED,
            layers=36,
            hidden=2560,
            attention=replace(t5.SPARE, heads=32),
            feedforward=replace(t5.GEGLU, size=6720),
        ),
        t5.BACK,
        layers=12,
    ),
)

XXL = replace(
    SMALL,
    name="byt5/xxl",
    published=replace(SMALL.published, parameters=12_900_000_000),  # table 1
    model=mirrored(  # byt5.xxl.gin; t5.1.1.xxl.gin: heads
        replace(
            t5.GATED,
            layers=36,
            hidden=4672,
            attention=replace(t5.SPARE, heads=64),
            feedforward=replace(t5.GEGLU, size=12_352),
        ),
        t5.BACK,
        layers=12,
    ),
)

MINI = replace(
    SMALL,  # ours, and so is every number of this row
    name="byt5/mini",  # ours
    published=replace(SMALL.published, parameters=None),
    model=mirrored(  # ours
        replace(
            t5.GATED,
            layers=6,
            hidden=256,
            attention=replace(t5.SPARE, heads=4),
            feedforward=replace(t5.GEGLU, size=640),
        ),
        t5.BACK,
        layers=2,
    ),
    stages=(Stage(max_length=72, source_length=384, batch=64, micro_batch=16),),  # ours
    budget=Budget(amount=20_000_000, unit="tokens"),  # ours
    finetuning=replace(SMALL.finetuning, batch=16, max_length=384),  # ours
)

TINY = replace(
    MINI,  # ours, and so is every number of this row
    name="byt5/tiny",  # ours
    model=mirrored(  # ours
        replace(
            t5.GATED,
            layers=3,
            hidden=128,
            attention=replace(t5.SPARE, heads=2),
            feedforward=replace(t5.GEGLU, size=320),
        ),
        t5.BACK,
        layers=1,
    ),
    stages=(Stage(max_length=72, source_length=384, batch=32, micro_batch=16),),  # ours
    budget=Budget(amount=2_000_000, unit="tokens"),  # ours
)
