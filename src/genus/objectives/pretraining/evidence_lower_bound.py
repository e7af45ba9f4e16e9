"""The relaxed evidence lower bound of a discrete VAE: logit-Laplace reconstruction, and divergence from the prior.

Legend: T token positions of a packed batch, V codes.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from genus.model.discrete_vae import mapped, unmapped
from genus.objectives import Head, Objective
from genus.part import Fraction, NotNegative, Positive, Share

if TYPE_CHECKING:
    import numpy as np

    from genus.batch import Batch
    from genus.examples import Example
    from genus.model import Model, Network, States
    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.objectives import Sums
    from genus.tokens.vocabulary import Vocabulary

RECONSTRUCTION, DIVERGENCE = "reconstruction", "kl_divergence"
BRIGHTEST = 255.0


def eased(spent: float, begin: float, end: float, share: float) -> float:
    """Return a quantity on its way from `begin` to `end` along half a cosine, when `spent` of the budget is spent.

    It has arrived when `share` of the budget is spent.
    """
    if spent >= share:
        return end
    return end + (begin - end) * (1.0 + math.cos(math.pi * spent / share)) / 2.0


def logit_laplace(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return -ln f(x) with f(x) = exp(-|logit(x) - μ| / b) / (2 b x (1 - x)), given μ and ln b.

    Source: Ramesh et al. 2021, appendix A.3, equation 2.
    """
    distance = (torch.logit(x) - mean).abs()
    return math.log(2.0) + log_scale + x.log() + (1.0 - x).log() + distance * (-log_scale).exp()


def gumbel_softmax(logits: Tensor, temperature: float) -> Tensor:
    """Return softmax((logits + g) / τ) with g = -log(-log(u)), u uniform: a relaxed draw of a code.

    Source: Jang et al. 2016 (arXiv:1611.01144), equation 2; Maddison et al. 2016 (arXiv:1611.00712).
    """
    noise = -torch.empty_like(logits).exponential_().log()
    return ((logits + noise) / temperature).softmax(-1)


def from_uniform(logits: Tensor) -> Tensor:
    """Return Σ q (ln q + ln V), the divergence of softmax(logits) from the uniform distribution, in nats."""
    log_q = logits.log_softmax(-1)
    return (log_q.exp() * log_q).sum(-1) + math.log(logits.shape[-1])


class EvidenceLowerBound(Objective):
    """The relaxed evidence lower bound of a discrete VAE, negative and per number of an image.

    -(ln p(x | z) - β KL(q(z | x), uniform)) / (3 S²), with z a relaxed draw of the codes of temperature τ, p the
    logit-Laplace distribution of each number, and q the softmax of the logits of each code. τ falls from 1, β rises
    from 0, and the learning rate falls, each along half a cosine over a share of the budget. Held-out images have the
    most probable codes, as images have after training, and the last β.

    Source: Ramesh et al. 2021, section 2.1 and appendix A.
    """

    temperature: Positive = 1 / 16
    """The last τ (appendix A.2)."""
    cooling: Share = 0.05
    """Share of the budget after which τ is the last one (appendix A.2: 150,000 of 3,000,000 updates)."""
    divergence_weight: NotNegative = 6.6
    """The last β (section 2.1, appendix A.2)."""
    rising: Share = 5_000 / 3_000_000
    """Share of the budget after which β is the last one (appendix A.2: 5,000 of 3,000,000 updates)."""
    crop: Literal["random", "center"] = "random"
    """Which square of an image is learned from (appendix A, listing 1: a random one of a random size)."""
    flipped: Fraction = 0.5
    """Share of the images that are flipped from left to right (listing 1: half)."""

    @property
    def in_words(self) -> str:
        """What is maximized."""
        return "evidence lower bound with relaxed codes"

    @property
    def losses(self) -> tuple[str, ...]:
        """The reconstruction and β times the divergence, both per number of an image."""
        return RECONSTRUCTION, DIVERGENCE

    @property
    def measured(self) -> Objective:
        """The objective with the middle of images, none flipped."""
        return self.overlay({"crop": "center", "flipped": 0.0})

    def check(self, model: Model) -> None:
        """Check that the model makes codes of images (ValueError)."""
        if model.pixels("tokens") is None:
            raise ValueError("objectives: EvidenceLowerBound learns codes of images, and this model reads texts; take "
                             "model=DiscreteVAE")  # fmt: skip

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example with the pixels of its image."""
        sequence = example.tokens
        if sequence.picture is not None:
            sequence.pixels = sequence.picture(rng if self.crop == "random" else None)
            if self.flipped and rng.random() < self.flipped:
                sequence.pixels = mirrored(sequence.pixels)
        return example

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return none: every number of an image is one."""
        return {}

    def build(self, model: Model, vocab_size: int) -> EvidenceLowerBoundHead:
        """Build the head, which has no parameters."""
        return EvidenceLowerBoundHead(self, model)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost of the decoder, whose parameters are the network's."""
        decoding: ComponentCost = cast("Any", model).decoding()
        return replace(decoding, parameters=0)


def mirrored(patches: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the patches (L, 3 p²) of an image that is flipped from left to right."""
    grid, side = math.isqrt(len(patches)), math.isqrt(patches.shape[1] // 3)
    return patches.reshape(grid, grid, 3, side, side)[:, ::-1, :, :, ::-1].reshape(patches.shape)


class EvidenceLowerBoundHead(Head):
    """The module of `EvidenceLowerBound`, which runs the network's decoder."""

    def __init__(self, choice: EvidenceLowerBound, model: Model) -> None:
        super().__init__()
        self.choice, self.target = choice, choice.target
        self.numbers = cast("int", model.pixels("tokens"))

    def counts(self, batch: Batch) -> Sums:
        """Return the numbers of all images."""
        number = (batch.tokens.sequence >= 0).sum() * self.numbers
        return {RECONSTRUCTION: number, DIVERGENCE: number}

    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return `logits` (M, V) over codes at the targets."""
        return {"logits": states["tokens"][batch.targets[self.target].index]}

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return both sums, and the squared error of numbers from 0 to 1, and nats of a code times its numbers."""
        packed, choice = batch.tokens, self.choice
        assert packed.pixels is not None
        logits_TV = states["tokens"].float()
        if self.training:
            code_TV = gumbel_softmax(logits_TV, eased(batch.spent, 1.0, choice.temperature, choice.cooling))
        else:
            code_TV = F.one_hot(logits_TV.argmax(-1), logits_TV.shape[-1]).to(logits_TV.dtype)
        weight = eased(batch.spent, 0.0, choice.divergence_weight, choice.rising)
        mean, log_scale = (one.float() for one in cast("Any", network).decode(packed, code_TV.to(states["tokens"])))
        real = packed.sequence >= 0
        each = logit_laplace(mapped(packed.pixels), mean, log_scale).sum(-1)
        away = torch.where(real, from_uniform(logits_TV), 0.0).sum()
        with torch.no_grad():
            error = (unmapped(mean.sigmoid()) - packed.pixels.float() / BRIGHTEST).square().sum(-1)
        return {
            RECONSTRUCTION: torch.where(real, each, 0.0).sum(),
            DIVERGENCE: weight * away,
            f"{RECONSTRUCTION}/squared_error": torch.where(real, error, 0.0).sum(),
            f"{DIVERGENCE}/nats": away.detach() * self.numbers,
        }
