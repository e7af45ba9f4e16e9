"""How fast vectors of texts are made, without tokenizing, beside other engines with the same weights.

    python benchmarks/inference.py --model FOLDER --data ../shared/data

Contenders are this library's engine of inference (as in `genus serve`) in float32 and, where that is faster, in
bfloat16, the same model as a graph and as a graph of 8
bits in ONNX Runtime (`genus export --format onnx`, `genus quantize`), Hugging Face's class on padded texts, the same
compiled and frozen, and OpenVINO where it is installed. All answer the same token ids, 1, 8 and 32 texts at once, of
the full length and of the lengths that news, captions and questions have. They take turns in one process; told are
medians of processor time over the rounds, and the ratio within each round to this library's. Vectors are compared.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genus.export.folder import load
from genus.files import write_json
from genus.inference.engine import Inference
from genus.model.cpu import cast_linear_weights, fast_bfloat16, lay_by_columns, tune_cpu_process
from genus.tasks.answer import outputs
from genus.tasks.embed import as_embedder, embedder_of
from genus.tasks.encode import EncodedTexts
from genus.train.provenance import surroundings
from serving import texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from genus.export.folder import LoadedModel

RESULTS = Path(__file__).parent / "results" / "inference-cpu.json"
BATCHES, FULL = (1, 8, 32), 128
OURS = "genus"
EXACT, ROUNDED = 0.999, 0.9
"""Least cosine of a contender's vectors with ours, in float32 and in fewer bits."""
Rows = list["NDArray[np.int64]"]


def of_genus(
    model: LoadedModel, precision: str = "float32", *, is_graph: bool = False
) -> Callable[[Rows], NDArray[np.float32]]:
    """Return our engine, given ids without special tokens."""
    model, vocabulary = as_embedder(model), model.tokenizer.vocabulary
    model.learner.eval()
    if precision == "bfloat16":  # as `genus serve` does
        cast_linear_weights(model.learner.network, torch.bfloat16)
    elif not is_graph:
        lay_by_columns(model.learner.network)
    engine, name = Inference(precision), embedder_of(model).name

    def embed(rows: Rows) -> NDArray[np.float32]:
        some = [(ids.astype(np.int32),) for ids in rows]
        encoded = EncodedTexts(some, np.zeros(len(rows), np.float32), name, vocabulary, 512, np.zeros(0, np.int64))
        return outputs(model.learner, model.recipe.model, encoded, engine, texts=False).values

    return embed


def padded(rows: Rows, model: LoadedModel) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ids (N, L) with special tokens, padded on the right, and the mask."""
    framed = [model.tokenizer.vocabulary.frame(ids)[0] for ids in rows]
    ids = np.full((len(framed), max(map(len, framed))), model.tokenizer.vocabulary.pad)
    for row, each in zip(ids, framed, strict=True):
        row[: len(each)] = each
    return ids, np.array([[1] * len(each) + [0] * (ids.shape[1] - len(each)) for each in framed])


def pooled(states: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the means of the states that are no padding."""
    return np.asarray((states * mask[..., None]).sum(1) / mask.sum(1, keepdims=True), np.float32)


