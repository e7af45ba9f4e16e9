"""The output layer over the vocabulary: whose its matrix is, and that its logits never exist at once where many."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from genus.batch import IGNORE, Targets
from genus.errors import UsageError
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding import Embedding
from genus.model.embedding.adaptive import AdaptiveEmbedding
from genus.model.embedding.tables import FactorizedEmbedding
from genus.model.feedforward.mlp import MLP
from genus.model.head import Output, OutputLayer, chunked_loss
from genus.model.head.adaptive_softmax import AdaptiveSoftmax
from genus.model.head.lm_head import LabelSmoothedLMHead, LMHead, Transform, ZLossLMHead
from genus.model.initialization import Normal
from genus.model.skeleton import skeleton
from genus.model.transformer import Transformer
from genus.objectives import Learner
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.objectives.pretraining.distillation import DistilledMaskedLM, Teacher
from genus.objectives.pretraining.masked_lm import MaskedLM

VOCABULARY, HIDDEN, TARGETS = 500, 8, 300
EXACT = 1e-10
"""Relative, in float64."""
OUTPUTS: dict[str, Output] = {
    "tied": LMHead(),
    "own": LMHead(tied=False),
    "transformed": LMHead(transform=Transform()),
    "without bias": LMHead(bias="none"),
    "constant bias": LMHead(tied=False, bias="constant"),
    "smoothed": LabelSmoothedLMHead(),
    "with z-loss": ZLossLMHead(z_loss=0.1),
    "adaptive": AdaptiveSoftmax(),
}
outputs = pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)


def encoder(embedding: Embedding) -> Transformer:
    return Transformer(
        layers=1,
        hidden=HIDDEN,
        attention=MultiHeadAttention(heads=2),
        feedforward=MLP(size=8),
        embedding=embedding,
        dropout=0.0,
    )


def learner(output: Output) -> Learner:
    adaptive = isinstance(output, AdaptiveSoftmax)
    model = encoder(AdaptiveEmbedding(cutoffs=(50, 200), ratio=2, dropout=0.0) if adaptive else Embedding(dropout=0.0))
    torch.manual_seed(0)
    made = Learner(model.build(VOCABULARY), {"causal_lm": CausalLM(output=output).build(model, VOCABULARY)})
    with torch.no_grad():
        for tensor in [*made.parameters(), *made.buffers()]:
            tensor.normal_(std=0.5)
    return made.double()


def layer(output: Output) -> OutputLayer:
    return learner(output).heads["causal_lm"].lm_head  # type: ignore[return-value, union-attr]


def given(weighted: bool = False) -> tuple[Tensor, Targets]:
    """Return states and targets, some of which count nothing."""
    torch.manual_seed(1)
    label = torch.randint(VOCABULARY, (TARGETS,))
    label[torch.arange(TARGETS) % 7 == 3] = IGNORE
    weight = torch.rand(TARGETS).double() * (label != IGNORE) if weighted else None
    return torch.randn(TARGETS, HIDDEN).double(), Targets(torch.arange(TARGETS), label, weight)


def sums(made: OutputLayer, hidden: Tensor, targets: Targets) -> dict[str, Tensor]:
    """Return the loss, what is right, and all gradients."""
    made.zero_grad()
    hidden = hidden.clone().requires_grad_()
    found = made.loss(hidden, targets)
    (3 * found["loss"]).backward()  # type: ignore[no-untyped-call]
    gradients = {name: tensor.grad.clone() for name, tensor in made.named_parameters() if tensor.grad is not None}
    assert hidden.grad is not None
    return {name: value.detach() for name, value in found.items()} | gradients | {"hidden": hidden.grad}


@outputs
@pytest.mark.parametrize("weighted", [False, True])
def test_chunks_change_nothing(output: Output, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made, (hidden, targets) = layer(output), given(weighted)
    whole = sums(made, hidden, targets)
    monkeypatch.setattr(chunked_loss, "CHUNK", 32 * VOCABULARY)
    chunked = sums(made, hidden, targets)
    assert chunked.keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(chunked[name].double(), value.double(), rtol=1e-6, atol=1e-6 * value.abs().max())
    again = sums(made, hidden, targets)
    assert all(torch.equal(again[name], value) for name, value in chunked.items()), "the same bits every time"


class Largest(TorchDispatchMode):
    """Records how many numbers the largest tensor has that any operation makes."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return made


