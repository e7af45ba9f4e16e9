"""Repositories of Triton: what its schema and ONNX Runtime say of them, and that their models answer as the library."""

from __future__ import annotations

import ast
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fake_triton import KINDS, FakeTriton
from genus.cli import main
from genus.errors import heard
from genus.export.folder import load
from genus.export.onnx import trace
from genus.objectives.supervised.embedding import Projection, Prompt, SentenceEmbedder
from genus.objectives.supervised.multi_label import MultiLabelClassification
from genus.objectives.supervised.sequence import SequenceClassification, SequenceRegression
from genus.objectives.supervised.token import SpanTagging
from genus.serve.limits import Limits
from genus.serve.passes import Passes
from genus.serve.served import Served
from genus.serve.signature import Options, askings
from genus.serve.ticket import Ticket, current
from genus.train.run import Run
from open_inference import HEADS
from serving import small_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from genus.objectives.supervised import FineTuned

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

CLOSE = 1e-4
"""Float32 in two libraries, relative to the largest output."""
LONG = "Every teacher remembers the long letter near the harbor. " * 40
TEXTS = [
    "the old river",
    "Größe 東京 🚂",
    LONG,
    "",
    "a [SEP] </s> <pad> b",
    "seven stones carry the long letter",
    "x " * 126,
]
OTHERS = ["a narrow bridge", LONG, "seven stones", "the evening light", "", "x", "winter"]
OBJECTIVES: dict[str, FineTuned | None] = {
    **{name: HEADS[name] for name in ("labels", "several", "pairs", "relevance", "tags", "answers")},
    "either": SequenceClassification(labels=("a", "b")),
    "thresholds": MultiLabelClassification(labels=("a", "b", "c"), texts=1, thresholds=(0.4, 0.5, 0.6)),
    "units": SequenceRegression(texts=1, mean=3.0, std=2.0),
    "embedder": SentenceEmbedder(
        normalize=True, projection=Projection(size=16), prompts=(Prompt(name="query", text="seven "),),
        default_prompt="query",
    ),
    "spans": SpanTagging(labels=("O", "B-X", "I-X")),
    "none": None,
}  # fmt: skip
ALIKE = ("several", "relevance", "units", "pairs", "thresholds")
FEW = ("gpt2", "wangchanberta")
MORE = ("roberta", "albert", "distilbert", "electra", "ernie2", "genus", "megatron-bert", "spanbert", "xlnet",
        "transformer-xl", "llama", "gpt-j")  # fmt: skip
BY_GENUS = ("tags", "answers", "spans")

pytestmark = pytest.mark.usefixtures("graphs_once")


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], FakeTriton]]:
    """Return a function from a model folder to a server of its repository."""
    servers = []

    def make(folder: Path) -> FakeTriton:
        assert main(["export", str(folder), "--out", str(tmp_path / "models"), "--format", "triton"]) == 0
        servers.append(FakeTriton(tmp_path / "models", monkeypatch))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def answers(folder: Path, given: dict[str, list[str]]) -> dict[str, np.ndarray]:
    """Return the library's answers, by its own network in PyTorch."""
    run = Run(device="cpu", precision="float32")
    served = Served("model", load(folder), Limits(tokens=1_000_000), run, Passes())
    token = current.set(Ticket())
    try:
        with heard():
            arrays = {name: np.array(texts, object) for name, texts in given.items()}
            found = askings(served)[0].answer(served, arrays, Options())
    finally:
        current.reset(token)
        served.close()
    return {name: np.array(value) for name, value in found.items()}


def inputs(task: str) -> dict[str, list[str]]:
    if task == "answers":
        return {"question": OTHERS[:1] + TEXTS[1:], "context": [LONG, *OTHERS[1:]]}
    if task in ("pairs", "relevance"):
        return {"text": TEXTS, "text_pair": OTHERS}
    return {"text": TEXTS}


def same(found: dict[str, np.ndarray] | str, expected: dict[str, np.ndarray]) -> None:
    assert isinstance(found, dict)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        if value.dtype == object:
            texts = [one.decode() for one in value[:, 0]]
            assert [*map(_rounded, texts)] == [*map(_rounded, expected[name].tolist())], name
            continue
        own = expected[name].reshape(value.shape)
        assert np.abs(value - own).max() <= CLOSE * max(1.0, np.abs(own).max()), name


def _rounded(text: str) -> Any:
    """Return a text, or what it is in JSON with rounded numbers, which two libraries have."""
    try:
        return json.loads(text, parse_float=lambda number: round(float(number), 3))
    except ValueError:
        return text


