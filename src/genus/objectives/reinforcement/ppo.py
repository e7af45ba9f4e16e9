"""Proximal policy optimization (PPO) of a causal language model: the clipped surrogate and the clipped value loss.

Legend: M target tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor, nn

from genus.model.cost import ComponentCost, linear_cost
from genus.model.head.chunked_loss import in_chunks
from genus.objectives import Head, Objective, Sums
from genus.objectives.pretraining.causal_lm import CausalLM, CausalLMHead
from genus.objectives.reinforcement.penalty import AdaptiveKL, KLPenalty
from genus.part import Count, Fraction, Natural, NotNegative, Part, Positive, Share

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from genus.batch import Batch, Targets
    from genus.examples import Example
    from genus.model import Model, Network, States
    from genus.model.cost import ExampleLengths
    from genus.tokens.vocabulary import Vocabulary

ROLLOUT = "rollout"
"""Name of the targets with what is known of each token since it was drawn: float32 columns, as follows."""
LOG_PROBABILITY, ADVANTAGE, VALUE, RETURN = range(4)


class Rollouts(Part):
    """How a policy writes the responses that it learns from, and what they are worth.

    "Released code" is openai/lm-human-preferences: launch.py (the sentiment task), train_policy.py, lm_tasks.py.
    """

    batch: Count = 64
    """Responses that are drawn with the same weights, a prompt each (released code, PpoHParams.batch_size; 512)."""
    tokens: Count = 24
    """Most tokens of a response (released code, books_task: response_length)."""
    temperature: Positive = 0.7
    """Of the policy and of the reference, in sampling as in their log-probabilities (released code, books_task)."""
    stop: str = ""
    """A string that ends a response; empty: only its number of tokens and the end token do."""
    unended: float | None = None
    """The reward of a response that neither stops nor ends, whatever is said of it (released code,
    TaskHParams.penalty_reward_value: -1); None: it may end anywhere."""
    penalty: KLPenalty = AdaptiveKL()
    normalize: Natural = 256
    """Responses of the reference by which rewards are given mean 0 and variance 1 before training (released code,
    normalize_samples; the paper, section 2.2); 0: rewards stay as they are."""
    discount: Share = 1.0
    """gamma of generalized advantage estimation (released code, PpoHParams.gamma)."""
    trace: Share = 0.95
    """lambda of generalized advantage estimation (released code, PpoHParams.lam)."""
    whiten: bool = True
    """Whether rewards per token are divided by their standard deviation (released code, PpoHParams.whiten_rewards)."""
    epochs: Count = 4
    """How often each batch is learned from (released code, PpoHParams.noptepochs)."""
    minibatches: Count = 1
    """Updates into which an epoch is divided (released code, PpoHParams.nminibatches)."""

    @property
    def updates(self) -> int:
        """Updates that are made from a batch."""
        return self.epochs * self.minibatches


class ClippedPolicy(Objective):
    """Policy loss of PPO: -min(r A, clip(r, 1 - c, 1 + c) A) with r = pi(token) / pi_old(token), and A its advantage.

    The head is the language model's own, with its weights. Published, the model is a language model as before.

    Source: Schulman et al. 2017, equation 7; Ziegler et al. 2019, released code, train_policy.py: PPOTrainer.loss.
    """

    causal: ClassVar[bool | None] = True

    language_model: CausalLM = CausalLM()
    rollouts: Rollouts = Rollouts()
    clip: Fraction = 0.2
    """c (released code, PpoHParams.cliprange)."""

    @property
    def name(self) -> str:
        """Name of the head: that of the language model."""
        return self.language_model.name

    @property
    def losses(self) -> tuple[str, ...]:
        """Name of the loss."""
        return ("policy",)

    @property
    def exported(self) -> Objective:
        """The language model."""
        return self.language_model

    def continued(self, objectives: Sequence[Objective], name: str) -> Self:
        """Return the objective with the output layer of a language model, which is the objective of that name."""
        (found,) = (one for one in objectives if isinstance(one, CausalLM) and one.name == name)
        return replace(self, language_model=found)

    def check(self, model: Model) -> None:
        """Check that the model is causal (ValueError)."""
        self.language_model.check(model)

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example, which has its targets: it is a response that was drawn."""
        return example

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return one target per token."""
        return {self.target: tokens}

    def build(self, model: Model, vocab_size: int) -> PolicyHead:
        """Build the output layer as a head."""
        return PolicyHead(self, model, vocab_size)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost of the output layer at every token."""
        return self.language_model.cost(model, vocab_size, lengths)


