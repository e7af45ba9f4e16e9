"""A folder of which Docker or Podman builds an image that serves a model."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from typing import TYPE_CHECKING

from genus.export.checked import write_checked
from genus.export.files import MARK, replaced_by_container
from genus.export.onnx.folder import is_graph
from genus.files import beside, write_text
from genus.run_folder import RunFolder

if TYPE_CHECKING:
    from pathlib import Path

    from genus.export.folder import LoadedModel

PYTHON = "python:3.12-slim"
"""The image that it begins with: a version that genus supports, of Docker's official images."""
PORT = 8000
HEALTH = f"""
from http.client import HTTPConnection
asked = HTTPConnection("127.0.0.1", {PORT}, timeout=4)
asked.request("GET", "/health")
raise SystemExit(asked.getresponse().status != 200)
"""
"""The slim image has no curl."""
DOCKERFILE = """{mark} {version}
FROM {python}

# An index that has PyTorch for CPUs alone makes the image smaller by gigabytes: --build-arg PIP_EXTRA_INDEX_URL=...
ARG PIP_EXTRA_INDEX_URL
ARG GENUS="genus[{extras}]=={version}"
RUN pip install --no-cache-dir "$GENUS"

RUN useradd --create-home --uid 1000 genus
USER genus
WORKDIR /home/genus
COPY model /model

EXPOSE {port}
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s CMD {health}
CMD {command}
"""
README = """# {name}

    docker build -t {image} .
    docker run --rm -p {port}:{port} {image}    # -e GENUS_SERVE_TOKEN=... lets those ask alone who know it

`genus serve` answers with the model in `model/`; http://localhost:{port} shows what it can be asked.
"""


def write(folder: Path, name: str, model: LoadedModel, source: Path) -> dict[str, float]:
    """Write a model folder, and a Dockerfile that copies it; return how far the model differs, by output.

    Args:
        folder: where to write.
        name: by which requests ask for the model.
        model: with weights, which are checked, or with a graph, which is copied.
        source: where it lies.

    Raises:
        GenusError: the written model computes something else.
        UsageError: the folder holds something that genus did not write.
    """
    old = replaced_by_container(folder)
    with RunFolder(folder).lock(), beside(folder, old) as made:
        differences: dict[str, float] = {}
        if is_graph(source):
            shutil.copytree(source, made / "model")
        else:
            differences = write_checked(made / "model", model, source)
        write_text(made / "Dockerfile", _dockerfile(name, model, graph=is_graph(source)))
        write_text(made / ".dockerignore", "*\n!model\n")
        write_text(made / "README.md", README.format(name=name, image=name.lower(), port=PORT))
    return differences


def _dockerfile(name: str, model: LoadedModel, *, graph: bool) -> str:
    """Return the Dockerfile, with the extras that the model needs."""
    thai = bool(model.tokenizer.tokens.normalizers())
    extras = ",".join(["serve", *["export"] * graph, *["thai"] * thai])
    return DOCKERFILE.format(
        mark=MARK, version=version("genus"), python=PYTHON, extras=extras, port=PORT,
        health=json.dumps(["python", "-c", HEALTH.strip()]),
        command=json.dumps(["genus", "serve", f"{name}=/model", "--host", "0.0.0.0", "--port", str(PORT)]),
    )  # fmt: skip
