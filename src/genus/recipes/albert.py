"""ALBERT: BERT with narrow embeddings and one layer applied over and over (Lan et al. 2019, arXiv:1909.11942).

"Released code" is google-research/albert, "README" its page. Rows without a suffix are the first release, those with
`-v2` the second of October 31st, 2019: no dropout, more data, longer training. What the paper calls sharing of
attention or of feed-forward layers only, and no sharing, are settings: `model.stack=SharedAttention`,
`model.stack=SharedFeedForward`, `model.stack.groups=12`. Released code predicts 20 tokens of a sequence at most, also
at 512 tokens, where 15 % would be 77; the paper does not say so. Table 1 has several versions: xlarge and xxlarge have
60 and 235 million parameters in the one cited here, 59 and 233 in another. Fine-tuning keeps the network's own dropout,
which table 14 leaves out for most tasks. `albert/mini` and `albert/tiny` are ours, not published: the same ideas at the
sizes of `bert/mini` and `bert/tiny`, with the same cost of training.
"""

from dataclasses import replace

from genus.examples.formats.ordered_pairs import OrderedPairs
from genus.model.activation import Gelu
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding.tables import FactorizedEmbedding
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LMHead, Transform
from genus.model.initialization import Normal
from genus.model.pooler import Pooler
from genus.model.stack.sharing import CrossLayerSharing
from genus.model.transformer import Transformer
from genus.objectives.masking.ngram import NGramMasking
from genus.objectives.pretraining.labels import SequenceLabels
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.optim.adamw import AdamW
from genus.optim.lamb import LAMB
from genus.optim.schedule import Linear
from genus.recipe import Budget, Explained, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.unigram import Unigram

GELU = Gelu(approximate="tanh")

ENCODER = Transformer(
    layers=12,  # table 1
    hidden=768,  # table 1
    attention=MultiHeadAttention(
        heads=12, dropout=0.1
    ),  # section 3.1: H / 64; dropout: the released configurations of base-v1
    feedforward=MLP(size=3072, activation=GELU),  # section 3.1: 4H; released code, modeling.py: gelu
    embedding=FactorizedEmbedding(
        size=128,  # table 1
        segments=2,  # section 3.1: the backbone is BERT's
        dropout=0.1,  # as above
    ),
    stack=CrossLayerSharing(groups=1),  # section 3.1: all parameters across layers
    pooler=Pooler(),
    dropout=0.1,  # as above
    initialization=Normal(std=0.02),  # released code, modeling.py: initializer_range
)

WITHOUT_DROPOUT = replace(
    ENCODER,
    attention=MultiHeadAttention(heads=12, dropout=0.0),  # README, second release: no dropout
    embedding=replace(ENCODER.embedding, dropout=0.0),  # as above
    dropout=0.0,  # as above
)

BASE = Recipe(
    name="albert/base",
    published=Published(
        title="ALBERT: A Lite BERT for Self-supervised Learning of Language Representations",
        paper="arXiv:1909.11942",
        year=2019,
        parameters=12_000_000,  # table 1
        data="BookCorpus and English Wikipedia, about 16 GB",  # section 4.1
    ),
    tokens=Unigram(vocab_size=30_000, lowercase=True),  # section 4.1; released vocabulary, uncased
    examples=OrderedPairs(
        short=0.1,  # section 4.1
        swapped=0.5,  # section 3.1; released code, create_pretraining_data.py
        dupe_factor=40,  # released code, create_pretraining_data.py: dupe_factor
    ),
    model=ENCODER,
    objectives=(
        MaskedLM(
            masking=NGramMasking(
                longest=3,  # section 4.1: n up to 3; 15 % as in BERT
                max_predictions=20,  # released code, run_pretraining.py: max_predictions_per_seq
            ),
            output=LMHead(transform=Transform(activation=GELU)),  # released code, modeling.py: gelu
        ),
        SequenceLabels(label="sentence_order"),  # section 3.1
    ),
    optimizer=LAMB(
        lr=1.76e-3,  # section 4.1
        betas=(0.9, 0.999),  # released code, optimization.py
        eps=1e-6,  # released code, optimization.py
        weight_decay=0.01,  # released code, optimization.py
        clip_norm=1.0,  # released code, optimization.py
        bias_correction=False,  # released code, lamb_optimizer.py
    ),
    schedule=Linear(warmup=0.025),  # released code, run_pretraining.py, README: 3,125 of 125,000 steps
    stages=(Stage(max_length=512, batch=4096, micro_batch=16),),  # section 4.1
    budget=Budget(amount=125_000, unit="steps"),  # section 4.1
    finetuning=FineTuning(
        optimizer=AdamW(  # appendix, table 14, and released code, run_glue.sh: SST-2; optimization.py: the rest
            lr=1e-5, eps=1e-6, weight_decay=0.01, clip_norm=1.0, bias_correction=False
        ),
        schedule=Linear(warmup=0.06),  # appendix, table 14, SST-2: 1,256 of 20,935 steps
        epochs=10,  # appendix, table 14, SST-2: 20,935 steps
        batch=32,  # appendix, table 14, SST-2
        max_length=512,  # appendix, table 14
    ),
)

