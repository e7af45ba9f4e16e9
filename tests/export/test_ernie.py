"""Random Hugging Face ERNIE models read by us, with task ids: hidden states, logits, gradients, and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import oracle
import pytest
import torch
from oracle import Shape, precisions, reading, transformers

from genus import catalog
from genus.errors import GenusError
from genus.export.folder import load
from genus.export.layouts import layout_for
from genus.files import read_json, write_json
from genus.model.skeleton import skeleton

if TYPE_CHECKING:
    from pathlib import Path

    from genus.batch import Batch

TASKS = 5


@dataclass(frozen=True)
class Ernie(Shape):
    """ERNIE's configurations are BERT's, and the tasks; its tokenizers are BERT's."""

    def config(self, **more: Any) -> Any:
        return transformers.ErnieConfig(**self.settings() | {"use_task_id": True, "task_type_vocab_size": TASKS} | more)


SHAPES = [
    Ernie("bert", 1, 8, 1, 16, 30, 12, "gelu", 2, 1e-12),
    Ernie("bert", 2, 24, 3, 40, 101, 40, "relu", 4, 1e-5),
]


def of_task(batch: Batch, task: int) -> Batch:
    facts = {**batch.tokens.facts, "task": torch.full_like(batch.tokens.ids, task)}
    return replace(batch, streams={"tokens": replace(batch.tokens, facts=facts)})


def padded(shape: Shape, task: int) -> dict[str, torch.Tensor]:
    inputs = oracle.padded(shape)
    return inputs | {"task_type_ids": torch.full_like(inputs["input_ids"], task)}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("task", [0, 3])
@precisions
def test_hidden_states_and_pooler(
    tmp_path: Path, shape: Shape, task: int, dtype: torch.dtype, tolerance: float
) -> None:
    model = oracle.build(shape, "ErnieModel")
    learner, batch = reading(tmp_path, model, shape).learner.to(dtype), of_task(oracle.packed(shape), task)
    oracle.same_states(learner, model.to(dtype), shape, tolerance, inputs=padded(shape, task), batch=batch)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_masked_logits_loss_and_gradients(tmp_path: Path, shape: Shape) -> None:
    """Of every parameter, the task's vector among them; the other tasks' get none."""
    model = oracle.build(shape, "ErnieForMaskedLM")
    found = reading(tmp_path, model, shape)
    learner = found.learner.eval()
    given, labels = oracle.masked_targets(shape)
    oracle.same_masked(found, model, of_task(oracle.packed(shape, given), 2), padded(shape, 2), labels)
    tasks = learner.network.embed.tasks.weight.grad.abs().sum(1)
    assert tasks.nonzero().flatten().tolist() == [2]


@pytest.mark.parametrize(
    "architecture", ["ErnieModel", "ErnieForPreTraining", "ErnieForMaskedLM", "ErnieForSequenceClassification"]
)
def test_there_and_back_is_the_identity(tmp_path: Path, architecture: str) -> None:
    model = oracle.build(SHAPES[1], architecture, **({"num_labels": 4} if "Sequence" in architecture else {}))
    found = reading(tmp_path / "theirs", model, SHAPES[1])
    oracle.there_and_back(tmp_path / "ours", found, model, free={"classifier_dropout"})


def test_a_model_without_task_ids_is_refused(tmp_path: Path) -> None:
    model = oracle.build(SHAPES[0], "ErnieModel")
    model.save_pretrained(tmp_path)
    oracle.write_tokenizer(tmp_path, "bert", SHAPES[0].vocab)
    write_json(tmp_path / "config.json", read_json(tmp_path / "config.json") | {"use_task_id": False})
    with pytest.raises(GenusError, match="use_task_id = False has no counterpart here"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["ernie2/base", "ernie2/large"])
def test_parameters_of_published_sizes(name: str) -> None:
    recipe = catalog.load(name)
    _, config = layout_for(recipe, ["masked_lm"])
    settings = transformers.AutoConfig.for_model(**config, vocab_size=recipe.tokens.vocab_size)
    with skeleton():
        theirs = sum(parameter.numel() for parameter in transformers.ErnieModel(settings).parameters())
        ours = sum(parameter.numel() for parameter in recipe.model.build(recipe.tokens.vocab_size).parameters())
    assert ours == theirs
