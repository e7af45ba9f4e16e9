"""The triple loss: who counts, who learns, and what reaches whom; its numbers are checked in tests/export."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from genus import catalog
from genus.batch import IGNORE, Batch, Targets
from genus.cost import TRAINING, component_cost, cost, stage_cost
from genus.errors import UsageError
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.objectives.pretraining.distillation import DistilledMaskedLM, DistilledMaskedLMHead, Teacher
from genus.objectives.pretraining.labels import SequenceLabels
from genus.objectives.pretraining.masked_lm import MaskedLM

if TYPE_CHECKING:
    from genus.objectives import Learner
    from genus.recipe import Recipe

LENGTHS, ROW, VOCABULARY = (9, 14, 6, 17, 1), 24, 40
TOLERANCE = 1e-6
"""The head takes its softmax in float32, which has 24 bits; all before it is float64 here."""
FLOPS = 0.02
"""As tests/test_cost.py: targets are a rounded share of the tokens."""
SMALL = {"layers": 1, "hidden": 16, "attention": {"heads": 2}, "feedforward": {"size": 24}}
compared = pytest.mark.parametrize("compared", ["all", "masked"])


def recipe(compared: str = "masked", **changes: Any) -> Recipe:
    objective = {"compared": compared, "teacher": {"model": SMALL | {"layers": 3}}} | changes
    return catalog.load("distilbert/tiny").overlay(
        {"model": SMALL, "tokens": {"vocab_size": VOCABULARY}, "objectives": {"0": objective}}
    )


def learner(compared: str = "masked", **changes: Any) -> Learner:
    torch.manual_seed(0)
    made = recipe(compared, **changes).learner().double()
    with torch.no_grad():
        for parameter in [*made.parameters(), *head(made).teacher.parameters()]:
            parameter.normal_(std=0.3)
    return made


def head(made: Learner) -> DistilledMaskedLMHead:
    found = made.heads["masked_lm"]
    assert isinstance(found, DistilledMaskedLMHead)
    return found


def examples(seed: int = 0) -> list[Example]:
    """Return sequences, each with a masked token or two and every token to learn from the teacher."""
    rng = np.random.default_rng(seed)
    made = []
    for length in LENGTHS:
        ids = rng.integers(5, VOCABULARY, length)
        chosen = np.sort(rng.permutation(length)[:2])
        every = (np.arange(length), np.zeros(length, dtype=np.int64))
        sequence = Sequence(ids, np.zeros_like(ids), np.zeros(length, dtype=bool))
        made.append(Example({"tokens": sequence}, {"masked_lm": (chosen, ids[chosen]), "taught": every}))
    return made


def packed(made: list[Example]) -> Batch:
    """Return the sequences in three rows, two of them shared, with room for further targets."""
    return pack(
        [[made[0], made[1]], [made[2], made[3]], [made[4]]], ROW, 0, max_targets={"masked_lm": 20, "taught": 72}
    )


@compared
def test_packed_equals_one_by_one(compared: str) -> None:
    made, rows = learner(compared), examples()
    whole = made(packed(rows)).sums
    alone = [made(pack([[each]], len(each.tokens.ids), 0)).sums for each in rows]
    assert whole.keys() == {"masked_lm", "masked_lm/correct", "distilled", "hidden_cosine"}
    for name, value in whole.items():
        assert value.item() == pytest.approx(sum(sums[name].item() for sums in alone), rel=TOLERANCE), name
    counts = made.counts(packed(rows))
    assert counts == {"masked_lm": 9, "distilled": 47 if compared == "all" else 9, "hidden_cosine": 47}


@compared
def test_no_document_reaches_another_s_losses(compared: str) -> None:
    """Bit for bit: only the second sequence has targets, and only the first one's tokens change."""
    made, rows = learner(compared).eval(), examples()
    batch = packed(rows)
    outside = {
        name: replace(each, label=each.label.masked_fill((each.index < 9) | (each.index >= 23), IGNORE))
        for name, each in batch.targets.items()
    }
    ids = batch.tokens.ids.clone()
    ids[:9] = (ids[:9] - 4) % 35 + 5
    other = replace(batch.tokens, ids=ids)
    first, second = (made(Batch({"tokens": tokens}, outside)).sums for tokens in (batch.tokens, other))
    assert all(torch.equal(first[name], second[name]) for name in first)
    before, after = made(batch).sums, made(replace(batch, streams={"tokens": other})).sums
    assert not torch.equal(before["hidden_cosine"], after["hidden_cosine"])


def test_the_teacher_is_no_part_of_the_learner() -> None:
    made = learner()
    plain = replace(recipe(), objectives=(MaskedLM(),)).learner()
    assert made.state_dict().keys() == plain.state_dict().keys()
    assert sum(1 for _ in made.buffers()) == 0
    assert not {*made.modules()} & {*head(made).teacher.modules()}
    before = copy.deepcopy(head(made).teacher.state_dict())
    made.train()
    assert not any(module.training for module in head(made).teacher.modules())
    made.objective(made(packed(examples())).sums, made.counts(packed(examples()))).backward()
    assert all(parameter.grad is None for parameter in head(made).teacher.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in head(made).teacher.state_dict().items())


def test_the_teacher_goes_where_the_learner_goes() -> None:
    made = learner()
    assert {parameter.dtype for parameter in head(made).teacher.parameters()} == {torch.float64}
    assert {parameter.device.type for parameter in head(made.to("meta")).teacher.parameters()} == {"meta"}


