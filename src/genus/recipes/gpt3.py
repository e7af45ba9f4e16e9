"""GPT-3: layers of dense and of banded attention take turns (Brown et al. 2020, arXiv:2005.14165; OpenAI).

Table 2.1 and appendix B were read in copies of notes. The batch grows "from 32k tokens over the first 4 to 12 billion
tokens, depending on the size": here it doubles from stage to stage, over 4 billion tokens where it ends at 0.5 million,
6 at 1, 8 at 2 and 12 at 3.2; each stage has as many tokens as linear growth takes from its batch to the next. Which
band the banded layers have is not published: here it is 256 tokens, an eighth of the text. Which layers those are is
not either: here the second, and every other from there on. How weights are drawn is GPT-2's. Dropout is not said; there
is none here, as no token is seen twice. `gpt3/mini` and `/tiny` are ours, at the sizes and the cost of `bert/mini` and
`bert/tiny`; in `gpt3/mini-dense` all layers are dense, so that Hugging Face's GPT-2 classes hold it.
"""

from dataclasses import replace

from genus.examples.formats.documents import FullDocuments
from genus.model.activation import Gelu
from genus.model.attention.alternating import AlternatingAttention
from genus.model.attention.masks import Banded, Causal
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.feedforward.mlp import MLP
from genus.model.position.learned import LearnedPosition
from genus.optim.adamw import AdamW
from genus.optim.schedule import CosineThenConstant
from genus.recipe import Budget, Published
from genus.recipes import gpt2
from genus.stages import Stage
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE

DECODER = replace(
    gpt2.DECODER,
    layers=12,  # table 2.1
    hidden=768,  # table 2.1
    attention=AlternatingAttention(  # section 2.1: alternating dense and locally banded; the band is ours
        attentions=(
            MultiHeadAttention(heads=12, dropout=0.0, mask=Causal()),
            MultiHeadAttention(heads=12, dropout=0.0, mask=Banded(width=256)),
        ),
        order=(0, 1),
    ),
    embedding=replace(
        gpt2.DECODER.embedding,
        position=LearnedPosition(length=2048),  # section 2.1: n_ctx
        dropout=0.0,  # ours
    ),
    dropout=0.0,  # ours
)

HALF_A_MILLION = (
    Stage(share=0.000889, max_length=2048, batch=16, micro_batch=8),  # appendix B: from 32k tokens on; ours: doubled
    Stage(share=0.001778, max_length=2048, batch=32, micro_batch=8),  # appendix B: from 32k tokens on
    Stage(share=0.003556, max_length=2048, batch=64, micro_batch=8),  # appendix B: from 32k tokens on
    Stage(share=0.007111, max_length=2048, batch=128, micro_batch=8),  # appendix B: from 32k tokens on
    Stage(share=0.986666, max_length=2048, batch=256, micro_batch=8),  # table 2.1: 0.5M tokens
)

ONE_MILLION = (
    Stage(share=0.000645, max_length=2048, batch=16, micro_batch=8),  # appendix B: from 32k tokens on; ours: doubled
    Stage(share=0.00129, max_length=2048, batch=32, micro_batch=8),  # appendix B: from 32k tokens on
    Stage(share=0.002581, max_length=2048, batch=64, micro_batch=8),  # appendix B: from 32k tokens on
    Stage(share=0.005161, max_length=2048, batch=128, micro_batch=8),  # appendix B: from 32k tokens on
    Stage(share=0.010323, max_length=2048, batch=256, micro_batch=8),  # appendix B: from 32k tokens on
    Stage(share=0.98, max_length=2048, batch=512, micro_batch=8),  # table 2.1: 1M tokens
)

TWO_MILLION = (
    Stage(share=0.000423, max_length=2048, batch=16, micro_batch=4),  # appendix B: from 32k tokens on; ours: doubled
    Stage(share=0.000847, max_length=2048, batch=32, micro_batch=4),  # appendix B: from 32k tokens on
    Stage(share=0.001693, max_length=2048, batch=64, micro_batch=4),  # appendix B: from 32k tokens on
    Stage(share=0.003386, max_length=2048, batch=128, micro_batch=4),  # appendix B: from 32k tokens on
    Stage(share=0.006772, max_length=2048, batch=256, micro_batch=4),  # appendix B: from 32k tokens on
    Stage(share=0.013545, max_length=2048, batch=512, micro_batch=4),  # appendix B: from 32k tokens on
    Stage(share=0.973334, max_length=2048, batch=1024, micro_batch=4),  # table 2.1: 2M tokens
)

