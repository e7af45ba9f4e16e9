"""The model card: what a folder's `README.md` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.export.native import is_native

if TYPE_CHECKING:
    from collections.abc import Collection

    from genus.part import Json
    from genus.recipe import Recipe

TASKS = {
    "ElectraForPreTraining": "feature-extraction",  # it tells replaced tokens, and completes none
    "ForMaskedLM": "fill-mask",
    "ForPreTraining": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
}
"""A model hub's task by the end of the class's name; the first that fits."""

NATIVE = """No class of transformers has this architecture with these heads, so only genus reads this folder:

```python
from pathlib import Path

import genus

model = genus.load_model(Path("path/to/this/folder"))  # its recipe, learner and tokenizer
```
"""
TRANSFORMERS = """```python
from transformers import AutoTokenizer, {architecture}

tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
model = {architecture}.from_pretrained("path/to/this/folder")
```
"""


def card(recipe: Recipe, config: Json, parameters: int, heads: Collection[str], notes: str) -> str:
    """Return the card: metadata, what the model is, how to load it, and notes on how it came about.

    Args:
        recipe: what it was trained by.
        config: its configuration.
        parameters: how many numbers its weights are.
        heads: the objectives whose heads are among them.
        notes: Markdown that follows.
    """
    (architecture,) = config["architectures"]
    names = [objective.name for objective in recipe.objectives]
    objectives = ", ".join(name if name in heads else f"{name} (its head is not in this folder)" for name in names)
    stages = ", ".join(f"{stage.share:.0%} at length {stage.max_length}" for stage in recipe.stages)
    use = NATIVE if is_native(config) else TRANSFORMERS.format(architecture=architecture)
    return f"""---
{_library(config, architecture)}
tags:
- genus
- {recipe.name.split("/")[0] if is_native(config) else config["model_type"]}
---

# {recipe.name}

A `{architecture}` with {parameters:,} parameters and a vocabulary of {config["vocab_size"]:,} pieces, made with genus
from the recipe `{recipe.name}` ({recipe.hash()}), which lies beside this card as `recipe.json`.

| | |
| --- | --- |
| architecture | {recipe.published.title} ({recipe.published.paper}) |
| objectives | {objectives} |
| planned budget | {recipe.budget.amount:,.0f} {recipe.budget.unit}, {stages} |

{use}{f"{chr(10)}{notes.strip()}{chr(10)}" if notes else ""}"""


def _library(config: Json, architecture: str) -> str:
    """Return what a model hub asks for: who reads the folder, and for what."""
    if is_native(config):
        return "library_name: genus"
    task = next((task for name, task in TASKS.items() if architecture.endswith(name)), "feature-extraction")
    return f"library_name: transformers\npipeline_tag: {task}"