def check(server: FakeTriton, name: str, folder: Path, given: dict[str, list[str]]) -> None:
    """Compare answers to one request of all texts, and to several requests in one batch, with the library's."""
    expected = answers(folder, given)
    (whole,) = server.infer(name, given)
    same(whole, expected)
    cuts = (slice(0, 1), slice(1, 4), slice(4, None))
    parts = server.infer(name, *({key: texts[cut] for key, texts in given.items()} for cut in cuts))
    for cut, part in zip(cuts, parts, strict=True):
        same(part, {key: value[cut] for key, value in expected.items()})


@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=[pytest.mark.slow] if task in ALIKE else []) for task in OBJECTIVES]
)
def test_every_head(task: str, exported: Callable[[Path], FakeTriton], tmp_path: Path) -> None:
    folder = small_model(tmp_path / task, objective=OBJECTIVES[task])
    server = exported(folder)
    check(server, task, folder, inputs(task))
    if task == "either":
        check(server, task, folder, {"text": TEXTS, "text_pair": OTHERS})
    for name, config in server.configurations.items():
        assert config.max_batch_size == 64
        assert config.dynamic_batching.max_queue_delay_microseconds == 100
        assert len(config.instance_group) == 1
        assert config.backend == ("" if name.endswith("_onnx") else "python")
    assert (tmp_path / "models" / task / "1" / "model").is_dir() == (task in BY_GENUS)


@pytest.mark.parametrize("task", ["labels", "tags", "answers"])
def test_dims_and_types_are_those_of_the_graph(
    task: str, exported: Callable[[Path], FakeTriton], tmp_path: Path
) -> None:
    server = exported(small_model(tmp_path / task, objective=OBJECTIVES[task]))
    config, session = server.configurations[f"{task}_onnx"], server.models[f"{task}_onnx"]
    types = {"tensor(int64)": np.dtype(np.int64), "tensor(float)": np.dtype(np.float32)}
    for ports, values in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [one.name for one in ports] == [one.name for one in values]
        for port, value in zip(ports, values, strict=True):
            assert not isinstance(value.shape[0], int)
            assert [*port.dims] == [size if isinstance(size, int) else -1 for size in value.shape[1:]]
            assert KINDS[server.types.Name(port.data_type)] == types[value.type]
    assert [one.name for one in config.input] == ["input_ids", "attention_mask", "token_type_ids"]
    labels = {"labels": [3], "tags": [-1, 3], "answers": [-1]}
    assert [*config.output[0].dims] == labels[task]
    assert config.output[0].label_filename == ("labels.txt" if task == "labels" else "")


