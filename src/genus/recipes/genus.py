"""Genus: small masked models that learn within minutes on a CPU, by rotary positions and pre-norm layers.

The rows are ours, not published. What they are made of is: masked tokens (Devlin et al. 2018, arXiv:1810.04805), rotary
positions (Su et al. 2021, arXiv:2104.09864) and pre-norm layers (Shoeybi et al. 2019, arXiv:1909.08053). "Study" is
what `benchmarks/README.md` says of positions; `benchmarks/positions.py` does it again.
"""

from dataclasses import replace

from genus.examples.formats.sentences import FullSentences
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.residual import PreNorm
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LMHead, Transform
from genus.model.initialization import Normal
from genus.model.norm import LayerNorm
from genus.model.position.rotary import Rotary
from genus.model.transformer import Transformer
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget, FineTuning, Published, Recipe, Stage
from genus.tokens.algorithms.wordpiece import WordPiece

ENCODER = Transformer(
    layers=4,  # ours: as bert/mini
    hidden=256,  # ours: as bert/mini
    attention=MultiHeadAttention(heads=4, dropout=0.0),  # ours: as bert/mini
    feedforward=MLP(size=1024),  # ours: as bert/mini
    embedding=Embedding(
        segments=0,  # ours: no objective tells segments
        position=Rotary(base=10_000.0),  # Su et al., section 3.2.2; study: learned positions stay on a plateau
        norm=LayerNorm(eps=1e-5),  # ours: PyTorch's default
        dropout=0.0,  # ours: as bert/mini
    ),
    norm=LayerNorm(eps=1e-5),  # ours: PyTorch's default
    block=PreNorm(),  # Shoeybi et al., figure 7; section 4.2: residual maps start from 1 / sqrt(2 L)
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
    ),
)

TINY = replace(
    MINI,
    name="genus/tiny",
    model=replace(
        ENCODER,
        layers=2,  # ours: as bert/tiny
        hidden=128,
        attention=MultiHeadAttention(heads=2, dropout=0.0),
        feedforward=MLP(size=512),
    ),
)
