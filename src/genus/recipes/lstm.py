"""LSTM: a language model, or a sequence autoencoder, before classification (Dai and Le 2015, arXiv:1511.01432).

"Released code" is that of A. Dai and R. Sepassi, tensorflow/models, research/adversarial_text: the IMDB commands of its
README, with the defaults of graphs.py and layers.py; it is of this paper and of Miyato et al. 2016 (arXiv:1605.07725),
whose embeddings have 256 numbers. "Notes" are those of D. Britz on the paper (shortscience.org), for the sizes. A class
is told by the last state, as in the released code; its other way, the linear label gain (a loss at every token, whose
weight grows), is not there. Other deviations: the softmax is over the whole vocabulary, not over 1,024 sampled words;
dropout of embeddings draws for each token; no normalized embeddings, no mean of the weights, and gradients of
embeddings are clipped as all others. A document after another begins with states of 0.
`lstm/mini` and `/tiny` are ours, as wide as `gpt/mini` and `gpt/tiny`, with tied output as is usual.
"""

from dataclasses import replace

from genus.examples.formats.contiguous import Contiguous
from genus.examples.formats.repeated import Repeated
from genus.model.activation import Relu
from genus.model.embedding import Embedding
from genus.model.head.lm_head import LMHead
from genus.model.initialization import Glorot
from genus.model.lstm import LSTM
from genus.model.norm import Identity
from genus.model.pooler import SizedPooler
from genus.model.position import NoPosition
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Cosine, Exponential, Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.end_of_word_bpe import EndOfWordBPE
from genus.tokens.algorithms.word_level import WordLevel

EMBEDDING = Embedding(segments=0, position=NoPosition(), norm=Identity(), dropout=0.5)  # released code: keep_prob_emb

NETWORK = LSTM(
    layers=1,  # released code: rnn_num_layers
    hidden=1024,  # notes: 1,024 cells; released code: rnn_cell_size
    inputs=512,  # notes: embeddings of 512
    embedding=EMBEDDING,
    dropout=0.0,  # released code: keep_prob_lstm_out
    forget_bias=0.0,  # released code: forget_bias
    initialization=Glorot(embedding_std=0.58),  # released code: TensorFlow's default; embeddings from U(-1, 1)
)

BASE = Recipe(
    name="lstm/base",
    published=Published(
        title="Semi-supervised Sequence Learning",
        paper="arXiv:1511.01432",
        year=2015,
        data="IMDB",  # notes
    ),
    tokens=WordLevel(vocab_size=86_934, min_frequency=2),  # released code: vocab_size; doc_count_threshold
    examples=Contiguous(),  # abstract: a language model; released code, save_state: states are kept
    model=NETWORK,
    objectives=(CausalLM(output=LMHead(tied=False)),),  # released code: SoftmaxLoss
    optimizer=AdamW(
        lr=0.001,  # released code: learning_rate
        betas=(0.9, 0.999),  # released code: AdamOptimizer
        eps=1e-8,  # released code: AdamOptimizer
        weight_decay=0.0,  # released code: none
        clip_norm=1.0,  # released code: max_grad_norm
    ),
    schedule=Exponential(end=4.54e-5),  # released code: learning_rate_decay_factor 0.9999 in each of 100,000 steps
    stages=(Stage(max_length=400, batch=256, micro_batch=64),),  # notes: 400 steps; released code: num_timesteps
    budget=Budget(amount=100_000, unit="steps"),  # released code: max_steps
    finetuning=FineTuning(
        optimizer=AdamW(  # released code: learning_rate; the rest as in pretraining
            lr=5e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, clip_norm=1.0
        ),
        schedule=Exponential(end=0.05),  # released code: 0.9998 in each of 15,000 steps
        epochs=38,  # released code: 15,000 steps of 64, of num_examples 25,000
        batch=64,  # released code: batch_size
        max_length=400,  # released code: num_timesteps
        pooler=SizedPooler(size=512, activation=Relu()),  # notes: a hidden layer of 512; released code: relu
        dropout=0.5,  # notes: of the hidden layer
    ),
)

AUTOENCODER = replace(
    BASE,
    name="lstm/autoencoder",
    examples=Repeated(),  # abstract: a sequence autoencoder; released code: build_seq_ae_sequence
    stages=(Stage(max_length=801, batch=256, micro_batch=32),),  # ours: 400 tokens, a separator and 400 again
)

SMALL = LSTM(
    layers=2,  # ours
    hidden=256,  # ours: as gpt/mini
    embedding=replace(EMBEDDING, dropout=0.0),  # ours
    initialization=Glorot(embedding_std=1.0),  # ours: as PyTorch draws embeddings; states are small, and so are logits
)

MINI = replace(
    BASE,
    name="lstm/mini",
    tokens=EndOfWordBPE(vocab_size=16_000),  # ours: as gpt/mini, and so is every number of this row
    model=SMALL,
    objectives=(CausalLM(output=LMHead(bias="none")),),  # ours
    optimizer=AdamW(lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, clip_norm=1.0),  # ours
    schedule=Cosine(warmup=0.1),  # ours
    stages=(Stage(max_length=128, batch=32, micro_batch=32),),  # ours
    budget=Budget(amount=1_000, unit="steps"),  # ours: 4 million tokens
    finetuning=FineTuning(
        optimizer=AdamW(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, clip_norm=1.0),  # ours
        schedule=Linear(warmup=0.1),  # ours
        epochs=4,  # ours
        batch=32,  # ours
        max_length=128,  # ours
        pooler=None,  # ours: as gpt
        dropout=0.1,  # ours
    ),
)

TINY = replace(
    MINI,
    name="lstm/tiny",
    tokens=EndOfWordBPE(vocab_size=8_000),  # ours
    model=replace(SMALL, layers=1, hidden=128),  # ours
)

AUTOENCODER_MINI = replace(
    MINI,
    name="lstm/autoencoder-mini",
    examples=Repeated(),
    stages=(Stage(max_length=65, batch=64, micro_batch=64),),  # ours: 32 tokens, a separator and 32 again
)
