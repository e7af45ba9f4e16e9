"""Schema versions: the table of renamed kinds and choices, by which parts in older files are read.

A file has the number of the schema with which it was written; a file without a number has schema 1. A rename of a kind
or of a choice is one line of this table and needs no other code. A new schema is a new entry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Renames:
    """Renames and other changes from one schema to the next."""

    kinds: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """{(slot, old kind): new kind}. Slots have their current names, whatever they were called then."""
    fields: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """{(kind, old name of a choice): new name}. The kind is its old or its new name, or the name of the slot."""
    moves: Mapping[tuple[str, str], Callable[[dict[str, Any]], dict[str, Any]]] = field(default_factory=dict)
    """{(slot, old kind): function} for changes that are not renames. The function gets the table of choices with its
    kind in the old schema, and returns a new table, to which renames are applied afterwards."""


ENDS: Mapping[tuple[Any, Any, Any], tuple[str | None, str | None]] = {
    ("<pad>", "<s>", "</s>"): ("<s>", "</s>"),
    ("<unk>", "<s>", "</s>"): ("<s>", "</s>"),
    ("<pad>", "[CLS]", "[SEP]"): ("[CLS]", "[SEP]"),
    ("<pad>", "<eos>", "<eos>"): (None, "<eos>"),
}
"""`bos` and `eos` tokens of known vocabularies, by their `pad`, `cls` and `sep` tokens."""


def with_ends_and_summary(table: dict[str, Any]) -> dict[str, Any]:
    """Add to special tokens what schema 1 did not state: `summary`, and `bos` and `eos` of known vocabularies."""
    if "summary" in table:
        return table
    first = str(table.get("single", "")).split(" ")[0]
    bos, eos = ENDS.get((table.get("pad"), table.get("cls"), table.get("sep")), (None, None))
    return {**table, "bos": bos, "eos": eos, "summary": "first" if first == table.get("cls") else "last"}


OBJECTIVES = {
    "masked": "masked_lm",
    "next_token": "causal_lm",
    "permuted": "permutation_lm",
    "replaced": "replaced_token_detection",
    "generated": "masked_lm_generator",
    "classify": "sequence_classification",
    "regress": "sequence_regression",
    "tag": "token_classification",
}
"""Names of objectives, by which stages refer to them: in schema 1, and in schema 2."""


def _heads_renamed(table: dict[str, Any]) -> dict[str, Any]:
    """Rename the objectives in a task step of a multi-task stage to their names in schema 2."""
    names = table.get("objectives", ())
    return {**table, "objectives": [OBJECTIVES.get(name, name) for name in names]}


def _with_initialization(table: dict[str, Any]) -> dict[str, Any]:
    """Return a model whose standard deviation of fresh weights is a choice of its initialization."""
    rest = {name: choice for name, choice in table.items() if name != "init_std"}
    std = table.get("init_std")
    return rest if std is None else {**rest, "initialization": {"kind": "Normal", "std": std}}


def _split_transform(table: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a head's choices without those of its transform, and the transform."""
    names = ("activation", "norm")
    rest = {name: choice for name, choice in table.items() if name not in names}
    return rest, {"kind": "Transform", **{name: table[name] for name in names if name in table}}


def _with_transform(table: dict[str, Any]) -> dict[str, Any]:
    """Return a masked language model whose transform is a choice of its output layer."""
    rest, transform = _split_transform(table)
    return {"output": {"kind": "LMHead", "transform": transform}, **rest}


def _with_two_transforms(table: dict[str, Any]) -> dict[str, Any]:
    """Return a span-boundary objective whose maps are its own and its output layer's."""
    rest, transform = _split_transform(table)
    return {"inner": transform, "output": {"kind": "LMHead", "transform": transform}, **rest}


LABELS = {
    "NextSentence": ("SequenceLabels", "next_sentence"),
    "SentenceOrder": ("SequenceLabels", "sentence_order"),
    "SentenceReordering": ("SequenceLabels", "sentence_reordering"),
    "SentenceDistance": ("SequenceLabels", "sentence_distance"),
    "DiscourseRelation": ("SequenceLabels", "discourse_relation"),
    "Relevance": ("SequenceLabels", "relevance"),
    "TokenDocument": ("TokenLabels", "token_document"),
}
"""Kinds of objectives that differed by the labels of a format alone, and the kind and the labels that they are now."""


def _labels(table: dict[str, Any]) -> dict[str, Any]:
    """Return an objective of labels that a format gives."""
    kind, label = LABELS[table["kind"]]
    return {**table, "kind": kind, "label": label}


