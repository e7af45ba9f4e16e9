"""DALL-E: one decoder of a caption and then of its image's codes (Ramesh et al. 2021, arXiv:2102.12092; stage two).

Training data is images with captions: a table, a folder, Parquet files or tar shards (see the page on text), and a
trained discrete VAE, which makes their codes before a run begins (`--teacher`). The decoder is that of Child et al.
2019 (arXiv:1904.10509), with attention by rows and by columns; what the paper does not say is marked as ours.
`dall-e/mini` and `dall-e/tiny` are ours, for the codes of `dvae/mini` and `dvae/tiny`.

Deviations: codes are made once, of the middle of each image, where published training cuts another square each time
(listing 2). The step size was halved whenever the loss no longer fell, five times in all: here it falls along a cosine
to the same last value. The average of the weights takes each update, not every 25th. Gradients compressed between
processes are not here. In float16 (`--run precision=float16`) each residual branch has a gradient scale, as published;
bfloat16 needs none (appendix D, note 12). Weights and moments are in float32, where published ones were in 16 bits.
"""

from dataclasses import replace

from genus.examples.formats.captioned_codes import CaptionedCodes
from genus.model.activation import Gelu
from genus.model.attention.alternating import AlternatingAttention
from genus.model.attention.image_masks import ColumnMask, ConvolutionMask, RowMask
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.gradient_scaled import GradientScaled
from genus.model.block.residual import PreNorm
from genus.model.embedding.codes import TextThenCodes
from genus.model.feedforward.mlp import MLP
from genus.model.gradient_scale import GradientScale
from genus.model.initialization import Normal
from genus.model.norm import Identity, LayerNorm
from genus.model.position.grid import TextThenGrid
from genus.model.transformer import Transformer
from genus.objectives.pretraining.text_then_image import TextThenImageLM
from genus.optim.adamw import AdamW
from genus.optim.averaging import AveragedAdamW
from genus.optim.schedule import Cosine, Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens import SpecialTokens
from genus.tokens.algorithms.end_of_word_byte_bpe import EndOfWordByteBPE

CAPTION = SpecialTokens(
    bos="<|startoftext|>",
    single="<|startoftext|> $A",
    pair="<|startoftext|> $A $B",
    summary="last",
    in_text=False,
)
ORDER = (  # appendix B.1: row, column, row, row, and so on; the last layer is convolutional
    0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0,
    0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 2,
)  # fmt: skip
CODES = TextThenCodes(
    segments=0,  # figure 10
    text=256,  # section 2.2
    codes=8192,  # section 2.2
    position=TextThenGrid(text=256, grid=32),  # appendix B.1, figure 10
    norm=Identity(),  # figure 10: a sum
    dropout=0.0,  # ours: none is named
)
DECODER = Transformer(
    layers=64,  # appendix B.1
    hidden=3968,  # figure 10: d_model
    attention=AlternatingAttention(
        attentions=(
            MultiHeadAttention(heads=62, dropout=0.0, mask=RowMask(text=256, grid=32)),  # appendix B.1: 62 heads of 64
            MultiHeadAttention(heads=62, dropout=0.0, mask=ColumnMask(text=256, grid=32)),  # appendix B.1
            MultiHeadAttention(heads=62, dropout=0.0, mask=ConvolutionMask(text=256, grid=32, kernel=11)),  # figure 11
        ),
        order=ORDER,
    ),
    feedforward=MLP(size=15_872, activation=Gelu()),  # appendix E.1, table 2: 4 d
    embedding=CODES,
    norm=LayerNorm(eps=1e-5),  # ours, as GPT-3's
    block=PreNorm(),  # figure 4: a norm before each block, and no other
    dropout=0.0,  # ours: none is named
    initialization=Normal(std=0.02),  # ours, as GPT-3's
)

