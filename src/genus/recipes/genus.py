"""Genus: masked models that learn within minutes on a CPU, by rotary positions, pre-norm layers and gated units.

The rows are ours, not published. What they are made of is: masked tokens (Devlin et al. 2018, arXiv:1810.04805), rotary
positions (Su et al. 2021, arXiv:2104.09864), pre-norm layers (Shoeybi et al. 2019, arXiv:1909.08053) and gated
feed-forward networks (Shazeer 2020, arXiv:2002.05202), put together so that Hugging Face's ModernBERT classes (Warner
et al. 2024, arXiv:2412.13663) hold them. "Study" is what `benchmarks/README.md` says of small models;
`benchmarks/small_models.py` does it again.
"""

from dataclasses import replace

from genus.examples.formats.sentences import FullSentences
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.residual import PreNorm
from genus.model.embedding import Embedding
from genus.model.feedforward.gated import GatedMLP
from genus.model.head.lm_head import LMHead, Transform
from genus.model.initialization import Normal
from genus.model.norm import LayerNorm
from genus.model.pooler import NormPooler
from genus.model.position.rotary import Rotary
from genus.model.transformer import Transformer
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.wordpiece import WordPiece

ENCODER = Transformer(
    layers=4,  # ours: as bert/mini
    hidden=256,  # ours: as bert/mini
    attention=MultiHeadAttention(heads=4, bias=False, dropout=0.0),  # ours: heads as bert/mini
    feedforward=GatedMLP(size=688),  # study; ours: 2/3 of bert/mini's 1,024, for as many parameters (Shazeer, 3.1)
    embedding=Embedding(
        segments=0,  # ours: no objective tells segments
        position=Rotary(base=10_000.0),  # Su et al., section 3.2.2; study: learned positions stay on a plateau
        norm=LayerNorm(eps=1e-5),  # ours: PyTorch's default
        dropout=0.0,  # ours: as bert/mini
    ),
    norm=LayerNorm(eps=1e-5),  # ours: PyTorch's default
    block=PreNorm(  # Shoeybi et al., figure 7; section 4.2: residual maps start from 1 / sqrt(2 L)
        first_norm=False,  # the embeddings end with a norm, as ModernBERT's do
    ),
    dropout=0.0,  # ours: as bert/mini
    initialization=Normal(std=0.02),  # Devlin et al., released code, modeling.py: initializer_range
)

MINI = Recipe(
    name="genus/mini",
    published=Published(
        title="RoFormer: Enhanced Transformer with Rotary Position Embedding",
        paper="arXiv:2104.09864",
        year=2021,  # arXiv, of the positions; the rows are ours
    ),
    tokens=WordPiece(vocab_size=8_000, lowercase=True),  # study: 8,000 pieces
    examples=FullSentences(),
    model=ENCODER,
    objectives=(  # Devlin et al., section 3.1: 15 %, of these 80/10/10; eps is ours
        MaskedLM(output=LMHead(transform=Transform(norm=LayerNorm(eps=1e-5)))),
    ),
    optimizer=AdamW(lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # study; eps is ours
    schedule=Linear(warmup=0.1),  # study
    stages=(Stage(max_length=64, batch=16, micro_batch=16),),  # study: 1,024 tokens an update
    budget=Budget(amount=2_500_000, unit="tokens"),  # ours: four to five minutes of two cores
    finetuning=FineTuning(
        optimizer=AdamW(lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # ours
        schedule=Linear(warmup=0.1),  # ours
        epochs=4,  # ours
        batch=16,  # ours
        max_length=64,  # ours: the length of pretraining
        pooler=NormPooler(norm=LayerNorm(eps=1e-5)),  # Hugging Face's head of ModernBERT
    ),
)

TINY = replace(
    MINI,
    name="genus/tiny",
    model=replace(
        ENCODER,
        layers=2,  # ours: as bert/tiny
        hidden=128,
        attention=MultiHeadAttention(heads=2, bias=False, dropout=0.0),
        feedforward=GatedMLP(size=344),
    ),
)

SMALL = replace(
    MINI,
    name="genus/small",
    tokens=WordPiece(vocab_size=16_000, lowercase=True),  # ours: between mini's and bert's
    model=replace(
        ENCODER,
        layers=8,  # ours: twice mini's
        hidden=512,
        attention=MultiHeadAttention(heads=8, bias=False, dropout=0.0),
        feedforward=GatedMLP(size=1376),
    ),
    stages=(Stage(max_length=128, batch=64, micro_batch=16),),  # ours: 8,192 tokens an update
    optimizer=replace(MINI.optimizer, lr=1e-3),  # ours: as mini
    budget=Budget(amount=200_000_000, unit="tokens"),  # ours: hours of one GPU
)

BASE = replace(
    MINI,
    name="genus/base",
    tokens=WordPiece(vocab_size=30_522, lowercase=True),  # ours: as bert/base
    model=replace(
        ENCODER,
        layers=12,  # ours: as bert/base
        hidden=768,
        attention=MultiHeadAttention(heads=12, bias=False, dropout=0.0),
        feedforward=GatedMLP(size=2048),
    ),
    stages=(Stage(max_length=512, batch=256, micro_batch=32),),  # ours: 131,072 tokens an update
    optimizer=replace(MINI.optimizer, lr=5e-4),  # ours: half of mini's; not studied
    budget=Budget(amount=10_000_000_000, unit="tokens"),  # ours: days of one GPU
    finetuning=replace(
        MINI.finetuning,
        optimizer=replace(MINI.finetuning.optimizer, lr=5e-5),  # ours: a tenth of mini's; not studied
        epochs=3,  # ours
        batch=32,  # ours
        max_length=128,  # ours
    ),
)
