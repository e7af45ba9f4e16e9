"""T5 (Raffel et al. 2019, arXiv:1910.10683): an encoder-decoder that restores spans of text, and answers in text.

"Released code" is google-research/text-to-text-transfer-transformer: sizes are those of its t5/models/gin/models, the
objective that of objectives/span.gin, all else that of test_data/operative_config.gin. `t5/small` to `t5/11b` were
released after training on supervised tasks as well; these rows are the pretraining on text alone. `t5/v1.1-*` have
gated units, an output matrix of their own and no dropout in pretraining (t5.1.1.base.gin). `t5/base-shared`,
`base-6-layers`, `base-lm` and `base-prefix-lm` are the architectures of table 2 with the denoising objective, trained
as `t5/base`; the authors compared them after 524,288 steps of 128 rows (section 3.1.2). `t5/mini` and `t5/tiny` are
ours, in the form of version 1.1. Texts are cut at the ends of sentences here, not within them. Left out: z_loss, 1e-4
times the squared log normalizer of the softmax; `--set objectives.0.output.kind=ZLossLMHead` adds it.
"""

from dataclasses import replace

from genus.examples.formats.sentences import FullSentences
from genus.model.activation import Gelu, Relu
from genus.model.attention.masks import Causal, Prefix
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.residual import UnscaledPreNorm
from genus.model.embedding import Embedding
from genus.model.encoder_decoder import mirrored
from genus.model.feedforward.gated import GatedMLP
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LMHead
from genus.model.initialization import FanIn
from genus.model.norm import Identity, RMSNorm
from genus.model.position.bias import RelativeBuckets
from genus.model.transformer import Transformer
from genus.objectives.noise.tokens import SpanNoise
from genus.objectives.pretraining.concatenated_lm import ConcatenatedLM
from genus.objectives.pretraining.text_to_text import Denoising
from genus.optim.adafactor import Adafactor
from genus.optim.schedule import Constant
from genus.recipe import Budget, Explained, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.unigram import T5, Unigram

SPANS = Denoising(
    noise=SpanNoise(rate=0.15, span=3.0),  # objectives/span.gin
    output=LMHead(bias="none", scaled=True),  # shared_embedding_and_softmax_weights
)


ATTENTION = MultiHeadAttention(
    heads=8,  # bi_v1_small.gin
    size=64,  # bi_bert_base.gin: d_kv
    bias=False,
    scale=1.0,  # operative_config.gin: fold_scaling_into_initializer
    dropout=0.1,  # defaults.gin
)
UNITS = MLP(size=2048, activation=Relu(), bias=False, dropout=0.1)  # bi_v1_small.gin; defaults.gin
ENCODER = Transformer(
    layers=6,  # bi_v1_small.gin
    hidden=512,  # bi_v1_small.gin
    attention=ATTENTION,
    feedforward=UNITS,
    embedding=Embedding(
        segments=0,
        position=RelativeBuckets(buckets=32, longest=128),  # section 2.1
        norm=Identity(),
        dropout=0.1,  # operative_config.gin: sublayers_initial
    ),
    norm=RMSNorm(eps=1e-6),  # operative_config.gin: sublayer_rms_norm
    block=UnscaledPreNorm(),  # operative_config.gin: sublayers_per_layer, sublayers_final
    dropout=0.1,  # defaults.gin
    initialization=FanIn(embedding_std=1.0),  # operative_config.gin: VarianceScalingInitializer
)
BACK = RelativeBuckets(buckets=32, longest=128, both_directions=False)  # section 2.1
SPARE = replace(ATTENTION, dropout=0.0)  # t5.1.1.base.gin: no dropout
GEGLU = GatedMLP(size=1024, activation=Gelu(approximate="tanh"))  # t5.1.1.small.gin; mesh_tensorflow's gelu
GATED = replace(
    ENCODER,
    attention=SPARE,
    feedforward=GEGLU,
    embedding=replace(ENCODER.embedding, dropout=0.0),  # t5.1.1.base.gin
    dropout=0.0,  # t5.1.1.base.gin
)

