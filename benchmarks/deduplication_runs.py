"""What one process does for `deduplication.py`: the corpora, or one pretraining and what the model has by heart."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from memorization_runs import beginning, cleaned, held_out, memorized, pretrained, write_lines

from genus.export.folder import load
from genus.text import read_documents
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import Recipe

SHORTEST, LONGEST = 1_000, 4_000
"""Bytes of documents that are copied."""


@dataclass(frozen=True)
class Corpora:
    """The text with copies in it, the same without, and text of which nothing is in either."""

    source: Path
    folder: Path
    size: int
    """Bytes of the text before copies."""
    share: float
    """Of the text with copies that is copies."""
    copies: int
    """Of each document that is copied."""
    held_out: int
    """Documents."""

    def __call__(self) -> dict[str, Any]:
        """Write them, and return their sizes and what was removed."""
        kept, rest = beginning(self.source, self.size, self.held_out)
        total = sum(len(text.encode()) for text in kept)
        draw = random.Random(0)
        fitting = [text for text in kept if SHORTEST <= len(text.encode()) <= LONGEST] or kept
        wanted, copied, put = self.share / (1 - self.share) * total, 0, list[str]()
        for text in draw.sample(fitting, len(fitting)):
            if copied >= wanted:
                break
            put += [text] * self.copies
            copied += self.copies * len(text.encode())
        mixed = kept + put
        draw.shuffle(mixed)
        write_lines(self.folder / "before.jsonl", mixed)
        write_lines(self.folder / "held-out.jsonl", rest)
        report = cleaned(self.folder / "before.jsonl", self.folder / "after")
        write_lines(self.folder / "after.jsonl", [*read_documents([self.folder / "after"])])
        told = {name: report[name] for name in ("read", "kept", "facts")}
        return {**told, "copied_documents": len(put) // self.copies, "copied_bytes": copied, "held_out": len(rest)}


@dataclass(frozen=True)
class Trained:
    """One pretraining, and what is measured of the model."""

    recipe: Recipe
    words: Path
    """Holds the tokenizer and the token store of its text."""
    texts: Path
    """Holds `held-out.jsonl`."""
    folder: Path
    samples: int
    """Texts that are generated."""
    tokens: int
    """Of each of them."""

    def __call__(self) -> dict[str, Any]:
        """Return what was reached."""
        progress = pretrained(self.recipe, self.words, self.folder)
        model, begun = load(self.folder / "model"), time.monotonic()
        return {
            "pretraining": progress,
            "memorized": memorized(model, self.words, self.samples, self.tokens, self.recipe.seed),
            "held_out": held_out(model, self.texts / "held-out.jsonl"),
            "seconds": time.monotonic() - begun,
            "surroundings": surroundings(torch.device("cpu")),
        }
