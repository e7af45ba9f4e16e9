"""What goes wrong at random: kills, full disks, damaged files, odd values; every trial has its own random seed.

    python benchmarks/faults.py --kills 100 --disk 100 --damage 200 --values 500 --work WORK

A trial is right if the command ends well, or with one line that says what is wrong; if every `model/` can be read after
a kill; and if what is resumed equals, bit for bit, what was never disturbed. Trials that WORK has are not made again,
so it can be stopped at any moment. Disks are small `tmpfs` mounts, which only root can make; for others, files have a
largest size.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from genus import catalog
from genus.errors import GenusError
from genus.export.folder import load
from genus.files import write_json
from genus.part import leaves
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results" / "faults.json"
ROWS = ("bert/tiny", "electra/tiny", "xlnet/tiny")
SMALL = ["tokens.vocab_size=300", "stages=[{max_length=32,batch=4,micro_batch=4,share=1.0}]", "budget.amount=24"]
RUN = ["device=cpu", "evaluate_batches=2", "tracker=none", "checkpoint_every=3", "evaluate_every=5", "log_every=1"]
PATIENCE = 300.0
"""Seconds after which a command hangs."""
VALUES = ["0", "-1", "1", "3", "1000000000", "1e308", "inf", "nan", "1e-300", "0.37", "x", "true", "null", "[]", "{}"]
VALUES += ["9" * 30, '""', "[0]", "-0.0", "'\u0e01'", "[" * 2000]
TABLE_SETTINGS = ["finetuning.epochs=2", "finetuning.max_length=16", "finetuning.batch=4"]


@dataclass(frozen=True)
class Ended:
    """A command that has ended: exit code (negative: the signal) and what it wrote on standard error."""

    code: int
    error: str

    @property
    def fault(self) -> str:
        """What is wrong with how it ended; "" where it ended well or with one line."""
        lines = [line for line in self.error.splitlines() if "genus: error: " in line]
        said = lines[-1][:300] if lines else self.error[-300:]
        if self.code == 0 or (self.code in (1, 2) and len(lines) == 1 and "unexpected;" not in said
                              and "Traceback" not in self.error):  # fmt: skip
            return ""
        return f"exit code {self.code}: {said}"


def genus(*arguments: object, kill_after: float | None = None, largest: int | None = None) -> Ended:
    """Run a command in a session of its own, perhaps killed after some seconds, or with a largest size of files."""

    def limit() -> None:
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    command = [sys.executable, "-m", "genus", *map(str, arguments)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, text=True, start_new_session=True, preexec_fn=limit, env=one_thread, **pipes)
    try:
        _, error = process.communicate(timeout=kill_after or PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        _, error = process.communicate()
        if kill_after is None:
            return Ended(1, f"genus: error: unexpected; nothing after {PATIENCE:g} s")
    return Ended(process.returncode, error)


def words(draw: random.Random, number: int) -> str:
    return " ".join("".join(draw.choices("abcdefgh", k=draw.randint(2, 4))) for _ in range(number))


@dataclass(frozen=True)
class Place:
    """The folder of all trials: text, a table, and runs that nothing disturbed."""

    folder: Path

    @property
    def text(self) -> Path:
        """The corpus."""
        return self.folder / "text.txt"

    @property
    def table(self) -> Path:
        """The labeled texts."""
        return self.folder / "table.jsonl"

    def write_data(self) -> None:
        """Write text and table, always the same."""
        draw = random.Random(0)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.text.write_text("\n\n".join(f"{words(draw, 12)}.\n{words(draw, 15)}." for _ in range(120)))
        rows = [{"text": f"{'one' if n % 2 else 'other'} {words(draw, 5)}", "label": n % 2} for n in range(24)]
        self.table.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def command(self, what: str, out: Path) -> list[object]:
        """Return the arguments of a command; a repeated one goes on where it was."""
        settings = [word for one in SMALL for word in ("--set", one)]
        run = [word for one in RUN for word in ("--run", one)]
        made = self.folder / "whole" / "bert-tiny"
        if what in ROWS:
            more = ["--resume"] if (out / "checkpoints").exists() else []
            return ["pretrain", what, self.text, "--out", out, *settings, *run, *more]
        if what == "finetune":
            settings = [word for one in TABLE_SETTINGS for word in ("--set", one)]
            return ["finetune", made, self.table, "--out", out, "--seeds", 2, *settings, "--run", "workers=0"]
        if what == "tokenizer":
            return ["tokenizer", "train", "bert/tiny", self.text, "--out", out, "--set", "tokens.vocab_size=300"]
        if what == "prepare":
            return ["prepare", self.text, "--tokenizer", made / "tokenizer", "--out", out, "--workers", 1, "--check"]
        return ["export", made, "--out", out]

    def whole(self, what: str) -> tuple[Path, float]:
        """Return what a command makes if nothing disturbs it, and the seconds it takes."""
        out = self.folder / "whole" / what.replace("/", "-")
        took = out.with_name(f"{out.name}.seconds")
        if not took.exists():
            shutil.rmtree(out, ignore_errors=True)
            begun = time.monotonic()
            ended = genus(*self.command(what, out))
            if ended.code:
                raise GenusError(f"{what}: {ended.error[-300:]}")
            took.write_text(str(time.monotonic() - begun))
        return out, float(took.read_text())


def same(one: Path, other: Path) -> str:
    """Return how a run differs from another in losses, scores or weights; "" if it does not."""
    for name in ("metrics.jsonl", "report.json"):
        if (other / name).exists() and _numbers(one / name) != _numbers(other / name):
            return f"{name} differs"
    a, b = (load(folder / "model").learner.state_dict() for folder in (one, other))
    differing = [name for name, tensor in b.items() if not torch.equal(a[name], tensor)]
    return f"the weights differ: {differing[0]}" if differing else ""


def _numbers(file: Path) -> list[Any]:
    """Return the JSON of a file without what hangs on the clock and the folder."""
    clock = {"seconds", "tokens_per_second", "model", "utilization"}
    text = file.read_text()
    rows = map(json.loads, text.splitlines()) if file.suffix == ".jsonl" else [json.loads(text)]

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: kept(inner) for key, inner in value.items() if key not in clock}
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


def kill(place: Place, draw: random.Random, out: Path) -> tuple[str, str]:
    """Kill a run at random moments, then let it end."""
    what = draw.choice([*ROWS, "finetune"])
    undisturbed, seconds = place.whole(what)
    for number in range(draw.randint(1, 3)):
        moment = draw.uniform(0.0, seconds)
        ended = genus(*place.command(what, out), kill_after=moment)
        told = f"{what}, kill {number + 1} after {moment:.2f} s"
        if fault := ended.fault if ended.code != -signal.SIGKILL else readable(out):
            return told, fault
    return told, genus(*place.command(what, out)).fault or same(out, undisturbed)


def fill_disk(place: Place, draw: random.Random, out: Path) -> tuple[str, str]:
    """Run a command on a disk that is too small, then again on one that is large enough."""
    what = draw.choice(["bert/tiny", "finetune", "tokenizer", "prepare", "export"])
    undisturbed, _ = place.whole(what)
    sizes = [path.stat().st_size for path in undisturbed.rglob("*") if path.is_file()]
    disk, on_it = out.with_name("disk"), out.with_name("disk") / "out"
    disk.mkdir(exist_ok=True)
    if os.geteuid():
        most = draw.randint(0, max(sizes))
        told, ended = f"{what}, files of at most {most:,} B", genus(*place.command(what, on_it), largest=most)
    else:
        most = draw.randint(1, 1 + sum(sizes) // 1024)
        told = f"{what}, a disk of {most:,} KiB"
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={most}k", "tmpfs", disk], check=True)
    try:
        if not os.geteuid():
            ended = genus(*place.command(what, on_it))
            subprocess.run(["mount", "-o", "remount,size=256m", disk], check=True)
        fault = ended.fault or readable(on_it)
        if ended.code and not fault and str(on_it) not in ended.error:
            fault = f"the line does not name the folder: {ended.error[-300:]}"
        fault = fault or genus(*place.command(what, on_it)).fault
        return told, fault or (same(on_it, undisturbed) if (undisturbed / "model").exists() else "")
    finally:
        if not os.geteuid():
            subprocess.run(["umount", "-l", disk], check=True)
        shutil.rmtree(disk, ignore_errors=True)


def damage(place: Place, draw: random.Random, out: Path) -> tuple[str, str]:
    """Damage one file of a run, and let the commands that read it go on."""
    what = draw.choice([*ROWS, "finetune", "prepare", "export"])
    shutil.copytree(place.whole(what)[0], out)
    file = draw.choice(sorted(path for path in out.rglob("*") if path.is_file() and path.stat().st_size))
    content, name = file.read_bytes(), str(file.relative_to(out))
    cut, place_of_bit = draw.randrange(len(content)), draw.randrange(len(content))
    flipped = bytearray(content)
    flipped[place_of_bit] ^= 1 << draw.randrange(8)
    harms = {"cut": content[:cut], "a flipped bit": bytes(flipped), "a list": b"[]", "null": b"null", "a table": b"{}",
             "zeros": bytes(len(content)), "nested": b"[" * 100_000, "empty": b""}  # fmt: skip
    harm = draw.choice([*harms, "missing", "a folder"])
    file.unlink()
    if harm == "a folder":
        file.mkdir()
    elif harm != "missing":
        file.write_bytes(harms[harm])
    faults = [genus(*place.command(what, out)).fault]
    model = out / "model" if (out / "model").exists() else out
    if what != "prepare":
        read = genus("evaluate", model, place.table) if what == "finetune" else genus("fill", model, "abc [MASK]")
        faults.append(read.fault)
        data = harm == "a flipped bit" and file == model / "model.safetensors" and place_of_bit > len(content) // 2
        if data and read.code == 0 and what == "export":
            faults.append("a changed weight was not noticed")
    return f"{what}, {name}: {harm}", "; ".join(filter(None, faults))


def odd_value(place: Place, draw: random.Random, out: Path) -> tuple[str, str]:
    """Give one choice of a tiny row an odd value."""
    row = draw.choice([name for name in catalog.names() if name.endswith("/tiny")])
    paths = [path for path, _ in leaves(catalog.load(row).to_json()) if not path.startswith(("published", "kind"))]
    setting = f"{draw.choice(paths)}={draw.choice(VALUES)}"
    settings = [word for one in (*SMALL[:2], "budget.amount=1", setting) for word in ("--set", one)]
    run = [word for one in (*RUN[:3], "workers=0") for word in ("--run", one)]
    ended = genus("pretrain", row, place.text, "--out", out, *settings, *run, kill_after=PATIENCE / 3)
    return f"{row}, {setting[:100]}", "" if ended.code == -signal.SIGKILL else ended.fault  # it trains, for long


KINDS: dict[str, Callable[[Place, random.Random, Path], tuple[str, str]]] = {
    "kills": kill, "disk": fill_disk, "damage": damage, "values": odd_value,
}  # fmt: skip


def main() -> None:
    """Make the trials that are missing, and write what all of them found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=int, default=0, metavar="N")
    parser.add_argument("--work", type=Path, default=Path("faults"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    place = Place(options.work.absolute())
    place.write_data()
    place.whole("bert/tiny")
    log = place.folder / "trials.jsonl"
    done = {(one["kind"], one["number"]): one for one in _numbers(log)} if log.exists() else {}
    for kind, trial in KINDS.items():
        for number in range(getattr(options, kind)):
            if (kind, number) not in done:
                out = place.folder / "trial"
                shutil.rmtree(out, ignore_errors=True)
                told, fault = trial(place, random.Random(f"{kind} {number}"), out)
                done[kind, number] = {"kind": kind, "number": number, "trial": told, "fault": fault}
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(done[kind, number]) + "\n")
                print(f"{kind} {number}: {told}: {fault or 'right'}", flush=True)
    wrong = [one for one in done.values() if one["fault"]]
    counts = {"trials": Counter(one["kind"] for one in done.values()), "wrong": Counter(one["kind"] for one in wrong)}
    write_json(options.results, {**surroundings(torch.device("cpu")), **counts, "faults": wrong})


if __name__ == "__main__":
    main()
