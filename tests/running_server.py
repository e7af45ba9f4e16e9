"""A server of small models in a thread, for tests that ask it over HTTP."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn

from genus.objectives.pooling import First
from genus.objectives.supervised.embedding import Prompt, SentenceEmbedder
from genus.objectives.supervised.multi_label import MultiLabelClassification
from genus.objectives.supervised.sequence import SequenceClassification, SequenceRegression
from genus.serve.app import application
from genus.serve.limits import Limits
from genus.serve.models import Models, Source
from genus.train.run import Run
from serving import small_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEADS = {
    "lm": None,
    "embedder": SentenceEmbedder(pooling=First(), prompts=(Prompt(name="query", text="our letter "),)),
    "classifier": SequenceClassification(labels=("good", "bad", "dull"), texts=1),
    "reranker": MultiLabelClassification(labels=("relevant",), texts=2),
    "regressor": SequenceRegression(texts=2, mean=2.0, std=0.5),
}
"""What the models of a server are for, by their names."""


def model_folders(where: Path) -> dict[str, Path]:
    """Write a small model of each kind; return the folders by name."""
    heads = enumerate(HEADS.items())
    return {name: small_model(where / name, objective=head, seed=seed) for seed, (name, head) in heads}


@contextmanager
def served_models(folders: dict[str, Path], limits: Limits | None = None, **options: Any) -> Iterator[httpx.Client]:
    """Context manager: a client of a server of these models, which is ready."""
    chosen = limits or Limits()
    sources = [Source(name, folder) for name, folder in folders.items()]
    app = application(Models(sources, chosen, Run(device="cpu", precision="float32")), chosen, **options)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=60) as client:
        try:
            while client.get("/health").status_code != httpx.codes.OK:
                time.sleep(0.02)
            yield client
        finally:
            server.should_exit = True
            thread.join()
            listening.close()
