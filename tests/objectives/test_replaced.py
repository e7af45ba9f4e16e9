"""ELECTRA's two objectives against a slow transcription of section 2's equations, and the law of the samples."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from replacing import LENGTHS, LIMITS, MASK, examples, made, packed, sums_of
from scipy import stats
from torch import Tensor

from genus.batch import Targets
from genus.examples.feed.pack import pack
from genus.model.head.chunked_loss import drawn
from genus.objectives.pretraining.generator import put

if TYPE_CHECKING:
    from genus.batch import Batch
    from genus.objectives import Learner

TOLERANCE = 1e-6
"""Heads take softmax and sigmoid in float32, which has 24 bits; all before it is float64 here."""
UNLIKELY = 1e-4
"""Probability under the law below which a (fixed, seeded) sample is taken to break it."""


# --- the loss -----------------------------------------------------------------------------------------------------


def gelu(x: Tensor) -> Tensor:
    return torch.tensor([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x.flatten().tolist()]).view_as(x)


def norm(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-12) * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def transformer(
    ids: Tensor, segments: Tensor, state: dict[str, Tensor], own: str, projection: str, heads: int
) -> Tensor:
    """Return the last states (L, H) of one sequence: the network's embeddings, another's projection and layers."""
    embed = "network.embed"
    x = state[f"{embed}.tokens.weight"][ids] + state[f"{embed}.positions.table.weight"][: len(ids)]
    x = linear(norm(x + state[f"{embed}.segments.weight"][segments], state, f"{embed}.norm"), state, projection)
    for number in range(2):
        layer = f"{own}.layers.{number}"
        q, k, v = (linear(x, state, f"{layer}.attention.{name}") for name in ("query", "key", "value"))
        size = q.shape[-1] // heads
        mixed = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            mixed.append(torch.softmax(q[:, part] @ k[:, part].T / math.sqrt(size), -1) @ v[:, part])
        x = norm(x + linear(torch.cat(mixed, -1), state, f"{layer}.attention.out"), state, f"{layer}.attention_norm")
        inner = gelu(linear(x, state, f"{layer}.feedforward.inner"))
        x = norm(x + linear(inner, state, f"{layer}.feedforward.out"), state, f"{layer}.feedforward_norm")
    return x


def slow(learner: Learner, noise: Tensor) -> tuple[float, list[list[bool]]]:
    """Return L_MLM + 50 L_Disc, each a mean over its tokens, one sequence after the other, and what was replaced."""
    state = learner.state_dict()
    table, head = state["network.embed.tokens.weight"], "heads.masked_lm_generator.masked.lm_head"
    masked, told, answers = [], [], []
    for example in examples():
        tokens, (chosen, label), (_, original) = example.tokens, *example.targets.values()
        ids, segments = torch.from_numpy(tokens.ids), torch.from_numpy(tokens.segments)
        x = transformer(
            ids, segments, state, "heads.masked_lm_generator.network", "heads.masked_lm_generator.network.projection", 1
        )
        corrupt = torch.from_numpy(original).clone()
        for place, token in zip(chosen.tolist(), label.tolist(), strict=True):
            y = norm(gelu(linear(x[place], state, f"{head}.transform.dense")), state, f"{head}.transform.norm")
            logits = table @ y + state[f"{head}.bias"]
            masked.append(-float(torch.log_softmax(logits, -1)[token]))
            corrupt[place] = int((logits.float() + noise).argmax())
        h = transformer(corrupt, segments, state, "network", "network.embed.projection", 2)
        score = linear(
            gelu(linear(h, state, "heads.replaced_token_detection.scores.dense")),
            state,
            "heads.replaced_token_detection.scores.out",
        )[:, 0]
        replaced = (corrupt != torch.from_numpy(original)).tolist()
        told += [-math.log(1 / (1 + math.exp(-s if r else s))) for s, r in zip(score.tolist(), replaced, strict=True)]
        answers.append(replaced)
    return sum(masked) / len(masked) + 50 * sum(told) / len(told), answers


def test_the_loss_is_the_paper_s(still: Tensor) -> None:
    learner, batch = made(), packed()
    torch.set_default_dtype(torch.float64)
    try:
        total, answers = slow(learner, still)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        sums, counts = learner(batch).sums, learner.counts(batch)
        found = learner.objective(sums, counts)
    assert {name: int(count) for name, count in counts.items()} == {
        "masked_lm": 8,
        "replaced_token_detection": sum(LENGTHS),
    }
    assert int(sums["replaced_token_detection/share"]) == sum(map(sum, answers)) > 0
    assert float(found) == pytest.approx(total, rel=TOLERANCE)


def test_one_by_one_is_the_same_as_packed(still: Tensor) -> None:
    learner = made()
    each = [sums_of(learner, pack([[one]], len(one.tokens.ids), 0)) for one in examples()]
    together = sums_of(learner, packed())
    for name, value in together.items():
        assert value == pytest.approx(sum(one[name] for one in each), rel=TOLERANCE), name


def test_weights_are_choices(still: Tensor) -> None:
    learner, batch = made("objectives.1.weight=3.0"), packed()
    sums, counts = learner(batch).sums, learner.counts(batch)
    total = sums["masked_lm"] / 8 + 3 * sums["replaced_token_detection"] / sum(LENGTHS)
    assert float(learner.objective(sums, counts).detach()) == pytest.approx(float(total.detach()), rel=TOLERANCE)


# --- what is replaced ---------------------------------------------------------------------------------------------


def prepared(learner: Learner, batch: Batch) -> Batch:
    with torch.no_grad():
        return learner.heads["masked_lm_generator"].prepare(learner.network, batch)[0]


def certain(learner: Learner, token: int) -> None:
    """Make the generator name one token always."""
    with torch.no_grad():
        learner.heads["masked_lm_generator"].masked.lm_head.bias[token] += 1e3


def test_a_sample_that_is_the_original_counts_as_original() -> None:
    learner, batch = made(), packed()
    token = int(batch.targets["masked_lm"].label[0])
    certain(learner, token)
    after = prepared(learner, batch)
    masked, targets = batch.targets["masked_lm"], after.targets["replaced_token_detection"]
    real = masked.counted()
    assert (after.tokens.ids[masked.index[real]] == token).all()
    expected = torch.zeros(len(batch.tokens.ids), dtype=torch.int64)
    expected[masked.index[real]] = (masked.label[real] != token).long()
    assert expected[masked.index[0]] == 0
    assert expected.sum() > 0
    live = targets.counted()
    assert torch.equal(targets.label[live], expected[targets.index[live]])


def test_every_live_token_is_judged_and_no_other() -> None:
    batch = packed()
    targets = prepared(made(), batch).targets["replaced_token_detection"]
    live = targets.counted()
    starts = np.repeat([0, 14, 24, 44], LENGTHS)
    expected = np.concatenate([np.arange(length) for length in LENGTHS]) + starts
    np.testing.assert_array_equal(targets.index[live].numpy(), expected)
    assert len(live) == LIMITS["original"]


def test_only_the_chosen_tokens_change() -> None:
    batch = packed()
    after = prepared(made(), batch)
    masked = batch.targets["masked_lm"]
    moved = torch.zeros(len(batch.tokens.ids), dtype=torch.bool)
    moved[masked.index[masked.counted()]] = True
    assert torch.equal(after.tokens.ids[~moved], batch.tokens.ids[~moved])
    assert not (after.tokens.ids[moved] == MASK).all()


def test_targets_that_only_fill_up_write_nowhere() -> None:
    ids = torch.arange(10, 16)
    targets = Targets(torch.tensor([0, 3, 0, 0]), torch.tensor([7, 7, -100, -100]))
    assert put(ids, targets, torch.tensor([1, 2, 8, 9])).tolist() == [1, 11, 12, 2, 14, 15]
    assert ids.tolist() == [10, 11, 12, 13, 14, 15]


def test_samples_follow_the_softmax() -> None:
    """One draw in each of 40,000 places against the probabilities, by a chi-square test; it is no arg-max."""
    torch.manual_seed(3)
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0, -3.0, 0.5, -torch.inf])
    counts = torch.bincount(drawn(logits.expand(40_000, -1)), minlength=7).numpy()
    expected = torch.softmax(logits, -1).numpy().astype(np.float64) * 40_000
    assert counts[6] == 0
    assert stats.chisquare(counts[:6], expected[:6] * counts.sum() / expected[:6].sum()).pvalue > UNLIKELY
    assert counts[0] < 40_000


def test_samples_in_two_places_are_independent() -> None:
    torch.manual_seed(4)
    logits = torch.zeros(20_000, 2, 3)
    pairs = torch.stack([drawn(logits[:, 0]), drawn(logits[:, 1])])
    table = torch.bincount(pairs[0] * 3 + pairs[1], minlength=9).view(3, 3).numpy()
    assert stats.chi2_contingency(table).pvalue > UNLIKELY


def test_samples_hang_on_the_seed_alone() -> None:
    learner, batch = made(), packed()
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(prepared(learner, batch).tokens.ids)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_the_discriminator_teaches_the_generator_nothing(still: Tensor) -> None:
    """No gradient flows through the samples: of its loss alone, none reaches what is the generator's own."""
    learner, batch = made(), packed()
    learner(batch).sums["replaced_token_detection"].backward()
    shared = set(map(id, learner.network.parameters()))
    own = {name: one for name, one in learner.heads["masked_lm_generator"].named_parameters() if id(one) not in shared}
    assert not [name for name, parameter in own.items() if parameter.grad is not None]
    assert learner.network.token_embedding.weight.grad is not None


