"""What one process does for `deduplication.py`: the corpora, or one pretraining and what the model has by heart."""

from __future__ import annotations

import json
import random
import shutil
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genus import pipeline
from genus.curate import Curation
from genus.curate.engines.local import LocalProcesses
from genus.curate.exact_substrings import ExactSubstrings
from genus.curate.near_duplicates import NearDuplicates
from genus.curate.run import Cleaning, fields_of
from genus.curate.run_hashes import FACTORS, hashes, repeats, spread
from genus.errors import GenusError
from genus.evaluate.likelihood import log_likelihoods
from genus.export.folder import load
from genus.files import write_text
from genus.generate import Request
from genus.generate.engine import Engine
from genus.generate.sampling import Sampling
from genus.text import read_documents
from genus.tokens.store import Store
from genus.train.provenance import surroundings
from genus.train.run import Run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.recipe import Recipe

MEMORIZED = 50
"""Tokens in a row that stand so in the text that was trained on (Lee et al. 2021, section 6.2)."""
TOP_K = 50
"""Of the sampling without a prompt (ibid.)."""
SHORTEST, LONGEST = 1_000, 4_000
"""Bytes of documents that are copied."""
OPENING = 400
"""Characters of a held-out document whose likelihood is measured: what the positions have room for."""


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
        kept, rest, total = list[str](), list[str](), 0
        for text in read_documents([self.source]):
            if total < self.size:
                kept.append(text)
                total += len(text.encode())
            elif len(rest) < self.held_out:
                rest.append(text)
            else:
                break
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
        _write(self.folder / "before.jsonl", mixed)
        _write(self.folder / "held-out.jsonl", rest)
        curation = Curation(steps=(NearDuplicates(), ExactSubstrings()))
        out = self.folder / "after"
        shutil.rmtree(out, ignore_errors=True)
        cleaning = Cleaning(
            curation,
            [self.folder / "before.jsonl"],
            out,
            fields_of("text", ()),
            "none",
            engine=LocalProcesses(workers=1),
        )
        report = cleaning.run()
        _write(self.folder / "after.jsonl", [*read_documents([out])])
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
        run = Run(device="cpu", workers=0, checkpoint_every=500, keep=1, tracker="none")
        summary = pipeline.pretrain(
            self.recipe, [self.words / "store"], self.folder, run, words=self.words / "tokenizer", resume=True
        )
        if summary.stopped:
            raise GenusError("stopped; the same command goes on")
        model = load(self.folder / "model")
        begun = time.monotonic()
        engine = Engine(model.learner, model.recipe.model, model.tokenizer, seed=self.recipe.seed)
        asked = [Request("", max_tokens=self.tokens, ignore_end=True) for _ in range(self.samples)]
        texts = [result.ids for found in engine.generate(asked, Sampling(top_k=TOP_K)) for result in found]
        held_out = [text[:OPENING] for text in read_documents([self.texts / "held-out.jsonl"])]
        found = log_likelihoods(model.learner, model.tokenizer, held_out, model.recipe.model.max_length)
        nats, tokens, size = (sum(getattr(one, name) for one in found) for name in ("nats", "tokens", "bytes"))
        return {
            "pretraining": asdict(summary.progress),
            "memorized": memorized(Store.open(self.words / "store"), texts),
            "held_out": {"nats_per_token": -nats / tokens, "bits_per_byte": -nats / size / np.log(2)},
            "seconds": time.monotonic() - begun,
            "surroundings": surroundings(torch.device("cpu")),
        }


def memorized(store: Store, texts: Sequence[Sequence[int]], length: int = MEMORIZED) -> float:
    """Return the share of tokens of texts that stand in `length` tokens in a row of a document of the store."""
    first, last = store.sentences[store.documents].T
    known = [run_hashes(np.asarray(store.ids[begin:end]), length) for begin, end in zip(first, last, strict=True)]
    kept = np.unique(np.concatenate([np.zeros(0, np.uint64), *known]))
    total = found = 0
    for text in texts:
        ids = np.array(text, np.uint32)
        flags = np.zeros(len(ids), np.bool_)
        mine = run_hashes(ids, length)
        if len(mine):
            for place in np.flatnonzero(repeats(mine, kept)):
                flags[place : place + length] = True
        total, found = total + len(ids), found + int(flags.sum())
    return found / max(1, total)


def run_hashes(ids: NDArray[Any], length: int) -> NDArray[np.uint64]:
    """Return a hash of 64 bits of each run of tokens."""
    if len(ids) < length:
        return np.zeros(0, np.uint64)
    return hashes(spread(ids.astype(np.uint32), 0), length, FACTORS[0])


def _write(path: Path, texts: list[str]) -> None:
    write_text(path, "".join(json.dumps({"text": text}) + "\n" for text in texts))
