"""A quantized model is a folder that answers: smaller, nearly as right, and not written where it is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from genus.cli import main
from genus.compress.quantize import BlockWeights, DynamicInt8, Quantization, quantize
from genus.errors import GenusError, UsageError
from genus.export.folder import LoadedModel, load, save
from genus.export.onnx.folder import GRAPH, RECORD
from genus.export.onnx.session import session
from genus.tasks.predict import predict
from genus.tasks.start import Start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.usefixtures("graphs_once")

HALF_STEP = 0.5 + 1e-3
"""A rounded weight is at most half a step from what it was, in float32."""
TEXTS = [("a cat and a saw and a dog .",), ("a saw and a hammer and a bird .",)]


@pytest.mark.parametrize("choice", [DynamicInt8(), BlockWeights(bits=8), BlockWeights(bits=4)])
def test_a_quantized_folder_answers(choice: Quantization, tuned: Path, tables: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = quantize(tuned, out, choice, run=run, data=tables / "validation.jsonl", max_drop=0.2)
    assert done.before is not None
    assert done.after is not None
    assert done.before.scores["accuracy"] > 0.9
    assert done.after.scores["accuracy"] >= done.before.scores["accuracy"] - 0.2
    assert set(done.after.milliseconds) == {"1", "32"}
    whole, smaller = load(tuned), load(out)
    for one, other in zip(predict(whole, TEXTS), predict(smaller, TEXTS), strict=True):
        assert one.scores["tools"] == pytest.approx(other.scores["tools"], abs=0.2)
    assert json.loads((out / RECORD).read_text())["weights"] == choice.weights
    assert not [path for path in out.rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".safetensors")]
    written = [node.op_type for node in onnx.load(out / GRAPH).graph.node]
    assert ("MatMulNBits" in written) == isinstance(choice, BlockWeights)


def test_weights_are_rounded_to_the_nearest(tuned: Path, run: Run, tmp_path: Path) -> None:
    """A weight of 8 bits times the scale of its output is the weight, up to half a step."""
    quantize(tuned, tmp_path / "out", DynamicInt8(), run=run)
    graph = onnx.load(tmp_path / "out" / GRAPH).graph
    tensors = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    weight = load(tuned).learner.network.layers[0].feedforward.inner.weight.detach().numpy()
    matches = 0
    for name, value in tensors.items():
        if not name.endswith("_quantized") or value.shape not in (weight.shape, weight.shape[::-1]):
            continue
        scale = tensors[name.removesuffix("_quantized") + "_scale"]
        found = value.astype(np.float64) * scale
        for theirs in (found, found.T):
            if theirs.shape == weight.shape:
                step = scale.max()
                matches += bool(np.abs(theirs - weight).max() <= HALF_STEP * step)
    assert matches == 1


def test_a_score_that_falls_too_far_is_not_written(
    tuned: Path, tables: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(self: Quantization, source: Path, target: Path) -> None:
        model = onnx.load(source)
        for one in model.graph.initializer:
            if one.data_type == onnx.TensorProto.FLOAT:
                value = onnx.numpy_helper.to_array(one)
                one.CopyFrom(onnx.numpy_helper.from_array(-value, one.name))
        onnx.save(model, target)

    monkeypatch.setattr(DynamicInt8, "change", spoiled)
    out = tmp_path / "out"
    with pytest.raises(
        GenusError, match=r"accuracy falls from \d\.\d+ to \d\.\d+, by more than --max-drop 0.01"
    ) as told:
        quantize(tuned, out, DynamicInt8(), run=run, data=tables / "validation.jsonl")
    assert "\n" not in str(told.value)
    assert not out.exists()


def test_the_command(tuned: Path, tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, table = tmp_path / "out", tables / "validation.jsonl"
    words = ["quantize", tuned, "--data", table, "--out", out, "--max-drop", "0.1", "--json"]
    assert main(list(map(str, words))) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metric"] == "accuracy"
    stored = onnx.load(out / GRAPH).graph.initializer
    large = [one.data_type for one in stored if np.prod(one.dims) >= 32 * 32]
    assert large
    assert set(large) <= {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    assert main(["evaluate", str(out), str(table), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == told["after"]["scores"]["accuracy"]
    for wrong, code, match in (
        (["quantize", out, "--data", table, "--out", tmp_path / "twice"], 2, "is a graph already"),
        (["quantize", tuned, "--max-drop", "0.01", "--out", tmp_path / "twice"], 2, "name one with --data"),
        (["quantize", tuned, "--to", "int2", "--out", tmp_path / "twice"], 2, "--to: there is no 'int2'"),
        (["quantize", tuned, "--data", table, "--out", tables], 2, "is not empty"),
    ):
        assert main(list(map(str, wrong))) == code
        assert match in capsys.readouterr().err.strip().splitlines()[-1]
        assert not (tmp_path / "twice").exists()


def test_a_folder_without_a_head_of_a_task(
    tables: Path, recipe: Recipe, tokenizer: Tokenizer, run: Run, tmp_path: Path
) -> None:
    made = Start(recipe, tokenizer).recipe.with_tokens(tokenizer.tokens)
    save(tmp_path / "plain", made, made.learner(), tokenizer)
    with pytest.raises(GenusError, match="has no head of a task"):
        quantize(tmp_path / "plain", tmp_path / "out", DynamicInt8(), run=run)


def test_a_member_that_is_no_graph(
    member: Callable[..., LoadedModel], tables: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which PyTorch's exporter finds out in many seconds (`export/test_onnx.py`)."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("depends on a length")

    monkeypatch.setattr("torch.onnx.export", fail)
    model = member("linformer")
    save(tmp_path / "model", model.recipe, model.learner, model.tokenizer)
    with pytest.raises(GenusError, match="cannot be written as a graph"):
        quantize(tmp_path / "model", tmp_path / "out", DynamicInt8(), run=run, data=tables / "validation.jsonl")
    assert not (tmp_path / "out").exists()


def test_many_threads_of_the_session(tuned: Path, run: Run, tmp_path: Path) -> None:
    """The session has as many threads as PyTorch."""
    import torch

    quantize(tuned, tmp_path / "out", DynamicInt8(), run=run)
    found = session(tmp_path / "out" / GRAPH).get_session_options()
    assert found.intra_op_num_threads == torch.get_num_threads()
    with pytest.raises(UsageError, match="--max-drop"):
        quantize(tuned, tmp_path / "again", DynamicInt8(), run=run, max_drop=0.0)
