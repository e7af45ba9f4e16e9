"""Serving: `serve`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from genus.cli.folders import model_folder, model_name
from genus.cli.options import Running, generating_run
from genus.errors import UsageError

Backend = Literal["genus", "openvino"]
Folders = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...",
        help="Model folders, or those of runs; NAME=FOLDER gives a model the name by which requests ask for it.",
        show_default=False,
    ),
]
Host = Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 lets other machines ask.")]
Port = Annotated[int, typer.Option(help="0 takes a free one.")]
Workers = Annotated[
    int, typer.Option(help="Processes, each with all models; on CPUs each runs on a group of cores of its own.")
]
Settings = Annotated[
    list[str],
    typer.Option(
        "--limit",
        metavar="NAME=VALUE",
        help="requests, waiting_tokens, batch_tokens, texts, tokens, body_bytes, answer_bytes, seconds, "
        "generated_tokens, slots, memory (gigabytes of weights); repeatable.",
    ),
]
Origins = Annotated[
    list[str], typer.Option("--origin", metavar="URL", help="Whose pages may ask from a browser (CORS); repeatable.")
]
Computing = Annotated[
    Backend,
    typer.Option(
        help="What computes: openvino, of folders that `genus export --format onnx` or `genus quantize` wrote."
    ),
]
MISSING = "serving needs FastAPI, uvicorn and prometheus-client; install them: pip install 'genus[serve]'"


def serve(
    models: Folders,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Workers = 1,
    limit: Settings = [],
    origin: Origins = [],
    backend: Computing = "genus",
    running: Running = [],
) -> None:
    """Serve models over HTTP: a page at /, and the routes of OpenAI, text-embeddings-inference, KServe and Triton.

    Where the environment has GENUS_SERVE_TOKEN, requests must bear it (Authorization: Bearer ...).
    """
    needed()
    if workers < 1:
        raise UsageError(f"--workers: expected at least 1, got {workers}")
    if not 0 <= port <= 65535:
        raise UsageError(f"--port: expected 0 to 65535, got {port}")
    named = [_named(one) for one in models]
    from genus import catalog
    from genus.processes import cores
    from genus.serve.core_groups import core_groups
    from genus.serve.limits import Limits
    from genus.serve.models import Source
    from genus.serve.process import Serving
    from genus.serve.process import serve as run_server
    from genus.train.world import device_of_run

    run = generating_run(running)
    limits = catalog.overridden(Limits(), limit, "--limit")
    threads = run.threads or max(1, cores() // workers)
    groups = core_groups(workers) if run.threads is None and device_of_run(run).type == "cpu" else ()
    if backend == "openvino":
        from genus.export.onnx.openvino import check

        check([folder for _, folder in named])
    sources = tuple(Source(name, folder, backend=backend) for name, folder in named)
    run_server(Serving(sources, limits, run, workers, tuple(origin), threads, groups), host, port)


def needed() -> None:
    """Check that the libraries of the extra `serve` are installed.

    Raises:
        UsageError: one is not.
    """
    from importlib.util import find_spec

    if not all(map(find_spec, ("fastapi", "uvicorn", "prometheus_client"))):
        raise UsageError(MISSING)


def _named(given: str) -> tuple[str, Path]:
    """Return a model's name, which is that of the folder, or of the run, where none is given, and its folder."""
    name, found, folder = given.partition("=")
    if not found or "/" in name:
        name, folder = "", given
    path = Path(folder)
    if not path.exists():
        raise UsageError(f"{folder}: there is no such folder")
    return name or model_name(path), model_folder(path)
