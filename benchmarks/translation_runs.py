"""What one process does for `translation.py`: the vocabulary, one training, or the translations of one model."""

from __future__ import annotations

import gzip
import json
import shutil
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
import translation_peer
from safetensors.torch import load_file, save_file

from genus import pipeline
from genus.errors import GenusError
from genus.examples.feed.feed import Feed
from genus.export.average import average_checkpoints
from genus.export.folder import load
from genus.generate import Request
from genus.generate.beam import BeamSearch
from genus.generate.engine import Engine
from genus.run_folder import RunFolder
from genus.text import Corpus, Fields
from genus.tokens.store import Store, prepare
from genus.tokens.tokenizer import Tokenizer
from genus.train.precision import number_format
from genus.train.provenance import surroundings
from genus.train.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Learner
    from genus.recipe import Recipe

Trained = Literal["genus", "torch", "torch-autocast"]
"""By this library; by the tutorial's loop in float32; by the same with products in the row's precision."""
FIELDS = Fields(text="en", source="de")
"""German to English."""
NEVER = 1 << 40
"""Steps: what is measured is what stands at the end."""
AVERAGED = 5
"""Checkpoints of a mean (Vaswani et al. 2017, section 6.1); a shorter run has fewer."""
SEARCH = BeamSearch(beams=4, length_penalty=0.6, penalty_form="gnmt", early_stopping="never")
"""Section 6.1 of the paper; tensor2tensor stops where no beam can win any more."""
LONGER = 50
"""Tokens of a translation beyond those of its source, at most (section 6.1)."""
SHOWN = 5
"""Translations that stand in the results."""


@dataclass(frozen=True)
class Words:
    """The tokenizer of both languages, and the stores of the training and of the validation pairs."""

    recipe: Recipe
    train: Path
    validation: Path
    folder: Path

    def __call__(self) -> dict[str, Any]:
        """Return what was made."""
        shutil.rmtree(self.folder, ignore_errors=True)
        tokenizer = self.recipe.tokens.train(Corpus([self.train], FIELDS))
        tokenizer.save(self.folder / "tokenizer")
        store = prepare([self.train], tokenizer, self.folder / "store", fields=FIELDS)
        held_out = prepare([self.validation], tokenizer, self.folder / "validation", fields=FIELDS)
        recipe = replace(self.recipe, tokens=tokenizer.tokens)
        told = {name: pipeline.left_out(recipe, one, tokenizer, *recipe.stages)
                for name, one in (("train", store), ("validation", held_out))}  # fmt: skip
        return {"pieces": tokenizer.vocabulary.size, "pairs": len(store.documents), "left_out": told}


@dataclass(frozen=True)
class Training:
    """A training for so many seconds, from the start: the seconds of a run that was stopped are not counted on."""

    recipe: Recipe
    """Its budget is in seconds."""
    trained: Trained
    words: Path
    folder: Path
    checkpoint_every: int

    def __call__(self) -> dict[str, Any]:
        """Return what was reached and what it took."""
        shutil.rmtree(self.folder, ignore_errors=True)
        tokenizer = Tokenizer.load(self.words / "tokenizer")
        spent = self._ours() if self.trained == "genus" else self._theirs(tokenizer)
        recipe, learner = model_of(self.recipe, self.trained, self.folder, tokenizer)
        held_out = Store.open(self.words / "validation", tokenizer)
        feed = pipeline.validation_feed(recipe, held_out, tokenizer, learner)
        run = Run(device="cpu", precision="float32", evaluate_batches=NEVER)
        found = pipeline.evaluate(learner, recipe=recipe, feed=feed, run=run)
        return {
            "recipe": self.recipe.hash(),
            "seed": self.recipe.seed,
            **spent,
            "tokens_per_second": spent["tokens"] / spent["seconds"],
            "parameters": sum(weight.numel() for weight in learner.parameters()),
            "validation": found,
            "surroundings": surroundings(torch.device("cpu")),
        }

    def _ours(self) -> dict[str, Any]:
        run = Run(device="cpu", held_out=0.0, checkpoint_every=self.checkpoint_every, keep=AVERAGED,
                  evaluate_every=NEVER, tracker="none")  # fmt: skip
        words = self.words / "tokenizer"
        summary = pipeline.pretrain(self.recipe, [self.words / "store"], self.folder, run, words=words)
        if summary.stopped:
            raise GenusError("stopped; the same command begins this training anew")
        progress = summary.progress
        return {"tokens": progress.tokens, "steps": progress.step, "seconds": progress.seconds}

    def _theirs(self, tokenizer: Tokenizer) -> dict[str, Any]:
        store = Store.open(self.words / "store", tokenizer)
        recipe = replace(self.recipe, tokens=tokenizer.tokens)
        made = translation_peer.learner(recipe, tokenizer.vocabulary.size)
        pairs = translation_peer.pairs_of(recipe, store, tokenizer)
        autocast = self.trained == "torch-autocast" and number_format("auto", torch.device("cpu")) is torch.bfloat16
        tokens = round(batch_tokens(recipe, store, tokenizer))
        spent = translation_peer.train(made, recipe, pairs, tokens=tokens, autocast=autocast)
        self.folder.mkdir(parents=True)
        save_file(made.tensors(), self.folder / "model.safetensors")
        return {**spent, "autocast": autocast}