FULL = Recipe(
    name="dall-e/12b",
    published=Published(
        title="Zero-Shot Text-to-Image Generation",
        paper="arXiv:2102.12092",
        year=2021,  # arXiv
        parameters=12_000_000_000,  # section 2.2; table 1
        data="250 million images with captions from the internet",  # section 2.3
    ),
    tokens=EndOfWordByteBPE(vocab_size=16_384, special_tokens=CAPTION),  # section 2.2: lower-cased; which BPE is ours
    examples=CaptionedCodes(text=256, grid=32, codes=8192, side=256),  # section 2.2
    model=replace(
        DECODER,
        block=GradientScaled(  # section 2.4, figure 4
            block=PreNorm(),
            scale=GradientScale(
                initial=8192.0,  # appendix D, 1: 2^13
                doubling=1000,  # appendix D, 1: multiplied by 2^(1/1000)
                halving=2,  # appendix D, 1: divided by the square root of 2
                window=125,  # appendix D, 1
                smallest=128.0,  # appendix D, 1: 2^7
                largest=16777216.0,  # appendix D, 1: 2^24
            ),
        ),
    ),
    objectives=(
        TextThenImageLM(
            text=256,  # section 2.2
            grid=32,  # section 2.2
            codes=8192,  # section 2.2
            text_weight=0.125,  # section 2.2: 1/8
            bpe_dropout=0.1,  # section 2.2
        ),
    ),
    optimizer=AveragedAdamW(
        decay=0.9996,  # appendix B.2: 0.99 for every 25 updates, 0.99^(1/25) for each
        lr=4.5e-4,  # appendix B.2
        betas=(0.9, 0.96),  # appendix B.2
        eps=1e-8,  # appendix B.2
        weight_decay=4.5e-2,  # appendix B.2
        clip_norm=4.0,  # appendix B.2
    ),
    schedule=Cosine(
        warmup=0.0116279,  # appendix B.2: 5,000 of 430,000 updates
        floor=0.03125,  # appendix B.2: the last is 32 times smaller; the curve is ours
    ),
    stages=(
        Stage(
            max_length=1280,  # section 2.2: 256 + 1,024
            batch=1024,  # appendix B.2
            micro_batch=1,  # appendix B.2: of each GPU
        ),
    ),
    budget=Budget(amount=430_000, unit="steps"),  # appendix B.2
    finetuning=FineTuning(  # ours: captions alone are not fine-tuned
        optimizer=AdamW(lr=1e-5),  # ours
        schedule=Linear(warmup=0.1),  # ours
        epochs=3,  # ours
        batch=32,  # ours
        max_length=256,  # section 2.2
        pooler=None,
    ),
)

MINI = replace(
    FULL,
    name="dall-e/mini",  # ours, and so is every number of this row
    published=replace(FULL.published, parameters=None),
    tokens=EndOfWordByteBPE(vocab_size=4_000, special_tokens=CAPTION),  # ours
    examples=CaptionedCodes(text=32, grid=8, codes=512, side=64),  # ours: the codes of dvae/mini
    model=replace(  # ours: as bert/mini
        DECODER,
        layers=4,
        hidden=256,
        attention=AlternatingAttention(
            attentions=(
                MultiHeadAttention(heads=4, dropout=0.0, mask=RowMask(text=32, grid=8)),
                MultiHeadAttention(heads=4, dropout=0.0, mask=ColumnMask(text=32, grid=8)),
                MultiHeadAttention(heads=4, dropout=0.0, mask=ConvolutionMask(text=32, grid=8, kernel=5)),
            ),
            order=(0, 1, 0, 2),
        ),
        feedforward=MLP(size=1024, activation=Gelu()),
        embedding=replace(CODES, text=32, codes=512, position=TextThenGrid(text=32, grid=8)),
    ),
    objectives=(TextThenImageLM(text=32, grid=8, codes=512),),  # ours
    optimizer=AveragedAdamW(decay=0.99, lr=1e-3, betas=(0.9, 0.96), weight_decay=4.5e-2, clip_norm=4.0),  # ours
    schedule=Cosine(warmup=0.05, floor=0.03125),  # ours
    stages=(Stage(max_length=96, batch=32, micro_batch=32),),  # ours
    budget=Budget(amount=2_000, unit="steps"),  # ours
    finetuning=replace(FULL.finetuning, max_length=32),  # ours
)

TINY = replace(
    MINI,
    name="dall-e/tiny",  # ours, and so is every number of this row
    tokens=EndOfWordByteBPE(vocab_size=1_000, special_tokens=CAPTION),  # ours
    examples=CaptionedCodes(text=16, grid=4, codes=256, side=32),  # ours: the codes of dvae/tiny
    model=replace(  # ours: as bert/tiny
        DECODER,
        layers=2,
        hidden=128,
        attention=AlternatingAttention(
            attentions=(
                MultiHeadAttention(heads=2, dropout=0.0, mask=RowMask(text=16, grid=4)),
                MultiHeadAttention(heads=2, dropout=0.0, mask=ConvolutionMask(text=16, grid=4, kernel=5)),
            ),
            order=(0, 1),
        ),
        feedforward=MLP(size=512, activation=Gelu()),
        embedding=replace(CODES, text=16, codes=256, position=TextThenGrid(text=16, grid=4)),
    ),
    objectives=(TextThenImageLM(text=16, grid=4, codes=256),),  # ours
    stages=(Stage(max_length=32, batch=64, micro_batch=64),),  # ours
    finetuning=replace(FULL.finetuning, max_length=16),  # ours
)
