"""The bidirectional language model: the next token by one half of the states, the one before by the other half."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from genus.catalog import load
from genus.errors import UsageError
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.model.lstm import LSTM
from genus.objectives import Learner
from genus.objectives.pretraining.bidirectional_lm import BidirectionalLM

if TYPE_CHECKING:
    from genus.tokens.vocabulary import Vocabulary

VOCABULARY, LENGTH, LENGTHS = 30, 12, [7, 4, 1]
FLOAT32 = 1e-5


def examples(vocabulary: Vocabulary | None = None) -> list[Example]:
    draw = np.random.default_rng(0)
    texts = [draw.integers(1, VOCABULARY, length) for length in LENGTHS]
    made = [Sequence(ids, 0 * ids, np.zeros(len(ids), dtype=np.bool_)) for ids in texts]
    made[1].following = 5
    return [BidirectionalLM().prepare_example(Example({"tokens": one}, {}), vocabulary, draw) for one in made]  # type: ignore[arg-type]


def test_the_loss_is_the_mean_of_both_directions() -> None:
    """By a loop over tokens; the first token has none before it, the last one a next one where that is known."""
    torch.manual_seed(0)
    model, choice = LSTM(layers=2, hidden=8, size=12, directions=2, residual=True), BidirectionalLM()
    learner = Learner(model.build(VOCABULARY), {choice.name: choice.build(model, VOCABULARY)}, choice.weights())
    batch = pack([examples()], LENGTH, 0, max_targets=choice.max_targets(LENGTH, 1))
    states = learner.network(batch)["tokens"]
    ahead, back = states.chunk(2, -1)
    log = [(half @ learner.network.token_embedding.weight.T).log_softmax(-1) for half in (ahead, back)]
    wanted, start = ([], []), 0
    for example in examples():
        ids = example.tokens.ids.tolist()
        for t in range(len(ids)):
            if t + 1 < len(ids) or example.tokens.following is not None:
                wanted[0].append(-log[0][start + t, [*ids, example.tokens.following][t + 1]])
            if t:
                wanted[1].append(-log[1][start + t, ids[t - 1]])
        start += len(ids)
    sums, counts = learner(batch).sums, learner.counts(batch)
    for name, terms in zip(choice.losses, wanted, strict=True):
        assert int(counts[name]) == len(terms)
        torch.testing.assert_close(sums[name], torch.stack(terms).sum(), rtol=FLOAT32, atol=FLOAT32)
    total = (torch.stack(wanted[0]).mean() + torch.stack(wanted[1]).mean()) / 2
    torch.testing.assert_close(learner.objective(sums, counts), total, rtol=FLOAT32, atol=FLOAT32)


@pytest.mark.parametrize(
    ("row", "setting", "message"),
    [
        ("elmo/tiny", "objectives=[{kind='CausalLM'}]", "CausalLM predicts the next token"),
        ("lstm/tiny", "objectives=[{kind='BidirectionalLM'}]", "take a model of two directions"),
        ("lstm/tiny", "model.inputs=64", r"64 wide, and hidden states are 128 wide: give LMHead a transform"),
        ("elmo/tiny", "model.inputs=32", r"32 wide, and hidden states are 64 wide: give LMHead a transform"),
    ],
)
def test_what_does_not_fit_is_refused(row: str, setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        load(row, [setting])
    assert "\n" not in str(refused.value)
