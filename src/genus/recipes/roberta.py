"""RoBERTa: BERT trained longer, on more text, without next sentences (Liu et al. 2019, arXiv:1907.11692).

"Released code" is fairseq, examples/roberta. As there, masks fall on the special tokens `<s>` and `</s>` too, and
weight decay on all parameters. `roberta/mini` and `roberta/tiny` are ours, not published: the same ideas at the sizes
of `bert/mini` and `bert/tiny`, with the same cost of training, so that the two members can be compared on a laptop.
"""

from dataclasses import replace

from genus.examples.formats.sentences import FullSentences
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LMHead, Transform
from genus.model.initialization import Normal
from genus.model.norm import LayerNorm
from genus.model.position.learned import LearnedPosition
from genus.model.transformer import Transformer
from genus.objectives.masking.tokens import TokenMasking
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.byte_bpe import ByteBPE

ENCODER = Transformer(
    layers=12,  # appendix, table 9
    hidden=768,  # appendix, table 9
    attention=MultiHeadAttention(heads=12, dropout=0.1),  # appendix, table 9
    feedforward=MLP(size=3072),  # appendix, table 9
    embedding=Embedding(
        segments=1,  # section 4.2: no second segment; the one vector that checkpoints in common use carry
        position=LearnedPosition(length=512, offset=2),  # section 4.2; released code counts from the padding id, 1, + 1
        norm=LayerNorm(eps=1e-5),  # released code: PyTorch's default
        dropout=0.1,  # appendix, table 9
    ),
    norm=LayerNorm(eps=1e-5),  # released code: PyTorch's default
    dropout=0.1,  # appendix, table 9
    initialization=Normal(std=0.02),  # released code, transformer_sentence_encoder.py: init_bert_params
)

BASE = Recipe(
    name="roberta/base",
    published=Published(
        title="RoBERTa: A Robustly Optimized BERT Pretraining Approach",
        paper="arXiv:1907.11692",
        year=2019,
        parameters=125_000_000,  # released code, README
        data="BookCorpus and English Wikipedia (16 GB), CC-News (76 GB), OpenWebText (38 GB), Stories (31 GB)",
        # section 3.2
    ),
    tokens=ByteBPE(vocab_size=50_265),  # section 4.4: 50K; released vocabulary
    examples=FullSentences(),  # section 4.2: full-sentences
    model=ENCODER,
    objectives=(
        MaskedLM(
            masking=TokenMasking(  # section 4.1: a new mask at each visit
                rate=0.15,  # released code, tasks/masked_lm.py: mask_prob, and of these 80/10/10
                specials=True,  # released code, tasks/masked_lm.py: <s> is prepended before tokens are masked
                rounding="stochastic",  # released code, data/mask_tokens_dataset.py
            ),
            output=LMHead(transform=Transform(norm=LayerNorm(eps=1e-5))),  # as above
        ),
    ),
    optimizer=AdamW(
        lr=6e-4,  # appendix, table 9
        betas=(0.9, 0.98),  # appendix, table 9
        eps=1e-6,  # appendix, table 9
        weight_decay=0.01,  # appendix, table 9
        decayed="all",  # released code, trainer.py: one group of parameters
        clip_norm=None,  # appendix, table 9: 0.0, which fairseq reads as none
    ),
    schedule=Linear(warmup=0.048),  # appendix, table 9: 24k of 500k steps, linear decay
    stages=(Stage(max_length=512, batch=8192, micro_batch=16),),  # appendix, table 9: 8k; section 3.1: 512
    budget=Budget(amount=500_000, unit="steps"),  # appendix, table 9
    finetuning=FineTuning(
        optimizer=AdamW(  # appendix, table 10: 1e-5, 2e-5 or 3e-5, and decay; released code, README.glue.md: the rest
            lr=2e-5, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1, decayed="all", clip_norm=None
        ),
        schedule=Linear(warmup=0.06),  # appendix, table 10
        epochs=10,  # appendix, table 10
        batch=32,  # appendix, table 10: 16 or 32
        max_length=512,  # released code, README.glue.md: max-positions
        dropout=0.0,  # released code, models/roberta: pooler_dropout
    ),
)

LARGE = replace(
    BASE,
    name="roberta/large",
    published=replace(BASE.published, parameters=355_000_000),  # section 5
    model=replace(
        ENCODER,
        layers=24,  # appendix, table 9
        hidden=1024,
        attention=MultiHeadAttention(heads=16, dropout=0.1),
        feedforward=MLP(size=4096),
    ),
    optimizer=replace(BASE.optimizer, lr=4e-4),  # appendix, table 9
    schedule=Linear(warmup=0.06),  # appendix, table 9: 30k of 500k steps
)

MINI = replace(
    BASE,
    name="roberta/mini",
    published=replace(BASE.published, parameters=None),  # ours, and so is every number of this row
    tokens=ByteBPE(vocab_size=30_522),  # ours: as bert/mini
    model=replace(
        ENCODER,
        layers=4,  # ours: as bert/mini
        hidden=256,
        attention=MultiHeadAttention(heads=4, dropout=0.0),
        feedforward=MLP(size=1024),
        embedding=replace(ENCODER.embedding, dropout=0.0),
        dropout=0.0,
    ),
    optimizer=AdamW(lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # ours
    schedule=Linear(warmup=0.1),  # ours
    stages=(Stage(max_length=128, batch=32, micro_batch=32),),  # ours
    budget=Budget(amount=1_000, unit="steps"),  # ours: 4 million tokens
    finetuning=replace(
        BASE.finetuning,
        optimizer=AdamW(lr=1e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1, clip_norm=1.0),  # ours: as bert/mini
        epochs=4,  # ours
        max_length=128,  # ours
    ),
)

TINY = replace(
    MINI,
    name="roberta/tiny",
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
