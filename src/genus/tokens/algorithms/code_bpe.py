"""Byte-level BPE for program text: GPT-2's, with a piece for each run of spaces (Codex)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from genus.part import Natural
from genus.tokens import SpecialTokens  # noqa: TC001  # a choice is read by its annotation
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tokenizers import Tokenizer as Backend

BLANK = "\u0120"
"""The space in the byte-level alphabet."""


class CodeBPE(ByteBPE):
    """Byte-level BPE with a piece for every run of 2 to `space_runs` + 1 spaces (Chen et al. 2021, section 3.2).

    The runs are merges after all others, so that text without them has the ids of `ByteBPE`. As before, the last space
    of a run belongs to the word after it.
    """

    space_runs: Natural = 24
    """Number of lengths of runs that have a piece."""
    special_tokens: SpecialTokens = GPT2

    def __post_init__(self) -> None:
        """Check that the vocabulary has room for all bytes and runs (ValueError)."""
        super().__post_init__()
        replace(self.without_runs(), vocab_size=self.vocab_size - self.space_runs)

    def without_runs(self) -> ByteBPE:
        """Return the tokenizer without pieces for runs of spaces."""
        return ByteBPE(
            vocab_size=self.vocab_size,
            prefix_space=self.prefix_space,
            min_frequency=self.min_frequency,
            special_tokens=self.special_tokens,
            train_on=self.train_on,
            train_seed=self.train_seed,
        )

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Learn the BPE merges from texts, and add those of runs of spaces that are not learned."""
        learned = replace(self.without_runs(), vocab_size=self.vocab_size - self.space_runs).train(texts)
        model = json.loads(learned.backend.to_str())["model"]
        pieces, merges = model["vocab"], [(left, right) for left, right in model["merges"]]
        known = set(merges)
        for length in range(2, self.space_runs + 2):
            pieces.setdefault(BLANK * length, len(pieces))
            pairs = [(BLANK * left, BLANK * (length - left)) for left in range(length - 1, 0, -1)]
            merges += [pair for pair in pairs if pair not in known]
        return Tokenizer.of(self, self.of_vocabulary(pieces, merges))

    @classmethod
    def from_folder(cls, folder: Path, backend: Backend | None) -> tuple[Self, Backend] | None:
        """Return None: a vocabulary with runs of spaces is read as byte-level BPE, which gives the same ids."""
        return None
