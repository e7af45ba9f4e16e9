"""Adversarial training in embedding space: its loss beside the algorithm written out, and what it publishes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from genus.errors import ChoiceError, UsageError
from genus.export import folder as models
from genus.objectives.supervised.adversarial import AdversarialClassification, adversarial, ascended, norms, started
from genus.objectives.supervised.sequence import SequenceClassification
from genus.tasks.augment.adversarial import AdversarialTraining
from genus.tasks.classification import Classification, ContrastiveClassification
from genus.tasks.dataset import Files, LabeledRow
from genus.tasks.feed import Shuffled, batch_of
from genus.tasks.finetune import finetune
from genus.tasks.predict import objective_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from genus.batch import Batch
    from genus.objectives import Learner
    from genus.recipe import Recipe
    from genus.tasks.start import Start
    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run

ROWS = [
    LabeledRow(1, ("a cat and a dog and a saw .",), "animals"),
    LabeledRow(2, ("a saw and a drill .",), "tools"),
    LabeledRow(3, ("a bird .",), "animals"),
]


@pytest.fixture
def learned(start: Start, tokenizer: Tokenizer) -> Callable[..., tuple[Learner, Batch, AdversarialClassification]]:
    """Return a function from choices to a learner without dropout, in training, and a batch of several rows."""

    def make(**choices: object) -> tuple[Learner, Batch, AdversarialClassification]:
        plain = SequenceClassification(labels=("animals", "tools"), dropout=0.0)
        objective = AdversarialClassification(labels=plain.labels, dropout=0.0, **choices)  # type: ignore[arg-type]
        recipe = replace(
            start.recipe,
            model=start.recipe.model.overlay(
                {"dropout": 0.0, "attention": {"dropout": 0.0}, "embedding": {"dropout": 0.0}}
            ),
        )
        tuned = replace(start, recipe=recipe)
        learner = tuned.build(tuned.fine_tuned(objective, recipe.finetuning), 0).double().train()
        encoded = Classification().encode(tokenizer, ROWS, objective, 24)
        return learner, Shuffled(encoded, 3, 0)[0], objective

    return make


def loss_alone(learner: Learner, batch: Batch, delta: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of a batch of one sequence with perturbed embeddings, and the gradient by these."""
    own = None if delta is None else delta.clone().requires_grad_()
    hook = learner.network.token_embedding.register_forward_hook(
        lambda _, __, output: output if own is None else output + own
    )
    try:
        states = learner.network(batch)
        logits = next(iter(learner.heads.values())).outputs(learner.network, states, batch)["logits"]  # type: ignore[operator]
    finally:
        hook.remove()
    (targets,) = batch.targets.values()
    loss = F.cross_entropy(logits, targets.label, reduction="sum")
    gradient = torch.zeros(()) if own is None else torch.autograd.grad(loss, own)[0]
    return loss.detach(), gradient


@pytest.mark.parametrize(("passes", "step", "bound"), [(2, 0.5, 0.0), (3, 0.5, 0.7), (4, 0.3, 0.4)])
def test_the_loss_is_the_mean_over_ascents_of_each_sequence(
    learned: Callable[..., tuple[Learner, Batch, AdversarialClassification]], tokenizer: Tokenizer,
    passes: int, step: float, bound: float,
) -> None:  # fmt: skip
    learner, batch, objective = learned(passes=passes, step=step, start=0.0, bound=bound)
    found = learner(batch).sums
    total, last = 0.0, 0.0
    for row in ROWS:
        alone = batch_of(Classification().encode(tokenizer, [row], objective, 24), np.array([0]))
        delta = torch.zeros(alone.tokens.ids.numel(), 32, dtype=torch.float64)
        each = []
        for _ in range(passes):
            loss, gradient = loss_alone(learner, alone, delta)
            each.append(float(loss))
            delta = delta + step * gradient / math.sqrt(float(gradient.square().sum()))
            size = math.sqrt(float(delta.square().sum()))
            if bound and size > bound:
                delta = delta * bound / size
        total, last = total + sum(each) / passes, last + each[-1]
        assert each[-1] > each[0], "it is perturbed against the model"
    (name,) = objective.losses
    assert found[name].item() == pytest.approx(total, rel=1e-6)
    assert found[f"{name}/adversarial"].item() == pytest.approx(last, rel=1e-6)


def test_all_passes_are_learned_from(
    learned: Callable[..., tuple[Learner, Batch, AdversarialClassification]],
) -> None:
    learner, batch, objective = learned(passes=3)
    (name,) = objective.losses
    learner(batch).sums[name].backward()
    named = dict(learner.named_parameters())
    assert all(
        parameter.grad is not None and torch.isfinite(parameter.grad).all()
        for key, parameter in named.items()
        if "positions" not in key
    )
    assert not learner.network.token_embedding._forward_hooks, "no hook stays"
    learner.eval()
    plain = learner(batch).sums
    assert set(plain) == {name, f"{name}/correct"}


def test_perturbations_begin_and_grow_by_sequence(
    learned: Callable[..., tuple[Learner, Batch, AdversarialClassification]],
) -> None:
    _, batch, _ = learned()
    packed = batch.tokens
    torch.manual_seed(0)
    like = torch.zeros(packed.ids.numel(), 50)
    delta = started(like, packed, 2.0)
    gradient = torch.randn_like(like)
    grown = ascended(delta, gradient, packed, 0.5, 0.6)
    spans = packed.spans()
    assert len(spans) == 3
    for first, last in spans:
        limit = 2.0 / math.sqrt((last - first) * 50)
        own = delta[first:last]
        assert own.abs().max() <= limit
        assert own.abs().max() > 0.9 * limit
        assert own.norm() == pytest.approx(2.0 / math.sqrt(3), rel=0.15)
        moved = own + 0.5 * gradient[first:last] / gradient[first:last].norm()
        moved = moved * min(1.0, 0.6 / float(moved.norm()))
        assert torch.allclose(grown[first:last], moved, atol=1e-6)
    inside = torch.zeros(len(like), dtype=torch.bool)
    for first, last in spans:
        inside[first:last] = True
    assert not delta[~inside].any()
    free = ascended(torch.zeros_like(like), gradient, packed, 5.0, 0.0)
    entry = packed.entries()
    assert norms(free, entry, len(packed.offsets) - 1)[inside].tolist() == pytest.approx([5.0] * int(inside.sum()))
    assert not started(like, packed, 0.0).any()


def test_it_is_learned_and_published_as_a_plain_classifier(
    recipe: Recipe, start: Start, run: Run, write_rows: Callable[..., object], tmp_path: Path
) -> None:
    for name, count, seed in (("train", 480, 1), ("validation", 32, 2)):
        write_rows(tmp_path / f"{name}.jsonl", count, seed)
    report = finetune(
        start, Classification(), Files.find(tmp_path), tmp_path / "out", seeds=(0,), run=run,
        augmentation=AdversarialTraining(step=0.002, start=0.005, bound=0.01),
    )  # fmt: skip
    assert report.trials[0].metrics["validation"]["accuracy"] > 0.9
    model = models.load(tmp_path / "out" / "model")
    assert type(objective_of(model)) is SequenceClassification
    assert report.augmentation is not None
    assert report.augmentation.rows == 0


def test_what_has_a_loss_of_its_own_is_refused() -> None:
    with pytest.raises(UsageError, match="adversarial training has a loss of its own, as has SupervisedContrastive"):
        adversarial(ContrastiveClassification().objective(["a", "b"]), 2, 0.1, 0.0, 0.0)
    with pytest.raises(ChoiceError, match="expected at least 2"):
        AdversarialTraining(passes=1)
