"""BART: an encoder-decoder that restores corrupted documents (Lewis et al. 2019, arXiv:1910.13461).

"Released code" is fairseq: fairseq/models/bart/model.py, data/denoising_dataset.py, examples/bart. "Command" is the
pretraining command that issue 1899 of that repository gives. It masks 30 % of the words, as the code counts; the paper
says tokens. It has spans of 3.5 words on average; these rows have 3, as the paper. The batch is the paper's. How
`bart.base` was trained is not published: `bart/base` is the model of the paper's section 4. `bart/mini` and `bart/tiny`
are ours.

Any mix of the five corruptions is an override, such as `objectives.0.corruptions=[{kind = 'DocumentRotation'}]`; so are
the comparison objectives of section 4.1 (tests/recipes/test_bart_objectives.py).

Left out: the last 10 % of the steps are without dropout (section 5.1).
"""

from dataclasses import replace

from genus.examples.formats.sentences import DocSentences
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding import Embedding
from genus.model.encoder_decoder import mirrored
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LMHead
from genus.model.initialization import Normal
from genus.model.norm import LayerNorm
from genus.model.position.learned import LearnedPosition
from genus.model.transformer import Transformer
from genus.objectives.corruption.order import SentencePermutation
from genus.objectives.corruption.tokens import TextInfilling
from genus.objectives.pretraining.denoising_autoencoder import DenoisingAutoencoder
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.byte_bpe import BART, ByteBPE

PLACES = LearnedPosition(length=1024, offset=2)  # model.py: max_source_positions; counted from the padding id, 1, + 1
ENCODER = Transformer(
    layers=6,  # section 2.1
    hidden=768,  # section 4
    attention=MultiHeadAttention(heads=12, dropout=0.1),  # model.py: bart_base_architecture; command
    feedforward=MLP(size=3072),  # model.py: bart_base_architecture; exact GELU, section 2.1
    embedding=Embedding(
        segments=0,
        position=PLACES,
        norm=LayerNorm(eps=1e-5),  # model.py: layernorm_embedding; PyTorch's default
        dropout=0.1,  # command
    ),
    norm=LayerNorm(eps=1e-5),  # PyTorch's default
    dropout=0.1,  # command
    initialization=Normal(std=0.02),  # section 2.1
)

FULL = Stage(
    max_length=513,  # command: 512 with both ends, and the end token with which the decoder begins
    source_length=513,  # the same, and the mask that infilling may add
    batch=8000,  # section 5.1
    micro_batch=16,  # ours
)

BASE = Recipe(
    name="bart/base",
    published=Published(
        title="BART: Denoising Sequence-to-Sequence Pre-training for Natural Language Generation, Translation, and "
        "Comprehension",
        paper="arXiv:1910.13461",
        year=2019,
        parameters=140_000_000,  # examples/bart/README.md
        data="books and Wikipedia",  # table 1
    ),
    tokens=ByteBPE(vocab_size=50_265, special_tokens=BART),  # section 5.1: GPT-2's; BartConfig
    examples=DocSentences(),  # tasks/denoising.py: sample_break_mode, complete_doc
    model=mirrored(ENCODER, PLACES),
    objectives=(
        DenoisingAutoencoder(
            corruptions=(
                SentencePermutation(share=1.0),  # section 5.1; command
                TextInfilling(
                    rate=0.3,  # section 5.1; command
                    span=3.0,  # section 2.2
                    random=0.1,  # command
                ),
            ),
            output=LMHead(bias="constant"),  # transformers: final_logits_bias, which is 0 and not trained
        ),
    ),
    optimizer=AdamW(
        lr=4e-4,  # ours: as bart/large
        betas=(0.9, 0.999),  # fairseq/optim/adam.py
        eps=1e-8,  # fairseq/optim/adam.py
        weight_decay=0.01,  # command
        decayed="all",  # fairseq/trainer.py: one group of parameters
        clip_norm=0.1,  # command
    ),
    schedule=Linear(warmup=0.02),  # command: 10,000 of 500,000 steps
    stages=(replace(FULL, batch=256),),  # ours: BERT's, beside whose figures table 1 puts it
    budget=Budget(amount=1_000_000, unit="steps"),  # table 1
    finetuning=FineTuning(
        optimizer=AdamW(  # README.glue.md: 5e-6, 1e-5 or 2e-5 by task
            lr=1e-5, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01, decayed="all", clip_norm=None
        ),
        schedule=Linear(warmup=0.06),  # README.glue.md
        epochs=10,  # README.glue.md
        batch=32,  # README.glue.md: 32, 64 or 128 by task
        max_length=512,  # ours: as pretraining
        dropout=0.0,  # model.py: pooler_dropout
    ),
)

LARGE = replace(
    BASE,
    name="bart/large",
    published=replace(
        BASE.published,
        parameters=400_000_000,  # examples/bart/README.md
        data="BookCorpus and English Wikipedia, CC-News, OpenWebText, Stories (160 GB)",  # section 5.1
    ),
    model=mirrored(
        replace(
            ENCODER,
            layers=12,  # section 5.1
            hidden=1024,  # section 5.1
            attention=MultiHeadAttention(heads=16, dropout=0.1),  # model.py: bart_large_architecture; command
            feedforward=MLP(size=4096),  # model.py: bart_large_architecture
        ),
        PLACES,
    ),
    optimizer=replace(BASE.optimizer, lr=4e-4),  # command
    stages=(FULL,),
    budget=Budget(amount=500_000, unit="steps"),  # section 5.1; command
)

SHORT = LearnedPosition(length=160, offset=2)  # ours
SMALL = replace(
    ENCODER,  # ours, and so is every number of this model
    layers=4,  # ours: as roberta/mini
    hidden=256,  # ours
    attention=MultiHeadAttention(heads=4, dropout=0.0),  # ours
    feedforward=MLP(size=1024),  # ours
    embedding=replace(ENCODER.embedding, position=SHORT, dropout=0.0),  # ours
    dropout=0.0,  # ours
)

MINI = replace(
    BASE,
    name="bart/mini",
    published=replace(BASE.published, parameters=None),  # ours, and so is every number of this row
    tokens=ByteBPE(vocab_size=8_000, special_tokens=BART),  # ours: as t5/mini
    model=mirrored(SMALL, SHORT),
    optimizer=AdamW(lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # ours: as roberta/mini
    schedule=Linear(warmup=0.1),  # ours
    stages=(Stage(max_length=129, source_length=129, batch=64, micro_batch=16),),  # ours
    budget=Budget(amount=20_000_000, unit="tokens"),  # ours: as t5/mini
    finetuning=replace(
        BASE.finetuning,
        optimizer=AdamW(lr=1e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1, clip_norm=1.0),  # ours: as roberta/mini
        epochs=4,  # ours
        batch=16,  # ours
        max_length=128,  # ours
    ),
)

TINY = replace(
    MINI,
    name="bart/tiny",  # ours, and so is every number of this row
    model=mirrored(
        replace(
            SMALL,
            layers=2,  # ours
            hidden=128,
            attention=MultiHeadAttention(heads=2, dropout=0.0),
            feedforward=MLP(size=512),
        ),
        SHORT,
    ),
    stages=(Stage(max_length=129, source_length=129, batch=32, micro_batch=16),),  # ours
    budget=Budget(amount=2_000_000, unit="tokens"),  # ours
)
