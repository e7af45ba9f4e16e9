"""Losses of classifiers with few labels against the papers' equations, written out slowly; and updates in parts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from genus import catalog
from genus.batch import IGNORE
from genus.objectives.supervised.contrastive import SupervisedContrastive
from genus.objectives.supervised.mixup import MixedClassification, mixed_loss
from genus.objectives.supervised.sequence import SequenceClassification
from genus.tasks.classification import Classification
from genus.tasks.dataset import LabeledRow
from genus.tasks.feed import Shuffled
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.train.run import Run
from genus.train.step import TrainStep
from genus.train.world import World
from small import shrunk

if TYPE_CHECKING:
    import numpy as np

    from genus.tokens.tokenizer import Tokenizer

LABELS = ("a", "b", "c")
EXACT = 1e-12
BATCHES = {
    "two classes": [0, 1, 0, 0, 1],
    "one class": [1, 1, 1],
    "a class with one example": [0, 2, 0, 1],
    "none without another": [0, 1, 2],
    "some without a label": [0, IGNORE, 0, 1, IGNORE, 1],
    "one example": [2],
    "no label": [IGNORE, IGNORE],
}


def drawn(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return (torch.randn(size, width, generator=draw, dtype=torch.float64).requires_grad_() for width in (3, 5))  # type: ignore[return-value]


def slow(logits: np.ndarray, states: np.ndarray, labels: list[int], weight: float, temperature: float) -> float:
    """Equations 1 to 3 of Gunel et al. 2021 for the labeled examples."""
    known = [place for place, label in enumerate(labels) if label != IGNORE]
    if not known:
        return 0.0
    size = len(known)
    entropy = 0.0
    for i in known:
        entropy -= math.log(math.exp(logits[i][labels[i]]) / sum(math.exp(value) for value in logits[i])) / size
    unit = [state / math.sqrt(sum(value * value for value in state)) for state in states]
    contrast = 0.0
    for i in known:
        alike = sum(labels[j] == labels[i] for j in known)
        for j in known:
            if j != i and labels[j] == labels[i]:
                below = sum(math.exp(float(unit[i] @ unit[k]) / temperature) for k in known if k != i)
                contrast -= math.log(math.exp(float(unit[i] @ unit[j]) / temperature) / below) / (alike - 1)
    return (1 - weight) * entropy + weight * contrast


@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize(("weight", "temperature"), [(0.9, 0.3), (0.0, 0.3), (1.0, 0.7)])
def test_the_contrastive_loss_is_the_papers(labels: list[int], weight: float, temperature: float) -> None:
    logits, states = drawn(len(labels))
    objective = SupervisedContrastive(labels=LABELS, weight=weight, temperature=temperature)
    found = objective.loss(logits, states, torch.tensor(labels))
    count = sum(label != IGNORE for label in labels)
    expected = slow(logits.detach().numpy(), states.detach().numpy(), labels, weight, temperature) * count
    assert found.item() == pytest.approx(expected, rel=EXACT, abs=EXACT)
    for gradient in torch.autograd.grad(found, [logits, states]):
        assert gradient.isfinite().all()
        assert (gradient[torch.tensor(labels) == IGNORE] == 0).all()


def test_the_loss_of_mixtures_is_that_of_mixed_states_and_labels() -> None:
    """Zhang et al. 2018, equation 1: the cross-entropy with λ y_i + (1 - λ) y_j of the linear layer of the mixture."""
    draw = torch.Generator().manual_seed(0)
    states, layer = torch.randn(4, 5, generator=draw).double(), torch.nn.Linear(5, 3).double()
    labels, order, shares = [0, 2, 1, 2], [2, 0, 3, 1], [0.3, 1.0, 0.0, 0.8]
    expected = 0.0
    for i, (j, share) in enumerate(zip(order, shares, strict=True)):
        logits = layer(share * states[i] + (1 - share) * states[j])
        one_hot = torch.eye(3, dtype=torch.float64)
        target = share * one_hot[labels[i]] + (1 - share) * one_hot[labels[j]]
        expected -= (target @ logits.log_softmax(0)).item()
    found = mixed_loss(
        layer(states), torch.tensor(labels), torch.tensor(order), torch.tensor(shares, dtype=torch.float64)
    )
    assert found.item() == pytest.approx(expected, rel=EXACT)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return WordPiece(vocab_size=60, lowercase=True).train(["old river letter winter small numbers"] * 20)


def gradients(
    tokenizer: Tokenizer, objective: SequenceClassification, accumulate: int
) -> tuple[dict[str, torch.Tensor], float]:
    """Return the gradient of one update that is divided into so many micro-batches, without dropout, and its loss."""
    recipe = shrunk(catalog.load("bert/tiny"))
    recipe = replace(recipe, model=recipe.model.overlay({"dropout": 0.0, "embedding": {"dropout": 0.0}}))
    torch.manual_seed(1)
    tokens = replace(recipe.tokens, vocab_size=tokenizer.vocabulary.size)
    learner = replace(recipe, tokens=tokens, objectives=(objective,)).learner().double()
    texts = ["old river", "letter", "winter small", "numbers old", "river", "small letter winter", "old", "numbers"]
    rows = [LabeledRow(number, (text,), LABELS[number % 2]) for number, text in enumerate(texts)]
    encoded = Classification().encode(tokenizer, rows, objective, 12)
    feed = Shuffled(encoded, len(rows) // accumulate, seed=0)
    step = TrainStep(
        learner, recipe.finetuning.optimizer, Run(device="cpu", precision="float32"),
        World(0, 1, torch.device("cpu")), seed=3,
    )  # fmt: skip
    learner.train()
    counts = {"sequence_classification": torch.tensor(len(rows))}
    sums = step._gradients({number: feed[number] for number in range(accumulate)}, 0, counts)
    found = {name: one.grad.clone() for name, one in learner.named_parameters() if one.grad is not None}
    return found, float(learner.objective(sums, counts))


def test_dividing_an_update_changes_no_gradient_of_the_contrastive_loss(tokenizer: Tokenizer) -> None:
    objective = SupervisedContrastive(labels=LABELS, dropout=0.0)
    whole, expected = gradients(tokenizer, objective, 1)
    for accumulate in (2, 8):
        divided, found = gradients(tokenizer, objective, accumulate)
        assert found == pytest.approx(expected, rel=1e-6)  # sums of losses are kept in float32
        assert divided.keys() == whole.keys()
        for name, gradient in whole.items():
            torch.testing.assert_close(
                divided[name], gradient, rtol=0, atol=EXACT * max(1.0, float(gradient.abs().max()))
            )
    plain, other = gradients(tokenizer, SequenceClassification(labels=LABELS, dropout=0.0), 1)
    assert other != pytest.approx(expected, rel=1e-2)
    assert plain.keys() == whole.keys()


def test_mixtures_train_the_same_tensors_and_are_drawn_by_the_micro_batch(tokenizer: Tokenizer) -> None:
    objective = MixedClassification(labels=LABELS, dropout=0.0)
    first, again = (gradients(tokenizer, objective, 1) for _ in range(2))
    assert first[1] == again[1]
    plain, loss = gradients(tokenizer, SequenceClassification(labels=LABELS, dropout=0.0), 1)
    assert first[0].keys() == plain.keys()
    assert first[1] != loss
