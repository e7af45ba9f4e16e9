"""CLIP: a text tower and an image tower, trained to match images with captions (Radford et al. 2021, arXiv:2103.00020).

"Released code" is openai/CLIP: clip/model.py and clip/clip.py. Training data is images with captions: a table, a
folder, Parquet files or tar shards (see the page on text). `clip/mini` and `clip/tiny` are ours, for a laptop.

Deviations: the released vision Transformer has PyTorch's default weights within its layers; here it begins as the text
tower does. Biases of attention pooling begin at 0. Statistics of batch normalization are those of a micro-batch in one
process, so that the loss of a residual network depends on the size of micro-batches, which is ours. Position vectors of
texts begin with the standard deviation of tokens, 0.02, where released code has 0.01. The paper's half precision is a
setting of the run.
"""

from dataclasses import replace

from genus.examples.formats.image_captions import ImageCaptions
from genus.model.activation import QuickGelu
from genus.model.attention.masks import Causal
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.residual import PreNorm
from genus.model.embedding import Embedding
from genus.model.embedding.patches import PatchEmbedding
from genus.model.feedforward.mlp import MLP
from genus.model.initialization import ByWidth
from genus.model.norm import Identity, LayerNorm
from genus.model.position.learned import LearnedPosition
from genus.model.resnet import ResNet
from genus.model.transformer import Transformer
from genus.model.two_towers import TwoTowers
from genus.objectives.pretraining.image_text_contrast import ImageTextContrast
from genus.optim.adamw import AdamW
from genus.optim.schedule import Cosine, Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import ImageStage
from genus.tokens.algorithms.end_of_word_byte_bpe import EndOfWordByteBPE

TEXT = Transformer(
    layers=12,  # section 2.4: 12 layers
    hidden=512,  # section 2.4: 512 wide
    attention=MultiHeadAttention(heads=8, dropout=0.0, mask=Causal()),  # section 2.4: 8 heads, masked
    feedforward=MLP(size=2048, activation=QuickGelu()),  # released code: ResidualAttentionBlock, 4 d_model
    embedding=Embedding(
        segments=0,  # released code: CLIP, tokens and positions alone
        position=LearnedPosition(length=77),  # released code: context_length 77
        norm=Identity(),
        dropout=0.0,  # released code: none
    ),
    norm=LayerNorm(eps=1e-5),  # released code: PyTorch's default
    block=PreNorm(),  # section 2.4: as GPT-2; released code: proj_std
    dropout=0.0,  # released code: none
    initialization=ByWidth(embedding_std=0.02),  # released code: initialize_parameters
)
PATCHES = PatchEmbedding(
    segments=0,  # released code: VisionTransformer, patches, class token and positions alone
    patch=32,  # the row's name
    position=LearnedPosition(length=50),  # released code: (224 / 32)^2 + 1
    norm=LayerNorm(eps=1e-5),  # section 2.4: a norm before the layers; released code: ln_pre
    dropout=0.0,  # released code: none
)
IMAGE = Transformer(
    layers=12,  # table 20
    hidden=768,  # table 20
    attention=MultiHeadAttention(heads=12, dropout=0.0),  # table 20
    feedforward=MLP(size=3072, activation=QuickGelu()),  # released code: ResidualAttentionBlock, 4 d_model
    embedding=PATCHES,
    norm=LayerNorm(eps=1e-5),  # released code: PyTorch's default
    block=PreNorm(),  # released code: ResidualAttentionBlock
    dropout=0.0,  # released code: none
    initialization=ByWidth(embedding_std=None),  # released code: scale, width^-0.5
)

RESNET = ResNet(
    blocks=(3, 4, 6, 3),  # table 19
    channels=64,  # table 19: width 2048, 32 times as many; released code: width
    grid=7,  # released code: input_resolution // 32
    heads=32,  # released code: vision_width * 32 // 64
    size=1024,  # table 19
    residual_gain=0.0,  # released code: initialize_parameters
)

VIT_B_32 = Recipe(
    name="clip/vit-b-32",
    published=Published(
        title="Learning Transferable Visual Models From Natural Language Supervision",
        paper="arXiv:2103.00020",
        year=2021,  # arXiv
        data="WebImageText (400 million pairs)",  # section 2.2
    ),
    tokens=EndOfWordByteBPE(vocab_size=49_408),  # table 18
    examples=ImageCaptions(side=224, patch=32),  # table 20: resolution 224
    model=TwoTowers(text=TEXT, image=IMAGE),
    objectives=(
        ImageTextContrast(
            size=512,  # table 20
            temperature=0.07,  # section 2.5
            largest=100.0,  # section 2.5; table 18
        ),
    ),
    optimizer=AdamW(
        lr=5e-4,  # table 20
        betas=(0.9, 0.98),  # table 18
        eps=1e-6,  # table 18
        weight_decay=0.2,  # table 18; section 2.5: of weights that are not gains or biases
        clip_norm=None,  # section 2.5 names none
    ),
    schedule=Cosine(warmup=0.00512),  # table 18: 2,000 steps of 390,625; section 2.5: cosine
    stages=(
        ImageStage(
            max_length=77,  # released code: context_length 77
            image_length=50,  # released code: (224 / 32)^2 + 1
            batch=32_768,  # table 18
            micro_batch=256,  # ours
        ),
    ),
    budget=Budget(amount=32, unit="epochs"),  # table 18
    finetuning=FineTuning(  # ours: texts alone are not fine-tuned
        optimizer=AdamW(lr=1e-5, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2, clip_norm=None),  # ours
        schedule=Linear(warmup=0.1),  # ours
        epochs=3,  # ours
        batch=32,  # ours
        max_length=77,  # released code: context_length 77
        pooler=None,
    ),
)

