"""Hugging Face's BERT classes, from `BertModel` and `BertForPreTraining` to `BertForSequenceClassification`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genus.examples.segment_pairs import SegmentPairs
from genus.export.layouts import HeadLayout, Layout, Setting
from genus.model.activation import Activation, Gelu, Relu, Tanh
from genus.model.attention.softmax import Softmax
from genus.model.embed import Embedding
from genus.model.encoder import Encoder
from genus.model.feedforward import Dense
from genus.model.heads import Pooler
from genus.objectives.masked import Masked
from genus.objectives.next_sentence import NextSentence
from genus.objectives.sequence import Classify, Regress
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget, FineTuning, Published, Recipe, Stage
from genus.tokens.wordpiece import WordPiece

if TYPE_CHECKING:
    from genus.part import Json

ACTIVATIONS: dict[str, Activation] = {
    "gelu": Gelu(),
    "gelu_new": Gelu(approximate="tanh"),
    "gelu_pytorch_tanh": Gelu(approximate="tanh"),
    "relu": Relu(),
    "tanh": Tanh(),
}
"""By Hugging Face's name; of two names for one function the first is written."""


def write_activation(value: Json) -> str:
    """Return the name of an activation, given as JSON."""
    names = {str(activation.to_json()): name for name, activation in reversed(ACTIVATIONS.items())}
    return names[str(value)]


def read_activation(name: str) -> Json:
    """Return the activation of a name, as JSON."""
    return ACTIVATIONS[name].to_json()


def write_labels(labels: list[str]) -> dict[str, str]:
    """Return `id2label`, whose keys are texts in JSON."""
    return {str(number): label for number, label in enumerate(labels)}


def read_labels(id2label: dict[Any, str]) -> list[str]:
    """Return the labels in the order of their numbers."""
    return [id2label[key] for key in sorted(id2label, key=int)]


def write_segments(segments: int) -> int:
    """Return the number of segment vectors, of which these classes want one at least."""
    if segments < 1:
        raise LookupError("no segment vectors")
    return segments


WIDTHS = (
    Setting("num_hidden_layers", ("model.layers",)),
    Setting("hidden_size", ("model.hidden",)),
    Setting("num_attention_heads", ("model.attention.heads",)),
    Setting("intermediate_size", ("model.feedforward.size",)),
    Setting("type_vocab_size", ("model.embedding.segments",), write_segments),
    Setting("attention_probs_dropout_prob", ("model.attention.dropout",)),
    Setting("hidden_dropout_prob", ("model.dropout", "model.embedding.dropout")),
    Setting("layer_norm_eps", ("model.norm.eps", "model.embedding.norm.eps", "masked.norm.eps")),
    Setting("initializer_range", ("model.init_std",)),
    Setting("classifier_dropout", ("classify.dropout", "regress.dropout")),
    Setting("id2label", ("classify.labels",), write_labels, read_labels),
)
"""What BERT and the architectures made of its parts write alike."""

LAYERS = {
    "network.layers.{}.attention.qkv": (
        "encoder.layer.{}.attention.self.query",
        "encoder.layer.{}.attention.self.key",
        "encoder.layer.{}.attention.self.value",
    ),
    "network.layers.{}.attention.out": ("encoder.layer.{}.attention.output.dense",),
    "network.layers.{}.attention_norm": ("encoder.layer.{}.attention.output.LayerNorm",),
    "network.layers.{}.feedforward.inner": ("encoder.layer.{}.intermediate.dense",),
    "network.layers.{}.feedforward.out": ("encoder.layer.{}.output.dense",),
    "network.layers.{}.feedforward_norm": ("encoder.layer.{}.output.LayerNorm",),
    "network.embed.tokens": ("embeddings.word_embeddings",),
    "network.embed.positions.table": ("embeddings.position_embeddings",),
    "network.embed.segments": ("embeddings.token_type_embeddings",),
    "network.embed.norm": ("embeddings.LayerNorm",),
    "network.pooler.0": ("pooler.dense",),
}
"""The network's rows, less the prefix."""


def under(prefix: str, table: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return a table with a prefix before all foreign names."""
    return {ours: tuple(prefix + name for name in names) for ours, names in table.items()}


POOLER = frozenset({"pooler"})
CLASSIFY = {"problem_type": "single_label_classification"}
REGRESS = {"problem_type": "regression", "id2label": {"0": "LABEL_0"}}

LAYOUT = Layout(
    model_type="bert",
    prefix="bert.",
    template=Recipe(
        name="bert/imported",
        published=Published(title="BERT", paper="arXiv:1810.04805", year=2018),
        tokens=WordPiece(vocab_size=30_522, lowercase=True),
        examples=SegmentPairs(short=0.1, random_next=0.5),
        model=Encoder(
            layers=12,
            hidden=768,
            attention=Softmax(heads=12),
            feedforward=Dense(size=3072),
            embedding=Embedding(segments=2),
            pooler=Pooler(),
        ),
        objectives=(Masked(), NextSentence()),
        # Ours, for further pretraining: half the peak rate, a tenth of the rows' number of steps.
        optimizer=AdamW(lr=5e-5, eps=1e-6, weight_decay=0.01, clip_norm=1.0),
        schedule=Linear(warmup=0.05),
        stages=(Stage(max_length=128, batch=256, micro_batch=32),),
        budget=Budget(amount=10_000, unit="steps"),
        finetuning=FineTuning(
            optimizer=AdamW(lr=3e-5, eps=1e-6, weight_decay=0.01, clip_norm=1.0),
            schedule=Linear(warmup=0.1),
            epochs=3,
            batch=32,
        ),
    ),
    settings=(
        *WIDTHS,
        Setting("max_position_embeddings", ("model.embedding.position.length",)),
        Setting("hidden_act", ("model.feedforward.activation", "masked.activation"), write_activation, read_activation),
    ),
    tensors=under("bert.", LAYERS),
    optional={"pooler": "network.pooler.0"},
    heads={
        "masked": HeadLayout(
            objective=Masked(),
            tensors={
                "heads.masked.tokens": ("cls.predictions",),
                "heads.masked.tokens.dense": ("cls.predictions.transform.dense",),
                "heads.masked.tokens.norm": ("cls.predictions.transform.LayerNorm",),
            },
            free=frozenset({"masking"}),
        ),
        "next_sentence": HeadLayout(
            objective=NextSentence(),
            tensors={"heads.next_sentence.classes": ("cls.seq_relationship",)},
            needs=POOLER,
        ),
        "classify": HeadLayout(
            objective=Classify(labels=()),
            tensors={"heads.classify.classes": ("classifier",)},
            constants=CLASSIFY,
            needs=POOLER,
        ),
        "regress": HeadLayout(
            objective=Regress(),
            tensors={"heads.regress.classes": ("classifier",)},
            constants=REGRESS,
            needs=POOLER,
        ),
    },
    architectures={
        frozenset({"masked", "next_sentence"}): "BertForPreTraining",
        frozenset({"masked"}): "BertForMaskedLM",
        frozenset({"next_sentence"}): "BertForNextSentencePrediction",
        frozenset({"classify"}): "BertForSequenceClassification",
        frozenset({"regress"}): "BertForSequenceClassification",
        frozenset(): "BertModel",
    },
    tied={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
)
