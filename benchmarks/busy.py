"""How threads should wait: training steps on an idle machine and beside two busy processes, by OpenMP's settings.

    python benchmarks/busy.py

Each setting trains `bert/mini` on full rows in a process of its own, as environment variables are read once; the
settings take turns, and the best of the rounds counts. Busy processes multiply numbers in Python. Told are tokens per
second and the share of the best setting, idle and busy.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "busy.json"
SETTINGS: dict[str, dict[str, str]] = {
    "PyTorch's default": {},
    "spins 0": {"GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"},
    "spins 1,000": {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"},
    "spins 10,000": {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "0"},
    "spins 30,000": {"GOMP_SPINCOUNT": "30000", "KMP_BLOCKTIME": "0"},
    "spins 100,000": {"GOMP_SPINCOUNT": "100000", "KMP_BLOCKTIME": "0"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
OTHERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="bert/mini")
    parser.add_argument("--tokens", type=int, default=2_048, help="of a batch: small ones suffer most")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=[*SETTINGS])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(rate(options.recipe, options.tokens, options.seconds))
        return
    found: dict[str, dict[str, float]] = {}
    for others in (0, OTHERS):
        load = [multiprocessing.Process(target=spin, daemon=True) for _ in range(others)]
        for process in load:
            process.start()
        for _ in range(options.rounds):
            for name in options.settings:
                told = found.setdefault("busy" if others else "idle", {})
                told[name] = max(told.get(name, 0.0), measured(SETTINGS[name], sys.argv[1:]))
        for process in load:
            process.terminate()
    for state, rates in found.items():
        best = max(rates.values())
        for name, tokens in rates.items():
            print(f"| {state} | {name} | {tokens:,.0f} | {tokens / best:.0%} |")
    write(options.results, {"recipe": options.recipe, "tokens_of_a_batch": options.tokens, "tokens_per_second": found})


def write(path: Path, found: dict[str, Any]) -> None:
    """Write the results, with what they depend on; PyTorch is imported late, so that the parent has no threads."""
    import torch

    from genus.files import write_json
    from genus.train.provenance import surroundings

    write_json(path, surroundings(torch.device("cpu")) | found)


def measured(setting: dict[str, str], arguments: list[str]) -> float:
    """Return the rate in a process with these environment variables."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    command = [sys.executable, __file__, *arguments, "--measure"]
    ended = subprocess.run(command, env=known | setting, check=True, capture_output=True, text=True)
    return float(ended.stdout.split()[-1])


def rate(name: str, tokens: int, seconds: float) -> float:
    """Return the tokens per second of training steps, after three to warm up."""
    import numpy as np
    import torch
    from contenders import Levers, Ours, process, sequences, shared

    from genus import catalog

    work, device = shared(catalog.load(name)), torch.device("cpu")
    levers = Levers(compiled=False)
    with process(levers):
        ours = Ours(work.recipe, sequences(work, np.full(tokens // 128, 128)), 128, levers, device)
        for _ in range(3):
            ours.step()
        begun, steps = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            ours.step()
            steps += 1
        return steps * tokens / (time.perf_counter() - begun)


def spin() -> None:
    """Compute until stopped."""
    number = 1
    while True:
        number = number * 3 % 1_000_003


if __name__ == "__main__":
    main()
