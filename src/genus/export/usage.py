"""What a model folder says of its use: how it writes texts, and the task that it was fine-tuned for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from genus.files import read_json, write_json

if TYPE_CHECKING:
    from genus.part import Json

GENERATION = "generation_config.json"
"""How a model writes texts, in the names of transformers; in the folders of some."""
TASK = "task.json"
"""The task that a model was fine-tuned for, as a part: its columns, its prefix and its metrics."""
FILES = (Path(GENERATION), Path(TASK))
PREFIX = "prefix"
"""Key of a configuration: what stands before every source. Pipelines of transformers put it there by themselves."""
GENERATING = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
"""Keys of a configuration that its `generation_config.json` repeats."""


def write_usage(folder: Path, generation: Json | None, task: Json | None) -> None:
    """Write what is known of a model's use into its folder, in whose `config.json` the task's prefix is told too.

    Args:
        folder: a model folder, or an adapter folder, which has no `config.json`.
        generation: how it writes texts; None: unknown.
        task: what `read_usage` returned of it, or a task as JSON; None: unknown.
    """
    path = folder / "config.json"
    config = read_json(path) if path.exists() else {}
    if generation is not None:
        write_json(folder / GENERATION, {key: config[key] for key in GENERATING if config.get(key) is not None}
                   | generation)  # fmt: skip
    if task is None:
        return
    if "kind" in task:
        write_json(folder / TASK, task)
    if task.get(PREFIX) and config:
        write_json(path, config | {PREFIX: task[PREFIX]})


def read_usage(folder: Path) -> tuple[Json | None, Json | None]:
    """Return how a folder's model writes texts, and its task, of which the prefix alone may be known; None: neither is.

    Raises:
        GenusError: a file cannot be read.
    """
    generation, task = (read_json(folder / file) if (folder / file).is_file() else None for file in FILES)
    if task is None and (folder / "config.json").is_file():
        prefix = read_json(folder / "config.json").get(PREFIX)
        task = {PREFIX: prefix} if isinstance(prefix, str) and prefix else None
    return generation, task