RENAMES: Mapping[int, Renames] = {
    1: Renames(
        kinds={
            ("Attention", "Alternating"): "AlternatingAttention",
            ("Attention", "BlockSparse"): "BlockSparseAttention",
            ("Attention", "Local"): "ChunkedLocalAttention",
            ("Attention", "LowRank"): "LinformerAttention",
            ("Attention", "Lsh"): "LSHAttention",
            ("Attention", "Relative"): "RelativeAttention",
            ("Attention", "Softmax"): "MultiHeadAttention",
            ("Attention", "TwoStream"): "TwoStreamAttention",
            ("Block", "Unscaled"): "UnscaledPreNorm",
            ("Embedding", "Adaptive"): "AdaptiveEmbedding",
            ("Embedding", "EarlyDropout"): "EarlyDropoutEmbedding",
            ("Embedding", "Factorized"): "FactorizedEmbedding",
            ("Embedding", "Projected"): "ProjectedEmbedding",
            ("FeedForward", "ChunkedDense"): "ChunkedMLP",
            ("FeedForward", "Dense"): "MLP",
            ("GeneratorConfig", "Generator"): "GeneratorConfig",
            ("Model", "Encoder"): "Transformer",
            ("Model", "Extended"): "GlobalTokenTransformer",
            ("Model", "Recurrent"): "SegmentRecurrentTransformer",
            ("Norm", "Dropped"): "NormWithDropout",
            ("Norm", "NoNorm"): "Identity",
            ("Normalization", "ThaiCleaning"): "ThaiNormalization",
            ("Objective", "Classify"): "SequenceClassification",
            ("Objective", "Distilled"): "DistilledMaskedLM",
            ("Objective", "Generated"): "MaskedLMGenerator",
            ("Objective", "MaskedDirect"): "MaskedLM",
            ("Objective", "Masked"): "MaskedLM",
            ("Objective", "NextToken"): "CausalLM",
            ("Objective", "Permuted"): "PermutationLM",
            ("Objective", "Regress"): "SequenceRegression",
            ("Objective", "Replaced"): "ReplacedTokenDetection",
            ("Objective", "Tag"): "TokenClassification",
            ("Position", "Axial"): "AxialPosition",
            ("Position", "Learned"): "LearnedPosition",
            ("SpecialTokens", "Specials"): "SpecialTokens",
            ("Stack", "Reversible"): "ReversibleStack",
            ("Stack", "Separate"): "Unshared",
            ("Stack", "Shared"): "CrossLayerSharing",
            ("Stage", "TurnStage"): "MultiTaskStage",
            ("TargetSelection", "LoneTokens"): "RandomTokens",
            ("TaskStep", "Turn"): "TaskStep",
            ("TokenizerConfig", "SegmentedWords"): "PresegmentedWords",
            ("TokenizerConfig", "SpacelessUnigram"): "UnigramNoSpaces",
            ("TokenizerConfig", "Words"): "WordLevel",
        },
        fields={
            ("BlockSparseAttention", "focus"): "random_block_limit",
            ("BlockSparseAttention", "lead"): "num_global_tokens",
            ("BlockSparseAttention", "random"): "random_blocks",
            ("BlockSparseAttention", "tail"): "num_global_tail_blocks",
            ("BlockSparseAttention", "window"): "window_blocks",
            ("ChunkedAttention", "after"): "chunks_after",
            ("ChunkedAttention", "before"): "chunks_before",
            ("ChunkedAttention", "chunk"): "chunk_length",
            ("ChunkedAttention", "size"): "head_size",
            ("ChunkedLocalAttention", "visibility"): "mask",
            ("ExampleFormat", "copies"): "dupe_factor",
            ("LSHAttention", "across"): "attend_across_buckets",
            ("LSHAttention", "buckets"): "num_buckets",
            ("LSHAttention", "rounds"): "num_hashes",
            ("LSHAttention", "visibility"): "mask",
            ("MultiHeadAttention", "visibility"): "mask",
            ("MultiTaskStage", "turns"): "tasks",
            ("PermutationLM", "partial"): "selection",
            ("PresegmentedWords", "cleaning"): "normalization",
            ("RelativeAttention", "longest"): "clamp_len",
            ("RelativeAttention", "visibility"): "mask",
            ("TokenizerConfig", "specials"): "special_tokens",
            ("UnigramNoSpaces", "cleaning"): "normalization",
        },
        moves={
            ("SpecialTokens", "Specials"): with_ends_and_summary,
            ("Model", "Encoder"): _with_initialization,
            ("Model", "Recurrent"): _with_initialization,
            ("Model", "Extended"): _with_initialization,
            ("TaskStep", "Turn"): _heads_renamed,
            ("Objective", "Masked"): _with_transform,
            ("Objective", "Distilled"): _with_transform,
            ("Teacher", "Teacher"): _with_transform,
            ("Objective", "MaskedDirect"): lambda table: {"output": {"kind": "Untied"}, **table},
            ("Objective", "SpanBoundary"): _with_two_transforms,
            ("Output", "Tied"): lambda table: {
                "kind": "LMHead",
                "bias": "learned" if table.get("bias", True) else "none",
            },
            ("Output", "Untied"): lambda table: {"kind": "LMHead", "tied": False, "bias": "constant"},
            **{("Objective", kind): _labels for kind in LABELS},
        },
    ),
}
"""Changes to the next schema, by the number of the old schema."""

SCHEMA = 1 + max(RENAMES)
"""The current schema number, with which parts are written."""