def batch_tokens(recipe: Recipe, store: Store, tokenizer: Tokenizer) -> float:
    """Return the mean number of real target tokens of the row's batches, padding left out."""
    (stage,) = recipe.stages
    feed = Feed(store, tokenizer.vocabulary, recipe.examples, recipe.objectives, limits=stage.limits,
                micro_batch=stage.batch, seed=recipe.seed)  # fmt: skip
    some = [feed[number].tokens.tokens for number in range(8)]
    return sum(some) / len(some)


def model_of(recipe: Recipe, trained: Trained, folder: Path, tokenizer: Tokenizer) -> tuple[Recipe, Learner]:
    """Return what a training has left in its folder."""
    if trained == "genus":
        source = load(folder / "model")
        return source.recipe, source.learner
    recipe = replace(recipe, tokens=tokenizer.tokens)
    made = translation_peer.learner(recipe, tokenizer.vocabulary.size)
    made.load(made.tensors() | load_file(folder / "model.safetensors"))
    return recipe, made


@dataclass(frozen=True)
class Translation:
    """The translations of the test's sources by one model, and their score."""

    recipe: Recipe
    trained: Trained
    folder: Path
    words: Path
    test: Path
    limit: int | None
    averaged: bool
    """Whether the model is the mean of the last checkpoints."""

    def __call__(self) -> dict[str, Any]:
        """Return BLEU and what it took."""
        tokenizer = Tokenizer.load(self.words / "tokenizer")
        steps: list[int] = []
        if self.averaged:
            last = min(AVERAGED, len(RunFolder(self.folder).checkpoint_steps()))
            steps = average_checkpoints(self.folder, last, self.folder / "mean")
            source = load(self.folder / "mean")
            recipe, learner = source.recipe, source.learner
        else:
            recipe, learner = model_of(self.recipe, self.trained, self.folder, tokenizer)
        with gzip.open(self.test, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines][: self.limit]
        engine = Engine(learner, recipe.model, tokenizer, slots=64)
        begun = time.perf_counter()
        sizes = [len(engine.prompts.source(Request(row[FIELDS.source]))) for row in rows]
        requests = [Request(row[FIELDS.source], size + LONGER) for row, size in zip(rows, sizes, strict=True)]
        texts = [results[0].text for results in engine.generate(requests, SEARCH)]
        seconds = time.perf_counter() - begun
        shown = [{**row, "translation": text} for row, text in zip(rows[:SHOWN], texts, strict=False)]
        scored = score(texts, [row[FIELDS.text] for row in rows])
        return {**scored, "sentences": len(rows), "seconds": seconds, "averaged_steps": steps, "shown": shown}


def score(texts: list[str], references: list[str]) -> dict[str, Any]:
    """Return BLEU with its 95 % interval by bootstrap over sentences, as sacrebleu computes it, with its signature."""
    from sacrebleu.metrics import BLEU

    metric = BLEU()
    found = metric.corpus_score(texts, [references], n_bootstrap=1_000)
    return {
        "bleu": found.score,
        "interval": [found._mean - found._ci, found._mean + found._ci],
        "length_ratio": found.sys_len / found.ref_len,
        "signature": str(metric.get_signature()),
    }
