"""Time, score and size of a fine-tuned model in float32 and quantized, by torchao and by ONNX Runtime.

    python benchmarks/quantization.py --model RUN/model --data validation.jsonl --task sst2
    python benchmarks/quantization.py ... --busy --compile   # beside other work; torchao compiled too: takes minutes

Contenders answer the same rows through the same functions, in batches of one text and of 32, by turns; told are the
medians over rounds of milliseconds per text, without tokenizing, in processor time of one thread with --busy, and the
score on all rows. `genus` is the model as it is, in float32 and bfloat16; torchao changes its linear maps in place.
Compiled contenders read padded texts as the graph does, with dynamic shapes. Results of a task go under its name into
one file.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
import warnings
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from genus.cli.task import choose
from genus.compress.measure import Table, batches_of, file_bytes
from genus.compress.quantize import BlockWeights, DynamicInt8
from genus.export.folder import LoadedModel, load, save
from genus.export.onnx.folder import write
from genus.export.onnx.session import padded, row_of
from genus.export.onnx.trace import Graph, asked
from genus.files import write_json
from genus.inference.engine import Inference
from genus.model.cpu import tune_cpu_process
from genus.objectives import Learner, answering
from genus.tasks.answer import measure, outputs
from genus.tasks.predict import objective_of
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from genus.batch import Batch

RESULTS = Path(__file__).parent / "results" / "quantization-cpu.json"
BATCHES, TIMED = (1, 32), 128
PACKAGES = ("onnx", "onnxscript", "onnxruntime", "torchao", "transformers")


@dataclass(frozen=True)
class Contender:
    """Who answers."""

    name: str
    model: LoadedModel
    megabytes: float
    precision: str = "float32"

    def row(self, table: Table) -> dict[str, Any]:
        """Return the scores, without times."""
        encoded = table.encoded(self.model)
        found = outputs(self.model.learner, self.model.recipe.model, encoded, Inference(self.precision))
        scores = measure(table.task.metrics, objective_of(self.model), encoded, found)
        return {"contender": self.name, "scores": scores, "milliseconds": {}, "megabytes": round(self.megabytes, 2)}

    def time(self, batches: list[Batch], clock: Callable[[], float]) -> float:
        """Return the milliseconds per text of one round over the batches."""
        half = torch.autocast("cpu", torch.bfloat16) if self.precision == "bfloat16" else nullcontext()
        with answering(self.model.learner), half:
            begun = clock()
            for batch in batches:
                self.model.learner.outputs(batch)
            return 1000 * (clock() - begun) / sum(len(batch.tokens.spans()) for batch in batches)


class Padded(Learner):
    """A learner that reads padded texts, as a graph does, compiled for dynamic shapes."""

    def __init__(self, model: LoadedModel) -> None:
        learner = model.learner
        super().__init__(learner.network, dict(learner.heads.items()))
        what = asked(model)
        (self.name,) = [what.head]
        self.names = list(what.outputs.values())
        self.graph = torch.compile(Graph(what).eval(), dynamic=True)

    def outputs(self, batch: Batch, **given: Any) -> dict[str, dict[str, torch.Tensor]]:
        """Return the outputs of the head at the batch's targets."""
        found = self.graph(*map(torch.from_numpy, padded(batch.tokens)))
        at = torch.from_numpy(row_of(batch.tokens))[batch.targets[self.name].index]
        return {self.name: {name: one[at].float() for name, one in zip(self.names, found, strict=True)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the folder of a fine-tuned classifier")
    parser.add_argument("--data", type=Path, required=True, help="its validation table")
    parser.add_argument("--task", required=True, help="a task of GLUE, for columns and metrics")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", action="store_true", help="processor time of this process, in one thread")
    parser.add_argument("--compile", action="store_true", help="compiled contenders too")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    tune_cpu_process()
    if options.busy:
        torch.set_num_threads(1)
    clock = time.process_time if options.busy else time.perf_counter
    warnings.filterwarnings("ignore")
    source = load(options.model)
    table = Table.of(options.data, source, choose(options.task))
    known = json.loads(options.results.read_text()) if options.results.exists() else {}
    found: dict[str, Any] = known | {"busy": options.busy, "texts": TIMED, "rounds": options.rounds}
    found |= surroundings(torch.device("cpu"))
    found["versions"] = found["versions"] | {name: version(name) for name in PACKAGES}
    everyone = [*contenders(options.model, source, compiled=options.compile)]
    rows = [one.row(table) for one in everyone]
    encoded = table.encoded(source)
    for size in BATCHES:
        batches = [*batches_of(encoded, size, TIMED)]
        each = [[one.time(batches, clock) for one in everyone] for _ in range(options.rounds + 1)]  # by turns
        for number, row in enumerate(rows):
            row["milliseconds"][str(size)] = round(median(times[number] for times in each[1:]), 3)
    found[options.task] = {"rows": len(table.rows), "seed": source.recipe.seed, "contenders": rows}
    write_json(options.results, found)
    for row in rows:
        print(row, flush=True)


def contenders(folder: Path, source: LoadedModel, *, compiled: bool) -> Iterator[Contender]:
    """Yield the contenders."""
    whole = file_bytes(folder) / 1e6
    yield Contender("genus, float32", source, whole)
    yield Contender("genus, bfloat16", source, whole, "bfloat16")
    with TemporaryDirectory() as work:
        path = Path(work) / "float32"
        write(path, source, save)
        yield Contender("onnxruntime, float32", load(path), file_bytes(path) / 1e6)
        for name, choice in {
            "int8": DynamicInt8(), "int8 weights": BlockWeights(bits=8), "int4 weights": BlockWeights(bits=4)
        }.items():  # fmt: skip
            path = Path(work) / name
            write(path, source, save, change=choice.change, weights=choice.weights)
            yield Contender(f"onnxruntime, {name}", load(path), file_bytes(path) / 1e6)
    for name, model in quantized_by_torchao(source):
        size = sum(_bytes(tensor) for tensor in model.learner.state_dict().values()) / 1e6
        yield Contender(f"torchao, {name}", model, size)
        if compiled:
            yield Contender(f"torchao, {name}, compiled", replace(model, learner=Padded(model)), size)
    if compiled:
        yield Contender("torch, float32, compiled", replace(source, learner=Padded(source)), whole)


def quantized_by_torchao(source: LoadedModel) -> Iterator[tuple[str, LoadedModel]]:
    """Yield copies of the model whose linear maps torchao quantized."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_

    for name, config in {
        "int8": Int8DynamicActivationInt8WeightConfig(),
        "int8 weights": Int8WeightOnlyConfig(),
    }.items():
        learner = copy.deepcopy(source.learner)
        quantize_(learner, config)
        yield name, replace(source, learner=learner)


def _bytes(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor, or of those that a quantized one is made of."""
    names = getattr(tensor, "tensor_data_names", None)
    return tensor.nbytes if names is None else sum(getattr(tensor, name).nbytes for name in names)


if __name__ == "__main__":
    main()
