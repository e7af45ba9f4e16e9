"""How long commands take to start, beside the import of PyTorch: processor time, the least of several tries.

python benchmarks/start.py
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path

import torch

from genus.files import write_json
from genus.train.provenance import surroundings

RESULTS = Path(__file__).parent / "results" / "start.json"
COMMANDS = {
    "import torch": ["-c", "import torch"],
    "genus --help": ["-m", "genus", "--help"],
    "genus list": ["-m", "genus", "list"],
    "genus show bert": ["-m", "genus", "show", "bert"],
    "genus finetune --help": ["-m", "genus", "finetune", "--help"],
}
UNIT = "import torch"


def seconds(arguments: list[str], tries: int) -> float:
    """Return the least processor time of a Python process."""
    times = []
    for _ in range(tries):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=7)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    taken = {name: seconds(arguments, options.tries) for name, arguments in COMMANDS.items()}
    print("| command | processor seconds | times the import of PyTorch |\n| --- | --- | --- |")
    for name, value in taken.items():
        print(f"| `{name}` | {value:.2f} | {value / taken[UNIT]:.2f} |")
    write_json(options.results, {**surroundings(torch.device("cpu")), "tries": options.tries, "seconds": taken})


if __name__ == "__main__":
    main()