THREE_MILLION = (
    Stage(share=0.000421, max_length=2048, batch=16, micro_batch=1),  # appendix B: from 32k tokens on; ours: doubled
    Stage(share=0.000842, max_length=2048, batch=32, micro_batch=1),  # appendix B: from 32k tokens on
    Stage(share=0.001684, max_length=2048, batch=64, micro_batch=1),  # appendix B: from 32k tokens on
    Stage(share=0.003368, max_length=2048, batch=128, micro_batch=1),  # appendix B: from 32k tokens on
    Stage(share=0.006737, max_length=2048, batch=256, micro_batch=1),  # appendix B: from 32k tokens on
    Stage(share=0.013474, max_length=2048, batch=512, micro_batch=1),  # appendix B: from 32k tokens on
    Stage(share=0.013474, max_length=2048, batch=1024, micro_batch=1),  # appendix B: from 32k tokens on
    Stage(
        share=0.96, max_length=2048, batch=1536, micro_batch=1
    ),  # table 2.1: 3.2M tokens; 1,536 rows as in the script of Megatron-DeepSpeed
)

SMALL = replace(
    gpt2.SMALL,
    name="gpt3/125m",
    published=Published(
        title="Language Models are Few-Shot Learners",
        paper="arXiv:2005.14165",
        year=2020,
        parameters=125_000_000,  # table 2.1
        data="CommonCrawl, WebText2, two corpora of books, Wikipedia (300 billion tokens seen)",  # table 2.2
    ),
    examples=FullDocuments(),  # appendix B: rows are always full, and documents have a special token between them
    model=DECODER,
    optimizer=AdamW(
        lr=6e-4,  # table 2.1
        betas=(0.9, 0.95),  # appendix B
        eps=1e-8,  # appendix B
        weight_decay=0.1,  # appendix B
        clip_norm=1.0,  # appendix B
    ),
    schedule=CosineThenConstant(  # appendix B: 375 million tokens, down to 10 % by 260 billion, and 10 % from there on
        warmup=0.00125, end=0.866667, floor=0.1
    ),
    stages=HALF_A_MILLION,
    budget=Budget(amount=300_000_000_000, unit="tokens"),  # table 2.1: 300 billion tokens
)

MEDIUM = replace(
    SMALL,
    name="gpt3/350m",
    published=replace(SMALL.published, parameters=350_000_000),  # table 2.1
    model=replace(
        DECODER,
        layers=24,  # table 2.1
        hidden=1024,
        attention=AlternatingAttention(
            attentions=(
                MultiHeadAttention(heads=16, dropout=0.0, mask=Causal()),
                MultiHeadAttention(heads=16, dropout=0.0, mask=Banded(width=256)),
            ),
            order=(0, 1),
        ),
        feedforward=MLP(size=4096, activation=Gelu(approximate="tanh")),  # section 2.1: 4 d
    ),
    optimizer=replace(SMALL.optimizer, lr=0.0003),  # table 2.1
)

LARGE = replace(
    SMALL,
    name="gpt3/760m",
    published=replace(SMALL.published, parameters=760_000_000),  # table 2.1
    model=replace(
        DECODER,
        layers=24,  # table 2.1
        hidden=1536,
        attention=AlternatingAttention(
            attentions=(
                MultiHeadAttention(heads=16, dropout=0.0, mask=Causal()),
                MultiHeadAttention(heads=16, dropout=0.0, mask=Banded(width=256)),
            ),
            order=(0, 1),
        ),
        feedforward=MLP(size=6144, activation=Gelu(approximate="tanh")),  # section 2.1: 4 d
    ),
    optimizer=replace(SMALL.optimizer, lr=0.00025),  # table 2.1
)

XL = replace(
    SMALL,
    name="gpt3/1.3b",
    published=replace(SMALL.published, parameters=1_300_000_000),  # table 2.1
    model=replace(
        DECODER,
        layers=24,  # table 2.1; printed are 24 heads of 128, which make 3,072, not 2,048
        hidden=2048,
        attention=AlternatingAttention(
            attentions=(
                MultiHeadAttention(heads=16, dropout=0.0, mask=Causal()),
                MultiHeadAttention(heads=16, dropout=0.0, mask=Banded(width=256)),
            ),
            order=(0, 1),
        ),
        feedforward=MLP(size=8192, activation=Gelu(approximate="tanh")),  # section 2.1: 4 d
    ),
    optimizer=replace(SMALL.optimizer, lr=0.0002),  # table 2.1
    stages=ONE_MILLION,
)

B2_7 = replace(
    SMALL,
    name="gpt3/2.7b",
    published=replace(SMALL.published, parameters=2_700_000_000),  # table 2.1
    model=replace(
        DECODER,
        layers=32,  # table 2.1
        hidden=2560,
        attention=AlternatingAttention(
            attentions=(
                MultiHeadAttention(heads=32, dropout=0.0, mask=Causal()),
                MultiHeadAttention(heads=32, dropout=0.0, mask=Banded(width=256)),
            ),
            order=(0, 1),
        ),
        feedforward=MLP(size=10240, activation=Gelu(approximate="tanh")),  # section 2.1: 4 d
    ),
    optimizer=replace(SMALL.optimizer, lr=0.00016),  # table 2.1
    stages=ONE_MILLION,
)

