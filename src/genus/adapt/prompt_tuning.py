"""Prompt tuning: trained vectors in front of the text (Lester et al. 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from genus.adapt import Adaptation
from genus.errors import UsageError
from genus.model.front import PromptVectors
from genus.part import Count

if TYPE_CHECKING:
    from torch import Tensor

    from genus.objectives import Head, Learner

RANDOM = 0.5
"""Bound of the uniform distribution of random vectors (section 3.2)."""


class PromptTuning(Adaptation):
    """Trained vectors in front of the text of every sequence, in place of token embeddings; of the encoder's text.

    The text's tokens have the positions after them. Heads of whole sequences that read the first position read the
    state of the first vector, as with peft.

    Source: Lester et al. 2021, section 2.
    """

    length: Count = 20
    """Vectors (section 3.2: 20 are enough, 100 in most experiments)."""
    start: Literal["tokens", "random"] = "tokens"
    """What they begin as: embeddings of random tokens of the vocabulary, or U(-0.5, 0.5) (section 3.2)."""

    @property
    def in_front(self) -> int:
        """The number of vectors."""
        return self.length

    def extend(self, learner: Learner) -> None:
        """Put the vectors in front of what the network, or its encoder, reads.

        Raises:
            UsageError: it takes none; or there are some.
        """
        network: Any = learner.network
        host: Any = network.prompt_host()
        if host.embed.prompt is not None:
            raise UsageError("the learner has a prompt already")
        heads = cast("list[Head]", list(learner.heads.values()))
        whole = any(head.per == "sequence" for head in heads) and host is network and not network.choice.causal
        host.embed.prompt = PromptVectors(self._drawn(host), first=whole)

    @torch.no_grad()
    def _drawn(self, host: Any) -> Tensor:
        """Return the vectors (p, E) at first."""
        table, device = host.token_embedding, next(host.parameters()).device
        tokens = table(torch.randint(table.num_embeddings, (self.length,)).to(device))
        if self.start == "tokens":
            return tokens.clone()  # type: ignore[no-any-return]
        return torch.empty_like(tokens).uniform_(-RANDOM, RANDOM)
