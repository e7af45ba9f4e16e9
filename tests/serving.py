"""Small model folders of random weights, and servers of them, for tests of serving."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import uvicorn

from genus import catalog
from genus.export.folder import fitting_tokenizer, save
from genus.serve.app import application
from genus.serve.limits import Limits
from genus.serve.models import Models, Source
from genus.serve.process import listen
from genus.train.run import Run
from small import BYTES_IN_TWO_FORMS, documents

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from genus.objectives import Objective


def small_model(folder: Path, name: str = "bert/tiny", objective: Objective | None = None, seed: int = 0) -> Path:
    """Write a row's model with random weights, and the head of an objective in the place of its own; return it."""
    recipe = catalog.load(name)
    size = BYTES_IN_TWO_FORMS if "image" in recipe.model.streams else 300
    tokenizer = replace(recipe.tokens, vocab_size=size).train(documents())
    recipe = replace(recipe, tokens=tokenizer.tokens)
    if objective is not None:
        recipe = replace(recipe, objectives=(objective,), stages=tuple(stage.whole() for stage in recipe.stages))
        tokenizer = fitting_tokenizer(tokenizer, recipe.model, (objective,))
    torch.manual_seed(seed)
    save(folder, recipe, recipe.learner(), tokenizer)
    return folder


@contextmanager
def running(models: Mapping[str, Path], limits: Limits | None = None, **options: Any) -> Iterator[str]:
    """Context manager: the address of a server of model folders by name, in a thread, once it is ready.

    Args:
        models: folders by name.
        limits: of the server.
        options: further ones of `application`.
    """
    limits = limits or Limits()
    sources = [Source(name, folder) for name, folder in models.items()]
    app = application(Models(sources, limits, Run(device="cpu", precision="float32")), limits, **options)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5))
    listening = listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        until = time.monotonic() + 60
        while not app.state.service.ready and thread.is_alive() and time.monotonic() < until:
            time.sleep(0.02)
        assert app.state.service.ready
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
