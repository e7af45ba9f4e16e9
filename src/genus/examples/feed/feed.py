"""The data feed of a training stage: micro-batches by index, from an endless sequence of epochs."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from genus.examples.feed.pack import pack
from genus.examples.feed.planner import Planner
from genus.examples.feed.windows import Windows
from genus.examples.keys import CORRUPT, generator, joint
from genus.examples.streams import StreamOrder, Streams

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from genus.batch import Batch
    from genus.examples import Example, ExampleFormat, Limits
    from genus.examples.feed.planner import ExampleTransform
    from genus.examples.feed.row import Row
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary


class Feed:
    """`feed[m]` is micro-batch m: rows [m x micro_batch, (m + 1) x micro_batch) of all epochs laid end to end.

    It is a pure function of the arguments and m, so it does not matter which process asks for what in which order.

    An epoch is a version of the data in an order of its own. The version is the epoch's number, modulo `copies` where
    the format has copies. By (seed, version) are keyed the plan, the choice of examples that share a row, and, with the
    number of the example, its corruption; by (seed, epoch) the order of the rows (`Windows`, `StreamOrder`).

    Blocks of the corpus are planned when a row of theirs is asked for, and a few plans are kept (`Planner`). Processes
    forked from this one share the first plan, made here, and make all others themselves.
    """

    def __init__(
        self,
        store: Store,
        vocabulary: Vocabulary,
        examples: ExampleFormat,
        corruptions: Sequence[ExampleTransform],
        *,
        limits: Limits,
        micro_batch: int,
        seed: int,
        batch: int | None = None,
        task: int | None = None,
    ) -> None:
        """Plan the first block, and fix the static shapes by it.

        Args:
            store: the corpus.
            vocabulary: of its tokens.
            examples: the format.
            corruptions: what is done to each example, one after the other.
            limits: row length, by stream.
            micro_batch: rows of a micro-batch.
            seed: of all draws.
            batch: rows of a batch, which are its streams where the format has streams; None: one micro-batch.
            task: number of the task that all examples belong to.

        Raises:
            GenusError: the corpus is empty, or the format cannot be cut from it.
        """
        self.store, self.vocabulary, self.examples, self.corruptions = store, vocabulary, examples, tuple(corruptions)
        self.limits, self.micro_batch, self.seed, self.task = limits, micro_batch, seed, task
        self.planner = Planner(store, vocabulary, examples, self.corruptions, limits, seed)
        streamed = isinstance(examples, Streams)
        self.order = StreamOrder(self.planner, batch or micro_batch) if streamed else Windows(self.planner)
        limit = self.planner.sequences_per_row
        self.max_sequences = micro_batch * (limit + 1)
        """N: the real sequences of each row, and one entry of padding per row."""
        self.max_targets: dict[str, int] = {}
        self.target_streams: dict[str, str] = {}
        """The stream of the targets of each name."""
        for corruption in self.corruptions:
            most = corruption.max_targets(micro_batch * limits[corruption.stream], micro_batch * limit)
            self.max_targets |= most
            self.target_streams |= dict.fromkeys(most, corruption.stream)

    def __getitem__(self, number: int) -> Batch:
        """Return micro-batch `number`, from 0, packed."""
        first = number * self.micro_batch
        return self._pack([self.row(row) for row in range(first, first + self.micro_batch)])

    def row(self, number: int) -> list[Example]:
        """Return the examples of a row of the endless sequence, counted from 0, corrupted."""
        return self._examples(self.order.row(number))

    def epoch(self, number: int) -> float:
        """Return the number of epochs, with fraction, before micro-batch `number`."""
        return self.epoch_of_row(number * self.micro_batch)

    def epoch_of_row(self, number: int) -> float:
        """Return the number of epochs, with fraction, before a row of the endless sequence."""
        return self.order.epoch(number)

    @property
    def size(self) -> tuple[int, int]:
        """The examples and the rows of epoch 0, estimated from one block where the corpus has more."""
        return self.planner.size

    @property
    def tokens_per_row(self) -> float:
        """Mean tokens of a row of the stream `tokens`, by the first block."""
        return self.planner.tokens_per_row

    def seen(self, row: int) -> dict[str, float]:
        """Return how often each source of text was read: this feed's only one has no name."""
        return {}

    def evaluation_batches(self) -> Iterator[Batch]:
        """Yield epoch 0 once, the same at every call; the last batch is filled up with rows of padding.

        The number of streams is the number of rows per micro-batch, so each batch continues the one before.
        """
        rows = self.order.once(self.micro_batch)
        while found := [self._examples(row) for row in islice(rows, self.micro_batch)]:
            yield self._pack([*found, *[[]] * (self.micro_batch - len(found))])

    def _pack(self, rows: list[list[Example]]) -> Batch:
        pad, most = self.vocabulary.pad, self.max_sequences
        return pack(rows, self.limits, pad, most, self.max_targets, target_streams=self.target_streams)

    def _examples(self, row: Row) -> list[Example]:
        examples = [self._example(row, index) for index in row.examples.tolist()]
        if examples and row.opens:  # its stream begins here, wherever the text before it went
            for sequence in examples[0].streams.values():
                sequence.continues = False
        return examples

    def _example(self, row: Row, index: int) -> Example:
        """Return an example, corrupted by draws that are its own."""
        example = self.examples.read(row.plan, index, self.store, self.vocabulary)
        rng = generator(self.seed, CORRUPT, row.version, joint(index, row.block))
        for corruption in self.corruptions:
            example = corruption.prepare_example(example, self.vocabulary, rng)
        for sequence in example.streams.values():
            sequence.task = self.task
        return example
