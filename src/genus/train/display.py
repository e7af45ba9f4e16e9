"""Progress display on standard error: a progress bar on a terminal, elsewhere a line at fixed intervals."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

EVERY = 30.0
"""Seconds between two lines where standard error is not a terminal."""


class Display:
    """Progress bar of a run: fraction of the budget spent, loss, tokens per second, utilization and time left."""

    def __init__(self, title: str, spent: float) -> None:
        self.title, self.began_at = title, spent
        self.begun = self.printed = time.monotonic()
        console = Console(stderr=True)
        self.bar: Progress | None = None
        if console.is_terminal:
            name, line = TextColumn("{task.description}"), TextColumn("{task.fields[line]}")
            self.bar = Progress(name, BarColumn(), TaskProgressColumn(), line, console=console)
            self.task = self.bar.add_task(title, total=1.0, line="")

    def start(self) -> None:
        """Show the progress bar."""
        if self.bar:
            self.bar.start()

    def stop(self) -> None:
        """Stop the progress bar; its last state stays visible."""
        if self.bar:
            self.bar.stop()

    def show(self, row: dict[str, Any]) -> None:
        """Update the display with a row of metrics."""
        line = self._line(row)
        if self.bar:
            self.bar.update(self.task, completed=row["spent"], line=line)
        elif time.monotonic() - self.printed >= EVERY:
            self.printed = time.monotonic()
            print(f"{self.title}: {row['spent']:.0%}, {line}", file=sys.stderr, flush=True)

    def _line(self, row: dict[str, Any]) -> str:
        loss = f"loss {row['loss']:.3f}" if "loss" in row else "skipped"
        words = [f"step {row['step']:,}", loss, f"{row['tokens_per_second']:,.0f} tokens/s"]
        if "utilization" in row:
            words.append(f"{row['utilization']:.0%} of peak")
        if math.isfinite(row.get("noise_scale", math.nan)):
            words.append(f"noise scale {row['noise_scale']:,.0f} rows")
        if row["spent"] > self.began_at:
            left = (time.monotonic() - self.begun) * (1.0 - row["spent"]) / (row["spent"] - self.began_at)
            words.append(f"{clock(left)} left")
        return ", ".join(words)


def clock(seconds: float) -> str:
    """Return a duration as h:mm:ss, or m:ss below an hour."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
