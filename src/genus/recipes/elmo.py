"""ELMo: two LSTM language models, one each way, whose layers tasks mix (Peters et al. 2018, arXiv:1802.05365).

"Released code" is allenai/bilm-tf: bin/train_elmo.py, with the defaults of bilm/training.py. "Final model" is the
paragraph of the paper that notes on it quote (shihaizhou.com). Its words are read
character by character, by convolutions of 2,048 filters and two highway layers, and have no vocabulary there: that is a
tokenizer and an embedding of another kind, which are not here. In their place stand token embeddings as wide as the
projection, which the released code knows too (word inputs, share_embedding_softmax). Other deviations: the softmax is
over the whole vocabulary, not over 8,192 sampled words; cells and projections are not clipped at 3; documents stand by
themselves, and a state does not go on from batch to batch, as that of the backward model cannot in a packed row. In
tasks, the mixture of layers is trained with the network, which the paper leaves as it is; a text's summary token is its
last one, of which the forward half has read all of it. `elmo/mini` and `/tiny` are ours.
"""

from dataclasses import replace

from genus.examples.formats.documents import FullDocuments
from genus.model.embedding import Embedding
from genus.model.head.lm_head import LMHead
from genus.model.initialization import Glorot
from genus.model.lstm import LSTM
from genus.model.norm import Identity
from genus.model.position import NoPosition
from genus.objectives.pretraining.bidirectional_lm import BidirectionalLM
from genus.optim.adagrad import Adagrad
from genus.optim.adamw import AdamW
from genus.optim.schedule import Constant, Cosine, Linear
from genus.recipe import Budget, Explained, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.word_level import WordLevel

NETWORK = LSTM(
    layers=2,  # final model; released code: n_layers
    hidden=512,  # final model: projections of 512; released code: projection_dim
    size=4096,  # final model: 4,096 units; released code: dim
    directions=2,  # released code: bidirectional
    residual=True,  # final model: from the first layer to the second; released code: use_skip_connections
    embedding=Embedding(segments=0, position=NoPosition(), norm=Identity(), dropout=0.0),  # released code
    dropout=0.1,  # released code: dropout
    forget_bias=1.0,  # released code: LSTMCell's default
    initialization=Glorot(embedding_std=1.0),  # released code: TensorFlow's default; embeddings: PyTorch's default
)

BASE = Recipe(
    name="elmo/base",
    published=Explained(
        title="Deep contextualized word representations",
        paper="arXiv:1802.05365",
        year=2018,
        parameters=93_600_000,  # allennlp.org/elmo, without the softmax
        data="1 Billion Word Benchmark",  # released code: n_train_tokens
        reason="token embeddings in place of convolutions of characters, and the softmax, which shares them",
    ),
    tokens=WordLevel(vocab_size=793_471, min_frequency=3),  # released vocabulary: n_tokens_vocab
    examples=FullDocuments(isolated=True),  # ours: see above
    model=NETWORK,
    objectives=(BidirectionalLM(output=LMHead()),),  # released code: share_embedding_softmax
    optimizer=Adagrad(
        lr=0.2,  # released code: learning_rate
        initial=0.0025,  # released code: initial_accumulator_value 1, of a loss 20 times as large (unroll_steps)
        eps=0.0,  # released code: TensorFlow's has none
        clip_norm=0.5,  # released code: all_clip_norm_val 10, of a loss 20 times as large
    ),
    schedule=Constant(),  # released code: none
    stages=(Stage(max_length=128, batch=60, micro_batch=20),),  # ours: whole sentences; code: 3 x 128 x 20
    budget=Budget(amount=10, unit="epochs"),  # released code: n_epochs
    finetuning=FineTuning(  # ours: a task's own network stands on the features in the paper
        optimizer=AdamW(lr=1e-3, weight_decay=0.0, clip_norm=1.0),  # ours
        schedule=Linear(warmup=0.1),  # ours
        epochs=3,  # ours
        batch=32,  # ours
        max_length=128,  # ours
        pooler=None,  # ours
        dropout=0.5,  # ours
    ),
)

SMALL = replace(
    BASE,
    name="elmo/small",
    published=replace(BASE.published, parameters=13_600_000),  # allennlp.org/elmo: small
    model=replace(NETWORK, hidden=128, size=1024),  # allennlp.org/elmo: small
)

MEDIUM = replace(
    BASE,
    name="elmo/medium",
    published=replace(BASE.published, parameters=28_000_000),  # allennlp.org/elmo: medium
    model=replace(NETWORK, hidden=256, size=2048),  # allennlp.org/elmo: medium
)

MINI = replace(
    BASE,
    name="elmo/mini",
    published=Published(
        title=BASE.published.title, paper=BASE.published.paper, year=BASE.published.year
    ),  # ours, and so is every number of this row
    tokens=WordLevel(vocab_size=30_522, min_frequency=3),  # ours: as bert/mini
    model=replace(NETWORK, hidden=128, size=256, dropout=0.0, initialization=Glorot(embedding_std=1.0)),  # ours
    optimizer=AdamW(lr=2e-3, weight_decay=0.01, clip_norm=1.0),  # ours
    schedule=Cosine(warmup=0.1),  # ours
    stages=(Stage(max_length=128, batch=32, micro_batch=32),),  # ours
    budget=Budget(amount=1_000, unit="steps"),  # ours: 4 million tokens
    finetuning=replace(BASE.finetuning, epochs=4, dropout=0.1),  # ours
)

TINY = replace(
    MINI,
    name="elmo/tiny",
    model=replace(NETWORK, hidden=64, size=128, dropout=0.0, initialization=Glorot(embedding_std=1.0)),  # ours
)
