"""Tasks of models that were pretrained with prefixes or orders: text to text in one sequence, and classes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from genus import catalog, pipeline
from genus.batch import Batch
from genus.evaluate.text_metrics import TokenLoss
from genus.evaluate.written import ExactMatch
from genus.export.folder import load
from genus.generate import Request
from genus.generate.engine import Engine
from genus.generate.sampling import Greedy
from genus.inference.engine import Inference
from genus.objectives.pretraining.concatenated_lm import ConcatenatedLM
from genus.optim.adamw import AdamW
from genus.recipes import t5
from genus.tasks.answer import outputs
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files, LabeledRow
from genus.tasks.finetune import finetune
from genus.tasks.start import Start
from genus.tasks.text_to_text import TextToText
from genus.train.run import Run
from hand import equal_rows
from small import documents

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer

NAMES = {"cats": "an animal", "dogs": "an animal", "saws": "one tool of iron", "pliers": "one tool of iron"}
ROWS = [(f"{name} carry {number} letters", target) for number in range(6) for name, target in NAMES.items()]
RUN = Run(device="cpu", precision="float32", workers=0, tracker="none")
ROUNDING = 1e-5
"""Float32 sums in another order."""


@pytest.fixture(scope="module", params=[t5.DECODER, t5.PREFIX], ids=lambda row: row.name)
def start(request: pytest.FixtureRequest) -> tuple[Recipe, Tokenizer]:
    changes = {"layers": 2, "hidden": 64, "dropout": 0.0, "attention": {"dropout": 0.0, "heads": 2, "size": 32}}
    changes |= {"feedforward": {"size": 128, "dropout": 0.0}, "embedding": {"dropout": 0.0}}
    row = request.param.overlay({"tokens": {"vocab_size": 300}, "model": changes})
    tokenizer = row.tokens.train([*documents(), *(" ".join(pair) for pair in ROWS)])
    settings = replace(row.finetuning, optimizer=AdamW(lr=3e-3), epochs=60, batch=6, max_length=48)
    return replace(row, tokens=tokenizer.tokens, finetuning=settings), tokenizer


def write(folder: Path, rows: list[dict[str, str]]) -> Files:
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Files.find(folder)


def test_a_decoder_learns_to_write_targets_after_sources(start: tuple[Recipe, Tokenizer], tmp_path: Path) -> None:
    """Published, it is a decoder of the same objective, which answers a source that is given as text."""
    recipe, tokenizer = start
    files = write(tmp_path, [{"source": source, "target": target} for source, target in ROWS])
    task = TextToText(metrics=(TokenLoss(), ExactMatch()))
    report = finetune(Start(recipe, tokenizer), task, files, tmp_path / "out", seeds=(0,), run=RUN)
    assert report.trials[0].metrics["validation"]["exact_match"] > 0.9
    model = load(tmp_path / "out" / "model")
    assert model.recipe.objectives == recipe.objectives
    engine = Engine(model.learner, model.recipe.model, model.tokenizer)
    found = engine.generate([Request(source, 24) for source, _ in ROWS], Greedy())
    assert np.mean([result.text.strip() == target for [result], (_, target) in zip(found, ROWS, strict=True)]) > 0.9


def test_the_loss_is_that_of_the_definition(start: tuple[Recipe, Tokenizer]) -> None:
    """-log p of each token of the target and of its end, all before it given, the source as the prefix."""
    recipe, tokenizer = start
    objective = TextToText().objective([]).continued(recipe.objectives, recipe.model)
    assert isinstance(objective.concatenated, ConcatenatedLM)
    pairs = [("a b", "c"), ("the old letter", "seven stones in winter"), ("dogs", "x y")]
    rows = [LabeledRow(number, (source,), (target,)) for number, (source, target) in enumerate(pairs)]
    data = TextToText().encode(tokenizer, rows, objective, 48)
    torch.manual_seed(0)
    learner = replace(recipe, objectives=(objective,)).learner().eval()
    found = outputs(learner, recipe.model, data, Inference("float32"), texts=False).values
    head, end = learner.heads["denoising"].lm_head, tokenizer.vocabulary.end
    every = objective.concatenated.learned == "all"
    for index, texts in enumerate(pairs):
        source, target = ([*ids, end] for ids in tokenizer.encode(texts, specials=False))
        ids = torch.tensor([*source, *target])
        packed = equal_rows(ids[None], {"prefix": (torch.arange(len(ids)) < len(source)).long()})
        with torch.no_grad():
            logits = head(learner.network(Batch({"tokens": packed}, {}))["tokens"])
        nats = F.cross_entropy(logits[:-1], ids[1:], reduction="none")[0 if every else len(source) - 1 :]
        np.testing.assert_allclose(found[slice(*data.offsets[index : index + 2])][:, 0], nats.numpy(), atol=ROUNDING)


def test_both_have_the_row_together(start: tuple[Recipe, Tokenizer]) -> None:
    """A target gets half of the row, or what is asked for; what is longer is cut and counted."""
    recipe, tokenizer = start
    rows = [LabeledRow(0, ("letter " * 60,), ("stones " * 60,)), LabeledRow(1, ("a",), ("b",))]
    objective = TextToText().objective([]).continued(recipe.objectives, recipe.model)
    for task, longest in ((TextToText(), 24), (TextToText(target_length=10), 10)):
        data = task.encode(tokenizer, rows, objective, 48)
        assert data.lengths[0] == len(data.example(0).tokens.ids) == 48
        assert data.example(0).tokens.prefix == 48 - longest + 1
        told = " / ".join(data.warnings)
        assert f"1 of 2 rows have a source over {49 - longest} tokens" in told
        assert f"1 of 2 rows have a target over target_length={longest} tokens" in told


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("t5/base-prefix-lm", ["tokens.vocab_size=300", "model.layers=2", "model.hidden=64"]),
        ("bert/tiny", ["objectives.0=MultitaskMaskedLM", "model.attention.mask=Ordered"]),
    ],
)
def test_texts_without_prefix_or_order_have_classes(name: str, changes: list[str], tmp_path: Path) -> None:
    recipe = catalog.load(name, changes)
    tokenizer = recipe.tokens.train([*documents(), *(" ".join(pair) for pair in ROWS)])
    recipe, _ = pipeline.new_learner(replace(recipe, tokens=tokenizer.tokens), tokenizer)
    files = write(tmp_path, [{"text": source, "label": target.split()[-1]} for source, target in ROWS])
    settings = replace(recipe.finetuning, epochs=30, batch=6, max_length=32)
    report = finetune(
        Start(recipe, tokenizer), Classification(), files, tmp_path / "out", settings=settings, seeds=(0,), run=RUN
    )
    assert report.trials[0].metrics["validation"]["accuracy"] > 0.9
    assert load(tmp_path / "out" / "model").recipe.model.facts == recipe.model.facts
