"""GPT-2: a decoder with norms before its sub-layers, over bytes in pieces (Radford et al. 2019, OpenAI).

"Released code" is openai/gpt-2: src/model.py; "model card" is model_card.md there. How the models were trained is not
published but for the length and the batch; what is not is marked as ours. The paper's table 2 gives 117, 345, 762 and
1,542 million parameters, the model card counts again. Deviation: position vectors start with the standard deviation of
all weights, 0.02, where released code has 0.01. `gpt2/mini` and `/tiny` are ours, at the sizes and the cost of
`bert/mini` and `bert/tiny`.
"""

from dataclasses import replace

from genus.examples.formats.documents import FullDocuments
from genus.model.activation import Gelu
from genus.model.attention.masks import Causal
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.residual import PreNorm
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LMHead
from genus.model.initialization import Normal
from genus.model.norm import Identity, LayerNorm
from genus.model.position.learned import LearnedPosition
from genus.model.transformer import Transformer
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Cosine, Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE

DECODER = Transformer(
    layers=12,  # paper, table 2; released code: n_layer
    hidden=768,  # paper, table 2; released code: n_embd
    attention=MultiHeadAttention(heads=12, dropout=0.1, mask=Causal()),  # released code: n_head; dropout as GPT's
    feedforward=MLP(size=3072, activation=Gelu(approximate="tanh")),  # released code: mlp, 4 n_embd; gelu
    embedding=Embedding(
        segments=0,
        position=LearnedPosition(length=1024),  # paper, section 2.3: 1,024 tokens; released code: n_ctx
        norm=Identity(),  # released code: model
        dropout=0.1,  # not published; as GPT's
    ),
    norm=LayerNorm(eps=1e-5),  # released code: norm
    block=PreNorm(),  # paper, section 2.3: norms before sub-layers and at the end, residual maps from 1 / sqrt(2 L)
    dropout=0.1,  # not published; as GPT's
    initialization=Normal(std=0.02),  # released code: conv1d, wte
)

SMALL = Recipe(
    name="gpt2/small",
    published=Published(
        title="Language Models are Unsupervised Multitask Learners",
        paper="OpenAI 2019",
        year=2019,
        parameters=124_000_000,  # model card
        data="WebText (45 million links, 40 GB)",  # model card
    ),
    tokens=ByteBPE(vocab_size=50_257, special_tokens=GPT2),  # paper, section 2.3; released vocabulary
    examples=FullDocuments(),  # ours: as GPT-3's; the paper does not say how rows are cut
    model=DECODER,
    objectives=(CausalLM(output=LMHead(bias="none")),),  # released code: model, logits by wte
    optimizer=AdamW(lr=2.5e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, clip_norm=1.0),  # ours: as GPT's
    schedule=Cosine(warmup=0.01),  # ours
    stages=(Stage(max_length=1024, batch=512, micro_batch=8),),  # paper, section 2.3: batch 512
    budget=Budget(amount=100_000, unit="steps"),  # ours: 52 billion tokens; not published
    finetuning=FineTuning(  # ours: the paper does not fine-tune; as GPT's
        optimizer=AdamW(lr=6.25e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, clip_norm=1.0),  # ours: as GPT's
        schedule=Linear(warmup=0.002),  # ours: as GPT's
        epochs=3,  # ours: as GPT's
        batch=32,  # ours: as GPT's
        max_length=128,  # ours
        pooler=None,
    ),
)

MEDIUM = replace(
    SMALL,
    name="gpt2/medium",
    published=replace(SMALL.published, parameters=355_000_000),  # model card
    model=replace(
        DECODER,
        layers=24,  # paper, table 2; heads of 64, as released
        hidden=1024,
        attention=MultiHeadAttention(heads=16, dropout=0.1, mask=Causal()),
        feedforward=MLP(size=4096, activation=Gelu(approximate="tanh")),
    ),
)

LARGE = replace(
    SMALL,
    name="gpt2/large",
    published=replace(SMALL.published, parameters=774_000_000),  # model card
    model=replace(
        DECODER,
        layers=36,  # paper, table 2; heads of 64, as released
        hidden=1280,
        attention=MultiHeadAttention(heads=20, dropout=0.1, mask=Causal()),
        feedforward=MLP(size=5120, activation=Gelu(approximate="tanh")),
    ),
)

XL = replace(
    SMALL,
    name="gpt2/xl",
    published=replace(SMALL.published, parameters=1_542_000_000),  # paper, table 2; model card: 1.5 billion
    model=replace(
        DECODER,
        layers=48,  # paper, table 2; heads of 64, as released
        hidden=1600,
        attention=MultiHeadAttention(heads=25, dropout=0.1, mask=Causal()),
        feedforward=MLP(size=6400, activation=Gelu(approximate="tanh")),
    ),
)

MINI = replace(
    SMALL,
    name="gpt2/mini",
    published=replace(SMALL.published, parameters=None),  # ours, and so is every number of this row
    tokens=ByteBPE(vocab_size=16_000, special_tokens=GPT2),  # ours
    model=replace(
        DECODER,
        layers=4,  # ours: as bert/mini
        hidden=256,
        attention=MultiHeadAttention(heads=4, dropout=0.0, mask=Causal()),
        feedforward=MLP(size=1024, activation=Gelu(approximate="tanh")),
        embedding=replace(DECODER.embedding, dropout=0.0),
        dropout=0.0,
    ),
    optimizer=AdamW(lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, clip_norm=1.0),  # ours
    schedule=Cosine(warmup=0.1),  # ours
    stages=(Stage(max_length=128, batch=32, micro_batch=32),),  # ours: as bert/mini
    budget=Budget(amount=1_000, unit="steps"),  # ours: 4 million tokens
    finetuning=replace(
        SMALL.finetuning,
        optimizer=AdamW(lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, clip_norm=1.0),  # ours: as bert/mini
        epochs=4,  # ours
    ),
)

TINY = replace(
    MINI,
    name="gpt2/tiny",
    tokens=ByteBPE(vocab_size=8_000, special_tokens=GPT2),  # ours
    model=replace(
        DECODER,
        layers=2,  # ours: as bert/tiny
        hidden=128,
        attention=MultiHeadAttention(heads=2, dropout=0.0, mask=Causal()),
        feedforward=MLP(size=512, activation=Gelu(approximate="tanh")),
        embedding=replace(DECODER.embedding, dropout=0.0),
        dropout=0.0,
    ),
)
