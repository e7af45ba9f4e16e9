"""Classification by encoder-decoders: the decoder's last state, as transformers' classes have it, and folders of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from genus import catalog
from genus.errors import UsageError
from genus.evaluate.metrics import Accuracy
from genus.export.folder import load, save
from genus.export.verify import verify
from genus.inference.engine import Inference
from genus.objectives.supervised.choice import MultipleChoice
from genus.objectives.supervised.sequence import SequenceClassification, SequenceRegression
from genus.tasks.answer import outputs
from genus.tasks.choice import Choice
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files, LabeledRow
from genus.tasks.encode import encode
from genus.tasks.finetune import finetune
from genus.tasks.start import Start
from genus.tasks.tagging import Tagging
from genus.train.run import Run
from small import documents

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer

SINGLE = 1e-5
"""Float32 sums in another order."""
TEXTS = ["The old river carries the long letter.", "Seven stones", "a narrow bridge in winter " * 3]
CLASSES = {"t5": "T5ForSequenceClassification", "bart": "BartForSequenceClassification"}
RUN = Run(device="cpu", precision="float32", workers=0, tracker="none")


@pytest.fixture(scope="module", params=["t5/tiny", "t5/small", "bart/tiny"])
def made(request: pytest.FixtureRequest) -> tuple[Recipe, Tokenizer]:
    """Return a narrow row, with its tokenizer."""
    small = {"layers": 2, "hidden": 32}
    row = catalog.load(request.param).overlay(
        {"tokens": {"vocab_size": 300}, "model": {"encoder": small, "decoder": small}}
    )
    tokenizer = row.tokens.train(documents())
    settings = replace(row.finetuning, batch=4, epochs=1, max_length=40)
    return replace(row, tokens=tokenizer.tokens, finetuning=settings), tokenizer


@pytest.mark.parametrize("objective", [SequenceClassification(labels=("a", "b", "c")), SequenceRegression()])
def test_logits_are_those_of_transformers(
    made: tuple[Recipe, Tokenizer], objective: SequenceClassification | SequenceRegression, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    row, tokenizer = made
    start = Start(row, tokenizer)
    objective = objective.continued(row.objectives, row.model)
    recipe = start.fine_tuned(objective, row.finetuning)
    torch.manual_seed(0)
    learner = recipe.learner().eval()
    save(tmp_path / "model", recipe, learner, start.reader(objective, row.finetuning))
    verify(tmp_path / "model", learner)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    assert type(theirs).__name__ == CLASSES[row.name.split("/")[0]]
    data = encode(tokenizer, [(text,) for text in TEXTS], np.zeros(3, np.float32), objective.name, 200, repeated=True)
    ours = outputs(learner, recipe.model, data, Inference("float32")).values
    for number, text in enumerate(TEXTS):
        ids, _, _ = tokenizer.vocabulary.frame(np.array(tokenizer.encode([text], specials=False)[0]))
        with torch.no_grad():
            wanted = theirs(torch.tensor(ids)[None]).logits[0].numpy()
        np.testing.assert_allclose(ours[number], wanted, atol=SINGLE)

    again = load(tmp_path / "model")
    assert again.recipe.objectives[0].to_json()["repeated"]
    (tmp_path / "model" / "recipe.json").unlink()
    foreign = load(tmp_path / "model")
    assert type(foreign.recipe.objectives[0]) is type(objective)
    np.testing.assert_array_equal(
        outputs(foreign.learner, foreign.recipe.model, data, Inference("float32")).values, ours
    )


def test_it_is_fine_tuned_and_published(made: tuple[Recipe, Tokenizer], tmp_path: Path) -> None:
    row, tokenizer = made
    for split in ("train", "validation"):
        rows = [{"text": f"{name} sleep", "label": kind} for kind, name in (("x", "dogs"), ("y", "saws")) * 8]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    optimizer = replace(row.finetuning.optimizer, lr=1e-3)  # from random weights
    settings = replace(row.finetuning, epochs=12, optimizer=optimizer)
    task, files = Classification(metrics=(Accuracy(),)), Files.find(tmp_path)
    report = finetune(Start(row, tokenizer), task, files, tmp_path / "out", settings=settings, seeds=(0,), run=RUN)
    assert report.trials[0].metrics["validation"]["accuracy"] == 1
    assert CLASSES[row.name.split("/")[0]] in (tmp_path / "out" / "model" / "config.json").read_text()


def test_choices_are_read_twice_too(made: tuple[Recipe, Tokenizer]) -> None:
    row, tokenizer = made
    objective = MultipleChoice().continued(row.objectives, row.model)
    rows = [LabeledRow(1, ("which", "the old river", "stones"), "1"), LabeledRow(2, ("who", "a", "b", "c"), "0")]
    data = Choice().encode(tokenizer, rows, objective, 40)
    recipe = Start(row, tokenizer).fine_tuned(objective, row.finetuning)
    torch.manual_seed(0)
    learner = recipe.learner().eval()
    found = outputs(learner, recipe.model, data, Inference("float32")).values
    assert (np.isfinite(found).sum(1) == [2, 3]).all()
    alone = Choice().encode(tokenizer, rows[1:], objective, 40)
    np.testing.assert_allclose(
        outputs(learner, recipe.model, alone, Inference("float32")).values[0], found[1], atol=SINGLE
    )


def test_tags_of_words_are_refused(made: tuple[Recipe, Tokenizer]) -> None:
    with pytest.raises(UsageError, match="take an encoder or a decoder, or --task entities-to-text"):
        Tagging().objective(["O", "B-X"]).continued(made[0].objectives, made[0].model)
