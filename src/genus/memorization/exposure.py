"""Exposure of canaries, and whether their secrets can be extracted (Carlini et al. 2018, arXiv:1802.08232)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from genus.errors import UsageError
from genus.evaluate.candidates import own_tokens
from genus.evaluate.likelihood import find_predictor, log_likelihoods
from genus.evaluate.token_prediction import HiddenTokens
from genus.examples import Sequence as Tokens
from genus.examples.keys import generator
from genus.generate import Request
from genus.generate.engine import Engine
from genus.generate.sampling import Greedy
from genus.inference.engine import Inference
from genus.memorization.canaries import same

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from genus.evaluate.likelihood import Progress
    from genus.evaluate.token_prediction import Predictor
    from genus.export.folder import LoadedModel
    from genus.memorization.canaries import Canary, Planted

COMPARED = (1 << 20) + 4
"""Purpose of the keys of secrets that are compared."""
MOST = 10_000
"""Secrets that a canary is compared with, where nothing else is said."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """How far a model gives a canary away."""

    canary: Canary
    exposure: float
    """In bits."""
    rank: int
    """Of the canary among those it was compared with, itself included; 1: none is likelier."""
    compared: int
    """How many those are."""
    extracted: bool
    """Whether the model writes the secret, given what stands before it; of one that reads both sides, whether it
    restores the secret where all of it is masked."""


def exposure(nats: Sequence[float], own: float) -> tuple[float, int]:
    """Return exposure and rank of a canary, given the log-likelihoods of other secrets and its own.

        exposure = log2 |R| - log2 rank

    The rank is the number of all of R whose likelihood is not below the canary's, itself included. Where the others
    were drawn from R, it is -log2 of the share of them and the canary, which cannot exceed log2 of their number.
    """
    rank = 1 + sum(one >= own for one in nats)
    return math.log2(len(nats) + 1) - math.log2(rank), rank


def exposures(
    model: LoadedModel,
    planted: Planted,
    *,
    most: int = MOST,
    precision: str = "float32",
    progress: Progress | None = None,
) -> list[Exposure]:
    """Return the exposure of each canary, among all possible secrets or `most` that are drawn, and its extraction.

    The likelihood is that of the secret and what follows it, after what stands before it; of a model that reads both
    sides, the pseudo-log-likelihood.

    Args:
        model: predicts tokens.
        planted: the canaries.
        most: secrets that each is compared with; all, where there are no more.
        precision: dtype of the forward pass.
        progress: called with the number of canaries that are done, and of all.

    Raises:
        UsageError: the model predicts no tokens, a canary is too long for it, or `most` is below 1.
    """
    if most < 1:
        raise UsageError(f"--candidates: expected at least 1, got {most}")
    found = []
    extracted = _extracted(model, planted.canaries, precision)
    for number, canary in enumerate(planted.canaries):
        others = [one for one in _others(planted, number, most) if one != canary.secret]
        endings = [canary.ending(secret) for secret in (canary.secret, *others)]
        told = log_likelihoods(
            model.learner, model.tokenizer, endings, model.recipe.model.max_length, precision,
            contexts=[canary.before] * len(endings), names=[f"canary {number + 1}"] * len(endings),
        )  # fmt: skip
        bits, rank = exposure([one.nats for one in told[1:]], told[0].nats)
        found.append(Exposure(canary, bits, rank, len(told), extracted[number]))
        if progress is not None:
            progress(number + 1, len(planted.canaries))
    return found


def _others(planted: Planted, number: int, most: int) -> list[str]:
    """Return secrets: all of them, or as many as are wanted, drawn without regard to the canary's own."""
    if planted.space <= most:
        return [planted.secret(one) for one in range(planted.space)]
    draws = generator(planted.seed, COMPARED, number).integers(
        len(planted.alphabet), size=(most, planted.length)
    )  # places of characters: their number can be beyond 64 bits
    return ["".join(planted.alphabet[place] for place in one) for one in draws.tolist()]


def _extracted(model: LoadedModel, canaries: Sequence[Canary], precision: str) -> list[bool]:
    """Return whether the model gives each secret away."""
    predictor = find_predictor(model.learner)
    if predictor.head.predicts == "following":
        return _written(model, canaries, precision)
    return _restored(model, predictor, canaries, precision)


def _written(model: LoadedModel, canaries: Sequence[Canary], precision: str) -> list[bool]:
    """Return whether greedy decoding goes on from what stands before each secret with it."""
    engine = Engine(model.learner, model.recipe.model, model.tokenizer, precision=precision)
    ids = model.tokenizer.encode([one.ending(one.secret) for one in canaries], specials=False)
    requests = [Request(one.before, len(own) + 1) for one, own in zip(canaries, ids, strict=True)]
    found = engine.generate(requests, Greedy())
    return [same(texts[0].text, one.secret + one.after) for one, texts in zip(canaries, found, strict=True)]


def _restored(
    model: LoadedModel, predictor: Predictor, canaries: Sequence[Canary], precision: str
) -> list[bool]:
    """Return whether the most probable token is right wherever a token of a secret is masked, all of them at once."""
    vocabulary, works, answers = model.tokenizer.vocabulary, [], []
    for one in canaries:
        start = len(one.before) + 1
        ids, own = own_tokens(model.tokenizer, one.text, start, start + len(one.secret))
        sequence = Tokens(*vocabulary.frame(ids))
        places = np.flatnonzero(~sequence.fixed)[own]
        works.append(HiddenTokens.of(predictor, predictor.hide(sequence, places, vocabulary), vocabulary.pad))
        answers.append(ids[own])
    found = cast("list[Tensor]", Inference(precision).run(works))
    return [bool((one.argmax(-1).cpu().numpy() == own).all()) for one, own in zip(found, answers, strict=True)]
