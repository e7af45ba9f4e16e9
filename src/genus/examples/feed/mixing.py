"""Mixtures of sources of text: how much of a run's text is read of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import UsageError
from genus.examples.feed.mixture import mixing_rates
from genus.part import AtLeastOne, Count, Part, Positive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from genus.tokens.store import Store

ROUNDING = 1e-9
"""Tolerance with which a source reaches its limit."""


class MixedSource(Part):
    """A source of text in a mixture."""

    name: str
    share: Positive | None = None
    """Its tokens beside those of the others; None for all sources: by their sizes."""
    epochs: Positive | None = None
    """The most times that it is read; None: as the mixture says."""


class Mixing(Part):
    """How much is read of each source: shares of the tokens of a whole run.

    Share p_i is in proportion to the weight w_i, or to min(n_i, limit)^(1 / temperature) of n_i tokens (Raffel et al.
    2019, section 3.5.2). Where a run reads T tokens and a source may be read E_i times, p_i T <= E_i n_i: what is over
    goes to the other sources in proportion, as in UniMax (Chung et al. 2023, arXiv:2304.09151), whose weights are
    equal.
    """

    sources: tuple[MixedSource, ...]
    limit: Count | None = None
    """K, the artificial limit on the size of a source, in tokens."""
    temperature: AtLeastOne = 1.0
    """T: 1 reads in proportion to size, a large T reads of all equally."""
    epochs: Positive | None = None
    """The most times that a source is read; None: as often as its share says."""

    def __post_init__(self) -> None:
        """Check that choices fit each other.

        Raises:
            ValueError: there is no source, two have one name, only some have weights, or sizes are asked for too.
        """
        names = [source.name for source in self.sources]
        if not names or len({*names}) < len(names):
            raise ValueError("a mixture needs sources, each of a name of its own")
        if without := [source.name for source in self.sources if source.share is None]:
            if len(without) < len(names):
                raise ValueError(f"{without[0]} has no weight, and others have; say one for each, or for none")
        elif self.limit is not None or self.temperature != 1:
            raise ValueError("limit and temperature are of shares by size; leave the weights out")

    @property
    def is_limited(self) -> bool:
        """Whether shares depend on how much is read."""
        return any(most is not None for most in self.most().values())

    def most(self) -> dict[str, float | None]:
        """Return how often each source is read at most; None: as often as its share says."""
        return {source.name: source.epochs or self.epochs for source in self.sources}

    def shares(self, tokens: Mapping[str, int], read: float | None) -> dict[str, float]:
        """Return the share of the tokens that is read of each source; they sum to 1.

        Args:
            tokens: of each source.
            read: tokens of text that the run reads; None: nobody knows.

        Raises:
            UsageError: the limits leave less than is read, or need to know how much that is.
        """
        weights = [source.share for source in self.sources if source.share is not None]
        sizes = [tokens[source.name] for source in self.sources]
        wanted = np.array(weights) if weights else mixing_rates(sizes, self.limit, self.temperature)
        wanted = wanted / wanted.sum()
        if self.is_limited:
            if read is None:
                raise UsageError(
                    "--mix epochs: how often a source is read is not known before, as the budget is neither in steps "
                    "nor in tokens or epochs; take such a budget, or leave the limit out"
                )
            most = [np.inf if times is None else times for times in self.most().values()]
            there = np.array(most) * sizes
            if there.sum() < read * (1 - ROUNDING):
                raise UsageError(
                    f"--mix epochs: the sources give at most {there.sum():,.0f} tokens, and the budget reads up to "
                    f"{read:,.0f}; take a smaller budget, a higher limit, or more text"
                )
            wanted = limited(wanted, there / read)
        return {source.name: float(share) for source, share in zip(self.sources, wanted, strict=True)}

    def check(self, shares: Mapping[str, float], tokens: Mapping[str, int], read: float | None) -> None:
        """Check that no source is read more often than it may, with shares of before.

        Raises:
            UsageError: one is.
        """
        for name, times in self.most().items():
            if times is not None and read is not None and shares[name] * read > times * tokens[name] * (1 + ROUNDING):
                often = shares[name] * read / tokens[name]
                raise UsageError(
                    f"{name}: would be read {often:.3g} times with this budget, and may be {times:g} times; shares "
                    "stay as the run began with them: take a smaller budget, or another folder"
                )


@dataclass(frozen=True)
class Sources:
    """The token stores of a run, by name, and the share of the tokens that is read of each.

    Text that is no mixture is one source without a name, and without a share.
    """

    stores: dict[str, Store]
    shares: dict[str, float]

    @classmethod
    def of(cls, text: Store | Sources) -> Sources:
        """Return sources as they are, and one store as the only source."""
        return text if isinstance(text, Sources) else cls({"": text}, {})

    @property
    def tokens(self) -> dict[str, int]:
        """Tokens of each source."""
        return {name: store.tokens for name, store in self.stores.items()}

    def counts(self, size: int) -> NDArray[np.int64]:
        """Return token counts (size,), by id, over all stores."""
        found: NDArray[np.int64] = np.sum([store.counts(size) for store in self.stores.values()], axis=0)
        return found


def limited(shares: NDArray[np.float64], most: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the shares, none above its most: what is over goes to the others in proportion.

    Args:
        shares: which sum to 1.
        most: which sum to at least 1.
    """
    found, full = shares.copy(), np.zeros(len(shares), np.bool_)
    while (over := (found > most * (1 + ROUNDING)) & ~full).any():
        full |= over
        rest, free = 1 - most[full].sum(), shares[~full].sum()
        found = np.where(full, most, shares * (rest / free if free else 0))
    scaled: NDArray[np.float64] = found / found.sum()
    return scaled
