"""MASS: a decoder predicts a fragment of what an encoder reads without it (Song et al. 2019, arXiv:1905.02450).

"Released code" is microsoft/MASS. `mass/base` and `mass/middle` are the models of its folder MASS-summarization, for
English documents: one fragment is masked of every 64 tokens. `mass/1024` is the paper's model as the folder
MASS-unsupNMT trains it for one language; of two languages, each has a vector there that is added to its tokens. Half of
the tokens are masked, as in section 4.1 of the paper; the command for documents leaves the share to a default of 0.15.
Sentences are single there, and joined up to the same length here. `mass/mini` and `mass/tiny` are ours.

There is no class of Hugging Face: folders are those that genus reads. Left out: in MASS-unsupNMT, cross-attention does
not see mask tokens, and linear maps are drawn from PyTorch's distribution.
"""

from dataclasses import replace

from genus.examples.formats.sentences import DocSentences, FullSentences
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding import Embedding
from genus.model.embedding.scaled import ScaledEmbedding
from genus.model.encoder_decoder import mirrored
from genus.model.feedforward.mlp import MLP
from genus.model.head.lm_head import LMHead
from genus.model.initialization import Normal
from genus.model.norm import LayerNorm
from genus.model.position.learned import LearnedPosition
from genus.model.transformer import Transformer
from genus.objectives.masking.fragments import FragmentMasking
from genus.objectives.pretraining.masked_seq_to_seq import MaskedSeqToSeq
from genus.optim.adamw import AdamW
from genus.optim.schedule import InverseSquareRoot, Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.end_of_word_bpe import XLM, ContinuedBPE
from genus.tokens.algorithms.wordpiece import MASS, WordPiece

PLACES = LearnedPosition(length=512, offset=1)  # s2s_model.py: 512, counted from the padding id, 0, + 1
ENCODER = Transformer(
    layers=6,  # s2s_model.py: transformer_mass_base
    hidden=768,  # s2s_model.py: transformer_mass_base
    attention=MultiHeadAttention(heads=12, dropout=0.1),  # s2s_model.py: transformer_mass_base
    feedforward=MLP(size=3072, dropout=0.1),  # s2s_model.py: transformer_mass_base, activation_dropout; exact GELU
    embedding=ScaledEmbedding(
        segments=0,
        position=PLACES,
        norm=LayerNorm(eps=1e-5),  # s2s_model.py: emb_layer_norm; PyTorch's default
        dropout=0.1,  # s2s_model.py: transformer_mass_base
    ),
    norm=LayerNorm(eps=1e-5),  # PyTorch's default
    dropout=0.1,  # s2s_model.py: transformer_mass_base
    initialization=Normal(std=0.02),  # s2s_model.py: init_bert_params
)

BASE = Recipe(
    name="mass/base",
    published=Published(
        title="MASS: Masked Sequence to Sequence Pre-training for Language Generation",
        paper="arXiv:1905.02450",
        year=2019,
        parameters=123_000_000,  # MASS-summarization/README.md
        data="Wikipedia and BookCorpus (16 GB)",  # MASS-summarization/README.md
    ),
    tokens=WordPiece(vocab_size=30_522, special_tokens=MASS),  # encode.py: bert-base-uncased
    examples=FullSentences(),  # MASS-summarization/README.md: sample-break-mode none
    model=mirrored(ENCODER, PLACES),
    objectives=(
        MaskedSeqToSeq(
            masking=FragmentMasking(
                rate=0.5,  # section 4.1
                block=64,  # masked_dataset.py: block_size
                mask=0.8,  # masked_s2s.py: mask-s2s-mask-keep-rand
                random=0.1,  # masked_s2s.py: mask-s2s-mask-keep-rand
            ),
            output=LMHead(bias="none"),  # s2s_model.py: output_layer
        ),
    ),
    optimizer=AdamW(
        lr=5e-4,  # MASS-summarization/README.md
        betas=(0.9, 0.98),  # MASS-summarization/README.md
        eps=1e-6,  # MASS-summarization/README.md
        weight_decay=0.01,  # MASS-summarization/README.md
        decayed="all",  # fairseq/trainer.py: one group of parameters
        clip_norm=None,  # MASS-summarization/README.md: 0.0, which fairseq reads as none
    ),
    schedule=Linear(warmup=0.08),  # MASS-summarization/README.md: 10,000 of 125,000 steps
    stages=(
        Stage(
            max_length=256,  # half of the source
            source_length=512,  # MASS-summarization/README.md
            batch=4096,  # MASS-summarization/README.md
            micro_batch=8,  # MASS-summarization/README.md: max-sentences
        ),
    ),
    budget=Budget(amount=125_000, unit="steps"),  # MASS-summarization/README.md
    finetuning=FineTuning(
        optimizer=AdamW(  # MASS-summarization/README.md: 1e-4, 2e-4 or 5e-4 by task
            lr=1e-4, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.0, clip_norm=None
        ),
        schedule=InverseSquareRoot(warmup=0.1),  # README.md: 4,000 steps, of which share is not said
        epochs=25,  # MASS-summarization/README.md
        batch=32,  # ours: tokens are counted there
        max_length=512,  # MASS-summarization/README.md
        pooler=None,
        dropout=0.0,  # ours
    ),
)

