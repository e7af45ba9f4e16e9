"""Writing a model into a repository of Triton: `NAME_onnx`, its graph, and `NAME`, which takes texts.

Source: triton-inference-server/server, docs/user_guide/model_repository.md ("Repository Layout", "ONNX Models").
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from genus.errors import UsageError
from genus.export.files import replaced_by_triton_model
from genus.export.folder import load, save
from genus.export.onnx import folder as graphs
from genus.export.onnx.session import needed
from genus.export.onnx.trace import NAMES, asked
from genus.files import beside, write_json, write_text
from genus.inference.engine import TOKENS_AT_ONCE
from genus.objectives.supervised.multi_label import HALF
from genus.run_folder import LOCK, RunFolder
from genus.serve.signature import askings
from genus.serve.triton.answering import answering
from genus.serve.triton.configuration import FILE, LABELS, Port, configuration
from genus.tasks.embed import as_embedder, prompt_of
from genus.tasks.predict import objective_of
from genus.tokens.tokenizer import without_specials

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel
    from genus.export.onnx.session import GraphLearner
    from genus.objectives.supervised import FineTuned

SUFFIX = "_onnx"
"""Of the graph's name."""
VERSION, CODE = "1", "model.py"
BY_GENUS = '''"""A model of Triton that takes texts, by genus: pip install 'genus[serve]'."""

from pathlib import Path

from genus.serve.triton.library import LibraryModel


class TritonPythonModel(LibraryModel):
    """What the folder beside this file says."""

    folder = Path(__file__).parent
'''
"""The code of a model that genus computes."""
GRAPH_INSTANCES = "count: 1 kind: KIND_AUTO"
"""On each GPU, where there are any, else on the CPU."""
TEXT_INSTANCES = "count: 2 kind: KIND_CPU"
"""Processes: one makes tokens while the graph computes for the other."""


def write(repository: Path, name: str, model: LoadedModel, folder: Path) -> dict[str, float]:
    """Write a model's graph, and a model that takes texts; return how far the graph differs, by output.

    A model without a task's head gives the vectors of texts, the means of its hidden states. Other models of the
    repository stay.

    Args:
        repository: the folder of all models.
        name: of the model that takes texts.
        model: with weights, or with a graph, which is taken as it is.
        folder: where it lies.

    Raises:
        GenusError: the model cannot be a graph, or the graph computes something else.
        UsageError: the folder is no repository, or holds a model of that name that genus did not write; a library is
            not installed.
    """
    needed("onnxruntime")
    _check_repository(repository)
    old = {one: replaced_by_triton_model(repository / one) for one in (name, name + SUFFIX)}
    with RunFolder(repository).lock(), TemporaryDirectory(prefix="genus-") as work:
        differences: dict[str, float] = {}
        if not graphs.is_graph(folder):
            folder = Path(work) / "graph"
            model = model if asked(model).head is not None else as_embedder(model)
            differences = graphs.write(folder, model, save)
        model = load(folder)
        with (
            beside(repository / name, old[name]) as text,
            beside(repository / (name + SUFFIX), old[name + SUFFIX]) as graph,  # published first
        ):
            _write_graph(graph, name + SUFFIX, model, folder)
            _write_text(text, name, model, folder)
    return differences


def _check_repository(repository: Path) -> None:
    """Check that a folder may be a repository.

    Raises:
        UsageError: it is a file, or holds files, as a repository does not.
    """
    RunFolder(repository).check("a Triton repository")
    files = [one.name for one in repository.glob("*") if not one.is_dir() and one.name != LOCK]
    if files:
        raise UsageError(f"{repository}: holds {min(files)}, and a Triton repository holds folders of models alone; "
                         "write to another folder")  # fmt: skip


def _most(model: LoadedModel) -> int:
    """Return how many of the longest texts have as many tokens as a forward pass of ours."""
    return max(1, TOKENS_AT_ONCE // model.recipe.finetuning.max_length)


def _write_graph(out: Path, name: str, model: LoadedModel, folder: Path) -> None:
    """Write the graph with its configuration; one in several files is a folder of its name."""
    session, objective = cast("GraphLearner", model.learner).session, objective_of(model)
    several = (folder / graphs.DATA).is_file()
    target = out / VERSION / graphs.GRAPH if several else out / VERSION
    target.mkdir(parents=True)
    for file in (graphs.GRAPH, graphs.DATA)[: 1 + several]:
        shutil.copyfile(folder / file, target / file)
    labeled = objective.pooled and _write_labels(out, objective)
    inputs = map(Port.of_graph, session.get_inputs())
    outputs = [Port.of_graph(one, labeled=labeled) for one in session.get_outputs()]
    computed = 'platform: "onnxruntime_onnx"'
    write_text(out / FILE, configuration(name, computed, _most(model), inputs, outputs, GRAPH_INSTANCES))


def _write_labels(out: Path, objective: FineTuned) -> bool:
    """Write the labels, if there are any, a line each; return whether there are."""
    lines = [" ".join(label.split()) for label in objective.classes]
    if lines:
        write_text(out / LABELS, "\n".join(lines) + "\n")
    return bool(lines)


def _write_text(out: Path, name: str, model: LoadedModel, folder: Path) -> None:
    """Write the model that takes texts: by `tokenizers` alone where no more is needed, else by genus."""
    objective, version = objective_of(model), out / VERSION
    served = answering(name, model)
    try:
        asking = askings(served)[0]
        inputs, outputs = ([*map(Port.of_tensor, tensors(served))] for tensors in (asking.inputs, asking.outputs))
    finally:
        served.close()
    if any(port.labeled for port in outputs):
        _write_labels(out, objective)
    session = cast("GraphLearner", model.learner).session
    told: dict[str, Any] = {"graph": name + SUFFIX, "inputs": [one.name for one in session.get_inputs()]}
    version.mkdir()
    if objective.pooled and not model.tokenizer.tokens.normalizers():
        told |= _meaning(objective) | _reading(model, objective)
        shutil.copyfile(Path(__file__).with_name("texts.py"), version / CODE)
        without_specials(model.tokenizer.backend).save(str(version / "tokenizer.json"))
    else:
        write_text(version / CODE, BY_GENUS)
        shutil.copytree(folder, version / "model", ignore=shutil.ignore_patterns(graphs.GRAPH, graphs.DATA))
    write_json(version / "text.json", told)
    computed = 'backend: "python"'
    write_text(out / FILE, configuration(name, computed, _most(model), inputs, outputs, TEXT_INSTANCES))


def _reading(model: LoadedModel, objective: FineTuned) -> dict[str, Any]:
    """Return how texts become tokens."""
    vocabulary = model.tokenizer.vocabulary
    return {
        "prompt": prompt_of(model, None) if objective.embeds else "",
        "length": model.recipe.finetuning.max_length,
        "templates": [vocabulary.single, vocabulary.pair],
        "pad": vocabulary.pad,
    }


def _meaning(objective: FineTuned) -> dict[str, Any]:
    """Return what the graph's output means, of an objective whose targets are whole texts."""
    if objective.embeds:
        return {"meaning": "embedding", "output": NAMES["vectors"]}
    if not objective.classes:
        mean, one = objective.decide(np.array([[0.0], [1.0]], np.float32)).tolist()
        return {"meaning": "value", "output": NAMES["values"], "mean": mean, "std": one - mean}
    told = {"meaning": "label", "output": "logits", "labels": objective.classes}
    if not objective.multi_label:
        return told
    tuned = objective.tuned_thresholds
    return told | {"meaning": "labels", "thresholds": [tuned.get(label, HALF) for label in objective.classes]}
