"""Runs that nothing disturbs, what disturbed ones are compared with, and the commands that make both."""

from __future__ import annotations

import json
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import INTERVAL, Ended, ask, run

from genus.errors import GenusError
from genus.export.folder import load
from genus.files import write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = ("bert/tiny", "electra/tiny", "xlnet/tiny")
SMALL = ["tokens.vocab_size=300", "stages=[{max_length=32,batch=4,micro_batch=4,share=1.0}]", "budget.amount=24"]
SMALLEST = [*SMALL[:2], "budget.amount=4", "model.layers=1", "model.hidden=16", "model.feedforward.size=16"]
RUN = ["device=cpu", "evaluate_batches=2", "tracker=none", "checkpoint_every=3", "evaluate_every=5", "log_every=1"]
LONGEST = 60.0
"""Seconds within which a run has three checkpoints."""
TUNED = {"finetune": "classification", "regress": "regression", "tag": "tagging"}
"""Fine-tunings, and their tasks."""
TUNING = ["finetuning.epochs=2", "finetuning.max_length=16", "finetuning.batch=4"]
CLOCK = {"seconds", "sha256", "tokens_per_second", "model", "utilization"}
"""Names in JSON of what depends on the clock and the folder."""
NOT_EQUAL = {"run.json", "manifest.json", "journal.json", ".lock"}
"""Files that hold times, or checksums of times."""


def words(draw: random.Random, number: int) -> str:
    return " ".join("".join(draw.choices("abcdefgh", k=draw.randint(2, 4))) for _ in range(number))


def options(name: str, settings: list[str]) -> list[str]:
    return [word for setting in settings for word in (name, setting)]