WIDE = MultiHeadAttention(heads=16, dropout=0.1)  # s2s_model.py: transformer_mass_middle
MIDDLE = replace(
    BASE,
    name="mass/middle",
    published=replace(BASE.published, parameters=208_000_000),  # MASS-summarization/README.md
    model=mirrored(
        replace(ENCODER, hidden=1024, attention=WIDE, feedforward=MLP(size=4096, dropout=0.1)),
        PLACES,
    ),  # s2s_model.py: transformer_mass_middle
)

COUNTED = LearnedPosition(length=512)  # model/transformer.py: N_MAX_POSITIONS
PAPER = Transformer(
    layers=6,  # section 4.1
    hidden=1024,  # section 4.1
    attention=MultiHeadAttention(heads=8, dropout=0.1),  # README.md: n_heads, attention_dropout
    feedforward=MLP(size=4096),  # section 4.1; README.md: gelu_activation
    embedding=Embedding(
        segments=0,
        position=COUNTED,
        norm=LayerNorm(eps=1e-12),  # model/transformer.py: layer_norm_emb
        dropout=0.1,  # README.md
    ),
    norm=LayerNorm(eps=1e-12),  # model/transformer.py
    dropout=0.1,  # README.md
    initialization=Normal(std=0.02),  # ours: near PyTorch's for linear maps; embeddings are 1 / sqrt(1024) there
)

M1024 = replace(
    BASE,
    name="mass/1024",
    published=replace(
        BASE.published,
        parameters=None,  # not in the paper
        data="WMT News Crawl, 2007 to 2017 (190M sentences of English)",  # section 4.1
    ),
    tokens=ContinuedBPE(vocab_size=60_000, special_tokens=XLM),  # section 4.1, of two languages
    examples=DocSentences(),
    model=replace(mirrored(PAPER, COUNTED), shared="nothing"),  # model/__init__.py: build_model
    objectives=(
        MaskedSeqToSeq(
            masking=FragmentMasking(
                rate=0.5,  # section 4.1; README.md: word_mass
                ends=0.2,  # trainer.py: shuffle_segments
                mask=0.8,  # section 4.1; train.py: word_mask_keep_rand
                random=0.1,  # section 4.1; train.py: word_mask_keep_rand
            ),
            output=LMHead(bias="learned"),  # model/transformer.py: PredLayer
        ),
    ),
    optimizer=AdamW(
        lr=1e-4,  # section 4.1; README.md
        betas=(0.9, 0.98),  # README.md
        eps=1e-8,  # utils.py: AdamInverseSqrtWithWarmup
        weight_decay=0.0,  # utils.py: AdamInverseSqrtWithWarmup
        clip_norm=5.0,  # train.py: clip_grad_norm
    ),
    schedule=InverseSquareRoot(warmup=0.02),  # utils.py: 4,000 updates; of 200,000
    stages=(
        Stage(
            max_length=50,  # half of the source
            source_length=100,  # train.py: max_len
            batch=240,  # README.md: 3,000 tokens on each of 8 devices (section 4.1)
            micro_batch=30,  # README.md: 3,000 tokens
        ),
    ),
    budget=Budget(amount=200_000, unit="steps"),  # README.md: 100 x 200,000 sentences; ours: 30 tokens each
    finetuning=replace(BASE.finetuning, max_length=100),  # train.py: max_len
)

SHORT = LearnedPosition(length=128, offset=1)  # ours
SMALL = replace(
    ENCODER,  # ours, and so is every number of this model
    layers=4,  # ours: as bart/mini
    hidden=256,  # ours
    attention=MultiHeadAttention(heads=4, dropout=0.0),  # ours
    feedforward=MLP(size=1024),  # ours
    embedding=replace(ENCODER.embedding, position=SHORT, dropout=0.0),  # ours
    dropout=0.0,  # ours
)

MINI = replace(
    BASE,
    name="mass/mini",
    published=replace(BASE.published, parameters=None),  # ours, and so is every number of this row
    tokens=WordPiece(vocab_size=8_000, special_tokens=MASS),  # ours: as t5/mini
    model=mirrored(SMALL, SHORT),
    optimizer=AdamW(lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # ours: as bart/mini
    schedule=Linear(warmup=0.1),  # ours
    stages=(Stage(max_length=64, source_length=128, batch=64, micro_batch=16),),  # ours
    budget=Budget(amount=20_000_000, unit="tokens"),  # ours: as t5/mini
    finetuning=replace(
        BASE.finetuning,
        optimizer=AdamW(lr=1e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1, clip_norm=1.0),  # ours: as bart/mini
        schedule=Linear(warmup=0.06),  # ours: as bart/mini
        epochs=4,  # ours
        batch=16,  # ours
        max_length=128,  # ours
    ),
)

TINY = replace(
    MINI,
    name="mass/tiny",  # ours, and so is every number of this row
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
    stages=(Stage(max_length=64, source_length=128, batch=32, micro_batch=16),),  # ours
    budget=Budget(amount=2_000_000, unit="tokens"),  # ours
)
