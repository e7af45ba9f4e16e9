"""Knowledge distillation of a task: the student also learns from the answers of a model that was fine-tuned for it.

Legend: M targets, V outputs of the task's head, K compared hidden states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import nn

from genus.errors import GenusError
from genus.model.cost import ComponentCost
from genus.objectives import Head, Objective, Sums
from genus.objectives.pretraining.distillation import DistillationHead
from genus.objectives.supervised import FineTuned  # a choice is read by its annotation
from genus.part import Count, NotNegative, Part, Positive

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor

    from genus.batch import Batch
    from genus.examples import Example
    from genus.model import Model, Network, States
    from genus.model.cost import ExampleLengths
    from genus.tokens.vocabulary import Vocabulary

TAUGHT = "taught"
"""Name of the objective, its head and its targets, whose labels are the teacher's outputs."""


class Teaching(Part):
    """How a student learns from its teacher: the weights of the losses, and the temperature."""

    temperature: Positive = 2.0
    """τ of both softmaxes (DistilBERT's released code, run_squad_w_distillation.py: --temperature; TinyBERT: 1)."""
    soft: NotNegative = 0.5
    """a, the weight of the loss against the teacher's outputs (the same: --alpha_ce)."""
    hard: NotNegative = 0.5
    """b, the weight of the task's own loss, against the labels (the same: --alpha_squad); 0: labels are not learned."""
    hidden: NotNegative = 0.0
    """c, the weight of the loss against the teacher's hidden states (TinyBERT: 1); 0: it is left out."""


class Taught(Objective):
    """Distillation of a task: it stands beside the task's objective, and computes the losses against the teacher.

        L = a D(teacher's outputs, student's outputs) + b (the task's loss) + c Σ_k mean((W h_k - h'_k)²)

    D is τ² KL(softmax(t / τ) || softmax(s / τ)) for logits t and s (Hinton et al. 2015, section 2), the squared error
    for values; see `FineTuned.soft_loss`. h_k are the embeddings and the outputs of the S layers of the student, h'_k
    those of the teacher's L layers: after k L / S of them, rounded down. W is one linear map for all k, and is left out
    where the widths are equal (Jiao et al. 2019, equations 8 and 9; released code, task_distill.py and `fit_dense`).

    Each term is a mean over what it compares: targets, labeled targets, tokens. Deviation: TinyBERT learns from hidden
    states first and from outputs afterwards, in two trainings, and compares attention scores too.
    """

    gives_facts: ClassVar[frozenset[str]] = FineTuned.gives_facts

    task: FineTuned
    """The student's objective, from whose head the outputs come."""
    teaching: Teaching = Teaching()
    teacher: str = ""
    """SHA-256 of the teacher."""
    width: Count | None = None
    """Size of the teacher's hidden states; None: they are not compared."""

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of its losses: `taught`, and `taught_hidden` where hidden states are compared."""
        return (TAUGHT, f"{TAUGHT}_hidden") if self.teaching.hidden else (TAUGHT,)

    @property
    def adds(self) -> frozenset[str]:
        """The streams that the task adds."""
        return self.task.adds

    def weights(self) -> dict[str, float]:
        """Return a, b and c by the names of the losses."""
        own = dict(zip(self.losses, (self.teaching.soft, self.teaching.hidden), strict=False))
        return own | dict.fromkeys(self.task.losses, self.teaching.hard)

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example unchanged: who makes the batches knows the teacher's outputs."""
        return example

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return as many targets as the task has."""
        return {TAUGHT: self.task.max_targets(tokens, sequences)[self.task.target]}

    def build(self, model: Model, vocab_size: int) -> TaughtHead:
        """Build the head, without a teacher yet."""
        return TaughtHead(self, model)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return nothing: outputs are computed once a row before training, and what is compared is small."""
        return ComponentCost()


class TaughtHead(DistillationHead):
    """Head of `Taught`: it asks the task's head for the student's outputs, and has no outputs of its own."""

    target = TAUGHT

    def __init__(self, choice: Taught, model: Model) -> None:
        super().__init__()
        self.choice, self.per = choice, "sequence" if choice.task.pooled else "token"
        self._heads: tuple[Head, ...] = ()
        other = choice.width is not None and choice.width != model.width
        self.fit = nn.Linear(model.width, cast("int", choice.width)) if other else None
        model.initialize(self)

    @property
    def reads_layers(self) -> bool:  # type: ignore[override]
        """Whether hidden states are compared."""
        return self.choice.teaching.hidden > 0

    def listen(self, head: Head) -> None:
        """Take the outputs of this head, which is no submodule: it has a place of its own in the learner."""
        self._heads = (head,)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of targets that the teacher answered, and of tokens where hidden states are compared."""
        tokens = (batch.tokens.sequence >= 0).sum()
        return dict(zip(self.choice.losses, (batch.targets[TAUGHT].count(), tokens), strict=False))

    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return the outputs of the task's head at the targets."""
        targets = {self.choice.task.target: batch.targets[TAUGHT]}
        return self._heads[0].outputs(network, states, type(batch)(batch.streams, targets, batch.heads, batch.memory))

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return the losses, summed over targets and tokens."""
        targets, teaching = batch.targets[TAUGHT], self.choice.teaching
        (own_MV,) = self.outputs(network, states, batch).values()
        taught_MV = targets.label.nan_to_num()
        each_M = self.choice.task.soft_loss(own_MV.float(), taught_MV, teaching.temperature)
        sums = {TAUGHT: targets.total(each_M)}
        if teaching.hidden:
            sums[f"{TAUGHT}_hidden"] = self._hidden(states, batch)
        return sums

    def _hidden(self, states: States, batch: Batch) -> Tensor:
        """Return the squared errors of the hidden states, summed over tokens and states, as means over the width."""
        with torch.no_grad():
            theirs = self.teacher.network(batch, layers=True).layers
        if states.layers is None or theirs is None:
            raise GenusError(
                "--teacher-set hidden: student or teacher keeps no hidden states of its layers; leave it 0"
            )
        live_T = batch.tokens.sequence >= 0
        total = torch.zeros((), device=live_T.device)
        for own_TH, taught_TH in zip(states.layers, chosen(theirs, len(states.layers)), strict=True):
            fitted_TH = own_TH if self.fit is None else self.fit(own_TH)
            total = total + (fitted_TH.float() - taught_TH.float()).square().mean(-1)[live_T].sum()
        return total


def chosen(taught: Sequence[Tensor], count: int) -> list[Tensor]:
    """Return as many of the teacher's states, embeddings first: of layer k L / (K - 1), rounded down, for k < K."""
    layers, own = len(taught) - 1, max(1, count - 1)
    return [taught[number * layers // own] for number in range(count)]
