"""The z-loss beside its equation in float64: losses and gradients, in one piece and in chunks; and its metrics."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from genus.batch import IGNORE, Batch, Targets
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.feedforward.mlp import MLP
from genus.model.head import chunked_loss, lm_head
from genus.model.head.lm_head import LMHead, LMHeadLayer, ZLossLMHead
from genus.model.transformer import Transformer
from genus.objectives import Learner
from genus.objectives.pretraining.distillation import DistilledMaskedLM
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.train.held_out import evaluate
from genus.train.run import Run
from hand import equal_rows

VOCABULARY, HIDDEN, TARGETS = 53, 8, 30
CLOSE = 2e-6
"""Relative: losses are computed in float32."""
MODEL = Transformer(layers=1, hidden=HIDDEN, attention=MultiHeadAttention(heads=2), feedforward=MLP(size=8))


def layer(z_loss: float, smoothing: float) -> LMHeadLayer:
    torch.manual_seed(0)
    made = ZLossLMHead(tied=False, z_loss=z_loss, smoothing=smoothing).build(MODEL, VOCABULARY)
    with torch.no_grad():
        for tensor in made.parameters():
            tensor.normal_()
    return made


def given() -> tuple[Tensor, Tensor]:
    """Return states and labels, some of which count nothing."""
    torch.manual_seed(1)
    label = torch.randint(VOCABULARY, (TARGETS,))
    label[torch.arange(TARGETS) % 7 == 3] = IGNORE
    return torch.randn(TARGETS, HIDDEN), label


def written_out(
    states: Tensor, matrix: Tensor, bias: Tensor, label: Tensor, weight: Tensor, z_loss: float, smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return Σ of the loss, of -log p(label) and of z (log Z)², target by target and class by class."""
    totals = [states.new_zeros(()) for _ in range(3)]
    for state, one, share in zip(states, label.tolist(), weight, strict=True):
        if one == IGNORE:
            continue
        logits = [matrix[c] @ state + bias[c] for c in range(VOCABULARY)]
        log_z = torch.stack(logits).exp().sum().log()
        nll = log_z - logits[one]
        soft = sum(smoothing / VOCABULARY * (log_z - logit) for logit in logits) + (1 - smoothing) * nll
        square = z_loss * log_z * log_z
        for total, value in zip(totals, (soft + square, nll, square), strict=True):
            total += share * value
    return totals[0], totals[1], totals[2]


@pytest.mark.parametrize(("z_loss", "smoothing"), [(1e-4, 0.0), (0.3, 0.0), (0.3, 0.1)])
@pytest.mark.parametrize("chunk", [1 << 24, 8 * VOCABULARY], ids=["whole", "chunks"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("filled", [0, 13])
def test_it_is_the_equation(
    z_loss: float, smoothing: float, chunk: int, weighted: bool, filled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where rows of logit -inf fill the matrix up, as on GPUs, which add nothing to Z."""
    monkeypatch.setattr(chunked_loss, "CHUNK", chunk)
    monkeypatch.setattr(lm_head, "extra_tokens", lambda *_: filled)
    made, (states, label) = layer(z_loss, smoothing), given()
    assert made.bias is not None
    weight = torch.rand(TARGETS) * (label != IGNORE) if weighted else None
    hidden = states.requires_grad_()
    found = made.loss(hidden, Targets(torch.arange(TARGETS), label, weight))
    exact, matrix, bias = (tensor.detach().double().requires_grad_() for tensor in (hidden, made.weight, made.bias))
    shares = torch.ones(TARGETS).double() if weight is None else weight.double()
    expected = written_out(exact, matrix, bias, label, shares, z_loss, smoothing)
    for name, value in zip(("loss", "nll", "z_loss"), expected, strict=True):
        assert found[name].item() == pytest.approx(value.item(), rel=CLOSE), name
    own = torch.autograd.grad(found["loss"], [hidden, made.weight, made.bias])
    for one, other in zip(own, torch.autograd.grad(expected[0], [exact, matrix, bias]), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-6 * float(other.abs().max()))
    assert not found["nll"].requires_grad
    assert not found["z_loss"].requires_grad


def test_it_is_a_metric_of_its_own_and_perplexity_is_without_it() -> None:
    torch.manual_seed(0)
    vocabulary, ids = 30, torch.arange(12)[None]
    network = MODEL.build(vocabulary)
    heads = {"plain": MaskedLM(output=LMHead()), "z": MaskedLM(output=ZLossLMHead(z_loss=0.1))}
    batch = Batch({"tokens": equal_rows(ids)}, {"masked_lm": Targets(torch.tensor([2, 5]), torch.tensor([3, 9]))})
    run = Run(device="cpu", precision="float32")
    found = {}
    for name, objective in heads.items():
        learner = Learner(network, {"masked_lm": objective.build(MODEL, vocabulary)})
        found[name] = evaluate(learner, [batch], run, bytes_of=lambda _: {"masked_lm": 7.0})
    plain, other = found["plain"], found["z"]
    assert other["masked_lm/z_loss"] > 0.1
    assert other["masked_lm"] == pytest.approx(plain["masked_lm"] + other["masked_lm/z_loss"], rel=CLOSE)
    assert other["masked_lm/nll"] == pytest.approx(plain["masked_lm"], rel=CLOSE)
    assert other["masked_lm/perplexity"] == pytest.approx(math.exp(plain["masked_lm"]), rel=CLOSE)
    assert other["masked_lm/bits_per_byte"] == pytest.approx(plain["masked_lm/bits_per_byte"], rel=CLOSE)


def test_learning_draws_the_normalizer_to_one() -> None:
    """On the same rows, log Z of the head with the loss ends nearer to 0 than that of the head without."""
    states, label = given()
    targets, ends = Targets(torch.arange(TARGETS), label), {}
    for name, weight in (("plain", 1e-12), ("z", 0.1)):
        made = layer(weight, 0.0)
        optimizer = torch.optim.Adam(made.parameters(), lr=0.05)
        for _ in range(400):
            optimizer.zero_grad()
            (made.loss(states, targets)["loss"] / TARGETS).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        ends[name] = made(states).logsumexp(-1)[label != IGNORE].abs().mean().item()
    assert ends["z"] < 0.1 * ends["plain"]


def test_a_loss_of_a_teachers_distributions_refuses_it() -> None:
    with pytest.raises(ValueError, match="has no z-loss"):
        DistilledMaskedLM(output=ZLossLMHead()).check(MODEL)