B6_7 = replace(
    SMALL,
    name="gpt3/6.7b",
    published=replace(SMALL.published, parameters=6_700_000_000),  # table 2.1
    model=replace(
        DECODER,
        layers=32,  # table 2.1
        hidden=4096,
        attention=AlternatingAttention(
            attentions=(
                MultiHeadAttention(heads=32, dropout=0.0, mask=Causal()),
                MultiHeadAttention(heads=32, dropout=0.0, mask=Banded(width=256)),
            ),
            order=(0, 1),
        ),
        feedforward=MLP(size=16384, activation=Gelu(approximate="tanh")),  # section 2.1: 4 d
    ),
    optimizer=replace(SMALL.optimizer, lr=0.00012),  # table 2.1
    stages=TWO_MILLION,
)

B13 = replace(
    SMALL,
    name="gpt3/13b",
    published=replace(SMALL.published, parameters=13_000_000_000),  # table 2.1
    model=replace(
        DECODER,
        layers=40,  # table 2.1; printed are 5,140, which 40 heads of 128 do not make
        hidden=5120,
        attention=AlternatingAttention(
            attentions=(
                MultiHeadAttention(heads=40, dropout=0.0, mask=Causal()),
                MultiHeadAttention(heads=40, dropout=0.0, mask=Banded(width=256)),
            ),
            order=(0, 1),
        ),
        feedforward=MLP(size=20480, activation=Gelu(approximate="tanh")),  # section 2.1: 4 d
    ),
    optimizer=replace(SMALL.optimizer, lr=0.0001),  # table 2.1
    stages=TWO_MILLION,
)

B175 = replace(
    SMALL,
    name="gpt3/175b",
    published=replace(SMALL.published, parameters=175_000_000_000),  # table 2.1
    model=replace(
        DECODER,
        layers=96,  # table 2.1
        hidden=12288,
        attention=AlternatingAttention(
            attentions=(
                MultiHeadAttention(heads=96, dropout=0.0, mask=Causal()),
                MultiHeadAttention(heads=96, dropout=0.0, mask=Banded(width=256)),
            ),
            order=(0, 1),
        ),
        feedforward=MLP(size=49152, activation=Gelu(approximate="tanh")),  # section 2.1: 4 d
    ),
    optimizer=replace(SMALL.optimizer, lr=6e-05),  # table 2.1
    stages=THREE_MILLION,
)

MINI = replace(
    gpt2.MINI,
    name="gpt3/mini",
    published=replace(SMALL.published, parameters=None),  # ours, and so is every number of this row
    schedule=CosineThenConstant(warmup=0.1, end=0.9, floor=0.1),  # ours
    stages=(
        Stage(share=0.1, max_length=128, batch=8, micro_batch=8),  # ours: a batch that grows
        Stage(share=0.9, max_length=128, batch=32, micro_batch=32),  # ours: as bert/mini
    ),
    model=replace(
        DECODER,
        layers=4,  # ours: as bert/mini
        hidden=256,
        attention=AlternatingAttention(
            attentions=(
                MultiHeadAttention(heads=4, dropout=0.0, mask=Causal()),
                MultiHeadAttention(heads=4, dropout=0.0, mask=Banded(width=32)),  # ours: a quarter of the text
            ),
            order=(0, 1),
        ),
        feedforward=MLP(size=1024, activation=Gelu(approximate="tanh")),
    ),
)

TINY = replace(
    MINI,
    name="gpt3/tiny",
    tokens=ByteBPE(vocab_size=8_000, special_tokens=GPT2),  # ours
    model=replace(
        DECODER,
        layers=2,  # ours: as bert/tiny
        hidden=128,
        attention=AlternatingAttention(
            attentions=(
                MultiHeadAttention(heads=2, dropout=0.0, mask=Causal()),
                MultiHeadAttention(heads=2, dropout=0.0, mask=Banded(width=32)),  # ours: a quarter of the text
            ),
            order=(0, 1),
        ),
        feedforward=MLP(size=512, activation=Gelu(approximate="tanh")),
    ),
)

MINI_DENSE = replace(
    MINI,
    name="gpt3/mini-dense",
    model=replace(
        DECODER,
        layers=4,  # ours: as bert/mini
        hidden=256,
        attention=MultiHeadAttention(heads=4, dropout=0.0, mask=Causal()),
        feedforward=MLP(size=1024, activation=Gelu(approximate="tanh")),
    ),
)