def test_the_teacher_draws_no_dropout_where_the_student_does() -> None:
    dropping = {"dropout": 0.5, "attention": {"heads": 2, "dropout": 0.5}, "embedding": {"dropout": 0.5}}
    made = learner(teacher={"model": SMALL | {"layers": 3} | dropping})
    first, second = (made.train()(packed(examples())) for _ in range(2))
    assert first == second


def test_every_masked_or_real_token_weighs_the_same() -> None:
    """L = 5 Σ distilled / 9 + 2 Σ masked / 9 + Σ cosine / 47."""
    made, batch = learner(), packed(examples())
    sums = made(batch).sums
    expected = 5 * sums["distilled"] / 9 + 2 * sums["masked_lm"] / 9 + sums["hidden_cosine"] / 47
    assert made.objective(sums, made.counts(batch)).item() == pytest.approx(expected.item(), rel=TOLERANCE)


def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it() -> None:
    made = learner(teacher={"model": SMALL | {"embedding": {"segments": 0}, "pooler": None}})
    head(made).teacher.load_state_dict(made.state_dict())
    sums = made(packed(examples())).sums
    assert sums["distilled"].item() == pytest.approx(0, abs=TOLERANCE)
    assert sums["hidden_cosine"].item() == pytest.approx(0, abs=47 * TOLERANCE)
    assert sums["masked_lm"].item() > 1


def test_all_tokens_are_targets_and_the_masked_ones_as_ever() -> None:
    vocabulary: Any = type("Vocabulary", (), {"mask": 4, "size": 40, "special": np.arange(40) < 5})()
    objective, plain = recipe().objectives[0], MaskedLM()
    example = Example({"tokens": examples()[1].tokens}, {})
    found = objective.prepare_example(example, vocabulary, np.random.default_rng(3))
    expected = plain.prepare_example(example, vocabulary, np.random.default_rng(3))
    assert found.tokens.ids.tolist() == expected.tokens.ids.tolist()
    assert [part.tolist() for part in found.targets["masked_lm"]] == [
        part.tolist() for part in expected.targets["masked_lm"]
    ]
    assert found.targets["taught"][0].tolist() == list(range(14))
    assert objective.max_targets(48, 5) == plain.max_targets(48, 5) | {"taught": 48}


def test_a_teacher_of_another_width_leaves_the_hidden_states_alone() -> None:
    wide = {"model": SMALL | {"layers": 2, "hidden": 32}}
    with pytest.raises(UsageError, match=r"32 wide, the student's 16: .* \(--set objectives.0.hidden_cosine=0\)"):
        learner(teacher=wide)
    made = learner(teacher=wide, hidden_cosine=0.0)
    sums, counts = made(packed(examples())).sums, made.counts(packed(examples()))
    assert counts.keys() == {"masked_lm", "distilled"}
    assert sums.keys() == {"masked_lm", "masked_lm/correct", "distilled"}


@pytest.mark.parametrize(("choice", "value"), [("temperature", 0.0), ("distilled", -1.0), ("hidden_cosine", -0.5)])
def test_numbers_that_make_no_loss_are_refused(choice: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{choice}: expected (more than|at least) 0, got {value:g}"):
        recipe(**{choice: value})


def test_a_teacher_needs_a_masked_language_model() -> None:
    model = catalog.load("bert/tiny").model
    objective = DistilledMaskedLM()
    assert objective.with_teacher(model, (SequenceLabels(label="next_sentence"), MaskedLM())).teacher == Teacher(
        model=model
    )
    with pytest.raises(UsageError, match="the teacher has no masked-language-model head"):
        objective.with_teacher(model, (SequenceLabels(label="next_sentence"),))


@compared
def test_flops_agree_with_pytorch(compared: str) -> None:
    """The teacher's have no backward pass."""
    row, length, rows = recipe(compared), 64, 4
    made = row.learner()
    ids = torch.randint(5, VOCABULARY, (rows * length,)).numpy()
    sequences = [Sequence(part, part * 0, np.zeros(length, dtype=bool)) for part in np.split(ids, rows)]
    batch = pack([[Example({"tokens": sequence}, {})] for sequence in sequences], length, 0)
    chosen = torch.randperm(rows * length)[: round(0.15 * rows * length)]
    every = Targets(torch.arange(rows * length), torch.zeros(rows * length, dtype=torch.int64))
    batch = replace(batch, targets={"masked_lm": Targets(chosen, batch.tokens.ids[chosen]), "taught": every})
    with FlopCounterMode(display=False) as forward:
        sums = made(batch).sums
    with FlopCounterMode(display=False) as backward:
        made.objective(sums, made.counts(batch)).backward()
    wanted = component_cost(row, {"tokens": length})
    assert forward.get_total_flops() == pytest.approx((wanted.flops + wanted.forward_only_flops) * len(ids), rel=FLOPS)
    training = (TRAINING * wanted.flops + wanted.forward_only_flops) * len(ids)
    assert forward.get_total_flops() + backward.get_total_flops() == pytest.approx(training, rel=FLOPS)
    stage = replace(row.stages[0], max_length=length, batch=rows, micro_batch=rows)
    assert stage_cost(row, stage).flops_step == training
    frozen = sum(parameter.numel() for parameter in head(made).teacher.parameters())
    assert cost(row).bytes_weights == 4 * (cost(row).parameters + frozen)
