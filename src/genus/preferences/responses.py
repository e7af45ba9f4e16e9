"""Responses: what a policy writes after prompts, the log-probabilities of it by policy and reference, and its rewards.

Legend: M tokens of all responses, one after another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from genus.errors import GenusError, UsageError
from genus.examples import Example, Sequence
from genus.examples.feed.bins import bin_pack
from genus.examples.feed.pack import pack
from genus.generate import Request
from genus.generate.sampling import Sampling
from genus.objectives import answering, device_of
from genus.objectives.reinforcement.ppo import ROLLOUT
from genus.train.precision import autocast

if TYPE_CHECKING:
    from collections.abc import Sequence as Several

    from numpy.typing import NDArray

    from genus.batch import Batch
    from genus.generate import Result
    from genus.generate.engine import Engine
    from genus.model import Model
    from genus.objectives import Learner
    from genus.objectives.reinforcement.ppo import PolicyHead, Rollouts, ValueHead
    from genus.tokens.tokenizer import Tokenizer

TOKENS_AT_ONCE = 4096
"""Token positions of a forward pass that judges responses."""


@dataclass(frozen=True)
class Responses:
    """Responses to prompts, as token ids."""

    prompts: list[list[int]]
    """The ids that stand before each response."""
    ids: list[list[int]]
    """Those of each response, with the token that ends it."""
    texts: list[str]
    """The responses, with the stop string at which they end."""
    ended: list[bool]
    """Whether each ends by a stop string or an end token, and not by its number of tokens."""

    def __len__(self) -> int:
        """Return the number of responses."""
        return len(self.ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each response."""
        return [len(one) for one in self.ids]


def requests(rollouts: Rollouts, prompts: Several[str], keys: Several[int], samples: int = 1) -> list[Request]:
    """Return the requests for responses to prompts, drawn by the keys."""
    stop = (rollouts.stop,) if rollouts.stop else ()
    return [Request(one, rollouts.tokens, samples, stop, key=key) for one, key in zip(prompts, keys, strict=True)]


def check_prompts(engine: Engine, rollouts: Rollouts, prompts: Several[str]) -> None:
    """Check that each prompt leaves room for a response.

    Raises:
        UsageError: a prompt does not, or is empty where nothing can begin a text.
    """
    asked = requests(rollouts, prompts, range(len(prompts)))
    for number, (prompt, request) in enumerate(zip(prompts, asked, strict=True), 1):
        ids, most = engine.prompts.ids(request, f"prompt {number}")
        if most < rollouts.tokens:
            raise UsageError(
                f"prompt {number} ({prompt[:40]!r}...) has {len(ids)} tokens, and leaves {most} of the model's "
                f"{engine.prompts.max_length} positions to a response of {rollouts.tokens}; shorten it, or take fewer "
                "--tokens"
            )


def drawn(engine: Engine, rollouts: Rollouts, prompts: Several[str], keys: Several[int]) -> Responses:
    """Return a response to each prompt, drawn with its key, whatever others are drawn with it."""
    asked = requests(rollouts, prompts, keys)
    results = [found for (found,) in engine.generate(asked, Sampling(temperature=rollouts.temperature))]
    before = [engine.prompts.ids(request)[0] for request in asked]
    return Responses(
        before,
        [list(found.ids) for found in results],
        [told(found, rollouts.stop) for found in results],
        [found.reason != "length" for found in results],
    )


def told(found: Result, stop: str) -> str:
    """Return the text of a response, with the stop string at which it ends."""
    return found.text + stop if found.reason == "stop" else found.text


def scored(rollouts: Rollouts, rewards: NDArray[np.float64], ended: Several[bool]) -> NDArray[np.float64]:
    """Return rewards, in which those of responses that do not end are `Rollouts.unended`, if that is given."""
    return rewards if rollouts.unended is None else np.where(ended, rewards, rollouts.unended)


@dataclass(frozen=True)
class Judged:
    """What a policy says of each token of responses; all (M,) in nats, values in units of rewards."""

    logs: NDArray[np.float64]
    entropy: NDArray[np.float64]
    values: NDArray[np.float64]