LARGE = replace(
    BASE,
    name="albert/large",
    published=replace(BASE.published, parameters=18_000_000),  # table 1
    model=replace(
        ENCODER,
        layers=24,  # table 1
        hidden=1024,
        attention=MultiHeadAttention(heads=16, dropout=0.1),
        feedforward=MLP(size=4096, activation=GELU),
    ),
)

XLARGE = replace(
    LARGE,
    name="albert/xlarge",
    published=replace(BASE.published, parameters=60_000_000),  # table 1
    model=replace(
        ENCODER,
        layers=24,  # table 1
        hidden=2048,
        attention=MultiHeadAttention(heads=16, dropout=0.1),  # released configuration: 128 wide, unlike the others
        feedforward=MLP(size=8192, activation=GELU),  # section 3.1: 4H
    ),
)

XXLARGE = replace(
    BASE,
    name="albert/xxlarge",
    published=Explained(
        title=BASE.published.title,
        paper=BASE.published.paper,
        year=BASE.published.year,
        parameters=235_000_000,  # table 1
        reason="one layer, embeddings and pooler of these sizes make 223 million; the paper's table 12 says 225",
        data="BookCorpus, English Wikipedia, and the additional data of XLNet and RoBERTa",  # section 4.9
    ),
    model=replace(
        WITHOUT_DROPOUT,  # section 4.9: dropout is removed
        layers=12,  # table 1
        hidden=4096,
        attention=MultiHeadAttention(heads=64, dropout=0.0),
        feedforward=MLP(size=16384, activation=GELU),
    ),
    schedule=Linear(warmup=0.0020833),  # 3,125 steps, as with 125,000
    stages=(Stage(max_length=512, batch=4096, micro_batch=4),),  # section 4.1
    budget=Budget(amount=1_500_000, unit="steps"),  # section 4.9; README, October 31st, 2019
)

BASE_V2 = replace(
    BASE,
    name="albert/base-v2",
    published=replace(BASE.published, data=XXLARGE.published.data),  # README: additional training data
    model=WITHOUT_DROPOUT,
    schedule=Linear(warmup=0.0003125),  # 3,125 steps, as with 125,000
    budget=Budget(amount=10_000_000, unit="steps"),  # README, October 31st, 2019
)

LARGE_V2 = replace(
    BASE_V2,
    name="albert/large-v2",
    published=replace(BASE_V2.published, parameters=18_000_000),  # table 1
    model=replace(
        WITHOUT_DROPOUT,
        layers=24,  # table 1
        hidden=1024,
        attention=MultiHeadAttention(heads=16, dropout=0.0),
        feedforward=MLP(size=4096, activation=GELU),
    ),
    schedule=Linear(warmup=0.0010417),  # 3,125 steps, as with 125,000
    budget=Budget(amount=3_000_000, unit="steps"),  # README, October 31st, 2019
)

XLARGE_V2 = replace(
    LARGE_V2,
    name="albert/xlarge-v2",
    published=replace(BASE_V2.published, parameters=60_000_000),  # table 1
    model=replace(
        WITHOUT_DROPOUT,
        layers=24,  # table 1
        hidden=2048,
        attention=MultiHeadAttention(heads=16, dropout=0.0),  # released configuration: 128 wide, unlike the others
        feedforward=MLP(size=8192, activation=GELU),
    ),
)

XXLARGE_V2 = replace(
    XXLARGE,
    name="albert/xxlarge-v2",
    schedule=LARGE_V2.schedule,
    budget=LARGE_V2.budget,
)

MINI = replace(
    BASE,
    name="albert/mini",
    published=replace(BASE.published, parameters=None),  # ours, and so is every number of this row
    tokens=Unigram(vocab_size=30_522),  # ours: as bert/mini
    model=replace(
        WITHOUT_DROPOUT,
        layers=4,  # ours: as bert/mini
        hidden=256,
        attention=MultiHeadAttention(heads=4, dropout=0.0),
        feedforward=MLP(size=1024, activation=GELU),
    ),
    optimizer=AdamW(lr=1e-3, eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # ours: as bert/mini
    schedule=Linear(warmup=0.1),  # ours
    stages=(Stage(max_length=128, batch=32, micro_batch=32),),  # ours
    budget=Budget(amount=1_000, unit="steps"),  # ours: 4 million tokens
    finetuning=replace(
        BASE.finetuning,
        optimizer=AdamW(lr=1e-4, eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # ours: as bert/mini
        epochs=4,  # ours
        max_length=128,  # ours
    ),
)

TINY = replace(
    MINI,
    name="albert/tiny",
    model=replace(
        WITHOUT_DROPOUT,
        layers=2,  # ours: as bert/tiny
        hidden=128,
        attention=MultiHeadAttention(heads=2, dropout=0.0),
        feedforward=MLP(size=512, activation=GELU),
        embedding=FactorizedEmbedding(size=64, dropout=0.0),  # ours: half the hidden size
    ),
)
