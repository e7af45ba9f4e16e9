"""Reinforcement learning from preferences: a causal language model learns to write what a reward model prefers."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, cast

import torch

from genus.errors import UsageError
from genus.export.folder import save
from genus.export.weights import fingerprint
from genus.generate.engine import Engine
from genus.objectives import Learner
from genus.objectives.reinforcement.ppo import ClippedPolicy, ClippedValue, Rollouts
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.preferences.responses import check_prompts, policy_of
from genus.preferences.rollouts import Policy, RolloutFeed
from genus.recipe import Budget
from genus.run_folder import RunFolder
from genus.stages import Stage
from genus.train.data import TrainStage
from genus.train.loop import Summary, train
from genus.train.world import device_of_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from genus.export.folder import LoadedModel
    from genus.objectives import Head
    from genus.preferences.rewards import Reward
    from genus.recipe import Recipe
    from genus.train.run import Run

OPTIMIZER = AdamW(lr=1e-5, betas=(0.9, 0.999), eps=1e-5, weight_decay=0.0, clip_norm=None)
"""Adam (released code, launch.py: ppo.lr; utils/core.py: minimize, epsilon; the betas are TensorFlow's)."""
SCHEDULE = Linear(warmup=0.0)
"""Released code, train_policy.py: the rate falls to 0 with the share of updates that are left."""


class Undropped(Learner):
    """A learner without dropout, also in training: ratios of probabilities are of the same network before and after.

    Source: Ziegler et al. 2019, section 2.2; released code, policy.py.
    """

    def train(self, mode: bool = True) -> Undropped:
        """Stay in evaluation mode."""
        super().train(False)
        return self


@dataclass(frozen=True)
class Prompts:
    """The prompts of a run."""

    training: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    """Prompts after which rewards are measured in evaluations."""

    @property
    def digest(self) -> str:
        """SHA-256 of all prompts."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    @classmethod
    def divided(cls, prompts: Sequence[str], held_out: int) -> Prompts:
        """Return prompts of which the last ones are held out, at most a fifth of all."""
        number = len(prompts) - min(held_out, len(prompts) // 5)
        return cls(tuple(prompts[:number]), tuple(prompts[number:]))


def policy_recipe(source: LoadedModel) -> Recipe:
    """Return the recipe by which a causal language model becomes a policy, with the published choices.

    Raises:
        UsageError: the model is no causal language model.
    """
    name = policy_of(source.learner, source.recipe.model, source.tokenizer)
    size = Rollouts().batch
    return replace(
        source.recipe,
        objectives=(ClippedPolicy().continued(source.recipe.objectives, name), ClippedValue()),
        optimizer=OPTIMIZER,
        schedule=SCHEDULE,
        stages=(Stage(max_length=source.recipe.stages[0].max_length, batch=size, micro_batch=size),),
    )


def settled(recipe: Recipe, episodes: int, accumulate: int = 1) -> Recipe:
    """Return a policy's recipe for so many responses in all, with passes into which an update is divided.

    Raises:
        UsageError: they do not divide the batch.
    """
    chosen = rollouts_of(recipe)
    parts = chosen.minibatches * accumulate
    if episodes < 1 or accumulate < 1 or chosen.batch % parts:
        raise UsageError(f"objectives.0.rollouts.batch: {chosen.batch} responses are no multiple of {parts}, the "
                         "minibatches of an epoch times the passes of an update; change one of them")  # fmt: skip
    size = chosen.batch // chosen.minibatches
    stage = replace(recipe.stages[0], batch=size, micro_batch=size // accumulate)
    updates = math.ceil(episodes / chosen.batch) * chosen.updates
    return replace(recipe, stages=(stage,), budget=Budget(amount=updates, unit="steps"))


def rollouts_of(recipe: Recipe) -> Rollouts:
    """Return how the policy of a recipe writes responses."""
    return cast("ClippedPolicy", recipe.objectives[0]).rollouts


def prefer(
    source: LoadedModel,
    reward: Reward,
    prompts: Prompts,
    folder: Path,
    recipe: Recipe,
    run: Run,
    *,
    resume: bool = False,
) -> Summary:
    """Train a policy by PPO into a run folder: it learns to write responses with a large reward.

    Args:
        source: the causal language model to start from, which is the reference too.
        reward: gives each response its reward.
        prompts: what responses follow.
        folder: the run folder; `model/` is the policy, a causal language model.
        recipe: of the policy, as `settled` returns it.
        run: device, precision, intervals and other run settings.
        resume: continue the run in the folder, from its newest checkpoint.

    Raises:
        GenusError: rewards are not finite, or checkpoints cannot be used.
        UsageError: a prompt leaves no room for a response; the folder holds a run, or one of other choices, prompts,
            policy or reward; there are several processes.
    """
    _refuse_several()
    where = RunFolder(folder)
    where.check("pretraining")
    feed = RolloutFeed(_policy(source, reward, prompts, recipe, run), prompts.training, recipe.stages[0].micro_batch)
    policy = feed.policy
    text = f"{prompts.digest} {reward.fingerprint} {fingerprint(policy.reference.network.state_dict())}"
    with where.lock():
        where.pin(recipe, resume=resume)
        return train(
            built(source, recipe),
            [TrainStage(feed, feed.accumulate, text=text)],
            recipe.optimizer,
            recipe.schedule,
            recipe.budget,
            run,
            folder,
            choices=recipe,
            seed=recipe.seed,
            title=f"{recipe.name}, preferences",
            evaluate=partial(_measured, feed, prompts.held_out) if prompts.held_out else None,
            publish=partial(_publish, folder / "model", source, policy),
            resume=resume,
        )


def _refuse_several() -> None:
    """Refuse several processes (UsageError)."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("preferences are learned in one process; start it without torchrun")


def _policy(source: LoadedModel, reward: Reward, prompts: Prompts, recipe: Recipe, run: Run) -> Policy:
    """Return what rollouts have in common, with reference and reward on the run's device; prompts are checked."""
    device, chosen = device_of_run(run), rollouts_of(recipe)
    reference = built(source, recipe).eval().requires_grad_(False).to(device)
    engine = Engine(reference, recipe.model, source.tokenizer)
    check_prompts(engine, chosen, [*prompts.training, *prompts.held_out])
    name, value = (one.name for one in recipe.objectives)
    return Policy(
        model=recipe.model,
        tokenizer=source.tokenizer,
        reference=reference,
        name=name,
        value=value,
        reward=reward.to(device),
        rollouts=chosen,
        seed=recipe.seed,
        precision=run.precision,
    )


def built(source: LoadedModel, recipe: Recipe) -> Learner:
    """Return a learner of the policy's recipe with the weights of the source; values start at 0.

    Raises:
        UsageError: the source is an adapter on a base.
    """
    if not all(weight.requires_grad for weight in source.learner.parameters()):
        raise UsageError("the policy is an adapter on a base; merge both first (genus export --merge)")
    with torch.random.fork_rng([]):
        torch.manual_seed(recipe.seed)
        made = recipe.learner()
    made.load_state_dict(source.learner.state_dict(), strict=False)
    return Undropped(made.network, dict(made.heads.items()), made.weights)  # type: ignore[arg-type]


def _measured(feed: RolloutFeed, prompts: Sequence[str], learner: Learner) -> dict[str, float]:
    """Return what the policy's responses to held-out prompts are worth, in the units of training."""
    return feed.policy.measured(learner, prompts, (feed.mean, feed.std))


def _publish(folder: Path, source: LoadedModel, policy: Policy, learner: Learner) -> None:
    """Save the policy as a causal language model, without its values."""
    name, reward = policy.name, policy.reward
    wanted = "" if reward.label is None else f", of which the class `{reward.label}` is wanted"
    notes = (
        f"Trained by reinforcement learning (PPO) from `{source.recipe.name}`, to write responses that "
        f"`{reward.name}` (`{reward.fingerprint[:16]}`) prefers{wanted}."
    )
    (objective,) = (one for one in source.recipe.objectives if one.name == name)
    alone = Learner(learner.network, {name: cast("Head", learner.heads[name])})
    recipe = replace(source.recipe, objectives=(objective,))
    save(folder, recipe, alone, source.tokenizer, notes, generation=source.generation)
