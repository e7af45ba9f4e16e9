"""BERT: a bidirectional encoder that restores masked tokens and tells next sentences (Devlin et al. 2018, arXiv:1810.04805)."""

from dataclasses import replace

from genus.examples.segment_pairs import SegmentPairs
from genus.model.attention.softmax import Softmax
from genus.model.embed import Embedding
from genus.model.encoder import Encoder
from genus.model.feedforward import Dense
from genus.model.heads import Pooler
from genus.objectives.masked import Masked
from genus.objectives.next_sentence import NextSentence
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget, FineTuning, Published, Recipe, Stage
from genus.tokens.wordpiece import WordPiece

BASE = Recipe(
    name="bert/base",
    published=Published(
        title="BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
        paper="arXiv:1810.04805",
        year=2018,
        parameters=110_000_000,  # section 3
        data="BooksCorpus (800M words), English Wikipedia (2,500M words)",  # section 3.1
    ),
    tokens=WordPiece(vocab_size=30_522, lowercase=True),  # released uncased vocabulary
    examples=SegmentPairs(
        short=0.1,  # released code, create_pretraining_data.py: short_seq_prob
        random_next=0.5,  # section 3.1, task 2
        copies=10,  # released code, create_pretraining_data.py: dupe_factor
    ),
    model=Encoder(
        layers=12,  # section 3: L=12, H=768, A=12
        hidden=768,
        attention=Softmax(heads=12, dropout=0.1),  # appendix A.2: dropout 0.1 on all layers
        feedforward=Dense(size=3072),  # section 3: 4H; appendix A.2: GELU
        embedding=Embedding(segments=2, dropout=0.1),
        pooler=Pooler(),
        dropout=0.1,
        init_std=0.02,  # released code, modeling.py: initializer_range
    ),
    objectives=(Masked(), NextSentence()),  # section 3.1: 15 %, of these 80/10/10; the sum of the two mean losses
    optimizer=AdamW(
        lr=1e-4,  # appendix A.2
        betas=(0.9, 0.999),  # appendix A.2
        eps=1e-6,  # released code, optimization.py
        weight_decay=0.01,  # appendix A.2
        clip_norm=1.0,  # released code, optimization.py
        bias_correction=False,  # released code, optimization.py
    ),
    schedule=Linear(warmup=0.01),  # appendix A.2: 10,000 of 1,000,000 steps
    stages=(
        Stage(share=0.9, max_length=128, batch=256, micro_batch=64),  # appendix A.2: 90 % of the steps at length 128
        Stage(share=0.1, max_length=512, batch=256, micro_batch=16),
    ),
    budget=Budget(amount=1_000_000, unit="steps"),  # appendix A.2
    finetuning=FineTuning(
        optimizer=AdamW(lr=3e-5, eps=1e-6, weight_decay=0.01, clip_norm=1.0, bias_correction=False),  # appendix A.3: 5e-5, 3e-5, 2e-5
        schedule=Linear(warmup=0.1),  # released code, run_classifier.py: warmup_proportion
        epochs=3,  # appendix A.3: 2, 3, 4
        batch=32,  # appendix A.3: 16, 32
        max_length=128,  # released code, run_classifier.py: max_seq_length
    ),
)
