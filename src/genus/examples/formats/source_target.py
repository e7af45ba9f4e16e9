"""Pairs of a source and a target, as translation learns from them: whole sides in rows of two streams.

Legend: D documents, E examples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.errors import GenusError, UsageError
from genus.examples import EpochPlan, Example, ExampleFormat, Sequence

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Lengths, Limits
    from genus.examples.blocks import Documents
    from genus.text import Fields
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary

    Ranges = dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
    """(D,) first and past-the-last token of each document, and of its source, by stream."""

NEEDED = (
    "SourceTargetPairs needs a source of each text, and the text has none: name its field with --source, and that of "
    "the target with --field"
)


class SourceTargetPairs(ExampleFormat):
    """Pairs of source and target: the stream `source` is what the encoder reads, `tokens` what the decoder writes.

    The target is a document, the source what is stored as its `Store.sources`. Each side is framed by its template, and
    is never cut: a pair with a side that is longer than a row is left out, and so is a document without a source.

    Source: Vaswani et al. 2017, section 5.1; tensor2tensor, layers/common_hparams.py: `max_length` leaves longer
    examples out. Deviation: there, a batch has pairs of similar lengths, padded; here, a row has as many pairs as fit.
    """

    stochastic: ClassVar[bool] = False
    streams: ClassVar[frozenset[str]] = frozenset({"source", "tokens"})
    nothing: ClassVar[str] = (
        "no pair of a source and a target fits into a row; take longer rows (stages.0.source_length and "
        "stages.0.max_length), or look at the fields of --source and --field"
    )

    def check_fields(self, fields: Fields) -> None:
        """Check that the text has a field of sources (UsageError)."""
        if fields.source is None:
            raise UsageError(NEEDED)

    def left_out(self, store: Store, vocabulary: Vocabulary, limits: Limits) -> str:
        """Return a notice of the documents that have no source, or a side that is longer than its row."""
        lengths, there = _lengths(_ranges(store, slice(None)), vocabulary)
        long = there & ~_fits(lengths, limits)
        found = []
        if missing := int((~there).sum()):
            found.append(f"{missing:,} of {len(there):,} texts have no source and are left out")
        if number := int(long.sum()):
            most, rows = (
                f"{sizes['source']:,} and {sizes['tokens']:,}"
                for sizes in ({stream: int(length[long].max()) for stream, length in lengths.items()}, limits)
            )
            found.append(
                f"{number:,} of {len(there):,} pairs are left out: they have up to {most} tokens of source and target, "
                f"a row {rows}; take longer rows (stages.0.source_length and stages.0.max_length) to learn from them"
            )
        return "; ".join(found)

    def plan(
        self, documents: Documents, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int
    ) -> EpochPlan:
        """Return the pairs of some documents that fit, each as the span of its source and that of its target.

        Raises:
            GenusError: the corpus has no sources.
        """
        ranges = _ranges(store, slice(documents.first, documents.last))
        lengths, there = _lengths(ranges, vocabulary)
        kept = there & _fits(lengths, limits)
        (first, first_end), (second, second_end) = ranges["source"], ranges["tokens"]
        number = int(kept.sum())
        return EpochPlan(
            offsets=np.arange(0, 2 * number + 1, 2),
            start=np.stack([first[kept], second[kept]], axis=1).flatten(),
            stop=np.stack([first_end[kept], second_end[kept]], axis=1).flatten(),
            segment=np.zeros(2 * number, dtype=np.int8),
            label=np.full(number, -1, dtype=np.int8),
            lengths={stream: length[kept] for stream, length in lengths.items()},
        )

    def read(self, plan: EpochPlan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return both sides with their special tokens, without targets."""
        source = Sequence(*vocabulary.frame(plan.text(2 * index, store)))
        target = Sequence(*vocabulary.frame_target(plan.text(2 * index + 1, store)))
        return Example({"source": source, "tokens": target}, {})


def _ranges(store: Store, chosen: slice) -> Ranges:
    """Return the tokens of some documents and of their sources.

    Raises:
        GenusError: the corpus has no sources.
    """
    if store.sources is None:
        raise GenusError(NEEDED)
    both = {"source": store.sources[chosen], "tokens": store.documents[chosen]}
    first_last = {stream: store.sentences[pairs].T for stream, pairs in both.items()}
    return {stream: (first, last) for stream, (first, last) in first_last.items()}


def _lengths(ranges: Ranges, vocabulary: Vocabulary) -> tuple[Lengths, NDArray[np.bool_]]:
    """Return the lengths (D,) of both sides with special tokens, and whether there is a source (D,)."""
    frames = {"source": vocabulary.framing(1), "tokens": vocabulary.target_framing}
    bare = {stream: last - first for stream, (first, last) in ranges.items()}
    return {stream: bare[stream] + frames[stream] for stream in ranges}, bare["source"] > 0


def _fits(lengths: Lengths, limits: Limits) -> NDArray[np.bool_]:
    """Return whether both sides of each pair are at most as long as a row (D,)."""
    both = np.stack([length <= limits[stream] for stream, length in lengths.items()])
    return np.asarray(both.all(0))
