"""Metrics of a run: `metrics.jsonl`, `run.json`, TensorBoard curves, and the progress display."""

from __future__ import annotations

import json
import math
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from genus.errors import GenusError, say
from genus.files import FULL, append, reason, write_text
from genus.train.curves import Curves
from genus.train.display import Display
from genus.train.peak import peak_flops, unknown_peak
from genus.train.precision import number_format
from genus.train.provenance import write_provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from genus.recipe import Budget
    from genus.train.progress import Progress
    from genus.train.run import Run
    from genus.train.step import StepResult
    from genus.train.world import World

MetricsRow = dict[str, Any]


class Record:
    """The metrics of a run, written by its first process; without a folder there is only the display."""

    def __init__(
        self, folder: Path | None, run: Run, world: World, budget: Budget, progress: Progress, title: str, seed: int
    ) -> None:
        self.run, self.world, self.budget, self.before = run, world, budget, progress
        self.noise: float | None = None
        first = world.rank == 0
        self.display = Display(title, progress.spent(budget)) if first else None
        if first and folder:
            write_provenance(folder / "run.json", run, world, progress.step, seed)
        self.metrics = MetricsFile(folder, run.tracker, progress.step) if first and folder else None

    def __enter__(self) -> Self:
        """Start the display, and print why utilization is left out, if it is."""
        if self.display:
            self.display.start()
            if line := unknown_peak(self.world.device, number_format(self.run.precision, self.world.device)):
                print(line, file=sys.stderr)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the display and close the files."""
        if self.display:
            self.display.stop()
        if self.noise is not None:
            say(f"gradient noise scale: a batch of about {self.noise:,.0f} rows; genus doctor compares it with yours")
        if self.metrics:
            self.metrics.close()

    def step(self, progress: Progress, result: StepResult, seen: Callable[[], dict[str, float]]) -> None:
        """Record the metrics of an update, every `log_every` steps, with what was seen of each source of text."""
        if progress.step % self.run.log_every or not self.display:
            return
        row = {
            "step": progress.step,
            "stage": progress.stage,
            "spent": progress.spent(self.budget),
            "loss": result.loss,
            **result.means,
            "lr": result.lr,
            "gradient_norm": result.gradient_norm,
            "tokens": progress.tokens,
            "epochs": progress.epochs,
            **{f"epochs/{name}": times for name, times in seen().items()},
            "seconds": progress.seconds,
            **self._rates(progress),
        }
        if result.skipped:  # what is not finite is no value of a curve
            row = {name: value for name, value in row.items() if value is not None and math.isfinite(value)}
        self.before = progress
        if math.isfinite(row.get("noise_scale", math.nan)):
            self.noise = row["noise_scale"]
        self.display.show(row)
        if self.metrics:
            self.metrics.write(row)

    def prepared(self, step: int, made: dict[str, float]) -> None:
        """Record what the data are like that were made for an update, with the prefix `rollout/`; nothing of none."""
        if self.metrics and made:
            self.metrics.write({"step": step, **{f"rollout/{name}": value for name, value in made.items()}})

    def evaluation(self, progress: Progress) -> None:
        """Record the metrics of an evaluation, with the prefix `held_out/`."""
        if self.metrics:
            found = {f"held_out/{name}": value for name, value in progress.evaluation.items()}
            self.metrics.write({"step": progress.step, **found})

    def _rates(self, progress: Progress) -> MetricsRow:
        """Return real tokens per second since the last row, and model-FLOPs utilization where the peak is known."""
        seconds = progress.seconds - self.before.seconds
        rates = {"tokens_per_second": (progress.tokens - self.before.tokens) / seconds}
        peak = peak_flops(self.world.device, number_format(self.run.precision, self.world.device))
        if progress.flops and peak is not None:
            rates["utilization"] = (progress.flops - self.before.flops) / seconds / (peak * self.world.size)
        return rates


class MetricsFile:
    """`metrics.jsonl`, one row per line, unbuffered; a resumed run drops the rows after its checkpoint."""

    def __init__(self, folder: Path, tracker: str, step: int) -> None:
        self.path = folder / "metrics.jsonl"
        _cut(self.path, step)
        with _writing(folder / "tensorboard"):
            self.curves = _curves(folder / "tensorboard", step, tracker)
        with _writing(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("ab", buffering=0)

    def write(self, row: MetricsRow) -> None:
        """Append a row; NaN and infinities, which JSON cannot represent, become null.

        Raises:
            GenusError: the disk is full or fails.
        """
        told = {name: value if math.isfinite(value) else None for name, value in row.items()}
        with _writing(self.path):
            append(self.file, json.dumps(told).encode() + b"\n")
        if self.curves is not None:
            with _writing(self.curves.path):
                self.curves.add(row)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def read_metrics(path: Path) -> list[MetricsRow]:
    """Return the rows of a run's `metrics.jsonl`; an incomplete last line, of a run that is writing, is left out."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def _cut(path: Path, step: int) -> None:
    """Keep the rows up to a step, since later steps are trained again; an incomplete last line is dropped.

    Damaged lines are dropped too, and counted.
    """
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    steps = [(line, _step(line)) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    if damaged := sum(math.isinf(number) for _, number in steps):
        say(f"{path}: {damaged:,} of {len(steps):,} lines are damaged and left out")
    write_text(path, "".join(line for line, number in steps if number <= step))


def _step(line: str) -> float:
    """Return the step of a row, infinity for an invalid line."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return math.inf


def _curves(folder: Path, step: int, tracker: str) -> Curves | None:
    """Return the TensorBoard curves after a step; None if `tracker` is `none`, or `auto` without TensorBoard."""
    if tracker == "none":
        return None
    try:
        return Curves(folder, step + 1)
    except ImportError:
        if tracker == "auto":
            return None
        raise GenusError("run.tracker: TensorBoard is not installed; pip install 'genus[track]'") from None


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn a system error of the block into one line that names what could not be written (GenusError)."""
    try:
        yield
    except OSError as error:
        what = f"{path}: cannot be written ({reason(error)})"
        raise GenusError(
            f"{what}; {'make room and resume' if error.errno in FULL else 'make it writable and resume'}"
        ) from None