@dataclass(frozen=True)
class Place:
    """The folder of all trials: text, tables, and runs that nothing disturbed."""

    folder: Path
    real: bool = False
    """Whether commands are processes of their own."""

    @property
    def text(self) -> Path:
        """The corpus."""
        return self.folder / "text.txt"

    @property
    def model(self) -> Path:
        """A pretrained run."""
        return self.folder / "whole" / "bert-tiny"

    def table(self, what: str) -> Path:
        """Return the labeled texts of a fine-tuning."""
        return self.folder / f"{TUNED[what]}.jsonl"

    def write_data(self) -> None:
        """Write text and tables, always the same, once: a store remembers when its text was written."""
        if self.text.exists():
            return
        draw = random.Random(0)
        self.folder.mkdir(parents=True, exist_ok=True)
        text = "\n\n".join(f"{words(draw, 12)}.\n{words(draw, 15)}." for _ in range(120))
        texts = [f"{'one' if n % 2 else 'other'} {words(draw, 5)}" for n in range(24)]
        tags = [["B-X", "I-X", "O", "O", "B-Y", "O"]] * 24
        rows: dict[str, list[dict[str, Any]]] = {
            "finetune": [{"text": text, "label": n % 2} for n, text in enumerate(texts)],
            "regress": [{"text": text, "label": n / 4} for n, text in enumerate(texts)],
            "tag": [{"tokens": text.split(), "ner_tags": tag} for text, tag in zip(texts, tags, strict=True)],
        }
        for what, each in rows.items():
            self.table(what).write_text("".join(json.dumps(row) + "\n" for row in each))
        write_text(self.text, text)

    def command(self, what: str, out: Path) -> list[object]:
        """Return the arguments of a command; a repeated one goes on where it was."""
        if what in (*ROWS, "smallest"):
            more = ["--resume"] if (out / "checkpoints").exists() else []
            row, settings = (what, SMALL) if what in ROWS else ("bert/tiny", SMALLEST)
            settings = [*options("--set", settings), *options("--run", RUN)]
            return ["pretrain", row, self.text, "--out", out, *settings, *more]
        if what in TUNED:
            more = ["--task", TUNED[what], "--seeds", 2, "--run", "workers=0"]
            return ["finetune", self.model, self.table(what), "--out", out, *options("--set", TUNING), *more]
        if what == "tokenizer":
            return ["tokenizer", "train", "bert/tiny", self.text, "--out", out, "--set", "tokens.vocab_size=300"]
        if what == "prepare":
            tokens = self.model / "tokenizer"
            return ["prepare", self.text, "--tokenizer", tokens, "--out", out, "--workers", 1, "--check"]
        return ["export", self.model, "--out", out]

    def run(self, what: str, out: Path, **how: Any) -> Ended:
        """Run a command that writes into a folder."""
        return run(*self.command(what, out), real=self.real, **how)

    def reader(self, what: str, model: Path) -> list[object]:
        """Return the arguments of a command that reads a model and measures it."""
        few = ["--run", "evaluate_batches=2"]
        return ["evaluate", model, self.table(what) if what in TUNED else self.text, "--json", *few]

    def reading(self, what: str) -> str:
        """Return what the reader of a model says of the one that nothing disturbed."""
        out = self.whole(what)[0]
        kept = out.with_name(f"{out.name}.reading")
        if not kept.exists():
            ended = run(*self.reader(what, out / "model" if (out / "model").exists() else out))
            if ended.code:
                raise GenusError(f"{what}: {ended.error[-300:]}")
            write_text(kept, ended.output)
        return kept.read_text(encoding="utf-8")

    def whole(self, what: str) -> tuple[Path, float]:
        """Return what a command makes if nothing disturbs it, and the seconds that it takes.

        Raises:
            GenusError: it fails, or makes something else as a fork than as a process of its own.
        """
        out = self.folder / "whole" / what.replace("/", "-")
        took = out.with_name(f"{out.name}.json")
        if not took.exists():
            if what in (*TUNED, "prepare", "export"):  # they begin with a pretrained run
                self.whole(ROWS[0])
            seconds = {}
            for real in (True, False):
                made = out if real else self.folder / "fork"
                shutil.rmtree(made, ignore_errors=True)
                begun = time.monotonic()
                if (ended := Place(self.folder, real).run(what, made)).code:
                    raise GenusError(f"{what}: {ended.error[-300:]}")
                seconds[str(real)] = time.monotonic() - begun
            if found := ask(different, self.folder / "fork", out):
                raise GenusError(f"{what}: a fork differs from a process: {found}")
            write_json(took, seconds)
        return out, json.loads(took.read_text())[str(self.real)]

    def begun(self, what: str) -> Path:
        """Return a run that was killed midway, with three checkpoints."""
        out = self.folder / "begun" / what.replace("/", "-")
        kept = out.with_name(f"{out.name}-kept")

        def checkpoints() -> int:
            return len(list(out.glob("checkpoints/checkpoint-*")))

        def wait() -> None:
            last = time.monotonic() + LONGEST
            while checkpoints() < 3 and time.monotonic() < last:
                time.sleep(INTERVAL)

        while not kept.exists():
            shutil.rmtree(out, ignore_errors=True)
            moment = random.uniform(0.0, 0.1) * self.whole(what)[1]
            if self.run(what, out, at=(0.0, wait), kill_after=moment).killed and checkpoints() == 3:
                out.rename(kept)
        return kept


def different(one: Path, other: Path, but: str = "") -> str:
    """Return how a folder differs from another in the files that the other has; "" if it does not."""
    for file in sorted(path for path in other.rglob("*") if path.is_file()):
        name = str(file.relative_to(other))
        if file.name in NOT_EQUAL or name == but:
            continue
        if not (one / name).is_file():
            return f"{name} is missing"
        readers: dict[str, Callable[[Path], object]] = {".json": numbers, ".jsonl": numbers}
        read = readers.get(file.suffix, Path.read_bytes)
        if read(one / name) != read(file):
            return f"{name} differs"
    return ""


def numbers(file: Path) -> list[Any]:
    """Return the JSON of a file without what depends on the clock and the folder."""
    text = file.read_text(encoding="utf-8")
    rows = map(json.loads, text.splitlines()) if file.suffix == ".jsonl" else [json.loads(text)]

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: kept(inner) for key, inner in value.items() if key not in CLOCK}
        return [kept(inner) for inner in value] if isinstance(value, list) else value

    return [kept(row) for row in rows]


def readable(folder: Path) -> str:
    """Return why the model of a folder cannot be read; "" where it can, or there is none yet."""
    try:
        if (folder / "model").exists():
            load(folder / "model")
    except GenusError as error:
        return str(error)
    return ""
