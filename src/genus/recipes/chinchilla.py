"""Chinchilla: fewer parameters, four times as many tokens (Hoffmann et al. 2022, arXiv:2203.15556).

The paper's section 4, table 4 and appendices were read. The rest is Gopher's (Rae et al. 2021, arXiv:2112.11446), whose
paper was not: RMS norms and relative positions as Transformer-XL's are told of it elsewhere, and with the maps of
distances (5 d^2 of attention a layer) the parameters are 70 billion indeed. What neither says is ours.
`chinchilla/mini` and `/tiny` are ours, at the sizes and the cost of `bert/mini` and `bert/tiny`.
"""

from dataclasses import replace

from genus.examples.formats.documents import FullDocuments
from genus.model.activation import Gelu
from genus.model.attention.masks import Causal
from genus.model.attention.relative import RelativeAttention
from genus.model.block.residual import PreNorm
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LMHead
from genus.model.initialization import Normal
from genus.model.norm import Identity, RMSNorm
from genus.model.position import NoPosition
from genus.model.transformer import Transformer
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Cosine, Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.byte_fallback_bpe import ByteFallbackBPE

DECODER = Transformer(
    layers=80,  # table 4
    hidden=8192,  # table 4
    attention=RelativeAttention(heads=64, dropout=0.0, mask=Causal()),  # table 4: 64 heads of 128; Gopher's positions
    feedforward=MLP(size=32_768, activation=Gelu()),  # table 4: 4 d; the function is ours
    embedding=Embedding(
        segments=0,
        position=NoPosition(),  # Gopher: relative positions
        norm=Identity(),
        dropout=0.0,  # ours
    ),
    norm=RMSNorm(eps=1e-6),  # Gopher: RMSNorm; eps is ours
    block=PreNorm(),  # ours: as GPT-2's
    dropout=0.0,  # ours
    initialization=Normal(std=0.02),  # ours: as GPT-2's
)

B70 = Recipe(
    name="chinchilla/70b",
    published=Published(
        title="Training Compute-Optimal Large Language Models",
        paper="arXiv:2203.15556",
        year=2022,
        parameters=70_000_000_000,  # table 4
        data="MassiveText (1.4 trillion tokens)",  # section 4
    ),
    tokens=ByteFallbackBPE(vocab_size=32_000),  # section 4.1: SentencePiece without NFKC; Gopher: 32,000, bytes
    examples=FullDocuments(),  # ours: as GPT-3's; the paper does not say how rows are cut
    model=DECODER,
    objectives=(CausalLM(output=LMHead(bias="none")),),  # ours: tied
    optimizer=AdamW(  # section 4.1: AdamW; its settings, but for the rate, are ours
        lr=1e-4,  # table 4
        betas=(0.9, 0.95),  # ours
        eps=1e-8,  # ours
        weight_decay=0.1,  # ours
        clip_norm=1.0,  # ours
    ),
    schedule=Cosine(
        warmup=0.0025, floor=0.1
    ),  # appendix B: a cosine over the whole run, down to a tenth; warm-up is ours
    stages=(
        Stage(share=0.5, max_length=2048, batch=732, micro_batch=1),  # table 4: 1.5M tokens; the length is ours
        Stage(share=0.5, max_length=2048, batch=1464, micro_batch=1),  # table 4: 3M tokens, doubled midway
    ),
    budget=Budget(amount=1_400_000_000_000, unit="tokens"),  # section 4
    finetuning=FineTuning(  # ours
        optimizer=AdamW(lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1, clip_norm=1.0),  # ours
        schedule=Linear(warmup=0.03),  # ours
        epochs=3,  # ours
        batch=32,  # ours
        max_length=128,  # ours
        pooler=None,
    ),
)

MINI = replace(
    B70,
    name="chinchilla/mini",
    published=replace(B70.published, parameters=None),  # ours, and so is every number of this row
    tokens=ByteFallbackBPE(vocab_size=16_000),  # ours
    model=replace(
        DECODER,
        layers=4,  # ours: as bert/mini
        hidden=256,
        attention=RelativeAttention(heads=4, dropout=0.0, mask=Causal()),
        feedforward=MLP(size=1024, activation=Gelu()),
    ),
    optimizer=AdamW(lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, clip_norm=1.0),  # ours
    schedule=Cosine(warmup=0.1, floor=0.1),  # ours
    stages=(
        Stage(share=0.5, max_length=128, batch=16, micro_batch=16),  # ours
        Stage(share=0.5, max_length=128, batch=32, micro_batch=32),  # ours: doubled midway
    ),
    budget=Budget(amount=4_000_000, unit="tokens"),  # ours: as bert/mini
    finetuning=replace(
        B70.finetuning,
        optimizer=AdamW(lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, clip_norm=1.0),  # ours: as bert/mini
        epochs=4,  # ours
    ),
)

TINY = replace(
    MINI,
    name="chinchilla/tiny",
    tokens=ByteFallbackBPE(vocab_size=8_000),  # ours
    model=replace(
        DECODER,
        layers=2,  # ours: as bert/tiny
        hidden=128,
        attention=RelativeAttention(heads=2, dropout=0.0, mask=Causal()),
        feedforward=MLP(size=512, activation=Gelu()),
    ),
)
