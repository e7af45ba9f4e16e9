"""Conventions that Hugging Face's classes share: names of activations, labels, fine-tuning and pretraining heads."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from genus.export.layouts import HeadLayout, Setting
from genus.export.layouts.maps import Map, Stack, Transpose
from genus.model.activation import Activation, Gelu, QuickGelu, Relu, Silu, Tanh
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.objectives.supervised.multi_label import MultiLabelClassification
from genus.objectives.supervised.sequence import SequenceClassification, SequenceRegression
from genus.objectives.supervised.span_extraction import SpanExtraction
from genus.objectives.supervised.token import TokenClassification

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

    from genus.export.layouts.maps import Table
    from genus.model.head.lm_head import LMHead
    from genus.objectives import Objective
    from genus.part import Json

ACTIVATIONS: dict[str, Activation] = {
    "gelu": Gelu(),
    "gelu_new": Gelu(approximate="tanh"),
    "gelu_pytorch_tanh": Gelu(approximate="tanh"),
    "quick_gelu": QuickGelu(),
    "relu": Relu(),
    "silu": Silu(),
    "swish": Silu(),
    "tanh": Tanh(),
}
"""Activations by Hugging Face's name; of two names for one function the first is written."""


def write_activation(value: Json) -> str:
    """Return Hugging Face's name of an activation, given as JSON."""
    names = {str(activation.to_json()): name for name, activation in reversed(ACTIVATIONS.items())}
    return names[str(value)]


def read_activation(name: str) -> Json:
    """Return the activation of a Hugging Face name, as JSON."""
    return ACTIVATIONS[name].to_json()


def write_labels(labels: list[str]) -> dict[str, str]:
    """Return `id2label`, with label indices as strings, as in JSON."""
    return {str(number): label for number, label in enumerate(labels)}


def read_labels(id2label: dict[Any, str]) -> list[str]:
    """Return the labels in the order of their indices."""
    return [id2label[key] for key in sorted(id2label, key=int)]


def only(expected: Any) -> Callable[[Any], Any]:
    """Return a reader that accepts only the expected value; architectures with other values are not supported."""

    def read(value: Any) -> Any:
        if value != expected:
            raise LookupError(value)
        return value

    return read


def activation(*paths: str, key: str = "hidden_act") -> Setting:
    """Return the setting of an activation key for the choices at these paths."""
    return Setting(key, paths, write_activation, read_activation)


SEQUENCE_HEADS = ("sequence_classification", "multi_label_classification", "sequence_regression")
"""The heads of `...ForSequenceClassification`, which `problem_type` tells apart."""
LABELS = Setting(
    "id2label",
    ("sequence_classification.labels", "multi_label_classification.labels", "token_classification.labels"),
    write_labels,
    read_labels,
)
THRESHOLDS = Setting("multi_label_thresholds", ("multi_label_classification.thresholds",))
"""A key of genus: the probability over which each label is told. Folders that transformers writes again keep it."""
POSITIONS = Setting("max_position_embeddings", ("model.embedding.position.length",))


def without(settings: Iterable[Setting], *keys: str) -> tuple[Setting, ...]:
    """Return the settings without those of the given keys."""
    return tuple(setting for setting in settings if setting.key not in keys)


def under(prefix: str, table: Table) -> dict[str, Map | tuple[str, ...]]:
    """Return a table with a prefix before all Hugging Face names."""
    return {ours: row.under(prefix) if isinstance(row, Map) else _under(prefix, row) for ours, row in table.items()}


def _under(prefix: str, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(prefix + name for name in names)


POOLER = frozenset({"pooler"})
SEQUENCE_DROPOUT = tuple(f"{head}.dropout" for head in SEQUENCE_HEADS)
CLASSIFIER_DROPOUT = Setting("classifier_dropout", (*SEQUENCE_DROPOUT, "token_classification.dropout"))
"""Dropout of the input of the last layer, of whichever of these heads there are."""
CLASSIFY = {"problem_type": "single_label_classification"}
LABEL = {"problem_type": "multi_label_classification"}
REGRESS = {
    "problem_type": "regression",
    "id2label": {"0": "LABEL_0"},
    "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"},
}
"""The last says that `CrossEncoder` gives the number itself, where it would take the sigmoid of a single output."""


def masked_head(tokens: str, dense: str, norm: str, objective: MaskedLM | None = None) -> HeadLayout:
    """Return the layout of a masked language model head from the names of its output bias, dense layer and norm."""
    return HeadLayout(
        objective=objective or MaskedLM(),
        tensors={
            "heads.masked_lm.lm_head": (tokens,),
            "heads.masked_lm.lm_head.transform.dense": (dense,),
            "heads.masked_lm.lm_head.transform.norm": (norm,),
        },
        free=frozenset({"masking"}),
    )


def causal_head(output: LMHead, tensors: Table = MappingProxyType({})) -> HeadLayout:
    """Return the layout of a causal language model head; without tensors, its matrix is the token embedding."""
    return HeadLayout(objective=CausalLM(output=output), tensors=tensors)


def fused(theirs: str) -> Map:
    """Return the row of queries, keys and values that are one matrix (inputs, outputs) of Hugging Face's `Conv1D`."""
    ours = tuple(f"network.layers.{{}}.attention.{one}" for one in ("query", "key", "value"))
    return Map(ours, (theirs,), Stack().then(Transpose()))


def transposed(ours: str, theirs: str) -> Table:
    """Return the row of a linear layer whose matrix is (inputs, outputs), as in Hugging Face's `Conv1D`."""
    return {ours: Map((ours,), (theirs,), Transpose())}


