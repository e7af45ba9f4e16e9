"""Rated responses: several of a policy to each prompt, with their rewards, of which the largest is the best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genus.generate.engine import Engine
from genus.generate.sampling import Sampling
from genus.preferences.responses import check_prompts, policy_of, requests, told

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from genus.export.folder import LoadedModel
    from genus.objectives.reinforcement.ppo import Rollouts
    from genus.preferences.rewards import Reward

AT_ONCE = 32
"""Prompts whose responses are drawn together."""


def rated(
    source: LoadedModel,
    reward: Reward | None,
    prompts: Sequence[str],
    rollouts: Rollouts,
    samples: int,
    *,
    seed: int = 0,
    precision: str = "float32",
) -> Iterator[dict[str, Any]]:
    """Yield a row for each prompt: `prompt`, `responses`; with a reward `rewards`, and `best`, the best one's number.

    With the responses of people's choice in place of `best`, or with a rule for it, rows are what a reward model learns
    from (`Preference`). The best of n responses by a reward model is also the baseline of all that is learned from it.

    Source: Ziegler et al. 2019, section 2.1, four responses to a prompt; Stiennon et al. 2020, best of n.

    Args:
        source: the policy, a causal language model on its device.
        reward: rates responses; None: people will.
        prompts: what responses follow.
        rollouts: how responses are written; their number, penalty and training are not read.
        samples: responses to each prompt.
        seed: of all draws.
        precision: dtype of the forward pass, as in `Run.precision`.

    Raises:
        GenusError: a reward is not finite.
        UsageError: the policy is no causal language model, or a prompt leaves no room for a response.
    """
    policy_of(source.learner, source.recipe.model, source.tokenizer)
    engine = Engine(source.learner, source.recipe.model, source.tokenizer, seed=seed, precision=precision, slots=64)
    check_prompts(engine, rollouts, prompts)
    decoding = Sampling(temperature=rollouts.temperature)
    for first in range(0, len(prompts), AT_ONCE):
        some = prompts[first : first + AT_ONCE]
        asked = requests(rollouts, some, range(first, first + len(some)), samples)
        texts = [[told(one, rollouts.stop) for one in found] for found in engine.generate(asked, decoding)]
        rows: list[dict[str, Any]]
        rows = [{"prompt": prompt, "responses": own} for prompt, own in zip(some, texts, strict=True)]
        if reward is not None:
            found = reward([prompt + text for prompt, own in zip(some, texts, strict=True) for text in own])
            for row, own in zip(rows, found.reshape(len(some), samples), strict=True):
                row |= {"rewards": own.tolist(), "best": int(own.argmax())}
        yield from rows
