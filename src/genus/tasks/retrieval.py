"""Retrieval: how high an embedder ranks the passages that are relevant to queries, among all of a table.

Legend: Q queries, C passages of a block, E size of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from genus.errors import GenusError, near, say
from genus.evaluate.ranking import Ranks
from genus.tasks.cell import several_in, text_in, written
from genus.tasks.embed import BLOCK, embed, embed_blocks, embedder_of
from genus.tasks.embedded_rows import count
from genus.tasks.notices import Notices
from genus.tasks.table import rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from genus.evaluate.metrics import Metric
    from genus.export.folder import LoadedModel
    from genus.tasks.report import Metrics
    from genus.tasks.sentence_embedding import SentenceEmbedding
    from genus.train.run import Run

IDS, TEXT = ("id", "_id"), "text"
"""Columns of a table of passages, as BEIR's files have them."""


@dataclass(frozen=True)
class Passages:
    """A table of passages, which is read anew each time, as it may be larger than memory."""

    path: Path

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield the id and the text of each passage.

        Raises:
            GenusError: the table cannot be read, or lacks a column.
        """
        for line, row in rows(self.path, Notices(), (*IDS, TEXT)):
            column = next((name for name in IDS if row.get(name) is not None), None)
            if column is None or TEXT not in row:
                lacks = TEXT if column else "id"
                raise GenusError(f"{self.path}, line {line}: there is no column {lacks!r}.{near(lacks, list(row))}")
            try:
                yield written(row[column], column), text_in(row, TEXT)
            except ValueError as error:
                raise GenusError(f"{self.path}, line {line}: {error}") from None

    def texts_of(self, wanted: set[str]) -> dict[str, str]:
        """Return the texts of passages by id.

        Raises:
            GenusError: one is not there, or stands there twice.
        """
        found: dict[str, str] = {}
        for name, text in self:
            if name in wanted:
                if name in found:
                    raise GenusError(f"{self.path}: the passage {name!r} stands there twice; give it an id of its own")
                found[name] = text
        if lost := sorted(wanted - found.keys()):
            raise GenusError(
                f"{self.path}: {len(lost):,} passages that queries name are not there, such as {lost[0]!r}"
            )
        return found


def read_queries(path: Path, column: str, label: str) -> tuple[list[str], list[list[str]]]:
    """Return the texts of queries, and the ids of what is relevant to each: a list, or one id, or none.

    Raises:
        GenusError: the table cannot be read, has no rows, or lacks a column.
    """
    texts, relevant, notices = [], [], Notices()
    for line, row in rows(path, notices, (column, label)):
        for name in (column, label):
            if name not in row:
                raise GenusError(f"{path}, line {line}: there is no column {name!r}.{near(name, list(row))}")
        try:
            texts.append(text_in(row, column))
            relevant.append([*dict.fromkeys(_ids(row, label))])
        except ValueError as error:
            raise GenusError(f"{path}, line {line}: {error}") from None
    if not texts:
        raise GenusError(f"{path}: holds no rows")
    for notice in notices.lines(path):
        say(notice)
    return texts, relevant


def _ids(row: dict[str, Any], label: str) -> list[str]:
    """Return the ids in a cell."""
    if isinstance(row[label], list):
        return [written(one, label) for one in several_in(row, label, "ids") or ()]
    return list(filter(None, [written(row[label], label).strip()]))


def retrieve(
    model: LoadedModel,
    task: SentenceEmbedding,
    queries: Path,
    passages: Path,
    metrics: Sequence[Metric],
    run: Run | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Metrics:
    """Return metrics of the ranking of all passages by the cosine, for queries to which any is relevant.

    Vectors of queries and of what is relevant are in memory, those of other passages block by block.

    Args:
        model: an embedder.
        task: names the columns of queries and of ids of what is relevant to them, and what stands before texts.
        queries: the table of queries.
        passages: the table of passages, with `id` (or `_id`) and `text`.
        metrics: what is measured.
        run: device and precision; None: the model's device, in float32.
        progress: called with the number of passages that are read.

    Raises:
        GenusError: a table cannot be read or lacks a column, or a passage that is relevant is not there.
    """
    texts, relevant = read_queries(queries, *task.texts)
    before, table = task.prefixes(embedder_of(model)), Passages(passages)
    known = table.texts_of({name for few in relevant for name in few})
    asked_QE, known_CE = (
        F.normalize(torch.from_numpy(embed(model, given, prefix, run)).double(), dim=-1)
        for given, prefix in ((texts, before[0]), (known.values(), before[1]))
    )
    place = {name: number for number, name in enumerate(known)}
    places = [[place[name] for name in few] for few in relevant]
    found = Ranks([known_CE[few] @ query_E for query_E, few in zip(asked_QE, places, strict=True)])
    count(found, asked_QE, known_CE, dict(enumerate(places)))
    others = (text for name, text in table if name not in known)
    for number, block_CE in enumerate(embed_blocks(model, others, before[1], run), 1):
        count(found, asked_QE, F.normalize(torch.from_numpy(block_CE).double(), dim=-1), {})
        if progress is not None:
            progress(number * BLOCK, None)
    truth, ranks = found.counts, found.of_relevant()
    for line in dict.fromkeys(filter(None, (metric.signature(truth) for metric in metrics))):
        say(f"{queries}: {line}")
    return {one.name: one(truth, ranks) if one.defined(truth) else None for one in metrics}
