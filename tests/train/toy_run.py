"""A tiny run for tests: the real skeleton, hand-made batches, seconds on one core."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genus.batch import IGNORE, Batch, Targets
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.position.learned import LearnedPosition
from genus.model.transformer import Transformer
from genus.objectives import Learner
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget
from genus.train.data import TrainStage
from genus.train.loop import Summary, train
from genus.train.run import Run

sys.path.insert(0, str(Path(__file__).parents[1]))  # scripts of their own import this file too

from hand import equal_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

VOCABULARY, LENGTH, ROWS, TARGETS = 40, 16, 2, 8
MODEL = Transformer(
    layers=2,
    hidden=16,
    attention=MultiHeadAttention(heads=2, dropout=0.1),
    feedforward=MLP(size=32),
    embedding=Embedding(position=LearnedPosition(length=LENGTH), dropout=0.1),
    dropout=0.1,
)
STILL = MODEL.overlay({"dropout": 0.0, "attention": {"dropout": 0.0}, "embedding": {"dropout": 0.0}})
"""Without dropout, whose draws depend on shapes."""
RUN = Run(
    device="cpu", precision="float32", workers=0, log_every=1, checkpoint_every=4, evaluate_every=5, tracker="none"
)


def per_token(flops: float) -> Callable[[Mapping[str, Sequence[int]]], float]:
    """Return what counts so many FLOPs for each token of a micro-batch."""
    return lambda lengths: flops * sum(lengths["tokens"])


@dataclass(frozen=True)
class ToyFeed:
    """Micro-batches of random tokens with a varying number of targets, each a pure function of its number."""

    salt: int = 0
    per_epoch: int = 10

    def __getitem__(self, number: int) -> Batch:
        rng = np.random.default_rng((self.salt, number))
        cells = ROWS * LENGTH
        ids = torch.from_numpy(rng.integers(5, VOCABULARY, cells))
        real = int(rng.integers(1, TARGETS + 1))
        index, label = torch.zeros(TARGETS, dtype=torch.long), torch.full((TARGETS,), IGNORE)
        index[:real] = torch.from_numpy(rng.permutation(cells)[:real])
        label[:real] = ids[index[:real]]
        packed = equal_rows(ids.view(ROWS, LENGTH))
        return Batch({"tokens": packed}, {"masked_lm": Targets(index, label)})

    def epoch(self, number: int) -> float:
        return number / self.per_epoch


@dataclass(frozen=True)
class Joined:
    """Micro-batches of several toy micro-batches each."""

    several: int

    def __getitem__(self, number: int) -> Batch:
        parts = [ToyFeed()[number * self.several + part] for part in range(self.several)]
        cells = len(parts[0].tokens.ids)
        packed = equal_rows(torch.cat([part.tokens.ids for part in parts]).view(-1, LENGTH))
        targets = [part.targets["masked_lm"] for part in parts]
        index = torch.cat([target.index + number * cells for number, target in enumerate(targets)])
        return Batch({"tokens": packed}, {"masked_lm": Targets(index, torch.cat([target.label for target in targets]))})

    def epoch(self, number: int) -> float:
        return ToyFeed().epoch(number * self.several)


def toy_learner(seed: int = 0, model: Transformer = MODEL) -> Learner:
    torch.manual_seed(seed)
    return Learner(model.build(VOCABULARY), {"masked_lm": MaskedLM().build(model, VOCABULARY)})


def toy_train(folder: Path | None, **changes: Any) -> Summary:
    """Run the tiny run; any argument of `train` can be another."""
    arguments: dict[str, Any] = {
        "learner": toy_learner(),
        "stages": [TrainStage(ToyFeed(), 2, 0.6), TrainStage(ToyFeed(salt=1), 2, 0.4)],
        "optimizer": AdamW(lr=1e-2),
        "schedule": Linear(warmup=0.2),
        "budget": Budget(amount=10, unit="steps"),
        "run": RUN,
        "folder": folder,
    }
    return train(**arguments | changes)


def losses(folder: Path) -> list[tuple[int, float]]:
    """Return (step, loss) of every training row of a run's metrics."""
    return [(row["step"], row["loss"]) for row in rows(folder) if "loss" in row]


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the metrics, without those that tell the time."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    timed = {"seconds", "tokens_per_second", "utilization"}
    return [{name: value for name, value in json.loads(line).items() if name not in timed} for line in lines]
