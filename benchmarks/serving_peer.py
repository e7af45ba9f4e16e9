"""The plain services that `serving.py` measures beside: a handler of FastAPI that embeds what one request brings.

    python benchmarks/serving_peer.py sentence-transformers MODEL PORT
    python benchmarks/serving_peer.py onnxruntime MODEL PORT

As the documentation of each shows it: `SentenceTransformer.encode`, and a session of ONNX Runtime on padded texts with
the mean of the states that are no padding, normalized. FastAPI calls the handler in a thread of its pool.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from torch import Tensor, nn

from genus.processes import cores

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class States(nn.Module):
    """The last hidden states of a class of transformers, by inputs in order: what a graph is traced from."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        """Forward pass: return the last hidden states."""
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
        return self.network(**given, use_cache=False).last_hidden_state


class Body(BaseModel):
    """Texts to embed."""

    inputs: list[str]


def of_sentence_transformers(model: Path) -> Callable[[list[str]], NDArray[np.float32]]:
    """Return the function that embeds by sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(cores())
    made = SentenceTransformer(str(model), device="cpu")
    return lambda texts: np.asarray(
        made.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
    )


def of_onnxruntime(model: Path) -> Callable[[list[str]], NDArray[np.float32]]:
    """Return the function that embeds by a graph that transformers' class is exported to."""
    import onnxruntime
    from transformers import AutoModel, AutoTokenizer

    graph = Path(model.parent, f"{model.name}.onnx") if model.suffix != ".onnx" else model
    reader, network = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model).eval()
    names = ("input_ids", "attention_mask", "token_type_ids")
    if not graph.exists():
        example = reader(["a text", "another, longer text"], padding=True, return_tensors="pt")
        axes = {name: {0: "texts", 1: "tokens"} for name in (*names, "states")}
        torch.onnx.export(
            States(network), tuple(example[name] for name in names), graph, input_names=[*names],
            output_names=["states"], dynamic_axes=axes, dynamo=False,
        )  # fmt: skip
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = cores()
    session = onnxruntime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])

    def embed(texts: list[str]) -> NDArray[np.float32]:
        given = reader(texts, padding=True, truncation=True, max_length=256, return_tensors="np")
        (states,) = session.run(["states"], {name: given[name] for name in names})
        mask = given["attention_mask"][..., None]
        mean = (states * mask).sum(1) / mask.sum(1)
        return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True))

    return embed


def main() -> None:
    kind, model, port = sys.argv[1:]
    embed = {"sentence-transformers": of_sentence_transformers, "onnxruntime": of_onnxruntime}[kind](Path(model))
    embed(["warm"])
    app = FastAPI()

    @app.post("/embed")
    def handler(body: Body) -> list[list[float]]:
        return embed(body.inputs).tolist()

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {}

    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="error")


if __name__ == "__main__":
    main()
