"""Random Hugging Face models of several shapes, their tokenizers, and the same sequences padded and packed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from genus.examples import Example, Sequence
from genus.examples.pack import pack
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from genus.batch import Batch
    from genus.objectives import Learner

transformers = pytest.importorskip("transformers")

LENGTHS = (12, 5, 9, 3, 7)
SPECIAL = 5
"""Special tokens come first, in the order of BERT's or of RoBERTa's; RoBERTa's mask is last."""


@dataclass(frozen=True)
class Shape:
    kind: str
    layers: int
    hidden: int
    heads: int
    inner: int
    vocab: int
    positions: int
    activation: str
    segments: int
    eps: float

    def config(self, **more: Any) -> Any:
        make = {"bert": transformers.BertConfig, "roberta": transformers.RobertaConfig}[self.kind]
        return make(
            num_hidden_layers=self.layers,
            hidden_size=self.hidden,
            num_attention_heads=self.heads,
            intermediate_size=self.inner,
            vocab_size=self.vocab,
            max_position_embeddings=self.positions + (2 if self.kind == "roberta" else 0),
            hidden_act=self.activation,
            type_vocab_size=self.segments,
            layer_norm_eps=self.eps,
            **more,
        )


BERT = [
    Shape("bert", 1, 8, 1, 16, 30, 12, "gelu", 2, 1e-12),
    Shape("bert", 2, 24, 3, 40, 101, 40, "gelu_new", 2, 1e-12),
    Shape("bert", 3, 32, 4, 96, 64, 16, "relu", 3, 1e-6),
]
ROBERTA = [
    Shape("roberta", 1, 8, 2, 16, 261, 12, "gelu", 1, 1e-5),
    Shape("roberta", 2, 24, 3, 40, 300, 40, "gelu_new", 2, 1e-5),
    Shape("roberta", 3, 32, 8, 96, 280, 16, "relu", 1, 1e-12),
]


def build(shape: Shape, architecture: str, seed: int = 0, **more: Any) -> Any:
    """Return a model in which every parameter is random, biases and norms too, so that no wrong name goes unseen."""
    torch.manual_seed(seed)
    model = getattr(transformers, architecture)(shape.config(**more)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.2)
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.add_(1)
    return model


def write_tokenizer(folder: Path, kind: str, size: int) -> None:
    """Write the legacy vocabulary files of a tokenizer with as many pieces."""
    folder.mkdir(exist_ok=True)
    if kind == "bert":
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"p{number}" for number in range(size - 5))]
        (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
        return
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *letters]
    merges = [("a", letter) for letter in letters][: size - len(pieces) - 1]
    pieces += ["".join(merge) for merge in merges] + ["<mask>"]
    (folder / "vocab.json").write_text(json.dumps({p: n for n, p in enumerate(pieces)}), encoding="utf-8")
    (folder / "merges.txt").write_text("".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")


def tokenizer(folder: Path, kind: str, size: int) -> Tokenizer:
    write_tokenizer(folder, kind, size)
    return Tokenizer.load(folder)


def sequences(shape: Shape, seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(SPECIAL, shape.vocab - 1, length) for length in LENGTHS]


def segments(shape: Shape) -> list[np.ndarray]:
    return [np.arange(length) * shape.segments // length for length in LENGTHS]


def padded(shape: Shape) -> dict[str, torch.Tensor]:
    """Return the sequences as Hugging Face takes them: one a row, padded, with a mask."""
    size = (len(LENGTHS), max(LENGTHS))
    found = {
        "input_ids": torch.full(size, 1 if shape.kind == "roberta" else 0),
        "attention_mask": torch.zeros(size, dtype=torch.int64),
        "token_type_ids": torch.zeros(size, dtype=torch.int64),
    }
    for row, (ids, segment) in enumerate(zip(sequences(shape), segments(shape), strict=True)):
        found["input_ids"][row, : len(ids)] = torch.from_numpy(ids)
        found["attention_mask"][row, : len(ids)] = 1
        found["token_type_ids"][row, : len(ids)] = torch.from_numpy(segment)
    return found


def packed(shape: Shape, targets: list[dict[str, Any]] | None = None) -> Batch:
    """Return the same sequences packed, several a row: 12; 5 and 7; 9 and 3."""
    named = targets or [{} for _ in LENGTHS]
    examples = [
        Example({"tokens": Sequence(ids, segment, np.zeros(len(ids), dtype=bool))}, given)
        for ids, segment, given in zip(sequences(shape), segments(shape), named, strict=True)
    ]
    return pack([[examples[0]], [examples[1], examples[4]], [examples[2], examples[3]]], max(LENGTHS), 0)


PLACES = {0: 0, 1: 12, 4: 17, 2: 24, 3: 33}
"""Where each sequence begins on the packed axis."""


def in_order(values: torch.Tensor) -> torch.Tensor:
    """Return values of the packed axis sequence by sequence, in the order of `LENGTHS`, without the dead cells."""
    return torch.cat([values[PLACES[n] : PLACES[n] + length] for n, length in enumerate(LENGTHS)])


def first(values: torch.Tensor) -> torch.Tensor:
    """Return values of the packed axis at the first token of each sequence, in the order of `LENGTHS`."""
    return values[[PLACES[n] for n in range(len(LENGTHS))]]


def live(values: torch.Tensor) -> torch.Tensor:
    """Return padded values (B, L, ...) without the padding, sequence by sequence."""
    return torch.cat([values[n, :length] for n, length in enumerate(LENGTHS)])


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference over the largest number expected."""
    assert found.shape == expected.shape
    found, expected = found.detach(), expected.detach()
    return float((found - expected).abs().max() / expected.abs().max())


def gradients(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}
