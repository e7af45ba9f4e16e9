"""Prefix tuning: trained keys and values in front of every sequence, in every layer (Li and Liang 2021)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from genus.adapt import Adaptation
from genus.errors import UsageError
from genus.model.front import PrefixKeys
from genus.part import Count

if TYPE_CHECKING:
    from genus.objectives import Learner


class PrefixTuning(Adaptation):
    """Trained keys and values in front of those of every sequence, in self-attention of every layer.

    Of an encoder-decoder it is the decoder's. The text's tokens have the positions after the prefix, and every token
    attends to it whatever the mask, as where the keys and values of earlier tokens are cached: so do peft and the
    released code.

    Source: Li and Liang 2021, sections 4.2 and 4.3.
    """

    length: Count = 10
    """Positions of the prefix (section 7.2: 10 for tables to text, 200 for summaries)."""
    projection: Count | None = 512
    """Inner size of the MLP that makes keys and values in training (released code: mid_dim); None: they are trained
    themselves."""

    @property
    def in_front(self) -> int:
        """The length of the prefix."""
        return self.length

    @property
    def settled(self) -> Adaptation:
        """The prefix without its MLP."""
        return replace(self, projection=None)

    def extend(self, learner: Learner) -> None:
        """Give the network, or its decoder, a prefix.

        Raises:
            UsageError: its attention has no keys of tokens; or there is a prefix.
        """
        host = self._host(learner)
        if host.prefix is not None:
            raise UsageError("the learner has a prefix already")
        prefix = PrefixKeys(host.key_shapes(), self.length, self.projection, host.hidden)
        host.prefix = prefix.to(next(host.parameters()).device)

    def settle(self, learner: Learner) -> None:
        """Replace the MLP by the keys and values that it makes."""
        cast("PrefixKeys", self._host(learner).prefix).settle()

    def _host(self, learner: Learner) -> Any:
        return learner.network.prefix_host()
