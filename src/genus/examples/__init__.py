"""Station 3, ids to examples: pure functions of the token store and a key.

An example format plans a block of the store for an epoch (which spans make which example), and reads one example of the
plan; the objectives then corrupt it. Both draw only from generators keyed by (seed, epoch, number), so any worker can
make any example.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from genus.part import Count, Part

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from genus.examples.blocks import Documents
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary

    Limits = Mapping[str, int]
    """The largest length of a sequence, by stream."""
    Lengths = Mapping[str, NDArray[np.int64]]
    """(examples,) the length of each example's sequence, by stream."""


@dataclass(slots=True)
class Sequence:
    """One sequence of one stream, not yet packed. L is its length."""

    ids: NDArray[np.int64]
    segments: NDArray[np.int64]
    fixed: NDArray[np.bool_]
    """(L,) true where no corruption may touch the token (the frame's special tokens)."""
    order: NDArray[np.int64] | None = None
    """(L,) the order in which tokens see each other, where there is one."""
    following: int | None = None
    """The token that follows the last one in the text, where the format knows it."""
    continues: bool = False
    """It goes on where the row before had come to in its stream."""
    through: int | None = None
    """How many of its tokens the stream comes through, from where the next row goes on; None: all."""
    backward: bool = False
    """Its text is reversed."""
    task: int | None = None
    """Number of the task it belongs to, by which a model with task embeddings knows it."""


@dataclass(slots=True)
class Example:
    """Named sequences, and named targets as (index within the sequence, label) pairs, of one training example."""

    streams: dict[str, Sequence]
    targets: dict[str, tuple[NDArray[np.int64], NDArray[np.int64] | NDArray[np.float32]]]

    @property
    def tokens(self) -> Sequence:
        """The stream of a one-stream model."""
        return self.streams["tokens"]


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """The examples of one block of the store in one epoch, as spans of tokens.

    Example e is spans [offsets[e], offsets[e+1]); span s is store tokens [start[s], stop[s]) in segment `segment[s]`.
    """

    offsets: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    segment: NDArray[np.int8]
    label: NDArray[np.int8]
    """(examples,) the format's own label (1: the second segment is random), -1 where the format has none."""
    lengths: Lengths
    """Of the framed examples in tokens, at most the limits."""

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.offsets) - 1

    def text(self, span: int, store: Store) -> NDArray[np.int64]:
        """Return the ids of a span."""
        return store.ids[self.start[span] : self.stop[span]].astype("int64")


class ExampleFormat(Part, ABC):
    """An example format: how a corpus is cut into training examples."""

    provides: ClassVar[frozenset[str]] = frozenset()
    """Names of the targets that the format itself gives, such as `next_sentence`."""
    facts: ClassVar[frozenset[str]] = frozenset({"segment"})
    """Names of the facts of tokens that the format gives (`Packed.facts`)."""

    streams: ClassVar[frozenset[str]] = frozenset({"tokens"})
    """Names of the streams of its examples: `tokens`, and what it is conditioned on."""

    stochastic: ClassVar[bool] = True
    """Whether the plan depends on seed and epoch; where it does not, one plan serves all epochs."""

    @property
    def classes(self) -> int:
        """How many classes the labels that it gives have."""
        return 2

    nothing: ClassVar[str] = "the corpus has no text of which {format} can make an example"
    """What is wrong with a corpus of which no block has an example."""

    dupe_factor: Count | None = None
    """How many fixed versions of the data there are, as BERT's duplicated static masks (None: new at every epoch)."""

    @abstractmethod
    def plan(
        self, documents: Documents, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int
    ) -> EpochPlan:
        """Cut some documents of the store into the examples of one epoch, none of them longer than the limits.

        It is a function of its arguments alone, and may find no example. Text from elsewhere may be of any document of
        the store.

        Args:
            documents: which ones: a block of about a million sentences, or all for formats that are `Streams`.
            store: the corpus.
            vocabulary: of its tokens.
            limits: the largest length of a sequence, by stream.
            seed: of all draws, whose key is (seed, PLAN, epoch, number of the block).
            epoch: number of the version of the data.
        """

    @abstractmethod
    def read(self, plan: EpochPlan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return example `index` of the plan, framed, uncorrupted, with the format's own targets if it has any."""
