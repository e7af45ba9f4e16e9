"""What goes wrong at random: kills, full disks, damaged files, odd values and tables; each trial has a seed of its own.

    python benchmarks/faults.py --kills 200 --disk 100 --sizes 150 --damage 1000 --values 500 --tables 500 --work WORK

A trial is right if the command ends well, or with one line that says what is wrong; if every `model/` can be read after
a kill; and if what is resumed equals, bit for bit, what was never disturbed. Trials that WORK has are not made again,
so it can be stopped at any moment; `--again` repeats those that were wrong. Commands are forks (`commands.py`), but
every 50th trial makes processes of its own. Disks are small `tmpfs` mounts, which only root can make; for others, files
have a largest size.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from commands import ask, preload, run
from odd_tables import draw_table
from undisturbed import ROWS, RUN, SMALL, TUNED, TUNING, Place, different, options, readable

from genus import catalog
from genus.files import write_json
from genus.part import leaves
from genus.train.provenance import surroundings
from genus.train.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from commands import Ended

RESULTS = Path(__file__).parent / "results" / "faults.json"
PATIENCE = 30.0
"""Seconds after which a command with odd values trains."""
MEMORY = 12 << 30
"""Bytes of addresses that odd values get."""
PAGE = 4096
"""Bytes by which disks grow."""
ROOM = 256 << 20
"""Bytes of a disk that is large enough."""
AT_WORK = f"(at work after {PATIENCE:g} s)"
REAL = 50
"""Every so many trials, commands are processes of their own."""
VALUES = ["0", "-1", "1", "3", "1000000000", "1e308", "inf", "nan", "1e-300", "0.37", "x", "true", "null", "[]", "{}"]
VALUES += ["9" * 30, '""', "[0]", "-0.0", "'\u0e01'", "[" * 2000]


@dataclass(frozen=True)
class Trial:
    """One trial of a kind: its number, its random numbers and its folder."""

    number: int
    draw: random.Random
    out: Path


def kill(place: Place, trial: Trial) -> tuple[str, str]:
    """Kill a run at random moments, then let it end."""
    draw, out = trial.draw, trial.out
    what = draw.choice([*ROWS, "finetune"])
    undisturbed, seconds = place.whole(what)
    moments = [draw.uniform(0.0, seconds) for _ in range(draw.randint(1, 3))]
    told = what
    for moment in moments:
        ended = place.run(what, out, kill_after=moment)
        told += f", {'killed' if ended.killed else 'at its end'} after {moment:.2f} s"
        if fault := ask(readable, out) if ended.killed else ended.fault:
            return told, fault
    return told, place.run(what, out).fault or ask(different, out, undisturbed)


def fill_disk(place: Place, trial: Trial) -> tuple[str, str]:
    """Run a command on a disk that is too small, or becomes full meanwhile, then again on one that is large enough."""
    draw = trial.draw
    what = draw.choice(["bert/tiny", "finetune", "tokenizer", "prepare", "export"])
    undisturbed, seconds = place.whole(what)
    sizes = [path.stat().st_size for path in undisturbed.rglob("*") if path.is_file()]
    if os.geteuid():
        most = draw.randint(0, max(sizes))
        ended = place.run(what, trial.out, limits={resource.RLIMIT_FSIZE: most})
        return f"{what}, files of at most {most:,} B", _after_full(place, what, trial.out, ended)
    if draw.random() < 0.5:
        return on_disk(place, what, trial.out, draw.randint(1, 1 + sum(sizes) // PAGE))
    return on_disk(place, what, trial.out, 0, draw.uniform(0.0, seconds))


def size(place: Place, trial: Trial) -> tuple[str, str]:
    """Run the smallest pretraining on a disk that is a page larger than in the trial before."""
    place.whole("smallest")
    return on_disk(place, "smallest", trial.out, trial.number + 1)


def on_disk(place: Place, what: str, out: Path, pages: int, moment: float | None = None) -> tuple[str, str]:
    """Run a command on a disk of some pages, or on one that is full from a moment on; then make room, and go on."""
    disk = out.with_name("disk")
    disk.mkdir()
    mount("mount", "-t", "tmpfs", "-o", f"size={pages * PAGE if pages else ROOM}", "tmpfs", disk)
    try:
        told = f"{what}, a disk of {pages:,} pages" if moment is None else f"{what}, a disk full after {moment:.2f} s"
        ended = place.run(what, disk / "out", at=None if moment is None else (moment, partial(fill, disk)))
        mount("mount", "-o", f"remount,size={ROOM}", disk)
        return told, _after_full(place, what, disk / "out", ended)
    finally:
        mount("umount", "-l", disk)


def fill(disk: Path) -> None:
    """Make a disk as small as what is on it."""
    for _ in range(100):
        found = os.statvfs(disk)
        used = (found.f_blocks - found.f_bfree) * found.f_bsize
        if not subprocess.run(
            ["mount", "-o", f"remount,size={max(used, PAGE)}", disk], stderr=subprocess.DEVNULL
        ).returncode:
            return


def mount(*command: object) -> None:
    subprocess.run(list(map(str, command)), check=True)


def _after_full(place: Place, what: str, out: Path, ended: Ended) -> str:
    """Return what is wrong with how a command ended on a full disk, and with what it makes when it goes on."""
    fault = ended.fault or ask(readable, out)
    if ended.code and not fault and str(out) not in ended.error:
        fault = f"the line does not name the folder: {ended.error[-300:]}"
    return fault or place.run(what, out).fault or ask(different, out, place.whole(what)[0])


def damage(place: Place, trial: Trial) -> tuple[str, str]:
    """Damage one file of a run, finished or killed midway, and let the commands that read it go on."""
    draw, out = trial.draw, trial.out
    what = draw.choice([*ROWS, *TUNED, "prepare", "export"])
    undisturbed = place.whole(what)[0]
    midway = what in ROWS and draw.random() < 0.6
    shutil.copytree(place.begun(what) if midway else undisturbed, out)
    file = draw.choice(sorted(path for path in out.rglob("*") if path.is_file() and path.stat().st_size))
    name, harm = str(file.relative_to(out)), _harm(draw, file)
    told, faults, whole = f"{what}{' midway' if midway else ''}, {name}: {harm}", [], not midway
    if what != "export":
        ended = place.run(what, out)
        whole |= ended.code == 0
        faults.append(ended.fault)
        if ended.code == 0 and (found := ask(different, out, undisturbed, name)):
            faults.append(f"silently: {found}; it says {ended.error[-300:]!r}")
    if what != "prepare":
        model = "model" if (undisturbed / "model").exists() else ""
        read = run(*place.reader(what, out / model), real=place.real)
        faults.append(read.fault)
        unsaid = Path(name).name not in read.error
        if whole and read.code == 0 and unsaid and read.output != place.reading(what):
            faults.append(f"silently: the model gives {read.output}, not {place.reading(what)}")
        other = draw.choice([["show", out], ["doctor", out], ["export", out, "--out", out.with_name("export")]])
        faults.append(run(*other, real=place.real).fault)
    return told, "; ".join(filter(None, faults))


def _harm(draw: random.Random, file: Path) -> str:
    """Damage a file, and return how."""
    content = file.read_bytes()
    length, place = len(content), draw.randrange(len(content))
    flipped = bytearray(content)
    flipped[place] ^= 1 << draw.randrange(8)
    harms = {f"cut at {place:,}": content[:place], "zeros": bytes(length), "nested": b"[" * 100_000, "empty": b""}
    harms |= {"a list": b"[]", "null": b"null", "a table": b"{}"}
    flips = {f"bit flipped at {place:,} of {length:,}": bytes(flipped)}
    harm = draw.choice([*harms, *flips, *flips, *flips, "missing", "a folder"])
    file.unlink()
    if harm == "a folder":
        file.mkdir()
    elif harm != "missing":
        file.write_bytes((harms | flips)[harm])
    return harm


def odd_value(place: Place, trial: Trial) -> tuple[str, str]:
    """Give one choice of a tiny row, of fine-tuning or of a run an odd value."""
    draw = trial.draw
    row = draw.choice([name for name in catalog.names() if name.endswith("/tiny")])
    paths = [path for path, _ in leaves(catalog.load(row).to_json()) if not path.startswith(("published", "kind"))]
    path, value = (
        draw.choice([*paths, *([f"--run {name}" for name, _ in leaves(Run().to_json())] * 2)]),
        draw.choice(VALUES),
    )
    setting, settings, running = f"{path}={value}", [*SMALL[:2], "budget.amount=1"], [*RUN[:3], "workers=0"]
    (running if path.startswith("--run") else settings).append(setting.removeprefix("--run "))
    command = ["pretrain", row, place.text, "--out", trial.out, *options("--set", settings), *options("--run", running)]
    if path.startswith("finetuning."):
        row, command = "finetune", place.command("finetune", trial.out)
        command += ["--set", setting]
    return _odd(place, f"{row}, {setting[:100]}", command)


def odd_table(place: Place, trial: Trial) -> tuple[str, str]:
    """Fine-tune on a table that is odd, or measure a model on it."""
    draw = trial.draw
    told = ask(describe, draw.random(), str(trial.out / "data"))
    task, path, said, more = told["task"], Path(told["path"]), told["oddities"], told["options"]
    command: list[object]
    if draw.random() < 0.3:
        what = next(what for what, learned in TUNED.items() if learned == task)
        answers = ["--answers", trial.out / "answers.jsonl"] if draw.random() < 0.5 else []
        path = draw.choice(sorted(path.iterdir())) if path.is_dir() else path
        command = ["evaluate", place.whole(what)[0] / "model", path, *answers, *more]
    else:
        settings = options("--set", ["finetuning.epochs=1", *TUNING[1:]])
        command = ["finetune", place.model, path, "--out", trial.out / "run", *settings, "--seeds", 1]
        command += [*([] if "--task" in more else ["--task", task]), "--run", "workers=0", *more]
    return _odd(place, f"{command[0]}, {path.name}: {'; '.join(said)}", command)


def describe(seed: float, folder: str) -> dict[str, Any]:
    """Write an odd table, and return what it is; asked of a fork, as pyarrow starts threads."""
    table = draw_table(random.Random(seed), Path(folder))
    return {**asdict(table), "path": str(table.path)}


def _odd(place: Place, told: str, command: list[object]) -> tuple[str, str]:
    """Run a command with limits of time and memory; one that is still at work then is right."""
    ended = run(*command, real=place.real, kill_after=PATIENCE, limits={resource.RLIMIT_AS: MEMORY})
    return (f"{told} {AT_WORK}", "") if ended.killed else (told, ended.fault)


KINDS: dict[str, Callable[[Place, Trial], tuple[str, str]]] = {
    "kills": kill, "disk": fill_disk, "sizes": size, "damage": damage, "values": odd_value, "tables": odd_table,
}  # fmt: skip


def main() -> None:
    """Make the trials that are missing, and write what all of them found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=int, default=0, metavar="N")
    parser.add_argument("--again", action="store_true", help="repeat what was wrong")
    parser.add_argument("--work", type=Path, default=Path("faults"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    preload()
    place = Place(chosen.work.absolute())
    place.write_data()
    log = place.folder / "trials.jsonl"
    done = {(one["kind"], one["number"]): one for one in trials(log)}
    for kind in KINDS:
        for number in range(getattr(chosen, kind)):
            known = done.get((kind, number))
            if known is None or (known["fault"] and chosen.again):
                make(place, kind, number, log)
    write_json(chosen.results, {**surroundings(torch.device("cpu")), **summary(trials(log))})


def make(place: Place, kind: str, number: int, log: Path) -> None:
    """Make one trial, and append it to the log."""
    out = place.folder / f"trial-{kind}" / "made"
    if (out.parent / "disk").is_mount():  # the process was killed
        mount("umount", "-l", out.parent / "disk")
    shutil.rmtree(out.parent, ignore_errors=True)
    out.parent.mkdir()
    place = Place(place.folder, number % REAL == REAL - 1)
    told, fault = KINDS[kind](place, Trial(number, random.Random(f"{kind} {number}"), out))
    with log.open("a", encoding="utf-8") as file:
        file.write(
            json.dumps({"kind": kind, "number": number, "real": place.real, "trial": told, "fault": fault}) + "\n"
        )
    print(f"{kind} {number}: {told}: {fault or 'right'}", flush=True)


def trials(log: Path) -> list[dict[str, Any]]:
    """Return all trials of a log, those that were repeated several times."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


def summary(made: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many trials there are of each kind, which are wrong, and which were before they were repeated."""
    last = {(one["kind"], one["number"]): one for one in made}
    before = {(one["kind"], one["number"]): one for one in made if one["fault"]}
    wrong = {key for key, one in last.items() if one["fault"]}
    return {
        "trials": Counter(kind for kind, _ in last),
        "processes": Counter(one["kind"] for one in last.values() if one["real"]),
        "at_work": Counter(one["kind"] for one in last.values() if one["trial"].endswith(AT_WORK)),
        "wrong": Counter(kind for kind, _ in wrong),
        "mended": Counter(kind for kind, _ in before.keys() - wrong),
        "faults": [last[key] for key in sorted(wrong)],
    }


if __name__ == "__main__":
    main()
