"""Label smoothing beside PyTorch's: losses and gradients, in one piece and in chunks; and what metrics are told of."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from genus.batch import IGNORE, Batch, Targets
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.feedforward.mlp import MLP
from genus.model.head import chunked_loss, lm_head
from genus.model.head.lm_head import LabelSmoothedLMHead, LMHead, LMHeadLayer
from genus.model.transformer import Transformer
from genus.objectives import Learner
from genus.objectives.pretraining.distillation import DistilledMaskedLM
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.train.held_out import evaluate
from genus.train.run import Run
from hand import equal_rows

VOCABULARY, HIDDEN, TARGETS = 203, 8, 60
CLOSE = 2e-6
"""Relative: losses are computed in float32."""
SMOOTHINGS = pytest.mark.parametrize("smoothing", [0.1, 0.5])
MODEL = Transformer(layers=1, hidden=HIDDEN, attention=MultiHeadAttention(heads=2), feedforward=MLP(size=8))


def layer(smoothing: float) -> LMHeadLayer:
    torch.manual_seed(0)
    made = LabelSmoothedLMHead(tied=False, smoothing=smoothing).build(MODEL, VOCABULARY)
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


def gradients(loss: Tensor, made: LMHeadLayer, hidden: Tensor) -> list[Tensor]:
    assert made.bias is not None
    return list(torch.autograd.grad(loss, [hidden, made.weight, made.bias]))


@SMOOTHINGS
@pytest.mark.parametrize("chunk", [1 << 24, 16 * VOCABULARY], ids=["whole", "chunks"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("filled", [0, 13])
def test_it_is_pytorchs(
    smoothing: float, chunk: int, weighted: bool, filled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where rows of logit -inf fill the matrix up, as on GPUs, of which labels are given nothing."""
    monkeypatch.setattr(chunked_loss, "CHUNK", chunk)
    monkeypatch.setattr(lm_head, "extra_tokens", lambda *_: filled)
    made, (states, label) = layer(smoothing), given()
    weight = torch.rand(TARGETS) * (label != IGNORE) if weighted else None
    hidden = states.requires_grad_()
    found = made.loss(hidden, Targets(torch.arange(TARGETS), label, weight))
    logits = F.linear(hidden, made.weight, made.bias)
    theirs = F.cross_entropy(logits, label, label_smoothing=smoothing, reduction="none")
    plain = F.cross_entropy(logits, label, reduction="none")
    expected = (theirs if weight is None else theirs * weight).sum()
    assert found["loss"].item() == pytest.approx(expected.item(), rel=CLOSE)
    assert found["nll"].item() == pytest.approx((plain if weight is None else plain * weight).sum().item(), rel=CLOSE)
    hits = (logits.argmax(-1) == label).float()
    assert found["correct"].item() == pytest.approx((hits if weight is None else hits * weight).sum().item())
    for own, other in zip(*(gradients(one, made, hidden) for one in (found["loss"], expected)), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6 * float(other.abs().max()))
    assert not found["nll"].requires_grad


def test_held_out_perplexity_is_that_of_the_labels_themselves() -> None:
    """Two heads on one network, of which one learns from smoothed labels, tell one perplexity and two losses."""
    torch.manual_seed(0)
    vocabulary, ids = 30, torch.arange(12)[None]
    network = MODEL.build(vocabulary)
    heads = {"plain": MaskedLM(output=LMHead()), "smooth": MaskedLM(output=LabelSmoothedLMHead(smoothing=0.3))}
    packed = equal_rows(ids)
    batch = Batch({"tokens": packed}, {"masked_lm": Targets(torch.tensor([2, 5]), torch.tensor([3, 9]))})
    run = Run(device="cpu", precision="float32")
    found = {}
    for name, objective in heads.items():
        learner = Learner(network, {"masked_lm": objective.build(MODEL, vocabulary)})
        found[name] = evaluate(learner, [batch], run, bytes_of=lambda _: {"masked_lm": 7.0})
    plain, smooth = found["plain"], found["smooth"]
    assert smooth["masked_lm"] != pytest.approx(plain["masked_lm"], rel=CLOSE)
    assert smooth["masked_lm/nll"] == pytest.approx(plain["masked_lm"], rel=CLOSE)
    assert smooth["masked_lm/perplexity"] == pytest.approx(math.exp(plain["masked_lm"]), rel=CLOSE)
    assert smooth["masked_lm/bits_per_byte"] == pytest.approx(plain["masked_lm/bits_per_byte"], rel=CLOSE)


def test_a_loss_that_cannot_smooth_refuses_it() -> None:
    with pytest.raises(ValueError, match="does not smooth labels"):
        DistilledMaskedLM(output=LabelSmoothedLMHead()).check(MODEL)
