"""Trained weights of a T5: a flan-T5-small that a package carries as two int8 ONNX graphs, beside what these answer.

A graph holds each matrix as integers with a scale, and rounds what it multiplies them with to 8 bits as well, which a
T5 does not bear (the states of a sentence are off by 45 % of their norm). So its products are put back to float32, with
the weights that its integers stand for; all else is the graph's own. Names are transformers', which exported it.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from export.test_real_weights import package
from genus.batch import Batch
from genus.export.folder import LoadedModel, load
from genus.generate import Request
from genus.generate.engine import Engine
from genus.generate.sampling import Greedy
from hand import equal_rows

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.real_weights
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

PREFIXES = {"encoder": ("enc.", "encoder."), "decoder": ("m.", "")}
"""What names of parameters begin with in each graph, and in transformers."""
CONFIG = {
    "architectures": ["T5ForConditionalGeneration"],
    "model_type": "t5",
    "d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 8, "num_decoder_layers": 8, "num_heads": 6,
    "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "vocab_size": 32128,
    "feed_forward_proj": "gated-gelu", "layer_norm_epsilon": 1e-6, "dropout_rate": 0.1, "tie_word_embeddings": False,
    "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "is_encoder_decoder": True,
}  # fmt: skip
"""google/flan-t5-small's, whose sizes are those of the graphs' tensors (t5.1.1.small.gin)."""
SENTENCES = [
    "translate English to German: The house is wonderful.",
    "translate English to German: My name is Anna and I live in Berlin.",
    "summarize: The committee met on Tuesday to discuss the new budget and agreed to raise the fees for parking.",
    "Fix the failing test of the parser and update the documentation",
    "question: What is the capital of France?",
    "Rename the function, move it to another module and delete the old file.",
]
CLOSE = 1e-4
"""Of states and logits, relative to the largest: sums of float32 in another order, through sixteen layers."""


def dequantized(kept: dict[str, NDArray[Any]], name: str) -> NDArray[np.float32]:
    """Return the numbers that a tensor's integers stand for."""
    shifted = kept[f"{name}_quantized"].astype(np.float32) - kept[f"{name}_zero_point"].astype(np.float32)
    return shifted * kept[f"{name}_scale"]


def tensors(graph: Any) -> dict[str, NDArray[Any]]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


def parameters(graph: Any, begins: str, ours: str) -> dict[str, NDArray[np.float32]]:
    """Return a graph's parameters under transformers' names, in float32."""
    kept = tensors(graph)
    found = {name: value for name, value in kept.items() if name.startswith(begins) and name.endswith("norm.weight")}
    for name in kept:
        if name.startswith(begins) and name.endswith("_quantized"):
            found[name.removesuffix("_quantized")] = dequantized(kept, name.removesuffix("_quantized"))
    for node in graph.node:
        if node.op_type == "MatMulInteger":
            path = node.name.strip("/").removesuffix("/MatMul_quant").replace("/", ".")
            found[f"{path}.weight"] = dequantized(kept, node.input[1].removesuffix("_quantized")).T
    return {ours + name.removeprefix(begins): np.ascontiguousarray(value) for name, value in found.items()}


def in_float32(model: Any) -> Any:
    """Return the graph with products of float32: x W in place of scale_x scale_W (round(x / scale_x) W_integers)."""
    kept, nodes = tensors(model.graph), model.graph.node
    made_by = {output: node for node in nodes for output in node.output}
    read_by = {given: node for node in nodes for given in node.input}
    for node in [node for node in nodes if node.op_type == "MatMulInteger"]:
        name = node.input[1].removesuffix("_quantized")
        (cast,) = read_by[node.output[0]].output
        product = read_by[cast]
        assert (made_by[node.input[0]].op_type, product.op_type) == ("DynamicQuantizeLinear", "Mul")
        model.graph.initializer.append(onnx.numpy_helper.from_array(dequantized(kept, name), f"{name}_float"))
        inputs = [made_by[node.input[0]].input[0], f"{name}_float"]
        product.CopyFrom(onnx.helper.make_node("MatMul", inputs, [*product.output], product.name))
    return model