class ClippedValue(Objective):
    """Value loss of PPO: 1/2 max((v - R)², (clip(v, v_old - c, v_old + c) - R)²) for the return R of each token.

    v = w · h + b at the state from which the token is drawn; w and b start at 0 (released code, language/model.py).

    Source: Ziegler et al. 2019, released code, train_policy.py: PPOTrainer.loss.
    """

    causal: ClassVar[bool | None] = True

    clip: NotNegative = 0.2
    """c (released code, PpoHParams.cliprange_value)."""
    weight: NotNegative = 0.1
    """Of the loss beside that of the policy (released code, PpoHParams.vf_coef)."""

    @property
    def name(self) -> str:
        """Name of the head."""
        return "value"

    @property
    def target(self) -> str:
        """Name of the targets."""
        return ROLLOUT

    def weights(self) -> dict[str, float]:
        """Return the weight of the loss."""
        return {self.name: self.weight}

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example, which has its targets: it is a response that was drawn."""
        return example

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return one target per token."""
        return {self.target: tokens}

    def build(self, model: Model, vocab_size: int) -> ValueHead:
        """Build the linear layer."""
        return ValueHead(self, model)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost of the linear layer at every token."""
        return linear_cost(model.width, 1)


class PolicyHead(CausalLMHead):
    """The output layer of a policy, and the clipped surrogate of its tokens."""

    def __init__(self, choice: ClippedPolicy, model: Model, vocab_size: int) -> None:
        super().__init__(choice.language_model, model, vocab_size)
        (self.loss,), self.clip, self.temperature = choice.losses, choice.clip, choice.rollouts.temperature
        self.vocab_size = vocab_size

    def judged(self, states: States, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return log pi(token) (M,) at the targets, and the entropy (M,) of what it was drawn from, both in nats."""
        label_M = batch.targets[self.target].label.clamp(min=0)
        logs_M, entropy_M = in_chunks(self._judged, 3 * self.vocab_size, self.predicting(states, batch), label_M)
        return logs_M, entropy_M

    def _judged(self, states_MH: Tensor, label_M: Tensor) -> tuple[Tensor, Tensor]:
        logs_MV = (self.lm_head(states_MH).float() / self.temperature).log_softmax(-1)
        with torch.no_grad():
            entropy_M = -(logs_MV.exp() * logs_MV).sum(-1)
        return logs_MV.gather(1, label_M[:, None])[:, 0], entropy_M

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return the loss, the share of tokens whose ratio is clipped, their entropy and an estimate of KL, summed."""
        targets, known_M4 = batch.targets[self.target], batch.targets[ROLLOUT].label
        logs_M, entropy_M = self.judged(states, batch)
        old_M = known_M4[:, LOG_PROBABILITY]
        loss_M, clipped_M = clipped_surrogate(logs_M, old_M, known_M4[:, ADVANTAGE], self.clip)
        sums = {self.loss: targets.total(loss_M), f"{self.loss}/clipped": targets.total(clipped_M.float())}
        moved_M = (logs_M.detach() - old_M) ** 2 / 2
        return sums | {f"{self.loss}/entropy": targets.total(entropy_M), f"{self.loss}/moved": targets.total(moved_M)}


class ValueHead(Head):
    """A linear layer that predicts the return of each token from the state that it is drawn from."""

    def __init__(self, choice: ClippedValue, model: Model) -> None:
        super().__init__()
        self.target, (self.loss,), self.clip = choice.target, choice.losses, choice.clip
        self.linear = nn.Linear(model.width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of tokens."""
        return {self.loss: batch.targets[self.target].count()}

    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return `values` (M,)."""
        return {"values": self.told(states, batch.targets[self.target])}

    def told(self, states: States, targets: Targets) -> Tensor:
        """Return the values (M,) at targets, in float32."""
        found: Tensor = self.linear(states[targets.stream][targets.index])[:, 0].float()
        return found

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return the loss, and the share of tokens whose value is clipped, summed."""
        targets = batch.targets[self.target]
        value_M = self.told(states, targets)
        loss_M, clipped_M = clipped_value(value_M, targets.label[:, VALUE], targets.label[:, RETURN], self.clip)
        return {self.loss: targets.total(loss_M), f"{self.loss}/clipped": targets.total(clipped_M.float())}


def clipped_surrogate(logs_M: Tensor, old_M: Tensor, advantage_M: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """Return the policy losses (M,), and whether the clipped ratio is the one that counts (see `ClippedPolicy`)."""
    ratio_M = (logs_M - old_M).exp()
    plain_M, bounded_M = -advantage_M * ratio_M, -advantage_M * ratio_M.clamp(1 - clip, 1 + clip)
    return torch.maximum(plain_M, bounded_M), bounded_M.detach() > plain_M.detach()


def clipped_value(value_M: Tensor, old_M: Tensor, return_M: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """Return the value losses (M,), and whether the clipped value is the one that counts (see `ClippedValue`)."""
    bounded_M = torch.minimum(torch.maximum(value_M, old_M - clip), old_M + clip)
    plain_M, bounded_M = (value_M - return_M) ** 2, (bounded_M - return_M) ** 2
    return torch.maximum(plain_M, bounded_M) / 2, bounded_M.detach() > plain_M.detach()
