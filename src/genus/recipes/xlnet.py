"""XLNet: a language model over random orders, reading both sides of each token (Yang et al. 2019, arXiv:1906.08237).

"Released code" and "README" are those of zihangdai/xlnet. The rows of table 6: BERT-Base is `bert/base`, and what the
others take away or add is an override of `xlnet/base`: DAE + Transformer-XL (`objectives=['MaskedLM']`, which leaves
the query stream idle), memory (`model.memory=0`), span-based prediction (`objectives.0.selection=RandomTokens`),
bidirectional data (`examples.bidirectional=false`), next-sentence prediction (`objectives=['PermutationLM',
{kind='SequenceLabels', label='next_sentence'}]`), and K (`objectives.0.selection.one_in=7`). Deviations: released code
decays the rate to a thousandth of its peak, and decays the biases of the relative attention too. `xlnet/mini` and
`xlnet/tiny` are ours, at the sizes and the cost of `bert/mini` and `bert/tiny`.
"""

from dataclasses import replace

from genus.examples.formats.carried_pairs import CarriedPairs
from genus.model.activation import Gelu
from genus.model.attention.two_stream import TwoStreamAttention
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.initialization import Normal
from genus.model.norm import Identity, LayerNorm
from genus.model.position import NoPosition
from genus.model.segment_recurrence import SegmentRecurrentTransformer
from genus.objectives.masking.targets import ContextSpans
from genus.objectives.pretraining.permutation_lm import PermutationLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget, Explained, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.unigram import XLNET, Unigram

ENCODER = SegmentRecurrentTransformer(
    layers=12,  # section 3.4: as BERT-Base
    hidden=768,  # section 3.4: as BERT-Base
    attention=TwoStreamAttention(heads=12, dropout=0.1),  # section 3.4; appendix, table 7
    feedforward=MLP(size=3072, activation=Gelu(approximate="tanh")),  # section 3.4; released code, modeling.py
    embedding=Embedding(segments=0, position=NoPosition(), norm=Identity(), dropout=0.1),  # released code, modeling.py
    norm=LayerNorm(eps=1e-12),  # released code: TensorFlow's default
    dropout=0.1,  # appendix, table 7
    initialization=Normal(std=0.02),  # released code, train.py: init_std
    memory=384,  # README: mem_len
)

PAPER = Published(
    title="XLNet: Generalized Autoregressive Pretraining for Language Understanding",
    paper="arXiv:1906.08237",
    year=2019,  # arXiv:1906.08237
    data="BooksCorpus and English Wikipedia (13 GB)",  # section 3.1, and 3.4 for the base model
)

BASE = Recipe(
    name="xlnet/base",
    published=Explained(
        title=PAPER.title,
        paper=PAPER.paper,
        year=PAPER.year,
        parameters=110_000_000,  # section 3.4: as BERT-Base
        data=PAPER.data,
        reason="the authors call it as large as BERT, which has no map for distances in each layer",
    ),
    tokens=Unigram(vocab_size=32_000, lowercase=False, special_tokens=XLNET),  # README: vocab_size, cased
    examples=CarriedPairs(
        carried=0.5,  # README: reuse_len 256 of seq_len 512
        random_next=0.5,  # section 2.5; released code, data_utils.py: _split_a_and_b
        bidirectional=True,  # section 3.1
    ),
    model=ENCODER,
    objectives=(PermutationLM(selection=ContextSpans(one_in=6, longest=5)),),  # section 3.1; table 6: K = 6
    optimizer=AdamW(  # section 3.1: what is trained on these data alone reuses BERT's pretraining hyperparameters
        lr=1e-4,  # BERT's (Devlin et al. 2018, appendix A.2)
        eps=1e-6,  # appendix, table 7
        weight_decay=0.01,  # appendix, table 7
        clip_norm=1.0,  # released code, train.py: clip
        bias_correction=False,  # released code, model_utils.py: AdamWeightDecayOptimizer
    ),
    schedule=Linear(warmup=0.01),  # BERT's (Devlin et al. 2018, appendix A.2): 10,000 of 1,000,000 steps
    stages=(Stage(max_length=512, batch=256, micro_batch=16),),  # section 3.1: 512; the batch is BERT's
    budget=Budget(amount=1_000_000, unit="steps"),  # BERT's (Devlin et al. 2018, appendix A.2)
    finetuning=FineTuning(
        optimizer=AdamW(  # appendix, table 8, MNLI; released code, model_utils.py: clip and bias correction
            lr=2e-5, eps=1e-6, weight_decay=0.01, clip_norm=1.0, bias_correction=False
        ),
        schedule=Linear(warmup=0.1),  # README: STS-B, 120 of 1,200 steps; the paper's table has no warm-up
        epochs=3,  # appendix, table 8, MNLI: 10,000 steps
        batch=128,  # appendix, table 8, MNLI
        max_length=128,  # appendix, table 8, MNLI
    ),
)

LARGE = replace(
    BASE,
    name="xlnet/large",
    published=replace(
        BASE.published,
        parameters=340_000_000,  # section 3.1: as BERT-Large
        data="BooksCorpus and Wikipedia (13 GB), Giga5 (16 GB), ClueWeb 2012-B (19 GB), Common Crawl (110 GB)",
        # section 3.1
    ),
    model=replace(
        ENCODER,
        layers=24,  # appendix, table 7
        hidden=1024,
        attention=TwoStreamAttention(heads=16, dropout=0.1),
        feedforward=MLP(size=4096, activation=Gelu(approximate="tanh")),
    ),
    optimizer=replace(BASE.optimizer, lr=4e-4),  # appendix, table 7
    schedule=Linear(warmup=0.08),  # appendix, table 7: 40,000 of 500,000 steps
    stages=(Stage(max_length=512, batch=8192, micro_batch=8),),  # appendix, table 7
    budget=Budget(amount=500_000, unit="steps"),  # appendix, table 7
)

MINI = replace(
    BASE,
    name="xlnet/mini",
    published=PAPER,  # without a number of parameters: ours, and so is every number of this row
    tokens=Unigram(vocab_size=30_522, lowercase=False, special_tokens=XLNET),  # ours: as bert/mini
    model=replace(
        ENCODER,
        layers=4,  # ours: as bert/mini
        hidden=256,
        attention=TwoStreamAttention(heads=4, dropout=0.0),
        feedforward=MLP(size=1024, activation=Gelu(approximate="tanh")),
        embedding=replace(ENCODER.embedding, dropout=0.0),
        dropout=0.0,
        memory=96,
    ),
    optimizer=AdamW(lr=1e-3, eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # ours
    schedule=Linear(warmup=0.1),  # ours
    stages=(Stage(max_length=128, batch=32, micro_batch=32),),  # ours
    budget=Budget(amount=1_000, unit="steps"),  # ours: 4 million tokens
    finetuning=replace(
        BASE.finetuning,
        optimizer=AdamW(lr=1e-4, eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # ours: as bert/mini
        epochs=4,  # ours
        batch=32,  # ours
    ),
)

TINY = replace(
    MINI,
    name="xlnet/tiny",
    model=replace(
        ENCODER,
        layers=2,  # ours: as bert/tiny
        hidden=128,
        attention=TwoStreamAttention(heads=2, dropout=0.0),
        feedforward=MLP(size=512, activation=Gelu(approximate="tanh")),
        embedding=replace(ENCODER.embedding, dropout=0.0),
        dropout=0.0,
        memory=96,
    ),
)
