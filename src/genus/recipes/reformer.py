"""Reformer: attention by hashing, and layers that can be undone, for long texts (Kitaev et al. 2020, arXiv:2001.04451).

"Released code" is google/trax: reformer_enwik8.gin, with the sizes that its comments give for more memory, and the
notebook trax/models/reformer/text_generation.ipynb; "released configuration" is that of the checkpoints made with it,
as the Hugging Face hub has them (google/reformer-enwik8, google/reformer-crime-and-punishment). Deviations: the output
layer's bias stays at 0; dropout falls on the sum of token and position vectors, not on each. `reformer/mini` and
`reformer/tiny` are ours, not published: masked language models over WordPiece at the sizes and the budgets of
`bert/mini` and `bert/tiny`, so that the ideas can be compared with BERT by fine-tuning; the output matrix, which BERT
shares with its embedding, is beside it. The paper's imagenet64 is not here.
"""

from dataclasses import replace

from genus.examples.formats.contiguous import Contiguous
from genus.examples.formats.sentences import FullSentences
from genus.model.activation import Relu
from genus.model.attention.alternating import AlternatingAttention
from genus.model.attention.chunked.local import ChunkedLocalAttention
from genus.model.attention.chunked.lsh import LSHAttention
from genus.model.attention.masks import Causal
from genus.model.block.residual import UnscaledPreNorm
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import ChunkedMLP
from genus.model.head.lm_head import LMHead
from genus.model.initialization import Normal
from genus.model.norm import Identity
from genus.model.pooler import HalfPooler
from genus.model.position.learned import AxialPosition
from genus.model.stack.reversible import ReversibleStack
from genus.model.transformer import Transformer
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Cosine, InverseSquareRoot, Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.bytes import Bytes
from genus.tokens.algorithms.sentencepiece_bpe import SentencePieceBPE
from genus.tokens.algorithms.wordpiece import WordPiece

DECODER = Transformer(
    layers=12,  # section 5; released code: n_layers
    hidden=1024,  # section 5: d_model
    attention=AlternatingAttention(
        attentions=(
            ChunkedLocalAttention(
                heads=8,  # section 5: n_heads
                head_size=128,  # released code: attn_kv
                chunk_length=128,  # released code: SelfAttention.chunk_len
                chunks_before=1,  # released code: SelfAttention.n_chunks_before
                dropout=0.2,  # released code: SelfAttention.attention_dropout
                mask=Causal(),
            ),
            LSHAttention(
                heads=8,
                head_size=128,
                chunk_length=256,  # released code: LSHSelfAttention.chunk_len
                chunks_before=1,  # released code: LSHSelfAttention.n_chunks_before
                num_hashes=4,  # released configuration; section 5 has 4 in figure 5, the released code 2
                num_buckets=(512,),  # released code: LSHSelfAttention.n_buckets, 2 l / m of section 2
                dropout=0.1,  # released configuration
                mask=Causal(),
            ),
        ),
        order=(0, 0, 1, 0),  # released code: attn_type
    ),
    feedforward=ChunkedMLP(
        size=4096,  # section 5: d_ff
        activation=Relu(),
        dropout=0.2,  # released code: dropout
        chunk=0,  # released configuration: chunk_size_feed_forward
    ),
    embedding=Embedding(
        segments=0,
        position=AxialPosition(shape=(128, 512), widths=(256, 768)),  # released code: axial_pos_shape, d_axial_pos_embs
        norm=Identity(),
        dropout=0.2,  # released code: dropout
    ),
    block=UnscaledPreNorm(),
    stack=ReversibleStack(),
    dropout=0.2,  # released code: dropout
    initialization=Normal(std=0.02),  # released configuration: initializer_range
)

DIRECT = LMHead(tied=False, bias="constant")  # released code: a matrix of its own, right over the states

ENWIK8 = Recipe(
    name="reformer/enwik8",
    published=Published(
        title="Reformer: The Efficient Transformer",
        paper="arXiv:2001.04451",
        year=2020,
        data="enwik8 (100 million bytes of Wikipedia)",  # section 5
    ),
    tokens=Bytes(vocab_size=258),  # released code: includes pad token and unused EOS token
    examples=Contiguous(),  # section 5: chunked into subsequences of 2^16 tokens
    model=DECODER,
    objectives=(CausalLM(output=DIRECT),),  # released code: ReformerLM
    optimizer=AdamW(
        lr=6.9877e-4,  # released code, multifactor: 0.03125 / √2000 at the end of warm-up
        betas=(0.9, 0.98),  # released code: Adam; section 5 names Adafactor
        eps=1e-9,  # released code
        weight_decay=0.0,  # released code
        clip_norm=None,  # released code, trax/optimizers/adam.py: clip_grad_norm
    ),
    schedule=InverseSquareRoot(warmup=0.02),  # released code, multifactor: 2,000 of 100,000 steps, rsqrt_decay
    stages=(Stage(max_length=65_536, batch=8, micro_batch=1),),  # section 5: 8 sequences of 64K, one a device
    budget=Budget(amount=100_000, unit="steps"),  # released code: train.steps
    finetuning=FineTuning(  # ours: the paper does not fine-tune
        optimizer=AdamW(lr=5e-5, weight_decay=0.01, clip_norm=1.0),  # ours
        schedule=Linear(warmup=0.1),  # ours
        epochs=3,  # ours
        batch=32,  # ours
        max_length=512,  # ours
        pooler=HalfPooler(),
    ),
)