SMALL = Recipe(
    name="t5/small",
    published=Published(
        title="Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
        paper="arXiv:1910.10683",
        year=2019,
        parameters=60_000_000,  # section 3.7
        data="C4 (1T tokens)",  # section 3.7
    ),
    tokens=Unigram(
        vocab_size=32_100,  # section 2.2: 32,000 pieces; span.gin: 100 sentinels
        lowercase=False,
        plain=False,
        special_tokens=T5,
    ),
    examples=FullSentences(),
    model=mirrored(ENCODER, BACK),  # bi_v1_small.gin
    objectives=(SPANS,),
    optimizer=Adafactor(lr=0.01),  # operative_config.gin: truncated_rsqrt, 1 / sqrt(max(n, 10^4)); scaled updates
    schedule=Constant(),
    stages=(Stage(max_length=115, source_length=512, batch=2048, micro_batch=16),),  # span.gin; section 3.7
    budget=Budget(amount=1_000_000, unit="steps"),  # section 3.7
    finetuning=FineTuning(
        optimizer=Adafactor(lr=0.001, relative=False),  # section 3.1.2: a constant rate of 0.001
        schedule=Constant(),
        epochs=3,  # ours
        batch=128,  # section 3.1.2
        max_length=512,  # section 3.1.2
    ),
)

TWELVE = replace(ATTENTION, heads=12)  # bi_bert_base.gin
STACK = replace(
    ENCODER,
    layers=12,  # bi_bert_base.gin
    hidden=768,  # bi_bert_base.gin
    attention=TWELVE,
    feedforward=replace(UNITS, size=3072),  # bi_bert_base.gin
)

BASE = replace(
    SMALL,
    name="t5/base",
    published=replace(SMALL.published, parameters=220_000_000),  # section 3.7
    model=mirrored(STACK, BACK),
)

LARGE = replace(
    SMALL,
    name="t5/large",
    published=Explained(
        title=SMALL.published.title,
        paper=SMALL.published.paper,
        year=SMALL.published.year,
        parameters=770_000_000,  # section 3.7
        data=SMALL.published.data,
        reason="transformers' class of these sizes has 737,668,096, as ours but for 28 rows of padding; with a second "
        "matrix of 32,128 x 1,024 it would have 770.6 million",
    ),
    model=mirrored(
        replace(
            ENCODER,
            layers=24,
            hidden=1024,
            attention=replace(ATTENTION, heads=16),
            feedforward=replace(UNITS, size=4096),
        ),
        BACK,
    ),  # bi_v1_large.gin
)

T3B = replace(
    SMALL,
    name="t5/3b",
    published=replace(SMALL.published, parameters=2_800_000_000),  # section 3.7
    model=mirrored(
        replace(
            ENCODER,
            layers=24,
            hidden=1024,
            attention=replace(ATTENTION, heads=32, size=128),
            feedforward=replace(UNITS, size=16_384),
        ),
        BACK,
    ),  # bi_v1_3B.gin
)

T11B = replace(
    SMALL,
    name="t5/11b",
    published=replace(SMALL.published, parameters=11_000_000_000),  # section 3.7
    model=mirrored(
        replace(
            ENCODER,
            layers=24,
            hidden=1024,
            attention=replace(ATTENTION, heads=128, size=128),
            feedforward=replace(UNITS, size=65_536),
        ),
        BACK,
    ),  # bi_v1_11B.gin
)

APART = replace(SPANS, output=LMHead(tied=False, bias="none"))  # t5.1.1.base.gin: shared_embedding_and_softmax_weights

V11_SMALL = replace(
    SMALL,
    name="t5/v1.1-small",
    published=replace(SMALL.published, parameters=None),  # not in the paper
    model=mirrored(
        replace(GATED, layers=8, hidden=512, attention=replace(SPARE, heads=6), feedforward=replace(GEGLU, size=1024)),
        BACK,
    ),  # t5.1.1.small.gin
    objectives=(APART,),
)

