"""Likelihoods of held-out text and of minimal pairs of sentences."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus import pipeline
from genus.errors import GenusError, UsageError
from genus.evaluate.likelihood import find_predictor, log_likelihoods
from genus.evaluate.token_prediction import Predictor
from genus.examples.keys import PLAN, generator
from genus.files import expecting
from genus.part import Count
from genus.study.corpus import digest, passages
from genus.study.measurements import Measurement, Score
from genus.tokens.store import prepare
from genus.train.world import device_of_run

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel
    from genus.objectives import Prediction
    from genus.part import Json
    from genus.study.measurements import Subject

PSEUDO = "pseudo-likelihood"
LIKELIHOODS: dict[Prediction, str] = {"following": "likelihood", "masked": PSEUDO, "permuted": PSEUDO}
"""What a head's predictions give of a whole text: the chain rule, or each token given all others."""
BYTES_PER_TOKEN = 4.0
"""Of English in subwords, about; for the time that is told only."""
BACKWARD = 3.0
"""A token that is trained on costs as much as so many that are only read."""
SENTENCE = 10
"""Words of a sentence of BLiMP, about."""


class HeldOutBits(Measurement):
    """Bits per byte of held-out passages, the same for all rows: -Σ log2 p / Σ bytes.

    A causal model's are those of its likelihood; of one that reads both sides, those of the pseudo-log-likelihood of
    Salazar et al. 2020 (arXiv:1910.14659, section 2), of which nothing says that it is a likelihood, so that the two
    are not compared with each other. An encoder-decoder has its own objective's bits per byte instead, which compare
    rows of one objective.
    """

    larger_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "bits per byte"

    passages: Count = 100
    """Sentences that are read."""
    characters: Count = 200
    """Longest passage: a longer sentence is cut at a space, so that models of all lengths can read it."""

    def measure(self, subject: Subject) -> Score:
        """Return the bits per byte of the passages."""
        model = subject.model()
        if Predictor.find(model.learner, *LIKELIHOODS) is None:
            return _of_own_targets(subject, model)
        model.learner.to(device_of_run(subject.run))
        texts = passages(subject.held_out, self.passages, self.characters)
        found = log_likelihoods(model.learner, model.tokenizer, texts, model.recipe.model.max_length)
        way = LIKELIHOODS[find_predictor(model.learner).head.predicts or "following"]
        bits = -sum(one.nats for one in found) / math.log(2)
        return Score(bits / sum(one.bytes for one in found), way, {"passages": len(texts), "bits": bits})

    def tokens(self) -> float:
        """Return about how many tokens are read, each passage once for each of its tokens."""
        return self.passages * (self.characters / BYTES_PER_TOKEN) ** 2 / BACKWARD


class MinimalPairs(Measurement):
    """Minimal pairs: the share of pairs whose acceptable sentence is the likelier one; a coin gives 0.5.

    Warstadt et al. 2020 (arXiv:1912.00582, section 3), of models that read both sides by the pseudo-log-likelihood. The
    files are BLiMP's: one for each phenomenon, JSON lines with `sentence_good` and `sentence_bad`.
    """

    unit: ClassVar[str] = "share of pairs"

    folder: str
    """Holds the files, `.jsonl` or `.jsonl.gz`."""
    pairs: Count = 50
    """Pairs of each file at most, drawn at random, the same for all rows."""

    def files(self) -> list[Path]:
        """Return the files.

        Raises:
            UsageError: there is none.
        """
        found = sorted(path for path in Path(self.folder).glob("*.jsonl*") if path.suffix in {".jsonl", ".gz"})
        if not found:
            raise UsageError(f"{self.folder}: holds no minimal pairs, such as BLiMP's anaphor_agreement.jsonl")
        return found

    def check(self) -> None:
        """Read all pairs."""
        for path in self.files():
            drawn(path, self.pairs)

    def contents(self) -> Json:
        """Return digests of the files."""
        return {path.name: digest(path) for path in self.files()}

    def tokens(self) -> float:
        """Return about how many tokens are read."""
        return 2.0 * self.pairs * len(self.files()) * SENTENCE**2 / BACKWARD

    def measure(self, subject: Subject) -> Score:
        """Return the share, and that of each file."""
        model = subject.model()
        if Predictor.find(model.learner, *LIKELIHOODS) is None:
            return Score(None, detail={"why": "no head gives the likelihood of a sentence"})
        model.learner.to(device_of_run(subject.run))
        files = [(path, drawn(path, self.pairs)) for path in self.files()]
        sides = [[pair[side] for _, pairs in files for pair in pairs] for side in (0, 1)]
        good, bad = (
            log_likelihoods(model.learner, model.tokenizer, side, model.recipe.model.max_length) for side in sides
        )
        right = np.array([ours.nats > theirs.nats for ours, theirs in zip(good, bad, strict=True)])
        ends = np.cumsum([len(pairs) for _, pairs in files])[:-1]
        parts = zip(files, np.split(right, ends), strict=True)
        each = {path.name.split(".")[0]: float(part.mean()) for (path, _), part in parts}
        return Score(float(right.mean()), "pairs", {"pairs": len(right), "phenomena": each})


def drawn(path: Path, most: int) -> list[tuple[str, str]]:
    """Return at most so many (acceptable, unacceptable) pairs of a file, always the same.

    Raises:
        GenusError: it cannot be read, or has no pairs.
    """
    with expecting(path, "give BLiMP's files, JSON lines with sentence_good and sentence_bad"):
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file if line.strip()]
        pairs = [(str(row["sentence_good"]), str(row["sentence_bad"])) for row in rows]
    if not pairs:
        raise GenusError(f"{path}: holds no pairs")
    return [pairs[place] for place in generator(0, PLAN, 0, 0).permutation(len(pairs))[:most].tolist()]


def _of_own_targets(subject: Subject, model: LoadedModel) -> Score:
    """Return the bits per byte of the tokens that the objectives of pretraining predict in held-out text."""
    names = [loss for one in model.recipe.objectives for loss in one.token_losses]
    if not names:
        return Score(None, detail={"why": "no objective predicts tokens"})
    store = prepare([subject.held_out], subject.tokenizer, subject.folder / "store", workers=1)
    model.learner.to(device_of_run(subject.run))
    feed = pipeline.validation_feed(model.recipe, store, model.tokenizer, model.learner)
    found = pipeline.evaluate(model.learner, recipe=model.recipe, feed=feed, run=subject.run)
    value = found.get(f"{names[0]}/bits_per_byte")
    return Score(value, f"own targets of {model.recipe.objectives[0].name}", {"loss": names[0]})
