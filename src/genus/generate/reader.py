"""The forward passes of generation: logits of the next token, by a key-value cache where the model has one."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch

from genus.batch import IGNORE, Batch, Packed, Targets
from genus.errors import GenusError
from genus.model.cpu import without_onednn
from genus.objectives import device_of
from genus.train.precision import autocast, kept_format

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from genus.model import Model
    from genus.model.cache import Cache
    from genus.objectives import Head, Learner, Prediction


WRITING: tuple[Prediction, ...] = ("following", "written")
"""How heads predict that write texts."""


def writing(learner: Learner) -> tuple[Learner, str] | None:
    """Return the learner and the name of the head that predicts the next token; None: there is none."""
    return learner.predicting(*WRITING)


class Reader:
    """Reads texts in slots, token by token, and tells what may follow.

    A network without a key-value cache reads each text anew at every step.
    """

    def __init__(
        self,
        learner: Learner,
        model: Model,
        entries: int,
        precision: str = "float32",
        *,
        sources: int = 0,
        ways: tuple[Prediction, ...] = WRITING,
    ) -> None:
        """Make room for the texts.

        Args:
            learner: with a head that predicts the next token; on its device.
            model: the learner's.
            entries: the most tokens of all texts together.
            precision: of the forward pass, and of the cache.
            sources: the most tokens of all sources together, for a model that reads them.
            ways: how the head predicts that tells what follows: by default, a text.

        Raises:
            GenusError: the model does not predict the next token.
        """
        self.precision, self.device = precision, device_of(learner)
        self.facts = model.facts
        found = learner.predicting(*ways)
        if found is None:
            raise GenusError("this model does not predict the next token, so it cannot generate; take one that was "
                             "pretrained with CausalLM, such as gpt2 or llama")  # fmt: skip
        self.learner, self.name = found
        self.head = cast("Head", self.learner.heads[self.name])
        dtype = kept_format(learner, precision)
        self.cache = learner.network.cache(entries, dtype=dtype)
        self.source_cache: Cache | None = None
        if self.cache is not None and "source" in model.streams:
            self.source_cache = learner.network.cache(sources, cross=True, dtype=dtype)
        self.entries = entries
        self.texts: dict[int, list[int]] = {}
        """Without a cache: what each text has so far, by slot."""
        self.prompts: dict[int, int] = {}
        """Without a cache: the number of tokens of each text's prompt, by slot."""
        self.sources: dict[int, list[int]] = {}
        """The source of each text, by slot; with a cache, of those that are not read yet."""
        self.capacities: dict[int, int] = {}

    def room(self, capacity: int, source: int = 0) -> bool:
        """Return whether another text of so many tokens has room, and its source."""
        if self.cache is None:
            return sum(self.capacities.values()) + capacity <= self.entries
        return self.cache.room(capacity) is not None and (
            self.source_cache is None or self.source_cache.room(source) is not None
        )

    def open(self, slot: int, capacity: int, source: Sequence[int] = ()) -> None:
        """Begin a text of at most so many tokens, which has a source where the model reads one."""
        if source:
            self.sources[slot] = list(source)
        if self.cache is None:
            self.texts[slot], self.prompts[slot], self.capacities[slot] = [], 0, capacity
            return
        self.cache.open(slot, capacity)
        if self.source_cache is not None:
            self.source_cache.open(slot, len(source))

    def close(self, slot: int) -> None:
        """End a text; others can take its place."""
        self.sources.pop(slot, None)
        if self.cache is None:
            del self.texts[slot], self.prompts[slot], self.capacities[slot]
            return
        self.cache.close(slot)
        if self.source_cache is not None:
            self.source_cache.close(slot)

    def read(self, new: Mapping[int, Sequence[int]]) -> Tensor:
        """Read further tokens of texts, by slot; return the logits (S, V) of what follows each, in the same order."""
        streams, given = self._cached(new) if self.cache is not None else (self._anew(new), {})
        packed = streams["tokens"]
        index = packed.offsets[1 : len(new) + 1].long() - 1
        targets = Targets(index, torch.full_like(index, IGNORE))
        batch = Batch(streams, {self.head.target: targets}, frozenset({self.name}))
        single = packed.row_length == 1 and "source" not in streams
        with without_onednn() if single else nullcontext(), autocast(self.precision, self.device):
            return self.learner.outputs(batch, rounded=True, **given)[self.name]["logits"]

    def _cached(self, new: Mapping[int, Sequence[int]]) -> tuple[dict[str, Packed], dict[str, Cache]]:
        """Return the new tokens, and the sources that are not read yet; and the caches of both."""
        assert self.cache is not None
        streams, given = {"tokens": self.cache.packed(new, self.facts)}, {"cache": self.cache}
        if self.source_cache is not None:
            given["source_cache"] = self.source_cache
            if sources := {slot: self.sources.pop(slot) for slot in new if slot in self.sources}:
                streams["source"] = self.source_cache.packed(sources, self.facts)
        return streams, given

    def _anew(self, new: Mapping[int, Sequence[int]]) -> dict[str, Packed]:
        """Return whole texts, with the new tokens at their ends, and their sources."""
        for slot, ids in new.items():
            self.prompts[slot] = self.prompts[slot] or len(ids)
            self.texts[slot] += ids
        streams = {"tokens": [self.texts[slot] for slot in new]}
        if self.sources:
            streams["source"] = [self.sources[slot] for slot in new]
        prompts = [self.prompts[slot] for slot in new]
        return {name: _packed(texts, prompts, self.facts).to(self.device) for name, texts in streams.items()}

    def reorder(self, parents: Mapping[int, int]) -> None:
        """Replace texts by copies of others: parent by slot."""
        if self.cache is None:
            self.texts |= {slot: list(self.texts[parent]) for slot, parent in parents.items()}
            self.prompts |= {slot: self.prompts[parent] for slot, parent in parents.items()}
            self.sources |= {slot: self.sources[parent] for slot, parent in parents.items() if parent in self.sources}
            return
        self.cache.reorder(parents)
        if self.source_cache is not None:
            self.source_cache.share(parents)


def _packed(texts: Sequence[Sequence[int]], prompts: Sequence[int], facts: frozenset[str]) -> Packed:
    """Return whole texts as one row of packed sequences, with facts that are 0 but for `prefix` of prompts."""
    ids = torch.tensor([one for ids in texts for one in ids])
    found = Packed.laid(ids, [[len(text) for text in texts]], len(ids), {name: torch.zeros_like(ids) for name in facts})
    if "prefix" not in facts:
        return found
    lengths = torch.tensor([number for number, text in zip(prompts, texts, strict=True) for _ in text])
    return replace(found, facts={**found.facts, "prefix": (found.positions < lengths).long()})
