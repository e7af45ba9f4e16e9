"""The forward passes of generation: logits of the next token, by a key-value cache where the model has one."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, cast

import torch

from genus.batch import IGNORE, Batch, Packed, Targets
from genus.errors import GenusError
from genus.model.cpu import without_onednn
from genus.objectives import device_of
from genus.train.precision import autocast, number_format

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from genus.model import Model
    from genus.objectives import Head, Learner


class Reader:
    """Reads texts in slots, token by token, and tells what may follow.

    A network without a key-value cache reads each text anew at every step.
    """

    def __init__(self, learner: Learner, model: Model, entries: int, precision: str = "float32") -> None:
        """Make room for the texts.

        Args:
            learner: with a head that predicts the next token; on its device.
            model: the learner's.
            entries: the most tokens of all texts together.
            precision: of the forward pass, and of the cache.

        Raises:
            GenusError: the model does not predict the next token.
        """
        self.precision, self.device = precision, device_of(learner)
        self.facts = model.facts
        found = learner.predicting("following")
        if found is None:
            raise GenusError("this model does not predict the next token, so it cannot generate; take one that was "
                             "pretrained with CausalLM, such as gpt2 or llama")  # fmt: skip
        self.learner, self.name = found
        self.head = cast("Head", self.learner.heads[self.name])
        format = number_format(precision, self.device)
        weights = next(learner.parameters()).dtype
        self.cache = learner.network.cache(entries, dtype=weights if format is torch.float32 else format)
        self.entries = entries
        self.texts: dict[int, list[int]] = {}
        """Without a cache: what each text has so far, by slot."""
        self.capacities: dict[int, int] = {}

    def room(self, capacity: int) -> bool:
        """Return whether another text of so many tokens has room."""
        if self.cache is not None:
            return self.cache.room(capacity) is not None
        return sum(self.capacities.values()) + capacity <= self.entries

    def open(self, slot: int, capacity: int) -> None:
        """Begin a text of at most so many tokens."""
        if self.cache is not None:
            self.cache.open(slot, capacity)
        else:
            self.texts[slot], self.capacities[slot] = [], capacity

    def close(self, slot: int) -> None:
        """End a text; others can take its place."""
        if self.cache is not None:
            self.cache.close(slot)
        else:
            del self.texts[slot], self.capacities[slot]

    def read(self, new: Mapping[int, Sequence[int]]) -> Tensor:
        """Read further tokens of texts, by slot; return the logits (S, V) of what follows each, in the same order."""
        if self.cache is not None:
            packed = self.cache.packed(new, self.facts)
            given = {"cache": self.cache}
        else:
            for slot, ids in new.items():
                self.texts[slot] += ids
            whole = [self.texts[slot] for slot in new]
            packed, given = _packed(whole, self.facts).to(self.device), {}
        index = packed.offsets[1 : len(new) + 1].long() - 1
        targets = Targets(index, torch.full_like(index, IGNORE))
        batch = Batch({"tokens": packed}, {self.head.target: targets}, frozenset({self.name}))
        with without_onednn() if packed.row_length == 1 else nullcontext(), autocast(self.precision, self.device):
            return self.learner.outputs(batch, rounded=True, **given)[self.name]["logits"]

    def reorder(self, parents: Mapping[int, int]) -> None:
        """Replace texts by copies of others: parent by slot."""
        if self.cache is not None:
            self.cache.reorder(parents)
        else:
            self.texts |= {slot: list(self.texts[parent]) for slot, parent in parents.items()}


def _packed(texts: Sequence[Sequence[int]], facts: frozenset[str]) -> Packed:
    """Return whole texts as one row of packed sequences."""
    ids = torch.tensor([one for ids in texts for one in ids])
    zeros = {name: torch.zeros_like(ids) for name in facts}
    return Packed.laid(ids, [[len(text) for text in texts]], len(ids), zeros)