def test_no_document_reaches_another(still: Tensor) -> None:
    """Bit for bit: samples and scores of the others stay as they are when the tokens of one are others."""
    learner, batch = made(), packed()
    ids = batch.tokens.ids.clone()
    ids[15:22] = ids[15:22].flip(0)
    other = replace(batch, streams={"tokens": replace(batch.tokens, ids=ids)})
    scores = learner.heads["replaced_token_detection"].scores
    before, after = prepared(learner, batch), prepared(learner, other)
    with torch.no_grad():
        a, b = (scores(learner.network(one)["tokens"]) for one in (before, after))
    own = torch.zeros(len(ids), dtype=torch.bool)
    own[14:23] = True
    assert torch.equal(before.tokens.ids[~own], after.tokens.ids[~own])
    assert torch.equal(a[~own], b[~own])
    assert not torch.equal(a[own], b[own])


def test_what_is_told_of_it() -> None:
    """A discriminator that always says replaced, and a generator that is always wrong or always right."""
    learner, batch = made(), packed()
    with torch.no_grad():
        learner.heads["replaced_token_detection"].scores.out.weight.zero_()
        learner.heads["replaced_token_detection"].scores.out.bias.fill_(1.0)
    certain(learner, 0)
    sums = sums_of(learner, batch)
    assert (sums["masked_lm/sampled"], sums["masked_lm/correct"]) == (0, 0)
    assert (
        sums["replaced_token_detection/share"],
        sums["replaced_token_detection/found"],
        sums["replaced_token_detection/correct"],
    ) == (8, 8, 8)
    learner.heads["replaced_token_detection"].scores.out.bias.data.fill_(-1.0)
    sums = sums_of(learner, batch)
    assert (
        sums["replaced_token_detection/share"],
        sums["replaced_token_detection/found"],
        sums["replaced_token_detection/correct"],
    ) == (8, 0, sum(LENGTHS) - 8)