def judge(learner: Learner, policy: str, value: str, responses: Responses, pad: int, precision: str) -> Judged:
    """Return log-probabilities, entropies and values of the tokens of responses, without dropout.

    Args:
        learner: the policy, or the reference.
        policy: name of its head that predicts the next token.
        value: name of its head of values.
        responses: the responses.
        pad: id of padding.
        precision: dtype of the forward pass, as in `Run.precision`.
    """
    empty = np.zeros((0, 4), np.float32)
    examples = [example(*one, policy, empty) for one in zip(responses.prompts, responses.ids, strict=True)]
    sizes = [len(before) + len(ids) for before, ids in zip(responses.prompts, responses.ids, strict=True)]
    found: list[NDArray[np.float64]] = [np.zeros((0, 3))] * len(examples)
    head, values, device = learner.heads[policy], learner.heads[value], device_of(learner)
    with answering(learner), autocast(precision, device):
        for chosen in _groups(sizes):
            batch = laid([examples[i] for i in chosen], pad).to(device)
            states = learner.network(batch)
            logs_M, entropy_M = cast("PolicyHead", head).judged(states, batch)
            values_M = cast("ValueHead", values).told(states, batch.targets[policy])
            columns = torch.stack([logs_M, entropy_M, values_M], 1).double().cpu().numpy()
            ends = np.cumsum([0, *(len(responses.ids[i]) for i in chosen)])
            for place, number in enumerate(chosen):
                found[number] = columns[ends[place] : ends[place + 1]]
    whole = np.concatenate(found)
    return Judged(whole[:, 0], whole[:, 1], whole[:, 2])


def _groups(sizes: Several[int]) -> list[list[int]]:
    """Return responses by number, neighbors together up to `TOKENS_AT_ONCE` token positions, one at least."""
    groups: list[list[int]] = [[]]
    for number in range(len(sizes)):
        longest = max(sizes[i] for i in [*groups[-1], number])
        if groups[-1] and longest * (len(groups[-1]) + 1) > TOKENS_AT_ONCE:
            groups.append([])
        groups[-1].append(number)
    return groups


def example(prompt: Several[int], ids: Several[int], policy: str, known_M4: NDArray[np.float32]) -> Example:
    """Return a response as an example: each of its tokens is a target at the token before it.

    Args:
        prompt: ids before the response.
        ids: those of the response.
        policy: name of the targets of the head that predicts the next token.
        known_M4: what is known of each token (`ppo.ROLLOUT`); none: nothing is.

    Raises:
        GenusError: nothing stands before the response, by which its first token could be predicted.
    """
    if not len(prompt):
        raise GenusError("a response has nothing before it; give prompts with a word")
    whole = np.array([*prompt, *ids], np.int64)
    index = np.arange(len(prompt) - 1, len(whole) - 1)
    targets: dict[str, tuple[NDArray[np.int64], NDArray[np.int64] | NDArray[np.float32]]]
    targets = {policy: (index, whole[len(prompt) :])}
    if len(known_M4):
        targets[ROLLOUT] = (index, known_M4)
    return Example({"tokens": Sequence(whole, np.zeros_like(whole), whole < 0)}, targets)


def laid(examples: Several[Example], pad: int) -> Batch:
    """Return examples as a batch, in rows as long as the longest of them; targets stay in their order."""
    sizes = np.array([len(one.tokens.ids) for one in examples])
    return pack([[one] for one in examples], int(sizes.max()), pad, streams=False)


def packed(examples: Several[Example], pad: int) -> Batch:
    """Return examples as a batch of as few rows as hold them; targets of a name stay beside those of others."""
    sizes = np.array([len(one.tokens.ids) for one in examples])
    longest = int(sizes.max())
    rows = bin_pack({"tokens": sizes}, {"tokens": longest})
    return pack([[examples[i] for i in row.tolist()] for row in rows], longest, pad, streams=False)


def policy_of(learner: Learner, model: Model, tokenizer: Tokenizer) -> str:
    """Return the name of the head by which a causal model predicts the next token.

    Raises:
        UsageError: the model has none, or reads a source.
    """
    found = learner.predicting("following")
    if found is None or found[0] is not learner or "source" in model.streams or not model.causal:
        raise UsageError("the policy is no causal language model, which writes responses token by token; take a "
                         "decoder that was pretrained with CausalLM, such as gpt2 or llama")  # fmt: skip
    return found[1]