CRIME_AND_PUNISHMENT = replace(
    ENWIK8,
    name="reformer/crime-and-punishment",
    published=replace(ENWIK8.published, data="Crime and Punishment, once"),  # released code, the notebook
    tokens=SentencePieceBPE(vocab_size=320),  # released code, the notebook: cp.320.model
    model=replace(
        DECODER,
        layers=6,  # released code, the notebook: n_layers
        hidden=256,  # d_model
        attention=AlternatingAttention(
            attentions=(
                ChunkedLocalAttention(
                    heads=2, head_size=64, chunk_length=64, dropout=0.05, mask=Causal()
                ),  # SelfAttention; n_heads, attn_kv
                LSHAttention(
                    heads=2,
                    head_size=64,
                    chunk_length=64,  # LSHSelfAttention.chunk_len
                    num_hashes=1,  # n_hashes
                    num_buckets=(64, 128),  # n_buckets
                    dropout=0.0,  # attention_dropout
                    mask=Causal(),
                ),
            ),
            order=(0, 1),  # attn_type
        ),
        feedforward=ChunkedMLP(size=512, activation=Relu(), dropout=0.05),  # d_ff, dropout
        embedding=replace(
            DECODER.embedding,
            position=AxialPosition(shape=(512, 1024), widths=(64, 192)),  # axial_pos_shape, d_axial_pos_embs
            dropout=0.05,  # dropout
        ),
        dropout=0.05,  # dropout
    ),
    optimizer=AdamW(
        lr=0.01,  # multifactor.constant
        betas=(0.86, 0.92),  # Adam
        eps=1e-9,  # Adam
        weight_decay=0.0,  # Adam
        clip_norm=None,  # trax/optimizers/adam.py: clip_grad_norm
    ),
    schedule=Cosine(warmup=0.1),  # multifactor: warmup_steps 100, then steps_per_cycle 900
    stages=(Stage(max_length=524_288, batch=8, micro_batch=1),),  # n_tokens, one sequence a device
    budget=Budget(amount=1_000, unit="steps"),  # warm-up and one cycle; the notebook stops at 600
)

SMALL = replace(
    DECODER,
    layers=4,  # ours: as bert/mini
    hidden=256,  # ours
    attention=AlternatingAttention(
        attentions=(
            ChunkedLocalAttention(
                heads=4, head_size=64, chunk_length=32, dropout=0.0
            ),  # ours: so that sequences have several chunks
            LSHAttention(
                heads=4, head_size=64, chunk_length=32, num_hashes=2, num_buckets=(8,), dropout=0.0
            ),  # ours; section 2: 2 l / m
        ),
        order=(0, 1),  # ours
    ),
    feedforward=ChunkedMLP(size=1024, activation=Relu()),  # ours
    embedding=Embedding(
        segments=0,
        position=AxialPosition(shape=(16, 32), widths=(64, 192), std=0.02),  # ours: std of the tokens
        norm=Identity(),
        dropout=0.0,
    ),
    dropout=0.0,  # ours
)

MINI = replace(
    ENWIK8,
    name="reformer/mini",  # ours, and so is every number of this row
    published=replace(ENWIK8.published, data=""),
    tokens=WordPiece(vocab_size=30_522, lowercase=True),  # ours: as bert/mini
    examples=FullSentences(),
    model=SMALL,
    objectives=(MaskedLM(output=DIRECT),),
    optimizer=AdamW(lr=1e-3, eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # ours: as bert/mini
    schedule=Linear(warmup=0.1),  # ours
    stages=(Stage(max_length=128, batch=32, micro_batch=32),),  # ours
    budget=Budget(amount=1_000, unit="steps"),  # ours: 4 million tokens
    finetuning=replace(
        ENWIK8.finetuning,
        optimizer=AdamW(lr=1e-4, eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # ours: as bert/mini
        epochs=4,  # ours
        max_length=128,  # ours
    ),
)

TINY = replace(
    MINI,
    name="reformer/tiny",
    model=replace(
        SMALL,
        layers=2,  # ours: as bert/tiny
        hidden=128,
        attention=AlternatingAttention(
            attentions=(
                ChunkedLocalAttention(heads=2, head_size=64, chunk_length=32, dropout=0.0),
                LSHAttention(heads=2, head_size=64, chunk_length=32, num_hashes=2, num_buckets=(8,), dropout=0.0),
            ),
            order=(0, 1),  # ours
        ),
        feedforward=ChunkedMLP(size=512, activation=Relu()),  # ours
        embedding=replace(SMALL.embedding, position=AxialPosition(shape=(16, 32), widths=(32, 96), std=0.02)),  # ours
    ),
)
