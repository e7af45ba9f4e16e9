"""Rollouts: training data that depend on the weights, as the policy writes them itself.

Legend: M tokens of all responses of a batch, one after another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from genus.examples.keys import ORDER, generator
from genus.generate.engine import Engine
from genus.objectives.reinforcement.ppo import ADVANTAGE, LOG_PROBABILITY, RETURN, VALUE
from genus.preferences.advantages import generalized_advantages, scaled, token_rewards, whitened
from genus.preferences.responses import Responses, drawn, example, judge, packed, scored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from genus.batch import Batch
    from genus.model import Model
    from genus.objectives import Learner
    from genus.objectives.reinforcement.ppo import Rollouts
    from genus.preferences.rewards import Reward
    from genus.tokens.tokenizer import Tokenizer

PROMPTS, ROLLING = 1 << 21, 1 << 22
"""Purposes of keys: the order of prompts, and that of responses within an epoch of a batch."""
EVALUATION, REFERENCE = 1 << 40, 1 << 41
"""First keys of draws for held-out prompts and of the reference: far from those of training."""


@dataclass(frozen=True)
class Policy:
    """What all rollouts of a run have in common."""

    model: Model
    tokenizer: Tokenizer
    reference: Learner
    """The policy as it was, with the same heads; it stays as it is."""
    name: str
    """Name of the head that predicts the next token."""
    value: str
    """Name of the head of values."""
    reward: Reward
    rollouts: Rollouts
    seed: int
    precision: str

    @property
    def pad(self) -> int:
        """The id of padding."""
        return self.tokenizer.vocabulary.pad

    def respond(self, learner: Learner, prompts: Sequence[str], keys: Sequence[int]) -> Responses:
        """Return a response to each prompt, drawn with its key."""
        engine = Engine(learner, self.model, self.tokenizer, seed=self.seed, precision=self.precision, slots=SLOTS)
        return drawn(engine, self.rollouts, prompts, keys)

    def rewards(self, prompts: Sequence[str], responses: Responses) -> NDArray[np.float64]:
        """Return what the reward model says of prompts with their responses."""
        return self.reward([prompt + text for prompt, text in zip(prompts, responses.texts, strict=True)])

    def judged(self, learner: Learner, responses: Responses) -> tuple[NDArray[np.float64], ...]:
        """Return log-probabilities, entropies and values of tokens by a learner, and the reference's log-probabilities.

        All (M,).
        """
        own = judge(learner, self.name, self.value, responses, self.pad, self.precision)
        known = judge(self.reference, self.name, self.value, responses, self.pad, self.precision)
        return own.logs, own.entropy, own.values, known.logs

    def measured(self, learner: Learner, prompts: Sequence[str], scale: tuple[float, float]) -> dict[str, float]:
        """Return reward, divergence and entropy per response for prompts, with the same draws in every call."""
        responses = self.respond(learner, prompts, range(EVALUATION, EVALUATION + len(prompts)))
        raw = self.rewards(prompts, responses)
        own, entropy, _, known = self.judged(learner, responses)
        scores = scored(self.rollouts, (raw - scale[0]) / scale[1], responses.ended)
        return _told(scores, raw, own - known, entropy, responses)


SLOTS = 64
"""Responses that are decoded together."""


class RolloutFeed:
    """Batches of the policy's own responses: each is drawn with the weights of its first update, and learned from.

    Batch k has the responses of updates [k U, (k + 1) U), with U = epochs x minibatches of `Rollouts`. A checkpoint
    holds what was made, so that a run that is resumed within a batch goes on with the same responses.

    Source: Ziegler et al. 2019, released code, train_policy.py: PPOTrainer. Deviations: rewards per token and
    advantages are whitened over the batch and not over each minibatch, which are the same by default, the former
    without their mean (`advantages.scaled`); responses may end before their last token.
    """

    def __init__(self, policy: Policy, prompts: Sequence[str], micro_batch: int) -> None:
        """Take the prompts, which are used in an order of their own in every pass, and responses per forward pass."""
        self.policy, self.prompts, self.micro_batch = policy, prompts, micro_batch
        self.number, self.beta = -1, policy.rollouts.penalty.beta
        self.mean, self.std, self.divergence = 0.0, 1.0, 0.0
        self.responses = Responses([], [], [], [])
        self.known: NDArray[np.float32] = np.zeros((0, 4), np.float32)

    @property
    def accumulate(self) -> int:
        """Forward passes of an update."""
        chosen = self.policy.rollouts
        return chosen.batch // chosen.minibatches // self.micro_batch

    def __getitem__(self, number: int) -> Batch:
        """Return micro-batch `number`, one of those of the batch that was prepared last."""
        chosen = self.policy.rollouts
        update, place = divmod(number, self.accumulate)
        batch, within = divmod(update, chosen.updates)
        assert batch == self.number, f"update {update} is of batch {batch}, and batch {self.number} is prepared"
        epoch, part = divmod(within, chosen.minibatches)
        first = part * (chosen.batch // chosen.minibatches) + place * self.micro_batch
        order = generator(self.policy.seed, ROLLING, batch, epoch).permutation(chosen.batch)
        ends = np.cumsum([0, *self.responses.lengths])
        examples = [
            example(
                self.responses.prompts[i], self.responses.ids[i], self.policy.name, self.known[ends[i] : ends[i + 1]]
            )
            for i in order[first : first + self.micro_batch].tolist()
        ]
        return packed(examples, self.policy.pad)

    def epoch(self, number: int) -> float:
        """Return how often every prompt was used, with fraction, before a micro-batch."""
        chosen = self.policy.rollouts
        return number / (self.accumulate * chosen.updates) * chosen.batch / len(self.prompts)

    def prepare(self, step: int, learner: Learner) -> dict[str, float]:
        """Make the batch of an update with the weights as they are, unless it is made; return what it is like."""
        number = step // self.policy.rollouts.updates
        if number == self.number:
            return {}
        if self.number < 0:
            self._normalize()
        if self.number >= 0:
            self.beta = self.policy.rollouts.penalty.after(self.beta, self.divergence)
        self.number = number
        return self._make(learner)

    def tensors(self) -> dict[str, Tensor]:
        """Return what was made, for a checkpoint; nothing before the first batch."""
        if self.number < 0:
            return {}
        whole = [*zip(self.responses.prompts, self.responses.ids, strict=True)]
        state = [self.number, self.beta, self.divergence, self.mean, self.std]
        return {
            "ids": torch.tensor([one for before, ids in whole for one in (*before, *ids)], dtype=torch.int64),
            "lengths": torch.tensor([[len(before), len(ids)] for before, ids in whole], dtype=torch.int64),
            "known": torch.from_numpy(self.known),
            "state": torch.tensor(state, dtype=torch.float64),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take what `tensors` returned; texts are no longer needed."""
        if not tensors:
            return
        number, self.beta, self.divergence, self.mean, self.std = tensors["state"].tolist()
        self.number, self.known = int(number), tensors["known"].numpy()
        ids, at = tensors["ids"].tolist(), 0
        prompts, responses = [], []
        for before, length in tensors["lengths"].tolist():
            prompts.append(ids[at : at + before])
            responses.append(ids[at + before : at + before + length])
            at += before + length
        self.responses = Responses(prompts, responses, [""] * len(prompts), [True] * len(prompts))

    def _normalize(self) -> None:
        """Measure the rewards of the reference's own responses, by which all are given mean 0 and variance 1."""
        size = self.policy.rollouts.normalize
        if not size:
            return
        prompts = [self.prompts[number % len(self.prompts)] for number in range(size)]
        responses = self.policy.respond(self.policy.reference, prompts, range(REFERENCE, REFERENCE + size))
        found = self.policy.rewards(prompts, responses)
        self.mean, self.std = float(found.mean()), float(found.std()) or 1.0

    def _make(self, learner: Learner) -> dict[str, float]:
        """Draw the batch, and compute what is known of its tokens."""
        chosen = self.policy.rollouts
        keys = range(self.number * chosen.batch, (self.number + 1) * chosen.batch)
        prompts = [self.prompts[_place(self.policy.seed, key, len(self.prompts))] for key in keys]
        self.responses = responses = self.policy.respond(learner, prompts, keys)
        raw = self.policy.rewards(prompts, responses)
        scores = scored(chosen, (raw - self.mean) / self.std, responses.ended)
        own, entropy, values, reference = self.policy.judged(learner, responses)
        rewards = token_rewards(scores, own, reference, self.beta, responses.lengths)
        if chosen.whiten:
            rewards = scaled(rewards)
        advantages = generalized_advantages(rewards, values, responses.lengths, chosen.discount, chosen.trace)
        self.known = np.zeros((len(own), 4), np.float32)
        self.known[:, LOG_PROBABILITY], self.known[:, VALUE] = own, values
        self.known[:, ADVANTAGE], self.known[:, RETURN] = whitened(advantages), advantages + values
        told = _told(scores, raw, own - reference, entropy, responses)
        self.divergence = told["kl"]
        return told | {"beta": self.beta, "episodes": float((self.number + 1) * chosen.batch)}


def _told(
    scores: NDArray[np.float64],
    raw: NDArray[np.float64],
    divergence: NDArray[np.float64],
    entropy: NDArray[np.float64],
    responses: Responses,
) -> dict[str, float]:
    """Return the means per response: the reward that is learned from, what the model said, KL and entropy in nats."""
    number = len(responses)
    return {
        "reward": float(scores.mean()),
        "raw_reward": float(raw.mean()),
        "kl": float(divergence.sum() / number),
        "entropy": float(entropy.sum() / number),
        "tokens": float(np.mean(responses.lengths)),
        "ended": float(np.mean(responses.ended)),
    }


def _place(seed: int, key: int, size: int) -> int:
    """Return the number of the prompt of a response: each pass over the prompts has an order of its own."""
    epoch, within = divmod(key, size)
    return int(_order(seed, epoch, size)[within])


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, size: int) -> NDArray[np.int64]:
    """Return the order of the prompts in a pass."""
    return generator(seed, PROMPTS, epoch, ORDER).permutation(size)
