"""Every member's smallest row tags words, and its tagger goes out and comes back; one with a source lists names."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from test_whole_way import RUN, each, smallest

from genus import catalog
from genus.export.folder import load
from genus.export.verify import verify
from genus.tasks.dataset import Files
from genus.tasks.entities_to_text import EntitiesToText
from genus.tasks.finetune import finetune
from genus.tasks.start import Start
from genus.tasks.tagging import Tagging
from small import documents, shrunk

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("member", each())
def test_words_are_tagged(member: str, tmp_path: Path) -> None:
    recipe = shrunk(catalog.load(smallest(member)))
    tokenizer = recipe.tokens.train(documents())
    learner = replace(
        recipe, tokens=tokenizer.tokens, objectives=tuple(one.exported for one in recipe.objectives)
    ).learner()
    sentences = [text.split()[:20] for text in documents(16)]
    rows = [{"tokens": words, "ner_tags": ["B-X" if word.istitle() else "O" for word in words]} for words in sentences]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = replace(recipe.finetuning, epochs=1, batch=8)
    start = Start(recipe, tokenizer, learner)
    reads_source = "source" in recipe.model.streams
    task = EntitiesToText(target_length=8) if reads_source else Tagging()
    report = finetune(start, task, Files.find(tmp_path), tmp_path / "tuned", settings=settings, seeds=(0,), run=RUN)
    found = report.trials[0].metrics["validation"].keys()
    assert found >= ({"span_f1", "token_loss"} if reads_source else {"entity_f1", "word_accuracy"})
    heads = verify(tmp_path / "tuned" / "model", load(tmp_path / "tuned" / "model").learner).keys()
    assert heads >= ({objective.name for objective in recipe.objectives} if reads_source else {"token_classification"})
