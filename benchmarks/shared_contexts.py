"""How much faster multiple choice is answered as the prompt of a question is read once for all its choices.

    python benchmarks/shared_contexts.py ARC   # a folder: easy_validation.jsonl.gz and easy_train.jsonl.gz

`gpt2/mini` with 1,024 positions and random weights answers 100 questions of ARC (easy), with 0 and with 5 worked
examples. Both ways take turns, in processor time of one thread; told are medians of the ratios within a round, and the
largest difference of a log-likelihood in nats.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
from generation import written

import genus
from genus.evaluate import likelihood
from genus.export.folder import load
from genus.files import write_json
from genus.model.cpu import tune_cpu_process
from genus.train.provenance import surroundings

RESULTS = Path(__file__).parent / "results" / "shared-contexts-cpu.json"
POSITIONS = ["model.embedding.position.length=1024", "stages=[{max_length=1024, batch=32, micro_batch=32}]"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="ARC")
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--shots", nargs="+", type=int, default=[0, 5])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    tune_cpu_process()
    torch.set_num_threads(1)
    found: dict[str, Any] = {**surroundings(torch.device("cpu")), "questions": options.questions, "rows": []}
    with TemporaryDirectory() as work:
        model = load(written("gpt2/mini", Path(work), POSITIONS))
        for shots in options.shots:
            given = {"shots": shots, "limit": options.questions, "cut": True}
            answered(model, options.data, given)
            rounds = [
                (answered(model, options.data, given), alone(model, options.data, given)) for _ in range(options.rounds)
            ]
            times = [other[0] / one[0] for one, other in rounds]
            pairs = zip(rounds[0][0][1], rounds[0][1][1], strict=True)
            difference = max(abs(one - other) for one, other in pairs)
            row = {"shots": shots, "times_as_fast": median(times), "each": times, "largest_difference": difference}
            row["questions_a_second"] = options.questions / median(one[0] for one, _ in rounds)
            found["rows"].append(row)
            print(row, flush=True)
            write_json(options.results, found)


def answered(model: Any, data: Path, given: dict[str, Any]) -> tuple[float, list[float]]:
    """Return the seconds of processor time that all questions take, and the log-likelihood of every choice."""
    begun = time.process_time()
    report = genus.evaluate_prompts(model, "arc_easy", [data], **given)
    return time.process_time() - begun, [choice["nats"] for row in report.answered for choice in row.told["choices"]]


def alone(model: Any, data: Path, given: dict[str, Any]) -> tuple[float, list[float]]:
    """Return the same where each choice is read with its prompt."""
    with mock.patch.object(likelihood, "shared_contexts", return_value=[]):
        return answered(model, data, given)


if __name__ == "__main__":
    main()
