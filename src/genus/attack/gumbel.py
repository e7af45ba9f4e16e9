"""Gumbel-softmax samples of tokens, and the losses that are taken of them.

Legend: S samples, T tokens, V vocabulary, M texts, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def gumbel_noise(samples: int, tokens: int, vocab_size: int, generator: torch.Generator) -> Tensor:
    """Return independent standard Gumbel numbers (S, T, V): -log E, with E drawn from Exp(1)."""
    shape = samples, tokens, vocab_size
    return torch.empty(shape, device=generator.device).exponential_(generator=generator).log().neg()


def gumbel_softmax(theta_TV: Tensor, noise_STV: Tensor, temperature: float) -> Tensor:
    """Return samples π = softmax((Θ + g) / τ) (S, T, V), which are differentiable by Θ.

    Source: Jang et al. 2017 (arXiv:1611.01144), equation 2, with log-probabilities Θ up to a constant of each token.
    """
    return ((theta_TV + noise_STV) / temperature).softmax(-1)


def margin_loss(logits_MC: Tensor, label_M: Tensor, margin: float) -> Tensor:
    """Return max(φ_y - max_k≠y φ_k + κ, 0) (M,): 0 where another class than y leads by κ.

    Source: Carlini and Wagner 2017 (arXiv:1608.04644); Guo et al. 2021 (arXiv:2104.13733), released code,
    whitebox_attack.py: adv_loss cw.
    """
    own_M1 = logits_MC.gather(1, label_M[:, None])
    others_MC = logits_MC.scatter(1, label_M[:, None], float("-inf"))
    return (own_M1[:, 0] - others_MC.amax(1) + margin).clamp(min=0)


def expected_nll(logits_TV: Tensor, tokens_TV: Tensor) -> Tensor:
    """Return -Σ_v π_v log p_v (T,): the negative log-likelihood of each token, expected under its probabilities π.

    Args:
        logits_TV: of p; a padded vocabulary is cut to that of π, as in the released code (log_perplexity).
        tokens_TV: π.
    """
    return -(tokens_TV * logits_TV[:, : tokens_TV.shape[1]].log_softmax(-1)).sum(-1)
