"""Megatron-BERT: BERT with the norms moved, so that it improves with size (Shoeybi et al. 2019, arXiv:1909.08053).

"Released code" is NVIDIA/Megatron-LM. `megatron-bert/mini` and `megatron-bert/tiny` are ours, not published: the same
ideas at the sizes of `bert/mini` and `bert/tiny`, with the same cost of training.
"""

from dataclasses import replace

from genus.examples.formats.ordered_pairs import OrderedPairs
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.residual import PreNorm
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LMHead, Transform
from genus.model.initialization import Normal
from genus.model.norm import Identity, LayerNorm
from genus.model.pooler import Pooler
from genus.model.transformer import Transformer
from genus.objectives.masking.ngram import NGramMasking
from genus.objectives.pretraining.labels import SequenceLabels
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.wordpiece import WordPiece

ENCODER = Transformer(
    layers=24,  # table 4
    hidden=1024,  # table 4
    attention=MultiHeadAttention(heads=16, dropout=0.1),  # table 4; section 4.2: dropout
    feedforward=MLP(size=4096),  # section 3: 4H; GELU
    embedding=Embedding(
        segments=2,  # section 4.2: as BERT
        norm=Identity(),  # figure 7; released code: the first norm is the first layer's
        dropout=0.1,  # section 4.2
    ),
    norm=LayerNorm(eps=1e-5),  # released code, arguments.py: layernorm-epsilon
    block=PreNorm(),  # figure 7; section 4.2: residual maps start from 1 / sqrt(2 L)
    pooler=Pooler(),
    dropout=0.1,  # section 4.2
    initialization=Normal(std=0.02),  # section 4.2
)

MEGATRON_336M = Recipe(
    name="megatron-bert/336m",
    published=Published(
        title="Megatron-LM: Training Multi-Billion Parameter Language Models Using Model Parallelism",
        paper="arXiv:1909.08053",
        year=2019,
        parameters=336_000_000,  # table 4
        data="Wikipedia, CC-Stories, RealNews, OpenWebText, BooksCorpus, 174 GB deduplicated",  # section 4.1
    ),
    tokens=WordPiece(vocab_size=30_522, lowercase=True),  # section 4.2: as BERT; the released uncased vocabulary
    examples=OrderedPairs(
        short=0.1,  # released code, arguments.py: short-seq-prob
        swapped=0.5,  # section 4.2: sentence order as in ALBERT
    ),
    model=ENCODER,
    objectives=(
        MaskedLM(
            masking=NGramMasking(longest=3),  # section 4.2: whole word n-grams; released code: max_ngrams
            output=LMHead(transform=Transform(norm=LayerNorm(eps=1e-5))),  # as above
        ),
        SequenceLabels(label="sentence_order"),  # section 4.2
    ),
    optimizer=AdamW(
        lr=1e-4,  # section 4.2
        betas=(0.9, 0.999),  # section 4.2: as BERT
        eps=1e-8,  # released code, arguments.py: adam-eps
        weight_decay=0.01,  # section 4.2
        clip_norm=1.0,  # section 4.2
    ),
    schedule=Linear(warmup=0.005),  # section 4.2: 10,000 of 2,000,000 steps
    stages=(Stage(max_length=512, batch=1024, micro_batch=8),),  # section 4.2; length as BERT
    budget=Budget(amount=2_000_000, unit="steps"),  # section 4.2
    finetuning=FineTuning(
        optimizer=AdamW(
            lr=1e-5,  # appendix A, table 6: MNLI; the released script has 5e-5
            eps=1e-8,  # released code, arguments.py: adam-eps
            weight_decay=0.1,  # released code, examples/finetune_mnli_distributed.sh
            clip_norm=1.0,  # released code, arguments.py: clip-grad
        ),
        schedule=Linear(warmup=0.065),  # released code, examples/finetune_mnli_distributed.sh
        epochs=10,  # appendix A, table 6: MNLI; the released script has 5
        batch=128,  # appendix A, table 6: MNLI; the released script has 64, 8 a device
        max_length=512,  # released code, examples/finetune_mnli_distributed.sh
    ),
)

MEGATRON_1_3B = replace(
    MEGATRON_336M,
    name="megatron-bert/1.3b",
    published=replace(MEGATRON_336M.published, parameters=1_300_000_000),  # table 4
    model=replace(
        ENCODER,
        hidden=2048,  # table 4
        attention=MultiHeadAttention(heads=32, dropout=0.1),
        feedforward=MLP(size=8192),
    ),
    stages=(Stage(max_length=512, batch=1024, micro_batch=4),),  # section 4.2
)

MEGATRON_3_9B = replace(
    MEGATRON_336M,
    name="megatron-bert/3.9b",
    published=replace(MEGATRON_336M.published, parameters=3_900_000_000),  # table 4
    model=replace(
        ENCODER,
        layers=48,  # table 4
        hidden=2560,
        attention=MultiHeadAttention(heads=40, dropout=0.1),
        feedforward=MLP(size=10240),
    ),
    stages=(Stage(max_length=512, batch=1024, micro_batch=2),),  # section 4.2
)

MINI = replace(
    MEGATRON_336M,
    name="megatron-bert/mini",
    published=replace(MEGATRON_336M.published, parameters=None),  # ours, and so is every number of this row
    model=replace(
        ENCODER,
        layers=4,  # ours: as bert/mini
        hidden=256,
        attention=MultiHeadAttention(heads=4, dropout=0.0),
        feedforward=MLP(size=1024),
        embedding=replace(ENCODER.embedding, dropout=0.0),
        dropout=0.0,
    ),
    optimizer=AdamW(lr=1e-3, eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # ours: as bert/mini
    schedule=Linear(warmup=0.1),  # ours
    stages=(Stage(max_length=128, batch=32, micro_batch=32),),  # ours
    budget=Budget(amount=1_000, unit="steps"),  # ours: 4 million tokens
    finetuning=replace(
        MEGATRON_336M.finetuning,
        optimizer=AdamW(lr=1e-4, eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # ours: as bert/mini
        epochs=4,  # ours
        batch=32,  # ours
        max_length=128,  # ours
    ),
)

TINY = replace(
    MINI,
    name="megatron-bert/tiny",
    model=replace(
        ENCODER,
        layers=2,  # ours: as bert/tiny
        hidden=128,
        attention=MultiHeadAttention(heads=2, dropout=0.0),
        feedforward=MLP(size=512),
        embedding=replace(ENCODER.embedding, dropout=0.0),
        dropout=0.0,
    ),
)
