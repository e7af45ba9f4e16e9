"""GPT-J: attention and feed-forward side by side, and rotary positions (Wang and Komatsuzaki 2021).

There is no paper; the pieces are those of OpenAI's GPT-2. "Released code" is kingoflolz/mesh-transformer-jax:
README.md, configs/6B_roto_256.json, device_train.py and mesh_transformer/. Deviation: released code draws weights from
truncated normal distributions of 1 / sqrt(inputs); here all have the standard deviation 0.02 of transformers'
configuration, but for those that end a residual branch, which have 2 / L of it as in released code. `gpt-j/mini` and
`/tiny` are ours, at the sizes and the cost of `bert/mini` and `bert/tiny`.
"""

from dataclasses import replace

from genus.examples.formats.documents import FullDocuments
from genus.model.activation import Gelu
from genus.model.attention.masks import Causal
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.parallel import Parallel
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LMHead
from genus.model.initialization import Normal
from genus.model.norm import Identity, LayerNorm
from genus.model.position.rotary import Rotary
from genus.model.transformer import Transformer
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Cosine, CosineThenConstant, Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE

DECODER = Transformer(
    layers=28,  # README: n_layers
    hidden=4096,  # README: d_model
    attention=MultiHeadAttention(heads=16, bias=False, dropout=0.0, mask=Causal()),  # README: n_heads; layers.py
    feedforward=MLP(size=16_384, activation=Gelu(approximate="tanh")),  # README: d_ff; layers.py: gelu, with biases
    embedding=Embedding(
        segments=0,
        position=Rotary(  # README: 64 of a head's 256 dimensions; layers.py: rotate_every_two, 10,000
            base=10_000.0, fraction=0.25, interleaved=True
        ),
        norm=Identity(),  # transformer_shard.py
        dropout=0.0,  # transformer_shard.py: none
    ),
    norm=LayerNorm(eps=1e-5),  # layers.py: ReplicatedLayerNorm
    block=Parallel(),  # layers.py: TransformerLayerShard
    dropout=0.0,  # transformer_shard.py: none
    initialization=Normal(std=0.02),  # transformers, configuration_gptj.py: initializer_range
)

J6B = Recipe(
    name="gpt-j/6b",
    published=Published(
        title="GPT-J-6B: A 6 Billion Parameter Autoregressive Language Model",
        paper="github.com/kingoflolz/mesh-transformer-jax",
        year=2021,
        parameters=6_053_381_344,  # README; with copies of norms and biases on 8 shards, and a bias of the embedding
        data="The Pile (825 GB)",  # README
    ),
    tokens=ByteBPE(vocab_size=50_257, special_tokens=GPT2),  # README: n_vocab
    padded_vocab_size=50_400,  # 6B_roto_256.json: n_vocab
    examples=FullDocuments(),  # ours: as GPT-3's
    model=DECODER,
    objectives=(CausalLM(output=LMHead(tied=False)),),  # layers.py: ProjectionShard, with a bias
    optimizer=AdamW(
        lr=1.2e-4,  # 6B_roto_256.json: lr
        betas=(0.9, 0.999),  # device_train.py: optax.scale_by_adam, its defaults
        eps=1e-8,  # device_train.py: optax.scale_by_adam, its defaults
        weight_decay=0.1,  # 6B_roto_256.json: weight_decay; util.py: of matrices
        clip_norm=1.0,  # device_train.py: clip_by_global_norm
    ),
    schedule=CosineThenConstant(  # 6B_roto_256.json: 3,000 steps, 300,000 steps, down to 1.2e-5; then util.py holds it
        warmup=0.0078, end=0.79, floor=0.1
    ),
    stages=(Stage(max_length=2048, batch=512, micro_batch=1),),  # 6B_roto_256.json: 32 replicas, 16 micro-batches of 1
    budget=Budget(amount=383_500, unit="steps"),  # README: step_383500
    finetuning=FineTuning(  # ours: as GPT's
        optimizer=AdamW(lr=1.2e-5, betas=(0.9, 0.999), weight_decay=0.1, clip_norm=1.0),  # ours: the last rate
        schedule=Linear(warmup=0.002),  # ours: as GPT's
        epochs=3,  # ours
        batch=32,  # ours
        max_length=128,  # ours
        pooler=None,
    ),
)

MINI = replace(
    J6B,
    name="gpt-j/mini",
    published=replace(J6B.published, parameters=None),  # ours, and so is every number of this row
    tokens=ByteBPE(vocab_size=16_000, special_tokens=GPT2),  # ours
    padded_vocab_size=None,
    model=replace(
        DECODER,
        layers=4,  # ours: as bert/mini
        hidden=256,
        attention=MultiHeadAttention(heads=4, bias=False, dropout=0.0, mask=Causal()),
        feedforward=MLP(size=1024, activation=Gelu(approximate="tanh")),
    ),
    optimizer=AdamW(lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, clip_norm=1.0),  # ours
    schedule=Cosine(warmup=0.1, floor=0.1),  # ours
    stages=(Stage(max_length=128, batch=32, micro_batch=32),),  # ours: as bert/mini
    budget=Budget(amount=1_000, unit="steps"),  # ours: 4 million tokens
    finetuning=replace(
        J6B.finetuning,
        optimizer=AdamW(lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1, clip_norm=1.0),  # ours: as bert/mini
        epochs=4,  # ours
    ),
)

TINY = replace(
    MINI,
    name="gpt-j/tiny",
    tokens=ByteBPE(vocab_size=8_000, special_tokens=GPT2),  # ours
    model=replace(
        DECODER,
        layers=2,  # ours: as bert/tiny
        hidden=128,
        attention=MultiHeadAttention(heads=2, bias=False, dropout=0.0, mask=Causal()),
        feedforward=MLP(size=512, activation=Gelu(approximate="tanh")),
    ),
)
