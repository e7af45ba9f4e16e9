"""Transformer: an encoder-decoder that translates (Vaswani et al. 2017, arXiv:1706.03762).

"Released code" is tensorflow/tensor2tensor, in the settings that are called the published ones there: models/
transformer.py, transformer_base_v1, and layers/common_hparams.py. Training text is pairs: `--source` names the field of
the source, `--field` that of the target. Beam search with 4 beams and length penalty 0.6 in its form (Wu et al. 2016),
and the mean of the last 5 checkpoints (of `transformer/big` the last 20), are section 6.1: `genus generate` and `genus
average`. `transformer/mini` and `/tiny` are ours, at the sizes of `bert/mini` and `bert/tiny`.

Deviations: pieces are cut from raw text, where the paper's byte-pair encoding (Britz et al. 2017) cut words of text
that was tokenized before. The decoder begins with the embedding of `<pad>`, in released code with zeros. Batches are
rows of whole pairs, of about 2 % padding, where the paper batched pairs of similar lengths.
"""

from dataclasses import replace

from genus.examples.formats.source_target import SourceTargetPairs
from genus.model.activation import Relu
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.residual import PostNorm
from genus.model.embedding.scaled import ScaledEmbedding
from genus.model.encoder_decoder import mirrored
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LabelSmoothedLMHead
from genus.model.initialization import Glorot
from genus.model.norm import Identity, LayerNorm
from genus.model.position.sinusoidal import Sinusoidal
from genus.model.transformer import Transformer
from genus.objectives.pretraining.text_to_text import SequenceToSequence
from genus.optim.adamw import AdamW
from genus.optim.schedule import InverseSquareRoot, Linear
from genus.recipe import Budget, Explained, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.sentencepiece_bpe import TRANSLATION, SentencePieceBPE

ATTENTION = MultiHeadAttention(
    heads=8,  # section 3.2.2
    bias=False,  # section 3.2.2: matrices alone; released code: use_bias=False
    dropout=0.0,  # section 5.4 names none; released code: attention_dropout
)
UNITS = MLP(size=2048, activation=Relu())  # section 3.3; released code: relu_dropout 0
EMBEDDING = ScaledEmbedding(  # section 3.4: times sqrt(d)
    segments=0,  # section 3.4: tokens and positions alone
    position=Sinusoidal(),  # section 3.5
    norm=Identity(),
    dropout=0.1,  # section 5.4: of the sum
)
ENCODER = Transformer(
    layers=6,  # section 3.1
    hidden=512,  # section 3.1
    attention=ATTENTION,
    feedforward=UNITS,
    embedding=EMBEDDING,
    norm=LayerNorm(eps=1e-6),  # released code: norm_epsilon
    block=PostNorm(),  # section 3.1; released code: layer_postprocess_sequence "dan"
    dropout=0.1,  # section 5.4
    initialization=Glorot(embedding_std=None),  # released code: uniform_unit_scaling, gain 1; SymbolModality
)

PAPER = Published(
    title="Attention Is All You Need",
    paper="arXiv:1706.03762",
    year=2017,  # arXiv
    data="WMT 2014 English-German (4.5M sentence pairs)",  # section 5.1
)

BASE = Recipe(
    name="transformer/base",
    published=Explained(
        title=PAPER.title,
        paper=PAPER.paper,
        year=PAPER.year,
        data=PAPER.data,
        parameters=65_000_000,  # table 3
        reason="table 3's sizes of 2 to 8 layers are those of some 41,000 pieces; section 5.1 has about 37,000",
    ),
    tokens=SentencePieceBPE(vocab_size=37_000, special_tokens=TRANSLATION),  # section 5.1: one for both languages
    examples=SourceTargetPairs(),  # section 5.1
    model=mirrored(ENCODER, Sinusoidal()),  # section 3.1; section 3.4: one matrix for both embeddings and the output
    objectives=(
        SequenceToSequence(output=LabelSmoothedLMHead(bias="none", smoothing=0.1)),  # section 5.4; released code: top
    ),
    optimizer=AdamW(
        lr=0.00069877,  # section 5.3: 512^-0.5 * 4000^-0.5
        betas=(0.9, 0.98),  # section 5.3
        eps=1e-9,  # section 5.3
        weight_decay=0.0,  # section 5.3: Adam; released code: weight_decay
        clip_norm=None,  # released code: clip_grad_norm 0
    ),
    schedule=InverseSquareRoot(warmup=0.04),  # section 5.3: 4,000 steps
    stages=(
        Stage(
            max_length=256,  # released code: max_length
            source_length=256,  # released code: max_length
            batch=100,  # section 5.1: about 25,000 source and 25,000 target tokens
            micro_batch=20,
        ),
    ),
    budget=Budget(amount=100_000, unit="steps"),  # section 5.2
    finetuning=FineTuning(  # ours: the paper does not fine-tune
        optimizer=AdamW(lr=1e-4, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.0, clip_norm=1.0),  # ours
        schedule=Linear(warmup=0.1),  # ours
        epochs=3,  # ours
        batch=32,  # ours
        max_length=256,  # ours: as in pretraining
        pooler=None,
    ),
)

BIG = replace(
    BASE,
    name="transformer/big",
    published=replace(PAPER, parameters=213_000_000),  # table 3
    model=mirrored(  # table 3
        replace(
            ENCODER,
            hidden=1024,
            attention=replace(ATTENTION, heads=16),
            feedforward=replace(UNITS, size=4096),
            embedding=replace(EMBEDDING, dropout=0.3),
            dropout=0.3,
        ),
        Sinusoidal(),
    ),
    optimizer=replace(BASE.optimizer, lr=0.00049411),  # section 5.3: 1024^-0.5 * 4000^-0.5
    schedule=InverseSquareRoot(warmup=0.0133333),  # section 5.3: 4,000 steps
    budget=Budget(amount=300_000, unit="steps"),  # section 5.2
)

MINI = replace(
    BASE,  # ours, and so is every number of this row
    name="transformer/mini",  # ours
    published=PAPER,
    tokens=SentencePieceBPE(vocab_size=8_000, special_tokens=TRANSLATION),  # ours
    model=mirrored(  # ours: as bert/mini
        replace(
            ENCODER,
            layers=4,
            hidden=256,
            attention=replace(ATTENTION, heads=4),
            feedforward=replace(UNITS, size=1024),
        ),
        Sinusoidal(),
    ),
    optimizer=replace(BASE.optimizer, lr=0.0015),  # ours
    schedule=InverseSquareRoot(warmup=0.2),  # ours
    stages=(Stage(max_length=128, source_length=128, batch=32, micro_batch=16),),  # ours: as bert/mini
    budget=Budget(amount=1_000, unit="steps"),  # ours: 4 million target tokens, as bert/mini
    finetuning=replace(BASE.finetuning, batch=16, max_length=128),  # ours
)

TINY = replace(
    MINI,  # ours, and so is every number of this row
    name="transformer/tiny",  # ours
    model=mirrored(  # ours: as bert/tiny
        replace(
            ENCODER,
            layers=2,
            hidden=128,
            attention=replace(ATTENTION, heads=2),
            feedforward=replace(UNITS, size=512),
        ),
        Sinusoidal(),
    ),
    optimizer=replace(BASE.optimizer, lr=0.003),  # ours: best of three after 50 steps on captions
)
