"""The order of rows that are shuffled: within windows of several blocks, the blocks in random order."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.examples.feed.planner import WINDOW, Planner, kept
from genus.examples.feed.row import Row
from genus.examples.keys import ORDER, generator, joint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Window:
    """Some blocks of one epoch, whose rows come in random order."""

    blocks: list[int]
    ends: list[int]
    """Of the rows laid end to end, the number past the last one of each block."""
    order: NDArray[np.int64]
    """The rows in the order in which they come."""
    ahead: list[int]
    """The blocks of the next window."""


class Windows:
    """All epochs laid end to end, each cut into windows of about `WINDOW` blocks.

    The order of an epoch's blocks is drawn from (seed, epoch), that of a window's rows from (seed, epoch, window). A
    corpus of up to `WINDOW` blocks is one window. While a window is read, the blocks of the next are planned.

    Where a row lies depends on the number of rows of all windows before it. They are remembered; the first request for
    a late row plans every block before it (about 10 s per 1e9 tokens), or once each where plans are not drawn.
    """

    def __init__(self, planner: Planner) -> None:
        """Begin with no window counted."""
        self.planner = planner
        self.windows = -(-len(planner.blocks) // WINDOW)
        self._starts = [0]
        self._kept: dict[int, Window] = {}

    def row(self, number: int) -> Row:
        """Return a row of the endless sequence, counted from 0."""
        window, place = self._locate(number)
        self._plan_ahead(window, place)
        return self._row(window, place)

    def epoch(self, number: int) -> float:
        """Return how many epochs have passed before a row, within a window measured by its rows, else by sentences."""
        window, place = self._locate(number)
        before, share = self._passes(window)
        return before + share * (place / (self._starts[window + 1] - self._starts[window]))

    def once(self, _: int) -> Iterator[Row]:
        """Yield the rows of epoch 0."""
        for window in range(self.windows):
            while len(self._starts) < window + 2:
                self._count()
            for place in range(self._starts[window + 1] - self._starts[window]):
                yield self._row(window, place)

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what is quickly made again."""
        return self.__dict__ | {"_kept": {}}

    def _locate(self, row: int) -> tuple[int, int]:
        """Return the window of a row of the endless sequence, and the row's place in it."""
        while self._starts[-1] <= row:
            self._count()
        window = bisect_right(self._starts, row) - 1
        return window, row - self._starts[window]

    def _row(self, number: int, place: int) -> Row:
        """Return the row at a place of a window."""
        window = self._window(number)
        row = int(window.order[place])
        within = bisect_right(window.ends, row)
        block, version = window.blocks[within], self._version(number)
        plan, rows = self.planner(block, version)
        return Row(plan, block, version, rows[row - (window.ends[within - 1] if within else 0)])

    def _plan_ahead(self, number: int, place: int) -> None:
        """Plan as much of the next window as has passed of this one, so that no row waits for all of its blocks."""
        window = self._window(number)
        due = place * len(window.ahead) // len(window.order)
        if due:
            self.planner(window.ahead[due - 1], self._version(number + 1))

    def _count(self) -> None:
        """Find where the next window ends: plan those of its blocks that were never planned."""
        number = len(self._starts) - 1
        self._starts.append(self._starts[-1] + sum(self._rows(number)))

    def _rows(self, number: int) -> list[int]:
        """Return the number of rows of each block of a window."""
        version = self._version(number)
        return [self.planner.rows(block, version) for block in self._blocks(number)]

    def _window(self, number: int) -> Window:
        return kept(self._kept, number, 2, lambda: self._make(number))

    def _make(self, number: int) -> Window:
        ends = np.cumsum(self._rows(number))
        order = generator(self.planner.seed, ORDER, joint(*divmod(number, self.windows))).permutation(ends[-1])
        return Window(self._blocks(number), ends.tolist(), order, self._blocks(number + 1))

    def _blocks(self, number: int) -> list[int]:
        """Return the numbers of a window's blocks."""
        epoch, place = divmod(number, self.windows)
        blocks: list[int] = np.array_split(self.planner.order(epoch), self.windows)[place].tolist()
        return blocks

    def _passes(self, number: int) -> tuple[float, float]:
        """Return how many epochs have passed before a window, and the window's own share of one, by sentences."""
        epoch, place = divmod(number, self.windows)
        each = np.array_split(self.planner.sizes[self.planner.order(epoch)], self.windows)
        before, own = sum(int(part.sum()) for part in each[:place]), int(each[place].sum())
        total = int(self.planner.sizes.sum())
        return epoch + before / total, own / total

    def _version(self, number: int) -> int:
        return self.planner.version(number // self.windows)
