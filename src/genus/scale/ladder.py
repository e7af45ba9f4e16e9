"""Ladders: runs of several sizes with several budgets on one text, side by side, each resumed wherever it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genus.cost import stage_cost
from genus.errors import GenusError, UsageError, say
from genus.files import write_json
from genus.preparation import prepared
from genus.processes import cores
from genus.scale.points import read_runs
from genus.scale.prediction import place_of
from genus.text import Corpus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from genus.recipe import Recipe

COMMAND = "import os, sys; from genus.processes import end_with; end_with(int(sys.argv.pop(1))); " \
    "from genus.cli import main; sys.exit(main())"  # fmt: skip
"""A process of its own, which saves and ends when that of the ladder does."""
LOOK = 0.2
"""Seconds between two looks at the processes."""


@dataclass(frozen=True)
class Rung:
    """One run of a ladder."""

    name: str
    recipe: Recipe
    folder: Path

    @property
    def flops(self) -> float:
        """Of the whole run."""
        return place_of(self.recipe).flops

    def done(self) -> bool:
        """Return whether the run has ended with an evaluation."""
        try:
            return read_runs([self.folder])[0].finished
        except GenusError:
            return False


def rungs(recipes: Sequence[Recipe], budgets: Sequence[float], unit: str, folder: Path) -> list[Rung]:
    """Return the runs of a ladder, the cheapest first.

    Raises:
        UsageError: recipes differ in their tokenizer, two have one name, or a budget is too small for a step.
    """
    if len({recipe.tokens for recipe in recipes}) > 1:
        raise UsageError("the recipes of a ladder need one tokenizer, as their losses are compared; "
                         "their `tokens` differ")  # fmt: skip
    names = [re.sub(r"[^\w.-]+", "-", recipe.name) for recipe in recipes]
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise UsageError(f"two recipes are named {twice[0]}; give each a name of its own (name=... in an overlay)")
    found = []
    for name, recipe in zip(names, recipes, strict=True):
        for budget in budgets:
            row = recipe.overrides({"budget.amount": budget, "budget.unit": unit})
            first = row.stages[0]
            step = stage_cost(row, first).flops_step
            if place_of(row).flops < step:
                raise UsageError(f"a budget of {budget:g} {unit} is less than a step of {recipe.name}; take a larger "
                                 "budget, or a smaller stages.0.batch")  # fmt: skip
            found.append(Rung(f"{name}-{budget:g}", row, folder / "runs" / f"{name}-{budget:g}"))
    return sorted(found, key=lambda rung: rung.flops)


def climb(ladder: Sequence[Rung], texts: Sequence[str], folder: Path, running: Sequence[str], jobs: int) -> list[str]:
    """Make the runs that have not ended, `jobs` at a time, and return why by line for each that failed.

    Tokenizer and store are made once, unless the text is a prepared store. Each run writes what it says into a log
    beside its folder. When this process is told to stop, the runs save and end; the next call goes on.

    Raises:
        GenusError: tokenizer or store cannot be made.
    """
    open_rungs = [rung for rung in ladder if not rung.done()]
    say(f"{len(ladder) - len(open_rungs)} of {len(ladder)} runs have ended already")
    if not open_rungs:
        return []
    source = _prepared(ladder[0].recipe, texts, folder)
    threads = f"threads={max(1, cores() // jobs)}"
    waiting, failed = list(open_rungs), list[str]()
    busy: dict[str, tuple[subprocess.Popen[bytes], Rung, float]] = {}
    total, spent, begun = sum(rung.flops for rung in open_rungs), 0.0, time.monotonic()
    try:
        while waiting or busy:
            while waiting and len(busy) < jobs:
                rung = waiting.pop(0)
                busy[rung.name] = _start(rung, source, ["--run", threads, *running]), rung, time.monotonic()
            time.sleep(LOOK)
            for name in [name for name, (process, _, _) in busy.items() if process.poll() is not None]:
                process, rung, since = busy.pop(name)
                spent += rung.flops
                left = (time.monotonic() - begun) * (total - spent) / spent
                told = "done" if process.returncode == 0 else f"failed ({_reason(rung)})"
                if process.returncode:
                    failed.append(f"{name}: {_reason(rung)}")
                say(f"{name}: {told} after {time.monotonic() - since:,.0f} s; about {left:,.0f} s left")
    except KeyboardInterrupt:
        for process, _, _ in busy.values():
            process.wait()  # Ctrl-C reached it too, and it is saving
        raise
    finally:
        for process, _, _ in busy.values():
            process.terminate()
    return failed


def _prepared(recipe: Recipe, texts: Sequence[str], folder: Path) -> list[str]:
    """Make tokenizer and store if they are not there, and return the arguments by which runs read them."""
    if prepared(Corpus(texts)) is not None:
        return list(texts)
    row, words, store = folder / "tokens.json", folder / "tokenizer", folder / "store"
    write_json(row, recipe.written())
    if not words.is_dir():
        _call(["tokenizer", "train", str(row), *texts, "--out", str(words)], folder / "tokenizer.log")
    _call(["prepare", *texts, "--tokenizer", str(words), "--out", str(store)], folder / "store.log")
    return [str(store), "--tokenizer", str(words)]


def _call(arguments: list[str], log: Path) -> None:
    with log.open("ab") as file:
        code = subprocess.run(_command(arguments), stdout=file, stderr=file, check=False).returncode
    if code:
        raise GenusError(f"genus {arguments[0]}: {_last_line(log)}")


def _start(rung: Rung, source: Sequence[str], options: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a run, or go on with it."""
    rung.folder.parent.mkdir(parents=True, exist_ok=True)
    row = rung.folder.parent / f"{rung.name}.json"
    write_json(row, rung.recipe.written())
    with _log(rung).open("ab") as file:
        command = _command(["pretrain", str(row), *source, "--out", str(rung.folder), "--resume", *options])
        return subprocess.Popen(command, stdout=file, stderr=file)


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-c", COMMAND, str(os.getpid()), *arguments]


def _log(rung: Rung) -> Path:
    return rung.folder.parent / f"{rung.name}.log"


def _reason(rung: Rung) -> str:
    return _last_line(_log(rung))


def _last_line(log: Path) -> str:
    """Return the last line of a log, as an error of the command line is told."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("genus: error: ")[:400] if lines else f"see {log}"
