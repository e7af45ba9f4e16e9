"""T5: every task as text to text, by an encoder-decoder that restores spans (Raffel et al. 2019, arXiv:1910.10683).

"Released code" is google-research/text-to-text-transfer-transformer: sizes are those of its t5/models/gin/models, the
objective that of objectives/span.gin, all else that of test_data/operative_config.gin. `t5/small` to `t5/11b` were
released after training on supervised tasks as well; these rows are the pretraining on text alone. `t5/v1.1-*` have
gated units, an output matrix of their own and no dropout in pretraining (t5.1.1.base.gin). `t5/mini` and `t5/tiny` are
ours, in the form of version 1.1. Texts are cut at the ends of sentences here, not within them. Left out: z_loss, 1e-4
times the squared log normalizer of the softmax.
"""

from dataclasses import replace

from genus.examples.formats.sentences import FullSentences
from genus.model.activation import Gelu, Relu
from genus.model.attention.masks import Causal
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.residual import UnscaledPreNorm
from genus.model.embedding import Embedding
from genus.model.encoder_decoder import EncoderDecoder
from genus.model.feedforward.gated import GatedMLP
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LMHead
from genus.model.initialization import FanIn
from genus.model.norm import Identity, RMSNorm
from genus.model.position.bias import RelativeBuckets
from genus.model.transformer import Transformer
from genus.objectives.noise.tokens import SpanNoise
from genus.objectives.pretraining.text_to_text import Denoising
from genus.optim.adafactor import Adafactor
from genus.optim.schedule import Constant
from genus.recipe import Budget, FineTuning, Published, Recipe, Stage
from genus.tokens.algorithms.unigram import T5, Unigram

SPANS = Denoising(
    noise=SpanNoise(rate=0.15, span=3.0),  # objectives/span.gin
    output=LMHead(bias="none", scaled=True),  # shared_embedding_and_softmax_weights
)


def sized(
    layers: int, hidden: int, inner: int, heads: int, head_size: int = 64, *, dropout: float = 0.1
) -> EncoderDecoder:
    """Return T5's architecture of a size: as many layers in the encoder as in the decoder."""
    attention = MultiHeadAttention(
        heads=heads,
        size=head_size,
        bias=False,
        scale=1.0,  # operative_config.gin: fold_scaling_into_initializer
        dropout=dropout,
    )
    encoder = Transformer(
        layers=layers,
        hidden=hidden,
        attention=attention,
        feedforward=MLP(size=inner, activation=Relu(), bias=False, dropout=dropout),  # operative_config.gin: use_bias
        embedding=Embedding(
            segments=0,
            position=RelativeBuckets(buckets=32, longest=128),  # section 2.1
            norm=Identity(),
            dropout=dropout,  # operative_config.gin: sublayers_initial
        ),
        norm=RMSNorm(eps=1e-6),  # operative_config.gin: sublayer_rms_norm
        block=UnscaledPreNorm(),  # operative_config.gin: sublayers_per_layer, sublayers_final
        dropout=dropout,
        initialization=FanIn(embedding_std=1.0),
    )
    decoder = replace(
        encoder,
        attention=replace(attention, mask=Causal()),
        cross=attention,
        embedding=replace(encoder.embedding, position=RelativeBuckets(buckets=32, longest=128, both_directions=False)),
    )
    return EncoderDecoder(encoder=encoder, decoder=decoder)


def gated(layers: int, hidden: int, inner: int, heads: int) -> EncoderDecoder:
    """Return the architecture of version 1.1 of a size: gated units, no dropout in pretraining."""
    plain = sized(layers, hidden, inner, heads, dropout=0.0)
    units = GatedMLP(size=inner, activation=Gelu(approximate="tanh"))  # mesh_tensorflow's gelu is the tanh form
    return replace(
        plain, encoder=replace(plain.encoder, feedforward=units), decoder=replace(plain.decoder, feedforward=units)
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
        vocab_size=32_100, lowercase=False, plain=False, special_tokens=T5
    ),  # section 2.2: 32,000 pieces; span.gin: 100 sentinels
    examples=FullSentences(),
    model=sized(6, 512, 2048, 8),  # bi_v1_small.gin
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
        pooler=None,
    ),
)

BASE = replace(
    SMALL,
    name="t5/base",
    published=replace(SMALL.published, parameters=220_000_000),  # section 3.7
    model=sized(12, 768, 3072, 12),  # bi_bert_base.gin
)

LARGE = replace(
    SMALL,
    name="t5/large",
    published=replace(SMALL.published, parameters=770_000_000),  # section 3.7
    model=sized(24, 1024, 4096, 16),  # bi_v1_large.gin
)

T3B = replace(
    SMALL,
    name="t5/3b",
    published=replace(SMALL.published, parameters=2_800_000_000),  # section 3.7
    model=sized(24, 1024, 16_384, 32, 128),  # bi_v1_3B.gin
)

T11B = replace(
    SMALL,
    name="t5/11b",
    published=replace(SMALL.published, parameters=11_000_000_000),  # section 3.7
    model=sized(24, 1024, 65_536, 128, 128),  # bi_v1_11B.gin
)

APART = replace(SPANS, output=LMHead(tied=False, bias="none"))
"""The objective with an output matrix of its own."""

V11_SMALL = replace(
    SMALL,
    name="t5/v1.1-small",
    published=replace(SMALL.published, parameters=None),  # not in the paper
    model=gated(8, 512, 1024, 6),  # t5.1.1.small.gin
    objectives=(APART,),
)

V11_BASE = replace(V11_SMALL, name="t5/v1.1-base", model=gated(12, 768, 2048, 12))  # t5.1.1.base.gin

V11_LARGE = replace(V11_SMALL, name="t5/v1.1-large", model=gated(24, 1024, 2816, 16))  # t5.1.1.large.gin

V11_XL = replace(
    V11_SMALL,
    name="t5/v1.1-xl",
    published=replace(SMALL.published, parameters=2_800_000_000),  # t5.1.1.xl.gin: about 2.8B
    model=gated(24, 2048, 5120, 32),
)

V11_XXL = replace(
    V11_SMALL,
    name="t5/v1.1-xxl",
    published=replace(SMALL.published, parameters=11_000_000_000),  # t5.1.1.xxl.gin: about 11B
    model=gated(24, 4096, 10_240, 64),
)

MINI = replace(
    V11_SMALL,  # ours, and so is every number of this row
    name="t5/mini",
    tokens=Unigram(vocab_size=8_000, lowercase=False, plain=False, special_tokens=T5),
    model=gated(4, 256, 512, 4),
    optimizer=Adafactor(lr=0.01),
    stages=(Stage(max_length=32, source_length=128, batch=64, micro_batch=16),),
    budget=Budget(amount=20_000_000, unit="tokens"),
    finetuning=replace(SMALL.finetuning, batch=16, max_length=128),
)

TINY = replace(
    MINI,  # ours, and so is every number of this row
    name="t5/tiny",
    model=gated(2, 128, 256, 2),
    stages=(Stage(max_length=32, source_length=128, batch=32, micro_batch=16),),
    budget=Budget(amount=2_000_000, unit="tokens"),
)