VIT_B_16 = replace(
    VIT_B_32,
    name="clip/vit-b-16",
    examples=ImageCaptions(side=224, patch=16),  # table 20: resolution 224
    model=TwoTowers(
        text=TEXT,
        image=replace(
            IMAGE,
            embedding=replace(
                PATCHES,
                patch=16,  # the row's name
                position=LearnedPosition(length=197),  # released code: (224 / 16)^2 + 1
            ),
        ),
    ),
    stages=(
        ImageStage(
            max_length=77,  # released code: context_length 77
            image_length=197,  # released code: (224 / 16)^2 + 1
            batch=32_768,  # table 18
            micro_batch=128,  # ours
        ),
    ),
)

VIT_L_14 = replace(
    VIT_B_32,
    name="clip/vit-l-14",
    examples=ImageCaptions(side=224, patch=14),  # table 20: resolution 224
    model=TwoTowers(
        text=replace(
            TEXT,
            hidden=768,  # table 20
            attention=MultiHeadAttention(heads=12, dropout=0.0, mask=Causal()),  # table 20
            feedforward=MLP(size=3072, activation=QuickGelu()),  # released code: 4 d_model
        ),
        image=replace(
            IMAGE,
            layers=24,  # table 20
            hidden=1024,  # table 20
            attention=MultiHeadAttention(heads=16, dropout=0.0),  # table 20
            feedforward=MLP(size=4096, activation=QuickGelu()),  # released code: 4 d_model
            embedding=replace(
                PATCHES,
                patch=14,  # the row's name
                position=LearnedPosition(length=257),  # released code: (224 / 14)^2 + 1
            ),
        ),
    ),
    objectives=(ImageTextContrast(size=768, temperature=0.07, largest=100.0),),  # table 20; section 2.5
    optimizer=AdamW(
        lr=4e-4,  # table 20
        betas=(0.9, 0.98),  # table 18
        eps=1e-6,  # table 18
        weight_decay=0.2,  # table 18
        clip_norm=None,  # section 2.5 names none
    ),
    stages=(
        ImageStage(
            max_length=77,  # released code: context_length 77
            image_length=257,  # released code: (224 / 14)^2 + 1
            batch=32_768,  # table 18
            micro_batch=64,  # ours
        ),
    ),
)

RN50 = replace(
    VIT_B_32,
    name="clip/rn50",
    examples=ImageCaptions(side=224, patch=32),  # table 19: resolution; released code: four groups after the stem
    model=TwoTowers(text=TEXT, image=RESNET),
    objectives=(ImageTextContrast(size=1024, temperature=0.07, largest=100.0),),  # table 19; section 2.5
    optimizer=AdamW(
        lr=5e-4,  # table 19
        betas=(0.9, 0.999),  # table 18: ResNet
        eps=1e-8,  # table 18: ResNet
        weight_decay=0.2,  # table 18
        clip_norm=None,  # section 2.5 names none
    ),
    stages=(
        ImageStage(
            max_length=77,  # released code: context_length 77
            image_length=50,  # released code: spacial_dim ** 2 + 1
            batch=32_768,  # table 18
            micro_batch=256,  # ours
        ),
    ),
)

RN101 = replace(
    RN50,
    name="clip/rn101",
    model=TwoTowers(
        text=TEXT,
        image=replace(
            RESNET,
            blocks=(3, 4, 23, 3),  # table 19
            size=512,  # table 19
        ),
    ),
    objectives=(ImageTextContrast(size=512, temperature=0.07, largest=100.0),),  # table 19; section 2.5
)

RN50X4 = replace(
    RN50,
    name="clip/rn50x4",
    examples=ImageCaptions(side=288, patch=32),  # table 19: resolution; released code: four groups after the stem
    model=TwoTowers(
        text=replace(
            TEXT,
            hidden=640,  # table 19
            attention=MultiHeadAttention(heads=10, dropout=0.0, mask=Causal()),  # table 19
            feedforward=MLP(size=2560, activation=QuickGelu()),  # released code: 4 d_model
        ),
        image=replace(
            RESNET,
            blocks=(4, 6, 10, 6),  # table 19
            channels=80,  # table 19: width 2560, 32 times as many; released code: width
            grid=9,  # released code: input_resolution // 32
            heads=40,  # released code: vision_width * 32 // 64
            size=640,  # table 19
        ),
    ),
    objectives=(ImageTextContrast(size=640, temperature=0.07, largest=100.0),),  # table 19; section 2.5
    stages=(
        ImageStage(
            max_length=77,  # released code: context_length 77
            image_length=82,  # released code: spacial_dim ** 2 + 1
            batch=32_768,  # table 18
            micro_batch=64,  # ours
        ),
    ),
)

