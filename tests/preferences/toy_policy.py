"""A policy of random weights, and a rule in place of a reward model, by which learning can be watched in seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from genus.catalog import overridden
from genus.export.folder import LoadedModel
from genus.preferences.prefer import Prompts, policy_recipe, prefer, settled
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from genus.train.run import Run
from toys.decoder import DENSE
from toys.gpt import ROW

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.train.loop import Summary

WORDS = "the cat sat on a mat and all that was far away from any dog in a barn"
PROMPTS = [f"{one} {other}" for one in WORDS.split()[:6] for other in WORDS.split()[6:]]
RUN = Run(device="cpu", precision="float32", workers=0, log_every=1, checkpoint_every=10_000, tracker="none")


@dataclass
class Rule:
    """The number of `a` in a response, in place of a reward model."""

    letter: str = "a"
    label: str | None = None
    name: str = "rule"
    calls: int = 0

    @property
    def fingerprint(self) -> str:
        return self.letter

    def to(self, device: torch.device) -> Rule:
        return self

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        self.calls += 1
        return np.array([float(text.count(self.letter)) for text in texts])


def policy() -> LoadedModel:
    """Return a causal language model of random weights, the same in every call."""
    tokenizer = ByteBPE(vocab_size=270, special_tokens=GPT2).train([WORDS] * 20)
    model = ROW.model.overlay({"layers": 1, "attention": DENSE.to_json(), "hidden": 16, "feedforward": {"size": 32}})
    row = replace(ROW, tokens=tokenizer.tokens, model=model)
    torch.manual_seed(0)
    return LoadedModel(row, row.learner(), tokenizer)


def learned(
    folder: Path, episodes: int, *settings: str, run: Run = RUN, resume: bool = False, **given: object
) -> Summary:
    """Train the toy policy into a folder."""
    source, small = policy(), ["objectives.0.rollouts.tokens=8", "objectives.0.rollouts.temperature=1.0",
                               "objectives.0.rollouts.batch=32", "objectives.0.rollouts.normalize=64",
                               "optimizer.lr=3e-3"]  # fmt: skip
    recipe = settled(overridden(policy_recipe(source), [*small, *settings]), episodes)
    prompts = Prompts.divided(PROMPTS, 8)
    return prefer(source, given.get("reward", Rule()), prompts, folder, recipe, run, resume=resume)  # type: ignore[arg-type]
