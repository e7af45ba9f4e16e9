"""BigBird: a window, random blocks and global tokens, for texts of 4,096 tokens (Zaheer et al. 2020, arXiv:2007.14062).

"Released code" is google-research/bigbird. The authors start from RoBERTa's checkpoint (appendix E.1), which is a flag
of the command: `genus pretrain bigbird TEXT --start ROBERTA`; its 512 positions are then taken again and again. Rows
without a suffix are the internal construction (ITC), whose first and last blocks are global; rows with `-etc` add
global tokens of their own (ETC). Question answering with the first 128 tokens as global ones (appendix E.2) is
model.attention.num_global_tokens=128 and model.attention.num_global_tail_blocks=0. Deviation: released code masks 15 %
of the words, whatever their length (run_pretraining.py); here it is 15 % of the tokens, in whole words. `bigbird/mini`
and `bigbird/tiny` are ours, not published, at the sizes of `bert/mini` and `bert/tiny` and with as many tokens in a
step, in long rows of short blocks.
"""

from dataclasses import replace

from genus.examples.formats.sentences import FullSentences
from genus.model.activation import Gelu
from genus.model.attention.block_sparse.layer import BlockSparseAttention
from genus.model.embedding.tables import EarlyDropoutEmbedding
from genus.model.feedforward.mlp import MLP
from genus.model.global_tokens import GlobalTokenTransformer
from genus.model.head.lm_head import LMHead, Transform
from genus.model.initialization import Normal
from genus.model.pooler import Pooler
from genus.model.position.learned import LearnedPosition
from genus.model.transformer import Transformer
from genus.objectives.masking.tokens import WholeWordMasking
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.unigram import Unigram

GELU = Gelu(approximate="tanh")  # appendix, table 8: gelu; released code, utils.py: its tanh form

ITC = BlockSparseAttention(
    heads=12,  # appendix, table 8
    dropout=0.1,  # appendix, table 8
    block_size=64,  # appendix, table 8
    num_global_tokens=64,  # appendix, table 8: 2b global tokens; released code, attention.py: the first block
    num_global_tail_blocks=1,  # and the last
    window_blocks=3,  # appendix, table 8: 3b
    random_blocks=3,  # appendix, table 8: 3b
    random_block_limit=16,  # released code, attention.py: last_idx=1024, the plan used in the paper
)

ETC = BlockSparseAttention(
    heads=12,  # appendix, table 8
    dropout=0.1,  # appendix, table 8
    block_size=84,  # appendix, table 8
    num_global_tokens=256,  # appendix, table 8: g
    num_global_tail_blocks=0,  # appendix, table 8: no more than these are global
    window_blocks=3,  # appendix, table 8: 3b
    random_blocks=0,  # appendix, table 8
)

ENCODER = Transformer(
    layers=12,  # appendix, table 8
    hidden=768,  # appendix, table 8
    attention=ITC,
    feedforward=MLP(size=3072, activation=GELU),  # released code, flags.py: intermediate_size
    embedding=EarlyDropoutEmbedding(  # released code, utils.py and encoder.py: dropout, then the norm
        segments=2,  # released code, flags.py: type_vocab_size
        position=LearnedPosition(length=4096),  # appendix, table 8
        dropout=0.1,  # appendix, table 8
    ),
    dropout=0.1,  # appendix, table 8
    initialization=Normal(std=0.02),  # released code, flags.py: initializer_range
)

EXTENDED = GlobalTokenTransformer(
    layers=12,  # appendix, table 8
    hidden=768,  # appendix, table 8
    attention=ETC,
    feedforward=ENCODER.feedforward,
    embedding=ENCODER.embedding,
    dropout=0.1,  # appendix, table 8
    initialization=Normal(std=0.02),  # released code, flags.py: initializer_range
)

