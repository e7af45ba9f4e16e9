"""Model cards: the `README.md` of a model folder, with metadata for a model hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.export.native import is_native
from genus.export.sentence_transformers import embedder_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from genus.part import Json
    from genus.recipe import Recipe

TASKS = {
    "ElectraForPreTraining": "feature-extraction",  # a discriminator detects replaced tokens and predicts no words
    "ForMaskedLM": "fill-mask",
    "ForPreTraining": "fill-mask",
    "ForQuestionAnswering": "question-answering",
    "ForQuestionAnsweringSimple": "question-answering",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
}
"""Model hub tasks (`pipeline_tag`) by the end of the transformers class name; the first match counts."""

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

EMBEDS = "library_name: sentence-transformers\npipeline_tag: sentence-similarity"
EMBEDDER = """```python
from sentence_transformers import SentenceTransformer

vectors = SentenceTransformer("path/to/this/folder").encode(["a text", "another one"])
```
"""
"""Transformers' class reads the folder too, without what comes after the hidden states."""


def card(recipe: Recipe, config: Json, parameters: int, heads: Collection[str], notes: str) -> str:
    """Return the model card: metadata, description, how to load the model, and notes on its training.

    Args:
        recipe: the recipe that the model was trained with.
        config: the content of `config.json`.
        parameters: the number of parameters in the folder.
        heads: names of the objectives whose heads are in the folder.
        notes: Markdown at the end of the card.
    """
    (architecture,) = config["architectures"]
    names = [objective.name for objective in recipe.objectives]
    objectives = ", ".join(name if name in heads else f"{name} (its head is not in this folder)" for name in names)
    stages = ", ".join(f"{stage.share:.0%} at length {stage.max_length}" for stage in recipe.stages)
    embedder = embedder_of(recipe)
    embeds = embedder is not None and embedder.name in heads and not is_native(config)
    use = NATIVE if is_native(config) else TRANSFORMERS.format(architecture=architecture)
    return f"""---
{EMBEDS if embeds else _library(config, architecture)}
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

{EMBEDDER if embeds else use}{f"{chr(10)}{notes.strip()}{chr(10)}" if notes else ""}"""


def notes_in(card: str) -> str:
    """Return the notes at the end of a card that `card` wrote: what follows its last block of code."""
    return card.rpartition("```\n")[2].strip()


def _library(config: Json, architecture: str) -> str:
    """Return the model hub's metadata: the library that reads the folder, and the task."""
    if is_native(config):
        return "library_name: genus"
    task = next((task for name, task in TASKS.items() if architecture.endswith(name)), "feature-extraction")
    return f"library_name: transformers\npipeline_tag: {task}"
