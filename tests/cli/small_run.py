"""Made-up text, a labeled task, and what makes a run of the command line small."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from genus.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SMALL = [
    "--set", "tokens.vocab_size=300", "--set", "model.layers=1", "--set", "model.hidden=32",
    "--set", "model.attention.heads=2", "--set", "model.feedforward.size=64",
    "--set", "stages=[{max_length=32, batch=8, micro_batch=8}]", "--set", "budget.amount=4",
    "--run", "device=cpu", "--run", "workers=0", "--run", "held_out=0.1", "--run", "tracker=none",
]  # fmt: skip
"""What makes `genus pretrain bert/mini` a matter of a second."""

WORDS = {
    "sea": ["wave", "tide", "harbor", "sail", "anchor", "salt", "island", "gull", "storm", "captain"],
    "kitchen": ["bread", "oven", "pepper", "spoon", "onion", "butter", "table", "recipe", "flour", "soup"],
}


@dataclass(frozen=True)
class Place:
    """A folder with `text.jsonl`, `held-out.jsonl`, `task/` and `runs/mini`."""

    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "mini"


def texts(number: int, seed: int) -> list[tuple[str, str]]:
    """Return (text, label) of made-up texts."""
    draw = random.Random(seed)
    found = []
    for _ in range(number):
        label = draw.choice(sorted(WORDS))
        sentences = [" ".join(draw.choices(WORDS[label], k=6)).capitalize() + "." for _ in range(4)]
        found.append((" ".join(sentences), label))
    return found


def write_text(folder: Path) -> None:
    """Write text and task into a folder."""
    for name, number, seed in (("text", 120, 0), ("held-out", 20, 1)):
        lines = (json.dumps({"text": text}) + "\n" for text, _ in texts(number, seed))
        (folder / f"{name}.jsonl").write_text("".join(lines))
    (folder / "task").mkdir()
    for name, number, seed in (("train", 40, 2), ("validation", 20, 3)):
        lines = (json.dumps({"text": text[:40], "label": label}) + "\n" for text, label in texts(number, seed))
        (folder / "task" / f"{name}.jsonl").write_text("".join(lines))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a table as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def document(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """Return what a command prints as JSON."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)
