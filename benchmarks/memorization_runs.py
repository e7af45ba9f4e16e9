"""What one process does for `memorization.py`, some of it for `deduplication.py` too: corpora, and one pretraining."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genus import pipeline
from genus.curate import Curation
from genus.curate.document import Document
from genus.curate.engines.local import LocalProcesses
from genus.curate.exact_substrings import ExactSubstrings
from genus.curate.near_duplicates import NearDuplicates
from genus.curate.run import Cleaning, fields_of
from genus.errors import GenusError
from genus.evaluate.likelihood import log_likelihoods
from genus.export.folder import load
from genus.files import write_text
from genus.generate import Request
from genus.generate.engine import Engine
from genus.generate.sampling import Sampling
from genus.memorization.canaries import CANARIES, Planted, draw_canaries, plant
from genus.memorization.canaries import TEXT as PLANTED_TEXT
from genus.memorization.exposure import exposures
from genus.memorization.verbatim import TOKENS, share_memorized
from genus.text import read_documents
from genus.tokens.store import Store
from genus.train.provenance import surroundings
from genus.train.run import Run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from genus.export.folder import LoadedModel
    from genus.recipe import Recipe

TOP_K = 50
"""Of the sampling without a prompt (Lee et al. 2021, section 6.2)."""
OPENING = 400
"""Characters of a held-out document whose likelihood is measured: what the positions have room for."""
CORPORA = ("planted", "cleaned")


@dataclass(frozen=True)
class CanaryCorpora:
    """Text with canaries, the same after its copies were removed, and text of which nothing is in either."""

    source: Path
    folder: Path
    size: int
    """Bytes of the text before canaries."""
    each: int
    """Canaries of each number of repetitions."""
    repetitions: tuple[int, ...]
    held_out: int
    """Documents."""

    def __call__(self) -> dict[str, Any]:
        """Write them, and return their sizes and what was removed."""
        kept, rest = beginning(self.source, self.size, self.held_out)
        documents = [Document(text, {"source": str(self.source), "row": row}) for row, text in enumerate(kept, 1)]
        planted = draw_canaries(self.each, self.repetitions)
        plant(documents, len(documents), planted, self.folder / "planted")
        (self.folder / "planted" / PLANTED_TEXT).replace(self.folder / "planted.jsonl")
        write_lines(self.folder / "held-out.jsonl", rest)
        report = cleaned(self.folder / "planted.jsonl", self.folder / "after")
        left = [*read_documents([self.folder / "after"])]
        write_lines(self.folder / "cleaned.jsonl", left)
        names = {one.text for one in planted.canaries}
        told = {name: report[name] for name in ("read", "kept", "facts")}
        return {**told, "canaries": len(planted.canaries), "left": sum(text in names for text in left)}


@dataclass(frozen=True)
class Exposed:
    """One pretraining, and how far its model gives canaries away."""

    recipe: Recipe
    words: Path
    """Holds the tokenizer and the token store of its text."""
    texts: Path
    """Holds the canaries and `held-out.jsonl`."""
    folder: Path
    samples: int
    """Texts that are generated."""
    tokens: int
    """Of each of them."""
    candidates: int
    """Secrets that each canary is compared with."""

    def __call__(self) -> dict[str, Any]:
        """Return what was reached."""
        progress = pretrained(self.recipe, self.words, self.folder)
        model, begun = load(self.folder / "model"), time.monotonic()
        found = exposures(model, Planted.read(self.texts / "planted" / CANARIES), most=self.candidates)
        return {
            "pretraining": progress,
            "canaries": [
                {"repetitions": one.canary.repetitions, "exposure": one.exposure, "extracted": one.extracted}
                for one in found
            ],
            "memorized": memorized(model, self.words, self.samples, self.tokens, self.recipe.seed),
            "held_out": held_out(model, self.texts / "held-out.jsonl"),
            "seconds": time.monotonic() - begun,
            "surroundings": surroundings(torch.device("cpu")),
        }


def pretrained(recipe: Recipe, words: Path, folder: Path) -> dict[str, Any]:
    """Pretrain from wherever the folder stands, and return how far it went."""
    run = Run(device="cpu", workers=0, checkpoint_every=500, keep=1, tracker="none")
    summary = pipeline.pretrain(recipe, [words / "store"], folder, run, words=words / "tokenizer", resume=True)
    if summary.stopped:
        raise GenusError("stopped; the same command goes on")
    return asdict(summary.progress)


def memorized(model: LoadedModel, words: Path, samples: int, tokens: int, seed: int) -> float:
    """Return the share of the tokens written without a prompt that stand in runs of 50 in the text trained on."""
    engine = Engine(model.learner, model.recipe.model, model.tokenizer, seed=seed)
    asked = [Request("", max_tokens=tokens, ignore_end=True) for _ in range(samples)]
    texts = [result.ids for found in engine.generate(asked, Sampling(top_k=TOP_K)) for result in found]
    return share_memorized(Store.open(words / "store"), texts, TOKENS)


def held_out(model: LoadedModel, path: Path) -> dict[str, float]:
    """Return the loss of the beginnings of texts that were not trained on."""
    texts = [text[:OPENING] for text in read_documents([path])]
    found = log_likelihoods(model.learner, model.tokenizer, texts, model.recipe.model.max_length)
    nats, tokens, size = (sum(getattr(one, name) for one in found) for name in ("nats", "tokens", "bytes"))
    return {"nats_per_token": -nats / tokens, "bits_per_byte": -nats / size / float(np.log(2))}


def beginning(source: Path, size: int, rest: int) -> tuple[list[str], list[str]]:
    """Return the first documents of a text, of so many bytes together, and so many after them."""
    kept, after, total = list[str](), list[str](), 0
    for text in read_documents([source]):
        if total < size:
            kept.append(text)
            total += len(text.encode())
        elif len(after) < rest:
            after.append(text)
        else:
            break
    return kept, after


def cleaned(text: Path, out: Path) -> dict[str, Any]:
    """Write what near duplicates and exact substrings leave of a text into a folder, and return the report."""
    shutil.rmtree(out, ignore_errors=True)
    curation = Curation(steps=(NearDuplicates(), ExactSubstrings()))
    engine = LocalProcesses(workers=1)
    return Cleaning(curation, [text], out, fields_of("text", ()), "none", engine=engine).run()


def write_lines(path: Path, texts: Sequence[str]) -> None:
    """Write texts as JSON lines."""
    write_text(path, "".join(json.dumps({"text": text}) + "\n" for text in texts))
