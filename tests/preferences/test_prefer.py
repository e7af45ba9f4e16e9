"""A policy learns what a rule rewards, stays near its reference, resumes to the same numbers, is published plain."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from toy_policy import PROMPTS, RUN, Rule, learned, policy

from genus.errors import UsageError
from genus.export.folder import load
from genus.generate import Request
from genus.generate.engine import Engine
from genus.generate.sampling import Greedy
from genus.objectives.reinforcement.penalty import AdaptiveKL, FixedKL

if TYPE_CHECKING:
    from pathlib import Path

ROLLOUTS = "objectives.0.rollouts"


def rollouts(folder: Path) -> list[dict[str, Any]]:
    """Return what the metrics of a run say of each batch."""
    rows = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [row for row in rows if "rollout/reward" in row]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 30 batches."""
    folder = tmp_path_factory.mktemp("preferences") / "run"
    fixed = [f"{ROLLOUTS}.penalty=FixedKL", f"{ROLLOUTS}.penalty.beta=0.3", "optimizer.lr=1e-2"]
    learned(folder, 30 * 32, *fixed, run=replace(RUN, evaluate_every=60))
    return folder


def test_the_reward_rises_and_the_divergence_stays_bounded(run: Path) -> None:
    made = rollouts(run)
    assert len(made) == 30
    assert made[0]["rollout/kl"] == pytest.approx(0, abs=1e-5), "before the first update the policy is the reference"
    assert abs(made[0]["rollout/reward"]) < 0.5, "rewards of the reference have mean 0"
    gained = np.mean([row["rollout/reward"] for row in made[-5:]])
    assert gained > 2.0, "standard deviations of the reference's rewards"
    assert 1 < np.mean([row["rollout/kl"] for row in made[-5:]]) < gained / 0.3, "more would cost more than it gains"
    assert made[-1]["rollout/episodes"] == 30 * 32


def test_metrics_tell_losses_entropy_and_clipping(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "loss" in row]
    assert len(steps) == 120
    names = {"policy", "policy/clipped", "policy/entropy", "policy/moved", "value", "value/clipped"}
    assert names <= steps[0].keys()
    assert steps[0]["policy/clipped"] == 0, "the first ratio is 1"
    assert steps[0]["policy/moved"] < 1e-9
    assert any(row["policy/clipped"] > 0 for row in steps)
    assert steps[0]["lr"] == pytest.approx(1e-2)
    assert steps[-1]["lr"] < 2e-4
    held = [row for row in rows if "held_out/reward" in row]
    assert [row["step"] for row in held] == [60, 120]
    assert {"held_out/kl", "held_out/entropy"} <= held[0].keys()


def test_the_published_policy_is_a_plain_causal_model(run: Path) -> None:
    found = load(run / "model")
    assert [*found.learner.heads] == ["causal_lm"]
    assert [type(one).__name__ for one in found.recipe.objectives] == ["CausalLM"]
    engine = Engine(found.learner, found.recipe.model, found.tokenizer)
    ((text,),) = engine.generate([Request(PROMPTS[0], 8, ignore_end=True)], Greedy())
    before = policy()
    ((plain,),) = Engine(before.learner, before.recipe.model, before.tokenizer).generate(
        [Request(PROMPTS[0], 8, ignore_end=True)], Greedy()
    )
    assert text.text.count("a") > plain.text.count("a")


def test_a_resumed_run_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    """From within a batch, whose responses are in the checkpoint, and from the end of one."""
    run = replace(RUN, checkpoint_every=6, keep=10)
    learned(tmp_path / "whole", 5 * 32, run=run)
    whole = {p.name: p for p in (tmp_path / "whole" / "checkpoints").iterdir()}
    assert whole.keys() == {f"checkpoint-{step}" for step in (6, 12, 18, 20)}
    for step in (6, 12):
        part = tmp_path / f"part-{step}"
        shutil.copytree(tmp_path / "whole", part)
        for other in (6, 12, 18, 20):
            if other > step:
                shutil.rmtree(part / "checkpoints" / f"checkpoint-{other}")
        rule = Rule()
        learned(part, 5 * 32, run=run, resume=True, reward=rule)
        assert rule.calls == {6: 3, 12: 2}[step] + 1, "batches that are left, and the held-out prompts at the end"
        for file in ("model.safetensors", "optimizer.safetensors"):
            ours, theirs = (one / "checkpoints" / "checkpoint-20" / file for one in (part, tmp_path / "whole"))
            assert ours.read_bytes() == theirs.read_bytes()
        assert rollouts(part) == rollouts(tmp_path / "whole")
    for before, after in pairwise(rollouts(tmp_path / "whole")):
        wanted = AdaptiveKL().after(before["rollout/beta"], before["rollout/kl"])
        assert after["rollout/beta"] == pytest.approx(wanted)


