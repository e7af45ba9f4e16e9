"""Packing of a micro-batch: its sequences are concatenated on one token axis (packed sequences)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from genus.batch import IGNORE, Batch, Flow, Packed, Targets, layout
from genus.examples import Sequence as Tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from genus.examples import Example, Limits

    Row = Sequence[Example]
    Pairs = list[tuple[NDArray[np.int64], NDArray[np.int64] | NDArray[np.float32]]]


def pack(
    rows: Sequence[Row],
    limits: int | Limits,
    pad: int,
    max_sequences: int | None = None,
    max_targets: dict[str, int] | None = None,
    *,
    streams: bool = True,
    target_streams: Mapping[str, str] | None = None,
) -> Batch:
    """Lay examples out in rows, each of which ends with one entry of padding, empty where the row is full.

    Entry j of every stream is the same example: one that lacks a stream has an empty sequence there.

    Args:
        rows: the examples of each row; a row may be empty.
        limits: row length by stream; a number is that of `tokens`.
        pad: the id of padding.
        max_sequences: N, to which the offsets are filled up, a row's padding counted (None: as many as there are).
        max_targets: M by name, to which targets are filled up; others are left out (None: all, as many as there are).
        streams: whether rows go on from those of the batch before; where none ever does, nothing is remembered.
        target_streams: the stream in which targets lie, by their name, where it is another than `tokens`.

    Raises:
        ValueError: a row, the sequences or the targets are more than fit.
    """
    limits = {"tokens": limits} if isinstance(limits, int) else limits
    parts = {name: [[_sequence(example, name) for example in row] for row in rows] for name in limits}
    laid = {name: _lay(part, limits[name], pad, max_sequences, streams) for name, part in parts.items()}
    return Batch(laid, _targets(rows, limits, max_targets, target_streams or {}))


def _sequence(example: Example, stream: str) -> Tokens:
    """Return an example's sequence of a stream, an empty one where it has none."""
    if stream in example.streams:
        return example.streams[stream]
    nothing = np.zeros(0, dtype=np.int64)
    return Tokens(nothing, nothing, nothing.astype(np.bool_))


def _lay(
    rows: Sequence[Sequence[Tokens]], max_length: int, pad: int, max_sequences: int | None, streams: bool
) -> Packed:
    """Concatenate the sequences of one stream, with the padding of each row."""
    offsets, sequence, positions = layout([[len(each.ids) for each in row] for row in rows], max_length)
    ids, real = np.full(len(sequence), pad, dtype=np.int64), sequence >= 0
    every = [each for row in rows for each in row]
    ids[real] = np.concatenate([ids[:0], *(each.ids for each in every)])
    if any(each.positions is not None for each in every):
        given = [np.arange(len(each.ids)) if each.positions is None else each.positions for each in every]
        positions[real] = np.concatenate(given)
    spare = _spare("sequences", len(offsets) - 1, max_sequences)
    return Packed(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        sequence=torch.from_numpy(sequence),
        offsets=torch.from_numpy(np.pad(offsets, (0, spare), mode="edge")),
        row_length=max_length,
        tokens=int(real.sum()),
        facts={name: torch.from_numpy(fact) for name, fact in _facts(every, real).items()},
        flow=_flow(rows) if streams else None,
        one_per_row=(max_sequences or 0) <= 2 * len(rows) and all(len(row) < 2 for row in rows),
        pixels=_pixels(every, real),
    )


def _pixels(sequences: Sequence[Tokens], real: NDArray[np.bool_]) -> torch.Tensor | None:
    """Return the pixels (T, pixels) of patches, 0 for padding; None where the tokens are those of a text."""
    parts = [each.pixels for each in sequences if each.pixels is not None]
    if not parts:
        return None
    pixels = np.zeros((len(real), parts[0].shape[1]), dtype=np.uint8)
    pixels[real] = np.concatenate(parts)
    return torch.from_numpy(pixels)


def _facts(sequences: Sequence[Tokens], real: NDArray[np.bool_]) -> dict[str, NDArray[np.int64]]:
    """Return per-token features (T,) by name, 0 for padding: segment; task, order, prefix if any sequence has one."""
    known = {"segment": [each.segments for each in sequences]}
    if any(each.task is not None for each in sequences):
        known["task"] = [np.full(len(each.ids), each.task or 0) for each in sequences]
    if any(each.order is not None for each in sequences):
        known["order"] = [np.zeros(len(each.ids), np.int64) if each.order is None else each.order for each in sequences]
    if any(each.prefix is not None for each in sequences):
        known["prefix"] = [(np.arange(len(each.ids)) < (each.prefix or 0)).astype(np.int64) for each in sequences]
    facts = {}
    for name, parts in known.items():
        facts[name] = np.zeros(len(real), dtype=np.int64)
        facts[name][real] = np.concatenate([facts[name][:0], *parts])
    return facts


def _flow(rows: Sequence[Sequence[Tokens]]) -> Flow:
    """Return how rows continue their streams: first sequence decides on `continues`, last one on `through`."""
    through = [sum(len(each.ids) for each in row[:-1]) + _through(row[-1]) if row else 0 for row in rows]
    backward = [bool(row) and row[0].backward for row in rows]
    return Flow(
        continues=torch.tensor([bool(row) and row[0].continues for row in rows]),
        through=torch.tensor(through),
        backward=torch.tensor(backward) if any(backward) else None,
    )


def _through(sequence: Tokens) -> int:
    return len(sequence.ids) if sequence.through is None else sequence.through


def _targets(
    rows: Sequence[Row], limits: Limits, max_targets: dict[str, int] | None, streams: Mapping[str, str]
) -> dict[str, Targets]:
    """Move every example's targets to where it lies in their stream, and fill them up."""
    names = {name for row in rows for example in row for name in example.targets}
    most = dict.fromkeys(names) if max_targets is None else max_targets
    found: dict[str, Pairs] = {name: [] for name in most}
    for number, row in enumerate(rows):
        at = {stream: number * length for stream, length in limits.items()}
        for example in row:
            for name in example.targets.keys() & found.keys():
                index, label = example.targets[name]
                found[name].append((index + at[streams.get(name, "tokens")], label))
            for stream in at:
                at[stream] += len(_sequence(example, stream).ids)
    on = {name: streams.get(name, "tokens") for name in found}
    return {name: _fill_up(name, pairs, most[name], on[name], limits[on[name]]) for name, pairs in found.items()}


def _fill_up(name: str, pairs: Pairs, number: int | None, stream: str, row_length: int) -> Targets:
    """Concatenate the targets of one name, and fill up to `number` with ignored targets."""
    index = np.concatenate([np.zeros(0, dtype=np.int64), *(index for index, _ in pairs)])
    label = np.concatenate([label for _, label in pairs]) if pairs else np.zeros(0, dtype=np.int64)
    spare = (0, _spare(f"{name} targets", len(index), number))
    nothing = np.nan if np.issubdtype(label.dtype, np.floating) else IGNORE
    label = np.pad(label, [spare, *[(0, 0)] * (label.ndim - 1)], constant_values=nothing)
    most = int(np.bincount(index // row_length).max(initial=0))
    return Targets(torch.from_numpy(np.pad(index, spare)), torch.from_numpy(label), stream=stream, most=most)


def _spare(what: str, number: int, limit: int | None) -> int:
    """Return the number of entries to fill up to the limit; 0 without one.

    Raises:
        ValueError: the number exceeds the limit.
    """
    if limit is None:
        return 0
    if number > limit:
        raise ValueError(f"a batch planned for {limit} {what} got {number}")
    return limit - number
