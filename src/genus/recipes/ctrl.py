"""CTRL: a decoder that a code in front of the text controls (Keskar et al. 2019, arXiv:1909.05858).

"Released code" is salesforce/ctrl: transformer.py, training_utils/. The paper's section 3.2 was read in copies of
notes. A text begins with its code, which is a word of it: `Wikipedia`, `Books`, `Links`, `Reviews`. Training text
brings it, as the first word of each document; here a row that goes on with a document does not repeat it, as released
code does (make_tf_records.py). `ctrl/mini` and `/tiny` are ours, at the sizes and the cost of `bert/mini` and
`bert/tiny`.
"""

from dataclasses import replace

from genus.examples.formats.coded import CodedDocuments
from genus.model.activation import Relu
from genus.model.attention.masks import Causal
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.residual import PreNorm
from genus.model.embedding.scaled import ScaledEmbedding
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LMHead
from genus.model.initialization import Normal
from genus.model.norm import Identity, LayerNorm
from genus.model.position.sinusoidal import Sinusoidal
from genus.model.transformer import Transformer
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.optim.adagrad import Adagrad
from genus.optim.adamw import AdamW
from genus.optim.schedule import Constant, Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.end_of_word_bpe import ContinuedBPE

DECODER = Transformer(
    layers=48,  # section 3.2; released code: num_layers
    hidden=1280,  # section 3.2; released code: d_model_size
    attention=MultiHeadAttention(heads=16, dropout=0.0, mask=Causal()),  # section 3.2; released code: no dropout there
    feedforward=MLP(size=8192, activation=Relu()),  # section 3.2; released code: dff, relu
    embedding=ScaledEmbedding(  # released code: Encoder.call, times sqrt(d)
        segments=0,
        position=Sinusoidal(),  # released code: positional_encoding
        norm=Identity(),
        dropout=0.1,  # released code: rate
    ),
    norm=LayerNorm(eps=1e-6),  # released code: layernorm1
    block=PreNorm(),  # released code: EncoderLayer.call; ours: residual maps from 1 / sqrt(2 L)
    dropout=0.1,  # section 3.2
    initialization=Normal(std=0.02),  # transformers, configuration_ctrl.py; Keras's defaults in released code
)

C1B = Recipe(
    name="ctrl/1.6b",
    published=Published(
        title="CTRL: A Conditional Transformer Language Model for Controllable Generation",
        paper="arXiv:1909.05858",
        year=2019,
        parameters=1_630_000_000,  # abstract
        data="Wikipedia, Gutenberg, 45 subreddits, OpenWebText, news, Amazon reviews, Europarl, questions (140 GB)",
        # section 3.1
    ),
    tokens=ContinuedBPE(vocab_size=246_534),  # section 3.2: about 250K; transformers, configuration_ctrl.py
    examples=CodedDocuments(),  # section 3: every sequence begins with its domain's code
    model=DECODER,
    objectives=(CausalLM(output=LMHead()),),  # section 3.2: tied; released code: TiedEmbeddingSoftmax, with a bias
    optimizer=Adagrad(
        lr=0.05,  # section 3.2
        clip_norm=0.25,  # section 3.2
    ),
    schedule=Constant(warmup=0.03125),  # section 3.2: 25,000 of 800,000 steps; Adagrad needs no decay
    stages=(Stage(max_length=256, batch=1024, micro_batch=8),),  # section 3.2
    budget=Budget(amount=800_000, unit="steps"),  # section 3.2
    finetuning=FineTuning(  # ours: the paper does not fine-tune; as GPT's
        optimizer=AdamW(lr=6.25e-5, weight_decay=0.01, clip_norm=1.0),  # ours: as GPT's
        schedule=Linear(warmup=0.002),  # ours: as GPT's
        epochs=3,  # ours
        batch=32,  # ours
        max_length=128,  # ours
        pooler=None,
    ),
)

MINI = replace(
    C1B,
    name="ctrl/mini",
    published=replace(C1B.published, parameters=None),  # ours, and so is every number of this row
    tokens=ContinuedBPE(vocab_size=16_000),  # ours
    model=replace(
        DECODER,
        layers=4,  # ours: as bert/mini
        hidden=256,
        attention=MultiHeadAttention(heads=4, dropout=0.0, mask=Causal()),
        feedforward=MLP(size=1024, activation=Relu()),
        embedding=replace(DECODER.embedding, dropout=0.0),
        dropout=0.0,
    ),
    optimizer=AdamW(lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, clip_norm=1.0),  # ours: Adagrad's start is slow
    schedule=Linear(warmup=0.1),  # ours
    stages=(Stage(max_length=128, batch=32, micro_batch=32),),  # ours: as bert/mini
    budget=Budget(amount=1_000, unit="steps"),  # ours: 4 million tokens
    finetuning=replace(
        C1B.finetuning,
        optimizer=AdamW(lr=1e-4, weight_decay=0.01, clip_norm=1.0),  # ours: as bert/mini
        epochs=4,  # ours
    ),
)

TINY = replace(
    MINI,
    name="ctrl/tiny",
    tokens=ContinuedBPE(vocab_size=8_000),  # ours
    model=replace(
        DECODER,
        layers=2,  # ours: as bert/tiny
        hidden=128,
        attention=MultiHeadAttention(heads=2, dropout=0.0, mask=Causal()),
        feedforward=MLP(size=512, activation=Relu()),
        embedding=replace(DECODER.embedding, dropout=0.0),
        dropout=0.0,
    ),
)
