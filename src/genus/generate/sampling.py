"""Greedy decoding and sampling: one token of one text at a time, chosen without regard to other texts."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import torch

from genus.errors import UsageError
from genus.generate import Decoding
from genus.part import Count, Fraction, NotNegative, Positive, SomeShare

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from genus.generate import Piece, Request
    from genus.generate.engine import Engine

FIRST = 512
"""Tokens that are sorted first: nucleus sampling seldom needs more, and sorting a whole vocabulary takes long."""


class TokenByToken(Decoding):
    """Decoding that chooses the next token of each text by itself."""

    @abstractmethod
    def choose(self, logits_SV: Tensor, draws_S: Tensor) -> Tensor:
        """Return the next ids (S,), given logits and uniform draws from [0, 1), one of each text."""

    def tempered(self, logits_SV: Tensor, written: Sequence[int]) -> Tensor:
        """Return logits (S, V) as they are chosen from, given how many tokens each text has got; here as they are."""
        return logits_SV

    def run(self, engine: Engine, requests: Sequence[Request]) -> Iterator[Piece]:
        """Yield what is generated for each request, in the order in which it is made."""
        yield from engine.token_by_token(self, requests)


class Greedy(TokenByToken):
    """Greedy decoding: the most probable token; of equal ones that of the lowest id."""

    def check(self, request: Request) -> None:
        """Refuse several samples, which would be the same text (UsageError)."""
        if request.samples > 1:
            raise UsageError(
                f"samples: greedy decoding finds one text, got {request.samples}; take a temperature above 0"
            )

    def in_transformers(self) -> dict[str, Any]:
        """Return that the most probable token is taken."""
        return {"do_sample": False, "num_beams": 1}

    def choose(self, logits_SV: Tensor, draws_S: Tensor) -> Tensor:
        """Return the ids (S,) of the largest logits."""
        return logits_SV.argmax(-1)


class Sampling(TokenByToken):
    """Sampling: a token drawn from softmax(logits / temperature), restricted to the most probable tokens.

    The filters apply in the order of the choices, each to what the one before has left, as in transformers. A token is
    drawn by inverting the distribution function, with one uniform draw.
    """

    temperature: NotNegative = 1.0
    """0: greedy decoding."""
    top_k: Count | None = None
    """The k most probable tokens (Fan et al. 2018, section 5.4); None: all."""
    top_p: SomeShare = 1.0
    """The fewest most probable tokens whose probabilities sum to p: nucleus sampling (Holtzman et al. 2019, 3.1)."""
    min_p: Fraction = 0.0
    """Tokens of at least this share of the most probable one's probability (Nguyen et al. 2024, section 3)."""

    def in_transformers(self) -> dict[str, Any]:
        """Return temperature and filters; `top_k` 0 is none."""
        if self.temperature == 0:
            return Greedy().in_transformers()
        filters = {"top_k": self.top_k or 0, "top_p": self.top_p, "min_p": self.min_p or None}
        return {"do_sample": True, "num_beams": 1, "temperature": self.temperature, **filters}

    def choose(self, logits_SV: Tensor, draws_S: Tensor) -> Tensor:
        """Return drawn ids (S,)."""
        if self.temperature == 0:
            return logits_SV.argmax(-1)
        logits_SV = logits_SV.double() / self.temperature
        if self.top_k is None and self.top_p == 1 and self.min_p == 0:
            return inverted(logits_SV.softmax(-1), draws_S)
        size = logits_SV.shape[-1]
        if self.top_k is None and size > FIRST:
            best, ids = logits_SV.topk(FIRST)
            share = (best - logits_SV.logsumexp(-1, keepdim=True)).exp()
            if self._enough(share):
                return self._drawn(share, ids, draws_S)
        best, ids = logits_SV.topk(min(self.top_k or size, size))
        return self._drawn(best.softmax(-1), ids, draws_S)

    def _enough(self, share_SK: Tensor) -> bool:
        """Return whether the filters leave no more than these most probable tokens, of any text."""
        return bool(((share_SK.sum(-1) > self.top_p) | (share_SK[:, -1] < self.min_p * share_SK[:, 0])).all())

    def _drawn(self, share_SK: Tensor, ids_SK: Tensor, draws_S: Tensor) -> Tensor:
        """Return ids (S,) drawn from the most probable tokens, filtered, given their probabilities in that order."""
        before = share_SK.cumsum(-1) - share_SK
        kept = before < self.top_p
        if self.min_p:
            left = share_SK * kept
            kept &= share_SK >= self.min_p * left[:, :1]
        kept[:, 0] = True
        share_SK = share_SK * kept
        chosen = inverted(share_SK / share_SK.sum(-1, keepdim=True), draws_S)
        return ids_SK.gather(-1, chosen[:, None])[:, 0]


class DecayingTemperature(Sampling):
    """Sampling whose temperature falls with the tokens that were generated, so that beginnings differ widely.

        t_i = start + (temperature - start) min(1, i / (tokens - 1))        of the token i = 0, 1, ...

    Source: Carlini et al. 2020 (arXiv:2012.07805), section 5.1.1: from 10 to 1 over the first 20 tokens; how it falls
    is not said there, and is a straight line here.
    """

    start: Positive = 10.0
    """Temperature of the first token; `temperature` is that of all after `tokens`."""
    tokens: Count = 20
    """Tokens over which it falls."""

    def tempered(self, logits_SV: Tensor, written: Sequence[int]) -> Tensor:
        """Return logits (S, V) over the temperature of each text, as a multiple of the last one."""
        if self.temperature == 0:
            return logits_SV
        share = [min(1.0, number / max(1, self.tokens - 1)) for number in written]
        heat = [(self.start + (self.temperature - self.start) * one) / self.temperature for one in share]
        return logits_SV / logits_SV.new_tensor(heat)[:, None]


def inverted(chances_SK: Tensor, draws_S: Tensor) -> Tensor:
    """Return (S,) the index at which the sum of the probabilities first exceeds each draw."""
    sums = chances_SK.cumsum(-1)
    index = torch.searchsorted(sums, draws_S.to(sums)[:, None] * sums[:, -1:], right=True)[:, 0]
    last = (chances_SK > 0).long().cumsum(-1).argmax(-1)  # rounding may not point beyond what has a probability
    return torch.minimum(index, last)
