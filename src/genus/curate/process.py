"""One shard of one pass: documents in, what the steps leave of them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from genus.curate.document import of_block
from genus.curate.report import Numbers, Tally
from genus.curate.shards import Compression, Shards

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from genus.curate import CorpusFilter, Curation, DocumentStep
    from genus.curate.document import Document
    from genus.text import TextBlock

REMOVED: Literal["removed"] = "removed"
"""What a corpus filter decided of a shard, a flag for each key."""


@dataclass(frozen=True)
class Pass:
    """One pass over the corpus: first what the corpus filter before it decided, then document steps, then keys."""

    curation: Curation
    number: int
    work: Path
    compression: Compression
    tokenizer: Path | None = None
    """Folder of a tokenizer by which tokens are counted; None: they are not."""

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
        tally = Tally(self.tokenizer)
        documents = [*(self._decided(shard, tally) if block is None else _read(block, tally))]
        steps, keys = self.curation.passes()[self.number]
        for place in steps:
            documents = [*self._step(documents, place, tally)]
        if keys is None:
            for document in documents:
                tally.document("kept", document)
            self.shards.write(shard, documents, tally.numbers, self.compression)
        else:
            self.shards.write_keys(shard, documents, tally.numbers, cast("CorpusFilter", self.curation.steps[keys]))
        return tally.numbers

    def _step(self, documents: list[Document], place: int, tally: Tally) -> Iterator[Document]:
        """Yield what a step leaves of documents."""
        step = cast("DocumentStep", self.curation.steps[place])
        for document, outcome in zip(documents, step.outcomes(documents), strict=True):
            tally.outcome(self.curation.names[place], document, outcome)
            if outcome.document is None:
                yield document.after(outcome)

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
                yield document.after(outcome)


def _read(block: TextBlock, tally: Tally) -> Iterator[Document]:
    found = block.documents()
    for name in ("empty", "replaced", "cut"):
        if number := getattr(found, name):
            tally.count("text", name, by=number)
    for document in of_block(block, found):
        tally.document("read", document)
        yield document
