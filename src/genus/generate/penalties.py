"""Penalties: repetition penalty, CTRL's penalized sampling, no repeated n-grams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from genus.generate import Penalty
from genus.part import Count, Positive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


class RepetitionPenalty(Penalty):
    """Repetition penalty: logits x of tokens that the text has become x / value if x >= 0, else x value.

    It is CTRL's penalized sampling with the sign seen to, as transformers' `RepetitionPenaltyLogitsProcessor`.
    """

    value: Positive = 1.2
    """Above 1, repetition becomes less probable."""

    def __call__(self, logits_SV: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        """Return penalized logits (S, V)."""
        return _scaled(logits_SV, texts, lambda x: torch.where(x < 0, x * self.value, x / self.value))


class PenalizedSampling(Penalty):
    """CTRL's penalized sampling: p_i = exp(x_i / (T I_i)) / Σ_j exp(x_j / (T I_j)), I_i = theta if i was generated.

    Tokens of the prompt count as generated. A negative logit becomes more probable by it: so the formula is published,
    for the logits of CTRL.

    Source: Keskar et al. 2019, section 4.1; released code, generation.py (which spares line breaks).
    """

    theta: Positive = 1.2
    """Released code, generation.py: `--penalty`."""

    def __call__(self, logits_SV: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        """Return penalized logits (S, V)."""
        return _scaled(logits_SV, texts, lambda x: x / self.theta)


class NoRepeatedNgrams(Penalty):
    """No n-gram of tokens occurs twice in a text, its prompt included, as transformers' `no_repeat_ngram_size`."""

    size: Count = 3
    """n"""

    def __call__(self, logits_SV: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        """Return logits (S, V) that are -inf for tokens that would complete an n-gram of the text."""
        for logits, ids in zip(logits_SV, texts, strict=True):
            n = self.size - 1
            begun = tuple(ids[len(ids) - n :])
            if len(ids) > n and (banned := [ids[i + n] for i in range(len(ids) - n) if tuple(ids[i : i + n]) == begun]):
                logits[banned] = -torch.inf
        return logits_SV


def _scaled(logits_SV: Tensor, texts: Sequence[Sequence[int]], change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return logits (S, V), changed by a function at the tokens that each text has."""
    for logits, ids in zip(logits_SV, texts, strict=True):
        index = torch.tensor(sorted({*ids}), device=logits.device)
        logits[index] = change(logits[index])
    return logits_SV
