"""Provenance of a run in `run.json`: settings, hardware and versions, one entry per start."""

from __future__ import annotations

import json
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from genus.files import write_json
from genus.openmp import waiting
from genus.processes import cores

if TYPE_CHECKING:
    from genus.train.run import Run
    from genus.train.world import World

PACKAGES = ("genus", "torch", "numpy", "tokenizers", "safetensors")


def write_provenance(path: Path, run: Run, world: World, step: int, seed: int) -> None:
    """Write `run.json`; a run that is resumed from a step after 0 keeps the earlier entries."""
    earlier = _sessions(path) if step else []
    session: dict[str, Any] = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "step": step,
        "seed": seed,
        "run": run.written(),
        "processes": world.size,
        **surroundings(world.device),
    }
    write_json(path, {"sessions": [*earlier, session]})


def _sessions(path: Path) -> list[Any]:
    """Return the earlier entries; none if the file is missing or damaged.

    Raises:
        PermissionError: it may not be read, and so not be replaced.
    """
    try:
        sessions = json.loads(path.read_text(encoding="utf-8"))["sessions"]
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return sessions if isinstance(sessions, list) else []


def surroundings(device: torch.device) -> dict[str, Any]:
    """Return what results depend on besides the recipe: hardware, system, package versions, commit of the code."""
    return {
        "device": _hardware(device),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "waiting": waiting(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def _hardware(device: torch.device) -> str:
    """Return the name of the GPU or the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return str(torch.cpu.get_capabilities().get("cpu_name", platform.machine()))


def _commit() -> str | None:
    """Return the git commit of the checkout that the code runs from, None where it is not a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