def test_minibatches_and_passes_divide_a_batch(tmp_path: Path) -> None:
    """Passes of an update change nothing but rounding; minibatches are updates of their own."""
    learned(tmp_path / "two", 2 * 32, f"{ROLLOUTS}.minibatches=2", f"{ROLLOUTS}.epochs=3")
    steps = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert sum("loss" in row for row in steps) == 2 * 3 * 2


def test_a_large_penalty_keeps_the_policy_at_its_reference(tmp_path: Path) -> None:
    reached = {}
    for beta in (0.0, 30.0):
        fixed = [f"{ROLLOUTS}.penalty=FixedKL", f"{ROLLOUTS}.penalty.beta={beta}", "optimizer.lr=6e-3"]
        learned(tmp_path / str(beta), 25 * 32, *fixed)
        reached[beta] = rollouts(tmp_path / str(beta))[-1]["rollout/kl"]
    assert reached[30.0] < 0.5 < 3 < reached[0.0]


def test_the_controller_moves_beta_as_the_paper_says() -> None:
    """A table by hand: beta (1 + 0.1 e), e = clip(KL / target - 1, -0.2, 0.2)."""
    adaptive = AdaptiveKL(beta=0.5, target=6.0)
    for divergence, wanted in [(0.0, 0.49), (6.0, 0.5), (6.6, 0.505), (60.0, 0.51), (5.7, 0.4975), (-3.0, 0.49)]:
        assert adaptive.after(0.5, divergence) == pytest.approx(wanted)
    assert FixedKL(beta=0.3).after(0.3, 50.0) == 0.3


def test_a_response_that_does_not_end_gets_the_reward_of_one_that_does_not(tmp_path: Path) -> None:
    learned(tmp_path, 32, f"{ROLLOUTS}.unended=-1.0", f"{ROLLOUTS}.stop=b")
    (row,) = rollouts(tmp_path)
    assert 0 < row["rollout/ended"] < 0.5, "few responses of random tokens have a b"
    assert row["rollout/reward"] < row["rollout/raw_reward"]


def test_a_run_of_another_reward_or_other_prompts_is_not_resumed(tmp_path: Path) -> None:
    run = replace(RUN, checkpoint_every=4)
    learned(tmp_path, 2 * 32, run=run)
    with pytest.raises(UsageError, match="made on other text"):
        learned(tmp_path, 2 * 32, run=run, resume=True, reward=Rule("b"))
    with pytest.raises(UsageError, match="holds a run"):
        learned(tmp_path, 2 * 32, run=run)


def test_prompts_that_leave_no_room_are_refused() -> None:
    from genus.objectives.reinforcement.ppo import Rollouts
    from genus.preferences.responses import check_prompts

    source = policy()
    engine = Engine(source.learner, source.recipe.model, source.tokenizer)
    engine.prompts.max_length = 10
    with pytest.raises(UsageError, match="leaves 8 of the model's 10 positions to a response of 24"):
        check_prompts(engine, Rollouts(), ["the cat"[:1] + "a"])


def test_a_model_that_is_no_language_model_is_no_policy() -> None:
    from genus.preferences.prefer import policy_recipe

    source = policy()
    source.learner.heads.pop("causal_lm")
    with pytest.raises(UsageError, match="no causal language model"):
        policy_recipe(source)


def test_the_random_state_of_the_caller_stays(tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    learned(tmp_path, 32)
    after = torch.random.get_rng_state()
    torch.manual_seed(0)  # `policy` seeds it
    policy()
    assert not torch.equal(before, after)
    assert torch.equal(torch.random.get_rng_state(), after)
