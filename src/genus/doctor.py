"""Examinations of a text before training, and of a run during and after it: what was measured, and what to try."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.errors import GenusError
from genus.export.weights import read_weights
from genus.files import expecting
from genus.recipe import Recipe
from genus.run_folder import RunFolder
from genus.text import find, read_blocks
from genus.text.sentences import split
from genus.text.sources import skipped
from genus.tokens.store import Store, counts
from genus.tokens.training import MOST_MARKED, UNSPACED, marked, unknown
from genus.train.noise_scale import suggestion
from genus.train.record import read_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from genus.text import Corpus
    from genus.tokens.tokenizer import Tokenizer

BYTES_OF_A_TOKEN = 4.0
"""Of English text in subwords, about."""
LITTLE = 1_000_000
"""Tokens below which a model learns little more than the frequencies of words."""
SEEN = 2_000
"""Characters of each document by which its script and its sentences are judged."""
PLATEAU = 0.97
"""Share of the entropy of single tokens above which a loss says that little but their frequencies was learned."""
RECENT = 20
"""Rows of `metrics.jsonl`, from the last on, that say how a run is doing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was examined."""

    what: str
    found: str
    advice: str = ""
    """What to try; empty if nothing is wrong."""


def examine_text(corpus: Corpus, tokenizer: Tokenizer | None = None) -> list[Finding]:
    """Examine a corpus in one pass, and with a tokenizer how much of it is unknown.

    Raises:
        GenusError: the text cannot be read, or there is none.
    """
    tally = Tally()
    for block in read_blocks(find(corpus.sources), corpus.fields):
        documents = block.documents()
        tally.empty, tally.replaced = tally.empty + documents.empty, tally.replaced + documents.replaced
        for text in documents.texts:
            tally.add(text)
    if not tally.lengths:
        raise GenusError(f"the corpus is empty: there is no text in {', '.join(map(str, corpus.sources[:3]))}")
    found = [*tally.findings()]
    marks = marked(corpus)
    if marks > MOST_MARKED:
        advice = "take a tokenizer that keeps them: tokens.lowercase=false, or a member with byte-level pieces"
        found.append(Finding("marks", f"{marks:.1%} of the letters have accents or vowel signs", advice))
    if line := skipped(corpus.sources):
        found.append(Finding("skipped files", line, "convert them, or rename them"))
    if tokenizer is not None:
        line = unknown(tokenizer, corpus)
        advice = "train a tokenizer on this text" if line else ""
        found.append(Finding("unknown pieces", line or "less than 2 % of the tokens", advice))
    return found


class Tally:
    """What is counted of a corpus, document by document."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        """Characters of each document."""
        self.empty = self.replaced = self.bytes = self.repeated = self.single = self.unspaced = 0
        self.known = set[bytes]()
        self.scripts = Counter[str]()

    def add(self, text: str) -> None:
        """Count a document."""
        self.lengths.append(len(text))
        self.bytes += len(text.encode())
        digest = hashlib.blake2b(" ".join(text.lower().split()).encode(), digest_size=8).digest()
        self.repeated += digest in self.known
        self.known.add(digest)
        seen = text[:SEEN]
        self.single += len(text) <= SEEN and len(split(seen)) < 2
        self.unspaced += sum(len(run) for run in UNSPACED.findall(text))
        for letter, number in Counter(seen).items():
            if letter.isalpha():
                self.scripts[_script(letter)] += number

    def findings(self) -> Iterator[Finding]:
        """Yield what the counts say."""
        documents, characters = len(self.lengths), sum(self.lengths)
        tokens = self.bytes / BYTES_OF_A_TOKEN
        yield Finding(
            "size",
            f"{documents:,} documents, {self.bytes / 1e6:,.1f} MB, about {tokens / 1e6:,.1f} million tokens",
            "" if tokens >= LITTLE else "more text, or start from a trained model (--start)",
        )
        low, middle, high = (int(number) for number in np.quantile(self.lengths, (0.05, 0.5, 0.95)))
        yield Finding(
            "lengths",
            f"the median document has {middle:,} characters; 5 % have less than {low:,}, 5 % more than {high:,}",
            "put blank lines between documents, so that their lines belong together" if middle < 40 else "",
        )
        yield _share(
            "duplicates", self.repeated, documents, 0.01, "documents repeat others", "leave repeated documents out"
        )
        yield _share(
            "single sentences", self.single, documents, 0.5, "documents are one sentence",
            "take no objective of sentence pairs, or put blank lines between documents alone",
        )  # fmt: skip
        yield _share(
            "unspaced text", self.unspaced, characters, 0.2, "characters stand in runs without white space",
            "take a member whose tokenizer needs no spaces (albert, xlnet), and no whole-word masking",
        )  # fmt: skip
        yield _share("empty", self.empty, documents + self.empty, 0.01, "documents have no text", "leave them out")
        if self.replaced:
            yield Finding("encoding", f"{self.replaced:,} characters are no UTF-8", "convert the text to UTF-8")
        letters = max(1, self.scripts.total())
        told = ", ".join(
            f"{name} {number / letters:.0%}" for name, number in self.scripts.most_common(4) if number > 0.005 * letters
        )
        latin = self.scripts["latin"] / letters
        yield Finding(
            "script",
            told or "no letters",
            "" if latin > 0.5 else "take a tokenizer that is trained on it, and check a few pieces of text with it",
        )


def examine_run(folder: Path) -> list[Finding]:
    """Examine a pretraining run by its metrics, its store and its model.

    Raises:
        GenusError: there is no pretraining run, or it has no metrics yet, or is damaged.
    """
    run = RunFolder(folder)
    metrics = folder / "metrics.jsonl"
    if run.content() != "a pretraining run" or not metrics.exists():
        raise GenusError(f"{folder}: is no pretraining run with metrics.jsonl; name the folder of one that has begun")
    recipe = run.choices(Recipe)
    with expecting(metrics, "resume the run, which leaves damaged lines out"):
        rows = read_metrics(metrics)
        steps, held_out = [row for row in rows if "loss" in row], [row for row in rows if _held_out(row)]
        if not steps:
            raise GenusError(f"{metrics}: has no step yet; try again when the run has made --run log_every steps")
        return [*_progress(recipe, steps), *_fit(folder, recipe, steps, held_out), *_weights(folder)]


def _progress(recipe: Recipe, rows: list[dict[str, Any]]) -> Iterator[Finding]:
    """Yield how far a run is, how fast, and whether its updates are stable."""
    last, recent = rows[-1], rows[-RECENT:]
    yield Finding("progress", f"step {last['step']:,}, {last['tokens']:,} tokens, {last['epochs']:.2f} epochs")
    cells = recipe.stages[last["stage"]].batch * recipe.stages[last["stage"]].max_length
    first = recent[0] if len(recent) > 1 else {"step": 0, "tokens": 0}
    fill = (last["tokens"] - first["tokens"]) / max(1, last["step"] - first["step"]) / cells
    advice = "shorter rows (stages.0.max_length) or several documents a row" if fill < 0.7 else ""
    yield Finding("rows", f"{fill:.0%} of each row is text", advice)
    rate, used = (median(row.get(name, 0.0) for row in recent) for name in ("tokens_per_second", "utilization"))
    slow = "is the machine busy? --run threads=1, or a larger stages.0.micro_batch" if 0 < used < 0.1 else ""
    yield Finding("speed", f"{rate:,.0f} tokens/s" + (f", {used:.0%} of the peak" if used else ""), slow)
    yield from _noise(recipe, rows)
    norms = [row["gradient_norm"] for row in recent if row.get("gradient_norm") is not None]
    limit = getattr(recipe.optimizer, "clip_norm", None)
    clipped = sum(norm > limit for norm in norms) / len(norms) if limit and norms else 0.0
    worst = max(norms, default=0.0) / max(median(norms or [1.0]), 1e-12)
    told = f"median {median(norms or [0.0]):.2f}, {clipped:.0%} of the updates clipped"
    yield Finding("gradients", told, "a lower optimizer.lr, or more warm-up" if clipped > 0.9 or worst > 20 else "")


def _noise(recipe: Recipe, rows: list[dict[str, Any]]) -> Iterator[Finding]:
    """Yield the gradient noise scale, where the run measures it."""
    known = [row for row in rows if row.get("noise_scale") is not None]
    if known:
        scale, batch = known[-1]["noise_scale"], recipe.stages[known[-1]["stage"]].batch
        yield Finding("noise scale", f"{scale:,.0f} rows; a step has {batch:,}", suggestion(scale, batch))


def _fit(
    folder: Path, recipe: Recipe, steps: list[dict[str, Any]], held_out: list[dict[str, Any]]
) -> Iterator[Finding]:
    """Yield what was learned, beside the frequencies of single tokens, and whether held-out text shows it too."""
    names = [loss for objective in recipe.objectives for loss in objective.token_losses]
    store = folder / "store"
    level = entropy(Store.open(store)) if names and Store.is_at(store) else None
    for name in names:
        recent = [row[name] for row in steps[-RECENT:] if name in row]
        if not recent:
            continue
        loss, told = sum(recent) / len(recent), f"{name} {sum(recent) / len(recent):.2f} nats"
        if level is not None:
            told += f"; single tokens by their frequencies alone: {level:.2f}"
        stays = level is not None and loss > PLATEAU * level
        advice = "more tokens; rotary positions and pre-norm layers leave this plateau soonest (genus)" if stays else ""
        yield Finding("loss", told, advice)
        if held_out and (there := held_out[-1].get(f"held_out/{name}")) is not None:
            apart = there - loss > 0.5 and steps[-1]["epochs"] > 2
            yield Finding(
                "held-out loss",
                f"{name} {there:.2f} nats, {there - loss:+.2f} against training",
                "more text, or a smaller budget: the text is read too often" if apart else "",
            )
    if Store.is_at(store):
        for line in counts(store).notices():
            yield Finding("text", line, "genus doctor TEXT says more")


def _weights(folder: Path) -> Iterator[Finding]:
    """Yield the size of the published weights."""
    if not (folder / "model" / "config.json").exists():
        return
    sizes = {name: float(one.abs().max()) for name, one in read_weights(folder / "model").items() if one.numel()}
    name = max(sizes, key=lambda name: sizes[name] if math.isfinite(sizes[name]) else math.inf)  # NaN is no maximum
    largest = sizes[name]
    wrong = not math.isfinite(largest) or largest > 1e3
    yield Finding("weights", f"the largest is {largest:.3g}, in {name}", "a lower optimizer.lr" if wrong else "")


def entropy(store: Store) -> float:
    """Return the entropy in nats of the tokens of a store: the loss of a model that knows their frequencies alone."""
    number = np.bincount(store.ids[: 1 << 24])
    share = number[number > 0] / number.sum()
    return float(-(share * np.log(share)).sum())


def _held_out(row: dict[str, Any]) -> bool:
    return any(name.startswith("held_out/") for name in row)


def _share(what: str, part: int, whole: int, most: float, told: str, advice: str) -> Finding:
    share = part / max(1, whole)
    return Finding(what, f"{share:.1%}: {part:,} of {whole:,} {told}", advice if share > most else "")


def _script(letter: str) -> str:
    """Return the script of a letter, the first word of its Unicode name."""
    return re.split("[ -]", unicodedata.name(letter, "unknown"))[0].lower()
