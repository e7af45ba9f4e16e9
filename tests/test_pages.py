"""The Python examples of the pages run as they stand, on small models in the places that they name."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import genus.export.layouts.maps
from genus.export.folder import load, save
from genus.objectives.supervised.reward import RewardModel
from genus.tasks.start import Start
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from small import documents, write_corpus
from written import write_model

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
ARC = ROOT.parent / "shared" / "data" / "arc"


def blocks(page: str) -> list[str]:
    """Return the Python code of a page."""
    parts = (ROOT / page).read_text(encoding="utf-8").split("```python\n")[1:]
    return [part.split("```")[0] for part in parts]


def model(folder: str) -> Path:
    tokens, length = ByteBPE(vocab_size=300, special_tokens=GPT2), "model.embedding.position.length=1024"
    return write_model(Path(folder), "gpt2/tiny", tokens, documents(50), length)


def generation() -> dict[str, Any]:
    model("runs/gpt2-mini/model")
    return {}


def prompts() -> dict[str, Any]:
    model("runs/mini/model")
    Path("arc").mkdir()
    for table in ARC.glob("easy_*.jsonl.gz"):
        rows = gzip.decompress(table.read_bytes()).splitlines(keepends=True)
        (Path("arc") / table.name).write_bytes(gzip.compress(b"".join(rows[:20])))
    return {}


def preferences() -> dict[str, Any]:
    model("runs/gpt2-mini/model")
    found = load(model("runs/reward/model"))
    objective = RewardModel()
    settings = replace(found.recipe.finetuning, task_tokens=None)
    recipe = Start(found.recipe, found.tokenizer, found.learner).fine_tuned(objective, settings)
    save(Path("runs/reward/model"), recipe, recipe.learner(), found.tokenizer)
    return {}


def evaluation() -> dict[str, Any]:
    return {"genus": genus, "model": load(model("model"))}


def maps() -> dict[str, Any]:
    return vars(genus.export.layouts.maps).copy()


def training() -> dict[str, Any]:
    write_corpus(Path()).rename("text.jsonl")
    return {}


PAGES: dict[str, tuple[Callable[[], dict[str, Any]], dict[str, str]]] = {
    "docs/generate.md": (generation, {}),
    "docs/preferences.md": (preferences, {}),
    "docs/prompts.md": (prompts, {"shots=5": "shots=2"}),
    "docs/evaluate.md": (evaluation, {}),
    "docs/attack.md": (evaluation, {}),
    "docs/export.md": (maps, {}),
    "README.md": (training, {"bert/mini": "bert/tiny", "budget.amount=100": "budget.amount=2"}),
}
"""What stands where a page's example runs, and what is made smaller in it."""
ELSEWHERE = {"docs/adding-a-member.md", "docs/serve.md"}
"""Run in `house/test_docs.py` and `serve/test_page_of_serving.py`."""


def test_every_page_with_an_example_is_here() -> None:
    pages = {str(path.relative_to(ROOT)) for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]}
    assert {page for page in pages if blocks(page)} == PAGES.keys() | ELSEWHERE


@pytest.mark.parametrize("page", [pytest.param(p, marks=pytest.mark.shared if "prompts" in p else ()) for p in PAGES])
def test_examples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare, smaller = PAGES[page]
    values = prepare()
    for code in blocks(page):
        for given, small in smaller.items():
            code = code.replace(given, small)
        exec(compile(code, page, "exec"), values)
