"""Model folders with an ONNX graph in the place of weights; configuration, recipe and tokenizer are as in any other."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from genus.errors import GenusError, UsageError
from genus.export.onnx.session import GraphLearner, computed, session
from genus.export.onnx.trace import Asked, asked, write_graph
from genus.export.weights import weight_files
from genus.files import beside, expecting, read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from genus.export.folder import LoadedModel
    from genus.objectives import Head
    from genus.recipe import Recipe

GRAPH, DATA, RECORD = "model.onnx", "model.onnx.data", "graph.json"
"""The graph (the name that optimum looks for), its weights where they are over 2 GB, and what genus knows of both."""
USE = """The weights ({weights}) lie in a graph for ONNX Runtime, whose inputs `input_ids`, `attention_mask` and
`token_type_ids` (where the tokenizer gives them) are padded on either side:

```python
import onnxruntime

session = onnxruntime.InferenceSession("path/to/this/folder/model.onnx")
```
"""
FLOAT32 = "float32"
TOLERANCE = 1e-4
"""Largest allowed difference in float32, relative to the largest output, as of other exports."""
TRIED = ((1, 1), (1, 7), (3, 16))
"""Numbers of texts and of tokens that graph and learner are compared on."""


def is_graph(folder: Path) -> bool:
    """Return whether a folder holds a graph that genus wrote, in place of weights."""
    return (folder / RECORD).is_file()


def graph_files(folder: Path) -> set[str]:
    """Return the names of the files of a folder's graph."""
    return {name for name in (GRAPH, DATA, RECORD) if (folder / name).is_file()}


def write(
    folder: Path,
    model: LoadedModel,
    save: Callable[..., None],
    *,
    change: Callable[[Path, Path], None] | None = None,
    weights: str = FLOAT32,
    notes: str = "",
    replaced: Collection[Path] = (),
) -> dict[str, float]:
    """Write a model as a graph; return the largest differences of the float32 graph from the model, by output.

    Args:
        folder: where to write.
        model: the model.
        save: writes a model folder, of which all but the weights are taken.
        change: called with the float32 graph and a path, where it writes another graph; None: the first is kept.
        weights: name of the format of its weights.
        notes: Markdown for the model card.
        replaced: files of an older model there, relative to the folder, that do not stay.

    Raises:
        GenusError: the model cannot be a graph, or the graph computes something else.
    """
    what, name = asked(model), model.recipe.name
    with TemporaryDirectory(prefix="genus-") as work:
        trial, graphs = Path(work) / "model", Path(work) / "graphs"
        graphs.mkdir()
        save(trial, model.recipe, model.learner, model.tokenizer, notes, generation=model.generation,
             task=model.task)  # fmt: skip
        segmented = "token_type_ids" in read_json(trial / "tokenizer_config.json")["model_input_names"]
        write_graph(what, graphs / GRAPH, name, segmented=segmented)
        differences = compared(graphs / GRAPH, what, model, segmented=segmented)
        if change is not None:
            (Path(work) / "changed").mkdir()
            change(graphs / GRAPH, Path(work) / "changed" / GRAPH)
            graphs = Path(work) / "changed"
        with beside(folder, {*replaced, *map(Path, weight_files(folder) | graph_files(folder))}) as made:
            for path in [*trial.iterdir(), *graphs.iterdir()]:
                if path.is_file() and not path.name.endswith((".safetensors", ".index.json")):
                    shutil.copyfile(path, made / path.name)
            _write_card(made, weights)
            per_token = what.head is not None and cast("Head", model.learner.heads[what.head]).per == "token"
            record = {"weights": weights, "head": what.head, "per_token": per_token, "outputs": what.outputs}
            write_json(made / RECORD, record | {"sha256": {name: _sha256(made / name) for name in graph_files(made)}})
    return differences


def compared(path: Path, what: Asked, model: LoadedModel, *, segmented: bool) -> dict[str, float]:
    """Return the largest difference of each output of a graph from the learner's, relative to the largest output.

    Raises:
        GenusError: one is over `TOLERANCE`.
    """
    run, vocabulary = session(path), model.tokenizer.vocabulary
    plain = np.flatnonzero(~vocabulary.special)
    draw, longest = np.random.default_rng(0), model.recipe.model.max_length
    found: dict[str, float] = {}
    for count, length in TRIED:
        ids = plain[draw.integers(len(plain), size=(count, min(length, longest or length)))]
        mask = np.ones_like(ids)
        mask[-1, 1 + ids.shape[1] // 2 :] = 0
        segments = np.zeros_like(ids)
        if segmented and (model.recipe.model.num_segments or 1) > 1:
            segments[:, ids.shape[1] // 2 :] = 1
        reference = what.found(*map(torch.from_numpy, (ids, mask, segments)))
        for (name, ours), theirs in zip(reference.items(), computed(run, ids, mask, segments).values(), strict=True):
            own = ours.numpy() if ours.shape[:2] != ids.shape else ours.numpy()[mask != 0]
            other = theirs if ours.shape[:2] != ids.shape else theirs[mask != 0]
            size = float(abs(own).max())
            found[name] = max(found.get(name, 0.0), float(abs(own - other).max()) / (size or 1.0))
    for name, difference in found.items():
        if not difference <= TOLERANCE:
            raise GenusError(f"{model.recipe.name}: {name} of the graph differs by {difference:.1e} of its size, more "
                             f"than {TOLERANCE:.0e}; nothing is written")  # fmt: skip
    return found


def read(folder: Path, recipe: Recipe | None) -> GraphLearner:
    """Return the learner of a folder's graph, which answers only.

    Raises:
        GenusError: a file is missing or damaged; the message names the folder.
        UsageError: the graph has no head of a task, or ONNX Runtime is not installed.
    """
    record = read_json(folder / RECORD)
    with expecting(folder / RECORD, "write the folder again"):
        head, per_token, outputs = record["head"], bool(record["per_token"]), dict(record["outputs"])
        sums = dict(record["sha256"])
    for name, known in sums.items():
        if name not in (GRAPH, DATA) or not (folder / name).is_file() or _sha256(folder / name) != known:
            raise GenusError(f"{folder / name}: is damaged or missing (it is not as it was written); take another copy")
    if GRAPH not in sums or recipe is None:
        raise GenusError(f"{folder}: {GRAPH if recipe else 'recipe.json'} is missing; write the folder again")
    if head is None:
        raise UsageError(f"{folder}: this graph gives hidden states, for other programs; genus reads graphs of tasks")
    if head not in {one.name for one in recipe.objectives}:
        raise GenusError(f"{folder}: {RECORD} names the head {head!r:.80}, which recipe.json lacks: they do not belong "
                         "together")  # fmt: skip
    run = session(folder / GRAPH)
    if {one.name for one in run.get_outputs()} != outputs.keys():
        raise GenusError(f"{folder / GRAPH}: has other outputs than {RECORD} says: they do not belong together")
    return GraphLearner(run, head, per_token, outputs)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_card(folder: Path, weights: str) -> None:
    """Say in the card how the graph is read, in place of how weights are."""
    path = folder / "README.md"
    page = path.read_text(encoding="utf-8")
    before, _, rest = page.partition("```python\n")
    after = rest.partition("```\n")[2]
    path.write_text(f"{before}{USE.format(weights=weights)}{after}", encoding="utf-8")