def pooled_head(objective: Objective, classes: str) -> HeadLayout:
    """Return the layout of a pretraining head over the pooled first token, by the name of its linear layer."""
    return HeadLayout(objective=objective, tensors={f"heads.{objective.name}.classes": (classes,)}, needs=POOLER)


def both_sides(*choices: str) -> tuple[str, ...]:
    """Return the paths of choices in the encoder and the decoder of an encoder-decoder."""
    return tuple(f"model.{side}.{choice}" for choice in choices for side in ("encoder", "decoder"))


def sequence_heads(
    classes: str,
    rows: Table = MappingProxyType({}),
    *,
    only: Json | None = None,
    settings: tuple[Setting, ...] = (),
    free: frozenset[str] = frozenset(),
    needs: frozenset[str] = POOLER,
    repeated: bool = False,
) -> dict[str, HeadLayout]:
    """Return the layouts of `...ForSequenceClassification` heads: of one label, of several, and of regression.

    Args:
        classes: the name of the linear output layer.
        rows: rows of network modules that the Hugging Face class has in its head.
        only: configuration entries that the heads require.
        settings: additional settings of the network.
        free: choices that are not stored in a folder.
        needs: choices of the model that must not be null.
        repeated: whether encoder and decoder read each text.
    """
    kinds: tuple[tuple[Objective, Json], ...] = (
        (SequenceClassification(labels=(), repeated=repeated), CLASSIFY),
        (MultiLabelClassification(labels=(), repeated=repeated), LABEL),
        (SequenceRegression(repeated=repeated), REGRESS),
    )

    def kind(config: Json, tensors: Mapping[str, Tensor]) -> str:
        """Return the head that `problem_type` means; where it is missing, one output is a regression's."""
        problem = config.get("problem_type")
        if problem == "regression" or (problem is None and len(tensors[f"{classes}.weight"]) == 1):
            return "sequence_regression"
        several = problem == "multi_label_classification"
        return "multi_label_classification" if several else "sequence_classification"

    def told(name: str) -> Callable[[Json, Mapping[str, Tensor]], bool]:
        return lambda *given: kind(*given) == name

    of_labels = {"multi_label_classification": (THRESHOLDS,)}
    return {
        objective.name: HeadLayout(
            objective=objective,
            tensors={**rows, f"heads.{objective.name}.classes": (classes,)},
            constants=constants,
            only=only or {},
            settings=(*settings, *of_labels.get(objective.name, ())),
            free=free | {"texts"},
            needs=needs,
            tells=told(objective.name),
        )
        for objective, constants in kinds
    }


def last_token_heads() -> dict[str, HeadLayout]:
    """Return the layouts of decoders' `...ForSequenceClassification`: a layer without bias on the last token."""
    return {
        name: replace(
            head,
            objective=head.objective.overlay({"bias": False, "dropout": 0.0}),
            free=head.free | {"dropout"},
            needs=frozenset(),
        )
        for name, head in sequence_heads("score").items()
    }


def word_head(free: frozenset[str] = frozenset()) -> dict[str, HeadLayout]:
    """Return the layout of the `...ForTokenClassification` head, in all classes a linear layer over the hidden states.

    Args:
        free: choices that are not stored in a folder, besides the tag of words without a token.
    """
    tensors = {"heads.token_classification.classes": ("classifier",)}
    return {
        "token_classification": HeadLayout(
            objective=TokenClassification(labels=()), tensors=tensors, free=free | {"usual", "texts"}, lacks=POOLER
        )
    }


def span_head(
    rows: Table = MappingProxyType({}),
    *,
    free: frozenset[str] = frozenset({"dropout"}),
    lacks: frozenset[str] = POOLER,
) -> dict[str, HeadLayout]:
    """Return the layout of the `...ForQuestionAnswering` head that is a linear layer over the hidden states.

    Args:
        rows: rows of network modules that have other names in that class.
        free: choices that are not stored in a folder, besides those of windows and answers; the classes have no
            dropout.
        lacks: choices of the model that are null.
    """
    own = frozenset({"stride", "question_length", "answer_length", "null_threshold"})
    return {
        "span_extraction": HeadLayout(
            objective=SpanExtraction(),
            tensors={**rows, "heads.span_extraction.classes": ("qa_outputs",)},
            free=free | own,
            lacks=lacks,
        )
    }


FINE_TUNED: dict[tuple[str, ...], str] = {
    **{(head,): "ForSequenceClassification" for head in SEQUENCE_HEADS},
    ("token_classification",): "ForTokenClassification",
    ("span_extraction",): "ForQuestionAnswering",
}


def architectures(
    stem: str, pretraining: Mapping[tuple[str, ...], str], missing: frozenset[str] = frozenset()
) -> dict[frozenset[str], str]:
    """Return the class names by their sets of heads: pretraining classes, fine-tuning classes, and the bare network.

    Args:
        stem: prefix of the class names.
        pretraining: suffixes of the pretraining class names, by their heads.
        missing: fine-tuning heads for which there is no class.
    """
    kinds = {**pretraining, **FINE_TUNED, (): "Model"}
    return {frozenset(heads): stem + kind for heads, kind in kinds.items() if not missing.intersection(heads)}


def tied_decoder(head: str, prefix: str) -> dict[str, str]:
    """Return the tied weights of a masked language model head: copies of the token embedding and of its own bias."""
    table = f"{prefix}embeddings.word_embeddings.weight"
    return {f"{head}.decoder.weight": table, f"{head}.decoder.bias": f"{head}.bias"}