def of_transformers(folder: Path, model: LoadedModel, *, frozen: bool) -> Callable[[Rows], NDArray[np.float32]]:
    """Return Hugging Face's class, or the same compiled by Inductor with frozen weights."""
    from transformers import AutoModel

    network: Any = AutoModel.from_pretrained(folder).eval()
    if frozen:
        import torch._inductor.config as inductor

        inductor.freezing = True
        network = torch.compile(network, dynamic=True)

    def embed(rows: Rows) -> NDArray[np.float32]:
        ids, mask = padded(rows, model)
        with torch.no_grad():
            found = network(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
        return pooled(found.last_hidden_state.numpy(), mask)

    return embed


def of_graph(folder: Path, model: LoadedModel) -> Callable[[Rows], NDArray[np.float32]]:
    """Return a graph folder's vectors by ONNX Runtime."""
    return of_genus(load(folder), is_graph=True)


def of_openvino(folder: Path, model: LoadedModel, precision: str) -> Callable[[Rows], NDArray[np.float32]]:
    """Return OpenVINO on the graph, whose only output are vectors."""
    import openvino

    core = openvino.Core()
    hint = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = core.compile_model(str(folder / "model.onnx"), "CPU", hint)
    names = [one.get_any_name() for one in compiled.inputs]

    def embed(rows: Rows) -> NDArray[np.float32]:
        ids, mask = padded(rows, model)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return np.asarray(compiled({name: given[name] for name in names})[0])

    return embed


def contenders(options: argparse.Namespace, work: Path) -> dict[str, Callable[[Rows], NDArray[np.float32]]]:
    """Return the contenders by name."""
    model = load(options.model)
    graph, small = work / "graph", work / "int8"
    for command in (["export", "--format", "onnx", "--out", str(graph)], ["quantize", "--out", str(small)]):
        subprocess.run(
            [sys.executable, "-m", "genus", command[0], str(options.model), *command[1:]], check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
    found = {
        OURS: of_genus(model),
        "transformers": of_transformers(options.model, model, frozen=False),
        "transformers, compiled and frozen": of_transformers(options.model, model, frozen=True),
        "ONNX Runtime": of_graph(graph, model),
        "ONNX Runtime, int8": of_graph(small, model),
    }
    if fast_bfloat16():
        found["genus, bfloat16"] = of_genus(load(options.model), "bfloat16")
    if find_spec("openvino") is not None:
        found["OpenVINO"] = of_openvino(graph, model, "f32")
        found["OpenVINO, bfloat16"] = of_openvino(graph, model, "bf16")
    return found


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors of the length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def measured(
    made: dict[str, Callable[[Rows], NDArray[np.float32]]], batches: Sequence[Rows], rounds: int
) -> dict[str, dict[str, float]]:
    """Return milliseconds a text of each contender, its ratio to ours, and how near its vectors are."""
    times: dict[str, list[float]] = {name: [] for name in made}
    near: dict[str, float] = {}
    for number in range(rounds + 1):
        for name, embed in made.items():
            begun = time.process_time()
            vectors = [embed(rows) for rows in batches]
            if number:
                times[name].append(time.process_time() - begun)
            found = unit(np.concatenate(vectors))
            if name == OURS:
                ours = found
            near[name] = float((found * ours).sum(1).min())
    number = sum(map(len, batches))
    ratios = {name: [one / own for one, own in zip(each, times[OURS], strict=True)] for name, each in times.items()}
    return {
        name: {
            "ms_a_text": round(1000 * median(each) / number, 3),
            "times_ours": round(median(ratios[name]), 3),
            "least_cosine": round(near[name], 5),
        }
        for name, each in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="an embedder in the Hugging Face layout, as MiniLM")
    parser.add_argument("--data", type=Path, required=True, help="the folder of tables of texts")
    parser.add_argument("--texts", type=int, default=64, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    tune_cpu_process()
    reader = load(options.model).tokenizer
    real = [np.array(ids[: FULL - 2], np.int64) for ids in reader.encode(texts(options.data, options.texts))]
    drawn = np.random.default_rng(0).integers(1000, 20_000, (options.texts, FULL - 2))
    found: dict[str, Any] = {}
    with TemporaryDirectory() as work:
        made = contenders(options, Path(work))
        print("| texts | engine | ms a text | times ours | least cosine |\n| --- | --- | --- | --- | --- |")
        for kind, rows in (("full", [*drawn]), ("real", real)):
            for size in BATCHES:
                some = rows[: max(8, size)] if size < max(BATCHES) else rows
                batches = [some[first : first + size] for first in range(0, len(some), size)]
                case = f"{size} of {kind} length"
                found[case] = measured(made, batches, options.rounds)
                for name, one in found[case].items():
                    print(
                        f"| {case} | {name} | " + " | ".join(f"{value:g}" for value in one.values()) + " |", flush=True
                    )
    write_json(options.results, {**surroundings(torch.device("cpu")), "rounds": options.rounds, "cases": found})


if __name__ == "__main__":
    main()
