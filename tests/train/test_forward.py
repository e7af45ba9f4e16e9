"""Training goes through the learner's forward pass: hooks run, layers may have losses, memory goes in and comes out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
import torch
from toy_run import RUN, STILL, ToyFeed, losses, toy_learner, toy_train

from genus.errors import UsageError
from genus.model.block.residual import UnscaledPreNorm
from genus.model.stack.reversible import ReversibleStack
from genus.model.stack.sharing import CrossLayerSharing
from genus.model.transformer import TransformerNetwork
from genus.train.held_out import evaluate

if TYPE_CHECKING:
    from pathlib import Path

    from genus.batch import Batch
    from genus.model import States


def test_hooks_run_in_training_and_evaluation() -> None:
    """On the learner, the network, a layer and a head, once a micro-batch: ten steps of two."""
    learner = toy_learner()
    modules = [learner, learner.network, learner.network.layers[0], learner.heads["masked_lm"]]
    calls = [0] * len(modules)
    for number, module in enumerate(modules):
        module.register_forward_hook(lambda *_, number=number: calls.__setitem__(number, calls[number] + 1))
    toy_train(None, learner=learner)
    assert calls == [20] * len(modules)
    evaluate(learner, (ToyFeed()[number] for number in range(3)), RUN)
    assert calls == [23] * len(modules)


@pytest.mark.parametrize("stack", [STILL.stack, CrossLayerSharing()], ids=str)
def test_the_states_of_every_layer_on_request(stack: object) -> None:
    learner = toy_learner(model=replace(STILL, stack=stack))
    network, batch = learner.network.eval(), ToyFeed()[0]
    assert network(batch).layers is None
    states = network(batch, layers=True)
    assert states.layers is not None
    assert len(states.layers) == 3
    assert torch.equal(states.layers[0], network.embed(batch.tokens))
    assert torch.equal(network.norm(states.layers[-1]), states["tokens"])
    assert torch.equal(states["tokens"], network(batch)["tokens"])


def test_reversible_layers_keep_no_states() -> None:
    learner = toy_learner(model=replace(STILL, stack=ReversibleStack(), block=UnscaledPreNorm()))
    with pytest.raises(UsageError, match="do not keep the states"):
        learner.network(ToyFeed()[0], layers=True)


@dataclass(frozen=True)
class Balance:
    """A loss of the layers: the mean square of the states, per token."""

    network: TransformerNetwork

    def forward(self, batch: Batch, *, layers: bool = False) -> States:
        states = TransformerNetwork.forward(self.network, batch, layers=layers)
        return replace(states, losses={"balance": states["tokens"].square().mean(-1).sum()})

    def counts(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"balance": torch.tensor(len(batch.tokens.ids))}


def test_losses_of_layers_are_learned_and_reported(tmp_path: Path) -> None:
    learner = toy_learner(model=STILL)
    balance = Balance(learner.network)
    learner.network.forward, learner.network.counts = balance.forward, balance.counts
    batch = ToyFeed()[0]
    step = learner(batch)
    assert step.sums.keys() >= {"masked_lm", "balance"}
    assert step.memory == {}
    assert learner.counts(batch)["balance"] == len(batch.tokens.ids)
    toy_train(tmp_path / "with", learner=learner)
    toy_train(tmp_path / "without", learner=toy_learner(model=STILL))
    assert losses(tmp_path / "with") != losses(tmp_path / "without")
    found = (tmp_path / "with" / "metrics.jsonl").read_text()
    assert '"balance"' in found