BASE = Recipe(
    name="bigbird/base",
    published=Published(
        title="Big Bird: Transformers for Longer Sequences",
        paper="arXiv:2007.14062",
        year=2020,
        data="Books (1.0B tokens), CC-News (7.4B), Stories (7.7B) and Wikipedia (3.1B)",  # appendix, table 9
    ),
    tokens=Unigram(
        vocab_size=50_358,  # appendix, table 14: GPT-2's pieces as a sentencepiece vocabulary, and reserved ones
        lowercase=False,  # released vocabulary, gpt2.model
        plain=False,
    ),
    examples=FullSentences(),  # appendix E.1: documents over 4,096 are split, short ones joined; as in RoBERTa
    model=ENCODER,
    objectives=(
        MaskedLM(
            masking=WholeWordMasking(rate=0.15),  # appendix E.1: 15 %; released code, run_pretraining.py: whole words
            output=LMHead(transform=Transform(activation=GELU)),
        ),
    ),
    optimizer=AdamW(
        lr=1e-4,  # appendix, table 8
        betas=(0.9, 0.999),  # released code, flags.py
        eps=1e-6,  # released code, flags.py
        weight_decay=0.01,  # released code, flags.py
        clip_norm=None,  # released code, optimization.py
        bias_correction=False,  # released code, optimization.py
    ),
    schedule=Linear(warmup=0.1),  # appendix E.1: 10,000 steps
    stages=(Stage(max_length=4096, batch=256, micro_batch=2),),  # appendix, table 8
    budget=Budget(amount=100_000, unit="steps"),  # released code, run_pretraining.py; the paper does not say
    finetuning=FineTuning(  # appendix, table 14: the column of Arxiv
        optimizer=AdamW(lr=3e-5, eps=1e-6, weight_decay=0.01, clip_norm=None, bias_correction=False),
        schedule=Linear(warmup=0.1),  # appendix E.4: the first 10 % of the steps
        epochs=10,
        batch=64,
        max_length=4096,
        pooler=Pooler(activation=GELU),  # Hugging Face's head
    ),
)

BASE_ETC = replace(BASE, name="bigbird/base-etc", model=EXTENDED)

LARGE = replace(
    BASE,
    name="bigbird/large",
    model=replace(
        ENCODER,
        layers=24,  # appendix E.1
        hidden=1024,
        attention=replace(ITC, heads=16),
        feedforward=MLP(size=4096, activation=GELU),  # released code, classifier/large_size.sh
    ),
    stages=(Stage(max_length=4096, batch=2048, micro_batch=1),),  # appendix E.1
)

LARGE_ETC = replace(
    LARGE,
    name="bigbird/large-etc",
    model=replace(
        EXTENDED,
        layers=24,  # appendix E.1
        hidden=1024,
        attention=replace(ETC, heads=16, block_size=169),  # appendix E.1
        feedforward=MLP(size=4096, activation=GELU),
    ),
)

SHORT = EarlyDropoutEmbedding(segments=2, position=LearnedPosition(length=512), dropout=0.0)  # ours
SMALL = BlockSparseAttention(
    heads=4,  # ours
    dropout=0.0,  # ours
    block_size=16,  # ours
    num_global_tokens=16,  # ours
    num_global_tail_blocks=1,  # ours
    window_blocks=3,  # ours
    random_blocks=3,  # ours
)

MINI = replace(
    BASE,
    name="bigbird/mini",
    tokens=replace(BASE.tokens, vocab_size=30_522),  # ours, and so is every number of this row: as bert/mini
    model=replace(
        ENCODER,
        layers=4,  # ours: as bert/mini
        hidden=256,
        attention=SMALL,
        feedforward=MLP(size=1024, activation=GELU),
        embedding=SHORT,
        dropout=0.0,
    ),
    optimizer=AdamW(lr=1e-3, eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # ours
    schedule=Linear(warmup=0.1),  # ours
    stages=(Stage(max_length=512, batch=8, micro_batch=8),),  # ours: bert/mini's tokens, in rows of 32 blocks
    budget=Budget(amount=1_000, unit="steps"),  # ours: 4 million tokens
    finetuning=replace(
        BASE.finetuning,
        optimizer=AdamW(lr=1e-4, eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # ours: as bert/mini
        epochs=4,
        batch=32,
        max_length=512,
    ),
)

TINY = replace(
    MINI,
    name="bigbird/tiny",
    model=replace(
        ENCODER,
        layers=2,  # ours: as bert/tiny
        hidden=128,
        attention=replace(SMALL, heads=2),
        feedforward=MLP(size=512, activation=GELU),
        embedding=SHORT,
        dropout=0.0,
    ),
)

TINY_ETC = replace(
    TINY,
    name="bigbird/tiny-etc",
    model=replace(
        EXTENDED,
        layers=2,  # ours: as bert/tiny
        hidden=128,
        attention=BlockSparseAttention(
            heads=2,
            dropout=0.0,
            block_size=16,
            num_global_tokens=32,
            num_global_tail_blocks=0,
            window_blocks=3,
            random_blocks=0,
        ),
        feedforward=MLP(size=512, activation=GELU),
        embedding=SHORT,
        dropout=0.0,
    ),
)
