"""Random DistilBERTs of Hugging Face, read and written back, and the triple loss as the released code computes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
import torch
from oracle import FLOAT32, Shape, precisions, reading, token_logits, transformers
from torch import nn

from genus import catalog
from genus.export.layouts import layout_for
from genus.export.starting.distillation import TeacherFolder
from genus.export.verify import verify
from genus.model.skeleton import skeleton
from genus.objectives.pretraining.distillation import DistilledMaskedLM

if TYPE_CHECKING:
    from pathlib import Path

ROUNDED = 0.03
"""Authors round to millions."""


@dataclass(frozen=True)
class Distil(Shape):
    def config(self, **more: Any) -> Any:
        return transformers.DistilBertConfig(
            n_layers=self.layers,
            dim=self.hidden,
            n_heads=self.heads,
            hidden_dim=self.inner,
            vocab_size=self.vocab,
            max_position_embeddings=self.positions,
            activation=self.activation,
            **more,
        )


SHAPES = [
    Distil("bert", 1, 8, 1, 16, 30, 12, "gelu", 1, 1e-12),
    Distil("bert", 2, 24, 3, 40, 101, 40, "gelu_new", 1, 1e-12),
    Distil("bert", 3, 32, 4, 96, 64, 16, "relu", 1, 1e-12),
]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.layers}-layers")


def padded(shape: Shape) -> dict[str, torch.Tensor]:
    """Return the padded sequences without segments, of which these classes know none."""
    return {name: values for name, values in oracle.padded(shape).items() if name != "token_type_ids"}


@shapes
@precisions
def test_states_and_token_logits(tmp_path: Path, shape: Shape, dtype: torch.dtype, tolerance: float) -> None:
    model = oracle.build(shape, "DistilBertForMaskedLM")
    learner = reading(tmp_path, model, shape).learner.to(dtype).eval()
    with torch.no_grad():
        expected = model.to(dtype)(**padded(shape), output_hidden_states=True)
        hidden = learner.network(oracle.packed(shape))["tokens"]
        assert oracle.relative(oracle.in_order(hidden), oracle.live(expected.hidden_states[-1])) <= tolerance
        assert oracle.relative(token_logits(learner, hidden), oracle.live(expected.logits)) <= tolerance


@shapes
@pytest.mark.parametrize("labels", [1, 3])
def test_classification_logits(tmp_path: Path, shape: Shape, labels: int) -> None:
    model = oracle.build(shape, "DistilBertForSequenceClassification", num_labels=labels)
    oracle.same_classes(reading(tmp_path, model, shape).learner, model, shape, padded(shape))


@shapes
@pytest.mark.parametrize("kind", ["Model", "ForMaskedLM", "ForSequenceClassification"])
def test_from_there_to_here_and_back(tmp_path: Path, shape: Shape, kind: str) -> None:
    model = oracle.build(shape, f"DistilBert{kind}", **({"num_labels": 4} if "Sequence" in kind else {}))
    found = reading(tmp_path / "theirs", model, shape)
    oracle.there_and_back(tmp_path / "ours", found, model)
    assert max(verify(tmp_path / "ours", found.learner).values()) <= FLOAT32


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", [name for name in catalog.names() if name.startswith("distilbert/")])
def test_parameters_equal_hugging_faces_and_the_authors_number(name: str) -> None:
    recipe = catalog.load(name)
    found = layout_for(recipe, ["masked_lm"])
    assert found is not None
    config = transformers.AutoConfig.for_model(**found[1], vocab_size=recipe.tokens.vocab_size)
    with skeleton():
        learner = recipe.learner()
        assert parameters(learner.network) == parameters(transformers.DistilBertModel(config))
        assert parameters(learner) == parameters(transformers.DistilBertForMaskedLM(config))
    if recipe.published.parameters is not None:
        assert abs(parameters(learner) / recipe.published.parameters - 1) < ROUNDED


def test_the_published_size() -> None:
    with skeleton():
        assert parameters(catalog.load("distilbert").learner().network) == 66_362_880


def targets(shape: Shape) -> tuple[list[dict[str, Any]], torch.Tensor]:
    """Return two masked tokens a sequence and every token, and the former as Hugging Face takes them."""
    masked, labels = oracle.masked_targets(shape)
    every = [(np.arange(length), np.zeros(length, dtype=np.int64)) for length in oracle.LENGTHS]
    return [given | {"taught": taught} for given, taught in zip(masked, every, strict=True)], labels


def released(student: Any, teacher: Any, shape: Shape, labels: torch.Tensor, restrict_ce_to_mask: bool) -> torch.Tensor:
    """Return the loss of `Distiller.step` (distiller.py) by its own operations, on padded rows."""
    inputs, temperature = padded(shape), 2.0
    own = student(**inputs, output_hidden_states=True)
    with torch.no_grad():
        other = teacher(**inputs, output_hidden_states=True)
    attended = inputs["attention_mask"].bool()
    mask = (labels > -1) if restrict_ce_to_mask else attended
    s_logits, t_logits = own.logits[mask], other.logits[mask]
    loss_ce = nn.KLDivLoss(reduction="batchmean")(
        nn.functional.log_softmax(s_logits / temperature, dim=-1), nn.functional.softmax(t_logits / temperature, dim=-1)
    )
    loss_mlm = nn.CrossEntropyLoss(ignore_index=-100)(own.logits.view(-1, shape.vocab), labels.view(-1))
    s_hidden, t_hidden = own.hidden_states[-1][attended], other.hidden_states[-1][attended]
    loss_cos = nn.CosineEmbeddingLoss(reduction="mean")(s_hidden, t_hidden, torch.ones(len(s_hidden)))
    total: torch.Tensor = 5.0 * loss_ce * temperature**2 + 2.0 * loss_mlm + 1.0 * loss_cos
    return total


@pytest.mark.parametrize("compared", ["all", "masked"])
def test_the_triple_loss_and_its_gradients_are_the_released_code_s(tmp_path: Path, compared: str) -> None:
    shape = SHAPES[1]
    other = Shape("bert", 4, 24, 2, 48, 101, 40, "gelu", 2, 1e-12)
    student, teacher = oracle.build(shape, "DistilBertForMaskedLM"), oracle.build(other, "BertForMaskedLM", seed=1)
    own = reading(tmp_path / "student", student, shape)
    teaching = TeacherFolder(tmp_path / "teacher", reading(tmp_path / "teacher", teacher, other))
    given, labels = targets(shape)
    expected = released(student, teacher, shape, labels, compared == "masked")
    expected.backward()

    output = own.recipe.objectives[0].to_json()["output"]
    objective = DistilledMaskedLM().overlay({"compared": compared, "output": output})
    learner = teaching.taught(replace(own.recipe, objectives=(objective,))).learner()
    learner.load_state_dict(own.learner.state_dict())
    teaching.begin(learner.eval())
    batch = oracle.packed(shape, given)
    loss = learner.objective(learner(batch).sums, learner.counts(batch))
    loss.backward()
    assert oracle.relative(loss.detach(), expected.detach()) <= FLOAT32
    assert all(parameter.grad is not None for parameter in student.parameters())
    oracle.same_gradients(own, student, learner=learner, still="k_lin.bias")