RN50X16 = replace(
    RN50,
    name="clip/rn50x16",
    examples=ImageCaptions(side=384, patch=32),  # table 19: resolution; released code: four groups after the stem
    model=TwoTowers(
        text=replace(
            TEXT,
            hidden=768,  # table 19
            attention=MultiHeadAttention(heads=12, dropout=0.0, mask=Causal()),  # table 19
            feedforward=MLP(size=3072, activation=QuickGelu()),  # released code: 4 d_model
        ),
        image=replace(
            RESNET,
            blocks=(6, 8, 18, 8),  # table 19
            channels=96,  # table 19: width 3072, 32 times as many; released code: width
            grid=12,  # released code: input_resolution // 32
            heads=48,  # released code: vision_width * 32 // 64
            size=768,  # table 19
        ),
    ),
    objectives=(ImageTextContrast(size=768, temperature=0.07, largest=100.0),),  # table 19; section 2.5
    optimizer=replace(RN50.optimizer, lr=4e-4),  # table 19
    stages=(
        ImageStage(
            max_length=77,  # released code: context_length 77
            image_length=145,  # released code: spacial_dim ** 2 + 1
            batch=32_768,  # table 18
            micro_batch=32,  # ours
        ),
    ),
)

RN50X64 = replace(
    RN50,
    name="clip/rn50x64",
    examples=ImageCaptions(side=448, patch=32),  # table 19: resolution; released code: four groups after the stem
    model=TwoTowers(
        text=replace(
            TEXT,
            hidden=1024,  # table 19
            attention=MultiHeadAttention(heads=16, dropout=0.0, mask=Causal()),  # table 19
            feedforward=MLP(size=4096, activation=QuickGelu()),  # released code: 4 d_model
        ),
        image=replace(
            RESNET,
            blocks=(3, 15, 36, 10),  # table 19
            channels=128,  # table 19: width 4096, 32 times as many; released code: width
            grid=14,  # released code: input_resolution // 32
            heads=64,  # released code: vision_width * 32 // 64
            size=1024,  # table 19
        ),
    ),
    optimizer=replace(RN50.optimizer, lr=3.6e-4),  # table 19
    stages=(
        ImageStage(
            max_length=77,  # released code: context_length 77
            image_length=197,  # released code: spacial_dim ** 2 + 1
            batch=32_768,  # table 18
            micro_batch=16,  # ours
        ),
    ),
)

MINI = replace(
    VIT_B_32,
    name="clip/mini",  # ours, and so is every number of this row
    published=replace(VIT_B_32.published, parameters=None),
    tokens=EndOfWordByteBPE(vocab_size=4_000),  # ours
    examples=ImageCaptions(side=64, patch=8),  # ours
    model=TwoTowers(  # ours: as bert/mini
        text=replace(
            TEXT,
            layers=4,
            hidden=256,
            attention=MultiHeadAttention(heads=4, dropout=0.0, mask=Causal()),
            feedforward=MLP(size=1024, activation=QuickGelu()),
        ),
        image=replace(
            IMAGE,
            layers=4,
            hidden=256,
            attention=MultiHeadAttention(heads=4, dropout=0.0),
            feedforward=MLP(size=1024, activation=QuickGelu()),
            embedding=replace(PATCHES, patch=8, position=LearnedPosition(length=65)),
        ),
    ),
    objectives=(ImageTextContrast(size=256),),  # ours
    optimizer=AdamW(lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2, clip_norm=1.0),  # ours
    schedule=Cosine(warmup=0.1),  # ours
    stages=(ImageStage(max_length=32, image_length=65, batch=128, micro_batch=32),),  # ours
    budget=Budget(amount=1_000, unit="steps"),  # ours
    finetuning=replace(VIT_B_32.finetuning, max_length=32),  # ours
)

TINY = replace(
    MINI,
    name="clip/tiny",  # ours, and so is every number of this row
    tokens=EndOfWordByteBPE(vocab_size=2_000),  # ours
    examples=ImageCaptions(side=32, patch=8),  # ours
    model=TwoTowers(  # ours: as bert/tiny
        text=replace(
            TEXT,
            layers=2,
            hidden=128,
            attention=MultiHeadAttention(heads=2, dropout=0.0, mask=Causal()),
            feedforward=MLP(size=512, activation=QuickGelu()),
        ),
        image=replace(
            IMAGE,
            layers=2,
            hidden=128,
            attention=MultiHeadAttention(heads=2, dropout=0.0),
            feedforward=MLP(size=512, activation=QuickGelu()),
            embedding=replace(PATCHES, patch=8, position=LearnedPosition(length=17)),
        ),
    ),
    objectives=(ImageTextContrast(size=128),),  # ours
    stages=(ImageStage(max_length=32, image_length=17, batch=128, micro_batch=64),),  # ours
)