V11_BASE = replace(
    V11_SMALL,
    name="t5/v1.1-base",
    model=mirrored(  # t5.1.1.base.gin
        replace(
            GATED, layers=12, hidden=768, attention=replace(SPARE, heads=12), feedforward=replace(GEGLU, size=2048)
        ),
        BACK,
    ),
)

V11_LARGE = replace(
    V11_SMALL,
    name="t5/v1.1-large",
    model=mirrored(  # t5.1.1.large.gin
        replace(
            GATED, layers=24, hidden=1024, attention=replace(SPARE, heads=16), feedforward=replace(GEGLU, size=2816)
        ),
        BACK,
    ),
)

V11_XL = replace(
    V11_SMALL,
    name="t5/v1.1-xl",
    published=replace(SMALL.published, parameters=2_800_000_000),  # t5.1.1.xl.gin: about 2.8B
    model=mirrored(  # t5.1.1.xl.gin
        replace(
            GATED, layers=24, hidden=2048, attention=replace(SPARE, heads=32), feedforward=replace(GEGLU, size=5120)
        ),
        BACK,
    ),
)

V11_XXL = replace(
    V11_SMALL,
    name="t5/v1.1-xxl",
    published=replace(SMALL.published, parameters=11_000_000_000),  # t5.1.1.xxl.gin: about 11B
    model=mirrored(  # t5.1.1.xxl.gin
        replace(
            GATED, layers=24, hidden=4096, attention=replace(SPARE, heads=64), feedforward=replace(GEGLU, size=10_240)
        ),
        BACK,
    ),
)

SHARED = replace(
    BASE,
    name="t5/base-shared",
    published=replace(SMALL.published, parameters=None),  # section 3.2.2 says half of the base's, but for a tenth
    model=replace(mirrored(STACK, BACK), shared="layers"),  # bi_v1_shared.gin
)

HALF = replace(
    SHARED,
    name="t5/base-6-layers",
    model=mirrored(replace(STACK, layers=6), BACK),  # bi_v1_l6.gin
)

DECODER = replace(
    SHARED,
    name="t5/base-lm",
    model=replace(
        STACK, attention=replace(TWELVE, mask=Causal()), embedding=replace(STACK.embedding, position=BACK)
    ),  # lm_v1.gin
    objectives=(ConcatenatedLM(objective=SPANS, learned="all"),),  # section 3.2.1
    stages=(Stage(max_length=626, batch=2048, micro_batch=16),),  # span.gin: 512 and 114; section 3.7
    finetuning=replace(SMALL.finetuning, pooler=None),
)

PREFIX = replace(
    DECODER,
    name="t5/base-prefix-lm",
    model=replace(STACK, attention=replace(TWELVE, mask=Prefix())),  # lm_v1_ifa.gin; compute_bias: both directions
    objectives=(ConcatenatedLM(objective=SPANS),),  # section 3.2.1
)

MINI = replace(
    V11_SMALL,  # ours, and so is every number of this row
    name="t5/mini",  # ours
    tokens=Unigram(vocab_size=8_000, lowercase=False, plain=False, special_tokens=T5),  # ours
    model=mirrored(  # ours
        replace(GATED, layers=4, hidden=256, attention=replace(SPARE, heads=4), feedforward=replace(GEGLU, size=512)),
        BACK,
    ),
    optimizer=Adafactor(lr=0.01),  # ours
    stages=(Stage(max_length=32, source_length=128, batch=64, micro_batch=16),),  # ours
    budget=Budget(amount=20_000_000, unit="tokens"),  # ours
    finetuning=replace(SMALL.finetuning, batch=16, max_length=128),  # ours
)

TINY = replace(
    MINI,  # ours, and so is every number of this row
    name="t5/tiny",  # ours
    model=mirrored(  # ours
        replace(GATED, layers=2, hidden=128, attention=replace(SPARE, heads=2), feedforward=replace(GEGLU, size=256)),
        BACK,
    ),
    stages=(Stage(max_length=32, source_length=128, batch=32, micro_batch=16),),  # ours
    budget=Budget(amount=2_000_000, unit="tokens"),  # ours
)