@pytest.fixture(scope="module")
def graphs() -> dict[str, Path]:
    folder = package("traceforge_title_model") / "data" / "span"
    return {name: folder / f"{name}.onnx" for name in PREFIXES}


@pytest.fixture(scope="module")
def model(graphs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Return the model of a folder as transformers would have saved it."""
    folder = tmp_path_factory.mktemp("t5")
    found: dict[str, NDArray[np.float32]] = {}
    for name, path in graphs.items():
        found |= parameters(onnx.load(path).graph, *PREFIXES[name])
    found["shared.weight"] = found.get("shared.weight", found.pop("encoder.embed_tokens.weight"))
    found.pop("encoder.embed_tokens.weight", None)
    save_file(found, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG))
    shutil.copy(graphs["encoder"].with_name("tokenizer.json"), folder)
    return load(folder)


@pytest.fixture(scope="module")
def theirs(graphs: dict[str, Path]) -> dict[str, Any]:
    """Return a session of each graph, in one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    found = {name: in_float32(onnx.load(path)).SerializeToString() for name, path in graphs.items()}
    return {name: onnxruntime.InferenceSession(one, options) for name, one in found.items()}


def encoded(sessions: dict[str, Any], source: list[int]) -> NDArray[np.float32]:
    given = {"input_ids": np.array([source]), "attention_mask": np.ones((1, len(source)), np.int64)}
    return sessions["encoder"].run(None, given)[0]


def logits(sessions: dict[str, Any], states: NDArray[np.float32], ids: list[int]) -> NDArray[np.float32]:
    mask = np.ones(states.shape[:2], np.int64)
    given = {"input_ids": np.array([ids]), "encoder_hidden_states": states, "encoder_attention_mask": mask}
    return sessions["decoder"].run(None, given)[0][0]


def written(sessions: dict[str, Any], source: list[int], tokens: int) -> list[int]:
    """Return greedy ids of the graphs."""
    states, ids = encoded(sessions, source), [0]
    while len(ids) <= tokens and ids[-1] != 1:
        ids.append(int(logits(sessions, states, ids)[-1].argmax()))
    return ids[1:]


def sources(model: LoadedModel) -> list[list[int]]:
    return [model.tokenizer.vocabulary.frame(np.array(ids))[0].tolist() for ids in model.tokenizer.encode(SENTENCES)]


def test_the_vocabulary_is_that_of_the_folder(model: LoadedModel) -> None:
    """Pieces with the end token; "▁question" and "▁France" are single pieces of T5's vocabulary."""
    ids = sources(model)[4]
    assert [model.tokenizer.pieces[one] for one in ids][:3] == ["▁question", ":", "▁What"]
    assert ids[-1] == 1
    assert model.tokenizer.decode(ids[:-1]) == SENTENCES[4]


def test_the_states_are_those_of_the_graphs(model: LoadedModel, theirs: dict[str, Any]) -> None:
    """Hidden states of the encoder, and logits of the decoder for the same tokens."""
    network = model.learner.eval().network
    head = next(iter(model.learner.heads.values())).lm_head
    for source in sources(model):
        expected = encoded(theirs, source)
        ids = [0, *written(theirs, source, 16)]
        streams = {"tokens": equal_rows(torch.tensor([ids])), "source": equal_rows(torch.tensor([source]))}
        with torch.no_grad():
            states = network(Batch(streams, {})).streams
            found = head(states["tokens"]).numpy()
        for ours, graph in ((states["source"].numpy(), expected[0]), (found, logits(theirs, expected, ids))):
            np.testing.assert_allclose(ours, graph, rtol=0, atol=CLOSE * np.abs(graph).max())


def test_the_texts_are_those_of_the_graphs(model: LoadedModel, theirs: dict[str, Any]) -> None:
    """Token for token; the first one is translated, as flan-T5 was taught."""
    engine = Engine(model.learner, model.recipe.model, model.tokenizer)
    found = engine.generate([Request(sentence, max_tokens=24) for sentence in SENTENCES], Greedy())
    for [result], source in zip(found, sources(model), strict=True):
        assert list(result.ids) == written(theirs, source, 24)
    assert found[0][0].text == "Das Haus ist wunderbar."
