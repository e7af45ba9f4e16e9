"""One shard of one pass: documents in, what the steps leave of them out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast

from genus.curate.document import Document, of_block
from genus.curate.report import Numbers, Tally
from genus.curate.shards import Compression, Shards

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from genus.curate import CorpusFilter, Curation, TextStep
    from genus.text import TextBlock

REMOVED: Literal["removed"] = "removed"
"""What a corpus filter decided of a shard, a flag for each key."""


@dataclass(frozen=True)
class Pass:
    """One pass over the corpus: first what the corpus filter before it decided, then the text steps, then keys."""

    curation: Curation
    number: int
    work: Path
    compression: Compression

    @property
    def shards(self) -> Shards:
        """What this pass leaves."""
        return Shards(self.work / str(self.number))

    @property
    def before(self) -> Shards:
        """What the pass before left."""
        return Shards(self.work / str(self.number - 1))

    def run(self, item: tuple[int, TextBlock | None]) -> Numbers:
        """Make a shard from a block, or from that of the pass before; return the report's numbers.

        Args:
            item: the shard's number; the block (None: the pass before has it).
        """
        shard, block = item
        tally, kept = Tally(), []
        documents = self._decided(shard, tally) if block is None else _read(block, tally)
        texts, keys = self.curation.passes()[self.number]
        for document in documents:
            left = self._steps(document, texts, tally)
            if left is not None:
                kept.append(left)
                if keys is None:
                    tally.document("kept", left)
        if keys is None:
            self.shards.write(shard, kept, tally.numbers, self.compression)
        else:
            self.shards.write_keys(shard, kept, tally.numbers, cast("CorpusFilter", self.curation.steps[keys]))
        return tally.numbers

    def _steps(self, document: Document, places: range, tally: Tally) -> Document | None:
        for place in places:
            step = cast("TextStep", self.curation.steps[place])
            outcome = step.apply(document.text)
            tally.outcome(self.curation.names[place], document, outcome)
            if outcome.document is not None:
                return None
            document = replace(document, text=outcome.text)
        return document

    def _decided(self, shard: int, tally: Tally) -> Iterator[Document]:
        """Yield what the corpus filter of the pass before leaves of the documents of a shard."""
        _, place = self.curation.passes()[self.number - 1]
        assert place is not None
        step = cast("CorpusFilter", self.curation.steps[place])
        removed, begin = self.before.load(shard, REMOVED), 0
        for document, count in zip(self.before.documents(shard), self.before.load(shard, "counts"), strict=True):
            outcome = step.apply(document.text, removed[begin : begin + count])
            begin += int(count)
            tally.outcome(self.curation.names[place], document, outcome)
            if outcome.document is None:
                yield replace(document, text=outcome.text)


def _read(block: TextBlock, tally: Tally) -> Iterator[Document]:
    found = block.documents()
    for name in ("empty", "replaced", "cut"):
        if number := getattr(found, name):
            tally.count("text", name, by=number)
    for document in of_block(block, found):
        tally.document("read", document)
        yield document