@outputs
@pytest.mark.parametrize("sample", [False, True])
def test_all_logits_never_exist_at_once(output: Output, sample: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the forward or the backward pass is larger than a chunk or the output matrix."""
    if sample and isinstance(output, AdaptiveSoftmax):
        pytest.skip("nothing draws from it in training")
    made, (hidden, targets) = layer(output), given()
    chunk = 16 * VOCABULARY
    monkeypatch.setattr(chunked_loss, "CHUNK", chunk)
    with Largest() as largest:
        found = made.loss(hidden.requires_grad_(), targets, sample=sample)
        found["loss"].backward()  # type: ignore[no-untyped-call]
    assert largest.numbers <= max(chunk, VOCABULARY * HIDDEN) < TARGETS * VOCABULARY


def test_distributions_of_a_teacher_are_compared_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    model = encoder(Embedding(dropout=0.0))
    objective = DistilledMaskedLM(teacher=Teacher(model=model), hidden_cosine=0.0)
    torch.manual_seed(0)
    head = objective.build(model, VOCABULARY)
    made = Learner(model.build(VOCABULARY), {"masked_lm": head})
    own, taught, targets = torch.randn(TARGETS, HIDDEN), torch.randn(TARGETS, HIDDEN), given()[1]
    found = []
    for chunk in (TARGETS * 2 * VOCABULARY, 16 * 2 * VOCABULARY):
        monkeypatch.setattr(chunked_loss, "CHUNK", chunk)
        made.zero_grad()
        with Largest() as largest:
            parts = chunked_loss.in_chunks(head.compared, 2 * VOCABULARY, own, taught, targets.label)
            (parts[0].sum() + parts[2].sum()).backward()
        found.append((largest.numbers, *(part.detach() for part in parts), made.network.token_embedding.weight.grad))
    assert found[0][0] >= TARGETS * VOCABULARY > 16 * 2 * VOCABULARY >= found[1][0]
    for whole, chunked in zip(found[0][1:], found[1][1:], strict=True):
        torch.testing.assert_close(chunked, whole)


def test_a_tied_matrix_is_the_very_parameter() -> None:
    made = learner(LMHead())
    table, head = made.network.token_embedding.weight, made.heads["causal_lm"]
    assert head.lm_head.weight is table  # type: ignore[union-attr]
    assert made.first_names()["heads.causal_lm.lm_head.weight"] == "network.embed.tokens.weight"
    assert "heads.causal_lm.lm_head.weight" not in made.tensors()
    assert sum(one is table for one in made.parameters()) == 1
    made.to(torch.float32)
    assert head.lm_head.weight is made.network.token_embedding.weight  # type: ignore[union-attr]


def test_what_is_shared_stays_shared_when_tensors_are_taken() -> None:
    given = learner(LMHead())
    with skeleton():
        made = learner(LMHead())
    made.load(given.tensors())
    assert made.heads["causal_lm"].lm_head.weight is made.network.token_embedding.weight  # type: ignore[union-attr]
    assert isinstance(made.network.token_embedding.weight, nn.Parameter)
    assert all(torch.equal(tensor, given.state_dict()[name]) for name, tensor in made.state_dict().items())


def test_an_own_matrix_is_drawn_as_the_model_draws() -> None:
    model = Transformer(
        layers=1,
        hidden=64,
        attention=MultiHeadAttention(heads=2),
        feedforward=MLP(size=8),
        initialization=Normal(std=0.05),
    )
    head = MaskedLM(output=LMHead(tied=False)).build(model, VOCABULARY)
    assert float(head.lm_head.weight.detach().std()) == pytest.approx(0.05, rel=0.05)  # type: ignore[arg-type]


def test_states_wider_than_the_embedding_need_a_transform() -> None:
    model = encoder(FactorizedEmbedding(size=4))
    with pytest.raises(UsageError, match=r"4 wide, and hidden states are 8 wide: give LMHead a transform"):
        CausalLM().build(model, VOCABULARY)
    assert MaskedLM().build(model, VOCABULARY)


def test_several_tables_cannot_be_shared_as_one_matrix() -> None:
    model = encoder(AdaptiveEmbedding(cutoffs=(50, 200), ratio=2))
    with pytest.raises(UsageError, match="take AdaptiveSoftmax"):
        Learner(model.build(VOCABULARY), {"causal_lm": CausalLM().build(model, VOCABULARY)})
