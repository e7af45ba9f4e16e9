"""DistilBERT: half of BERT's layers, which BERT itself teaches (Sanh et al. 2019, arXiv:1910.01108).

"Released code" is huggingface/transformers, examples/research_projects/distillation. The teacher that a run is given
(`--teacher MODEL`) takes the place of the one named here, and the student starts from it: embeddings and every other
layer. `distilbert/mini` and `distilbert/tiny` are ours, not published: half of `bert/mini` and of `bert/tiny`.

Deviations: layers drop out both sub-layers' outputs, as BERT's do, where released code leaves out attention's; and
position vectors learn, which its configuration (sinusoidal_pos_embds) keeps as the teacher's are. The rows of ours mask
all tokens alike, as `bert/mini` does.
"""

from dataclasses import replace

from genus.examples.formats.sentences import DocSentences
from genus.model.activation import Relu
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.initialization import Normal
from genus.model.pooler import Pooler
from genus.model.transformer import Transformer
from genus.objectives.masking.rare import RareMasking
from genus.objectives.pretraining.distillation import DistilledMaskedLM, Teacher
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.recipes import bert
from genus.stages import Stage
from genus.tokens.algorithms.wordpiece import WordPiece

ENCODER = Transformer(
    layers=6,  # section 3: half of the teacher's
    hidden=768,  # section 3: as the teacher
    attention=MultiHeadAttention(heads=12, dropout=0.1),  # released code, training_configs/distilbert-base-uncased.json
    feedforward=MLP(size=3072),  # as above
    embedding=Embedding(segments=0, dropout=0.1),  # section 3: no token-type embeddings; dropout as above
    dropout=0.1,  # as above
    initialization=Normal(std=0.02),  # as above
)

BASE = Recipe(
    name="distilbert/base",
    published=Published(
        title="DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter",
        paper="arXiv:1910.01108",
        year=2019,
        parameters=66_000_000,  # table 3
        data="English Wikipedia and Toronto Book Corpus, as BERT",  # section 3
    ),
    tokens=WordPiece(vocab_size=30_522, lowercase=True),  # the teacher's
    examples=DocSentences(),  # section 3: no next sentences; released code, README: several coherent sentences
    model=ENCODER,
    objectives=(
        DistilledMaskedLM(
            masking=RareMasking(rate=0.15, smoothing=0.7),  # released code, train.py: mlm_mask_prop, mlm_smoothing
            teacher=Teacher(model=bert.BASE.model),
            compared="all",  # released code, README: without --restrict_ce_to_mask
            temperature=2.0,  # released code, train.py
            distilled=5.0,  # released code, README: alpha_ce on one GPU; its command for four has 0.33 for all three
            masked=2.0,  # released code, README: alpha_mlm on one GPU
            hidden_cosine=1.0,  # released code, README: alpha_cos on one GPU
        ),
    ),
    optimizer=AdamW(
        lr=5e-4,  # released code, train.py
        betas=(0.9, 0.98),  # released code, distiller.py
        eps=1e-6,  # released code, train.py
        weight_decay=0.0,  # released code, train.py
        clip_norm=5.0,  # released code, train.py
    ),
    schedule=Linear(warmup=0.05),  # released code, train.py
    stages=(
        Stage(
            max_length=512,  # released code, train.py: the teacher's longest
            batch=4_000,  # section 3: up to 4k by accumulation
            micro_batch=5,  # released code, train.py
        ),
    ),
    budget=Budget(amount=3, unit="epochs"),  # released code, train.py
    finetuning=FineTuning(
        optimizer=AdamW(  # the rate: ours, as for BERT; the rest: huggingface/transformers, examples/run_glue.py
            lr=3e-5, eps=1e-8, weight_decay=0.0, clip_norm=1.0
        ),
        schedule=Linear(warmup=0.0),  # huggingface/transformers, examples/run_glue.py
        epochs=3,  # huggingface/transformers, examples/run_glue.py
        batch=32,  # ours, as for BERT
        max_length=128,  # huggingface/transformers, examples/run_glue.py
        pooler=Pooler(activation=Relu()),  # huggingface/transformers, modeling_distilbert.py: pre_classifier
        dropout=0.2,  # huggingface/transformers, configuration_distilbert.py: seq_classif_dropout
    ),
)

BASE_CASED = replace(
    BASE,
    name="distilbert/base-cased",
    published=replace(BASE.published, parameters=65_000_000),  # released code, README
    tokens=bert.BASE_CASED.tokens,
)

BASE_MULTILINGUAL_CASED = replace(
    BASE,
    name="distilbert/base-multilingual-cased",
    published=replace(
        BASE.published,
        parameters=134_000_000,  # released code, README
        data="Wikipedia in 104 languages",  # released code, README
    ),
    tokens=bert.BASE_MULTILINGUAL_CASED.tokens,
)

MINI = replace(
    BASE,
    name="distilbert/mini",
    published=replace(BASE.published, parameters=None),  # ours, and so is every number of this row
    model=replace(
        ENCODER,
        layers=2,  # ours: half of bert/mini
        hidden=256,
        attention=MultiHeadAttention(heads=4, dropout=0.0),
        feedforward=MLP(size=1024),
        embedding=Embedding(segments=0, dropout=0.0),
        dropout=0.0,
    ),
    objectives=(
        DistilledMaskedLM(teacher=Teacher(model=bert.MINI.model), compared="masked"),
    ),  # ours: a seventh of the logits
    optimizer=AdamW(lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0, clip_norm=5.0),  # ours: as bert/mini
    schedule=Linear(warmup=0.1),  # ours
    stages=bert.MINI.stages,
    budget=bert.MINI.budget,
    finetuning=replace(
        BASE.finetuning,
        optimizer=AdamW(lr=1e-4, eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # ours: as bert/mini
        epochs=4,  # ours
    ),
)

TINY = replace(
    MINI,
    name="distilbert/tiny",
    model=replace(
        ENCODER,
        layers=1,  # ours: half of bert/tiny
        hidden=128,
        attention=MultiHeadAttention(heads=2, dropout=0.0),
        feedforward=MLP(size=512),
        embedding=Embedding(segments=0, dropout=0.0),
        dropout=0.0,
    ),
    objectives=(DistilledMaskedLM(teacher=Teacher(model=bert.TINY.model), compared="masked"),),
)
