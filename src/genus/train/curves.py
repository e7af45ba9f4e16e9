"""TensorBoard curves: an event file that is written row by row, so that a disk's errors are raised where they occur.

PyTorch's `SummaryWriter` writes in a thread of its own, whose errors are tracebacks beside the run.
"""

from __future__ import annotations

import io
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from genus.files import append

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VERSION = "brain.Event:2"
"""Version of the format, which the first event of a file names."""


class Curves:
    """The curves of one process; viewers drop what earlier files of the folder have from the first step on."""

    def __init__(self, folder: Path, first: int) -> None:
        """Begin an event file.

        Args:
            folder: of the run's event files.
            first: the first step that will be added.

        Raises:
            ImportError: TensorBoard is not installed.
            OSError: the file cannot be written.
        """
        from tensorboard.compat.proto import event_pb2

        name = f"events.out.tfevents.{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}"
        self.path = folder / name
        folder.mkdir(parents=True, exist_ok=True)
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        event = event_pb2.Event
        self._write(event(step=first, file_version=VERSION), event(step=first, session_log=start))

    def add(self, row: Mapping[str, float]) -> None:
        """Add the values of a row at its `step`, each to the curve of its name.

        Raises:
            OSError: the disk is full or fails.
        """
        from tensorboard.compat.proto import event_pb2, summary_pb2

        value = summary_pb2.Summary.Value
        values = [value(tag=name, simple_value=number) for name, number in row.items() if name != "step"]
        self._write(event_pb2.Event(step=int(row["step"]), summary=summary_pb2.Summary(value=values)))

    def _write(self, *events: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        records = io.BytesIO()
        for event in events:
            event.wall_time = time.time()
            RecordWriter(records).write(event.SerializeToString())
        with self.path.open("ab", buffering=0) as file:
            append(file, records.getvalue())