@pytest.mark.parametrize("name", [*FEW, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_every_member_that_can(name: str, exported: Callable[[Path], FakeTriton], tmp_path: Path) -> None:
    folder = small_model(tmp_path / "member", f"{name}/tiny", OBJECTIVES["labels"])
    check(exported(folder), "member", folder, {"text": TEXTS})


def test_requests_of_a_batch_are_one_pass_of_the_graph(exported: Callable[[Path], FakeTriton], tmp_path: Path) -> None:
    server = exported(small_model(tmp_path / "labels", objective=OBJECTIVES["labels"]))
    server.infer("labels", {"text": TEXTS}, {"text": OTHERS})
    assert server.calls == [len(TEXTS) + len(OTHERS)]


def test_what_is_wrong_is_an_error_of_its_own_request(
    exported: Callable[[Path], FakeTriton], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small_model(tmp_path / "labels", objective=OBJECTIVES["labels"])
    server = exported(folder)
    wrong, right = server.infer("labels", {"text": ["a", b"\xff"]}, {"text": TEXTS})
    assert wrong == "a text is no UTF-8"
    same(right, answers(folder, {"text": TEXTS}))
    config = server.configurations["labels_onnx"]
    monkeypatch.setattr(server, "configurations", server.configurations | {"labels_onnx": smaller(config)})
    many, few = server.infer("labels", {"text": ["a"] * 5}, {"text": ["a"]})
    assert many == "a batch of 5, of at most 4"
    assert isinstance(few, dict)
    assert server.infer("labels", {"text": [b"\xff"]}) == ["a text is no UTF-8"]


def test_the_code_needs_tokenizers_alone(exported: Callable[[Path], FakeTriton], tmp_path: Path) -> None:
    """It also runs on Python 3.10, which the Python backend's documentation names."""
    exported(small_model(tmp_path / "labels", objective=OBJECTIVES["labels"]))
    code = (tmp_path / "models" / "labels" / "1" / "model.py").read_text()
    nodes = [*ast.walk(ast.parse(code, feature_version=(3, 10)))]
    named = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    named |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    needed = {name.split(".")[0] for name in named} - sys.stdlib_module_names
    assert needed == {"numpy", "tokenizers", "triton_python_backend_utils"}


def smaller(config: Any) -> Any:
    made = type(config)()
    made.CopyFrom(config)
    made.max_batch_size = 4
    return made


def test_many_windows_are_several_passes(exported: Callable[[Path], FakeTriton], tmp_path: Path) -> None:
    folder = small_model(tmp_path / "answers", objective=OBJECTIVES["answers"])
    server = exported(folder)
    given = {"question": ["who carries"], "context": [LONG * 8]}
    same(server.infer("answers", given)[0], answers(folder, given))
    assert len(server.calls) > 1
    assert max(server.calls) <= 64


def test_weights_over_the_limit_are_a_folder(
    exported: Callable[[Path], FakeTriton], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small_model(tmp_path / "labels", objective=OBJECTIVES["labels"])
    exported(folder)
    monkeypatch.setattr(trace, "MOST", 1000)
    monkeypatch.setattr("genus.export.onnx.folder.write_graph", trace.write_graph)  # traced anew
    server = exported(folder)
    place = tmp_path / "models" / "labels_onnx" / "1" / "model.onnx"
    assert {one.name for one in place.iterdir()} == {"model.onnx", "model.onnx.data"}
    check(server, "labels", folder, {"text": TEXTS})


def test_a_graph_is_taken_as_it_is(exported: Callable[[Path], FakeTriton], tmp_path: Path) -> None:
    """As those that `genus quantize` writes."""
    folder = small_model(tmp_path / "labels", objective=OBJECTIVES["labels"])
    small = tmp_path / "small"
    assert main(["quantize", str(folder), "--out", str(small)]) == 0
    server = exported(small)
    check(server, "small", small, {"text": TEXTS})
    written = (tmp_path / "models" / "small_onnx" / "1" / "model.onnx").read_bytes()
    assert written == (small / "model.onnx").read_bytes()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_what_genus_wrote_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small_model(tmp_path / "names", objective=OBJECTIVES["tags"])
    models = tmp_path / "models"
    command = ["export", str(folder), "--out", str(models), "--format", "triton"]
    other = models / "other" / "config.pbtxt"
    other.parent.mkdir(parents=True)
    other.write_text('name: "other"\n')
    assert main(command) == 0
    own = models / "names" / "2" / "model.py"
    own.parent.mkdir()
    own.write_text("pass\n")
    small_model(folder, objective=replace(OBJECTIVES["labels"], labels=("yes", "no")))  # type: ignore[type-var]
    assert main(command) == 0
    assert other.read_text() == 'name: "other"\n'
    assert own.read_text() == "pass\n"
    assert not (models / "names" / "1" / "model").exists()
    assert (models / "names" / "labels.txt").read_text() == "yes\nno\n"
    (models / "names_onnx" / "config.pbtxt").write_text('name: "names_onnx"\n')
    before = files(models)
    assert main(command) == 2
    assert "is not empty, and not a Triton model that genus wrote" in capsys.readouterr().err
    assert files(models) == before
    assert main([*command[:3], str(folder), *command[4:]]) == 2
    assert "a Triton repository holds folders of models alone" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "objective"), [("t5/tiny", None), ("bert/tiny", HEADS["choices"])])
def test_others_are_refused_in_a_line(
    name: str, objective: FineTuned | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = small_model(tmp_path / "model-1", name, objective)
    assert main(["export", str(folder), "--out", str(tmp_path / "models"), "--format", "triton"]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert "which no single graph does" in told[-1]
    assert not (tmp_path / "models").exists()


def test_hidden_states_are_no_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, graph = small_model(tmp_path / "masked"), tmp_path / "graph"
    assert main(["export", str(folder), "--out", str(graph), "--format", "onnx"]) == 0
    assert main(["export", str(graph), "--out", str(tmp_path / "models"), "--format", "triton"]) == 2
    assert "this graph gives hidden states" in capsys.readouterr().err
    assert main(["export", str(folder), "--out", str(tmp_path / "models"), "--format", "ray"]) == 2
    assert "there is no format 'ray'" in capsys.readouterr().err
