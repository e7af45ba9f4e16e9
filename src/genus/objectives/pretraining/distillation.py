"""Knowledge distillation: a masked language model that learns from a teacher too.

Legend: K compared tokens, M targets, H hidden size, V vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from genus.batch import IGNORE
from genus.errors import UsageError
from genus.examples import Example
from genus.model import Model
from genus.model.cost import ComponentCost
from genus.model.head import Output
from genus.model.head.chunked_loss import in_chunks
from genus.model.head.lm_head import LMHead, Transform
from genus.objectives import Head, Learner, Objective, Sums
from genus.objectives.pretraining.masked_lm import MaskedLM, MaskedLMHead
from genus.part import NotNegative, Part, Positive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from genus.batch import Batch, Targets
    from genus.model import Network, States
    from genus.model.cost import ExampleLengths
    from genus.model.head import OutputLayer
    from genus.tokens.vocabulary import Vocabulary


TAUGHT = "taught"
"""The name of the targets at which a student is compared with its teacher."""


class Distillation(Objective):
    """What is learned from a teacher, who is read from a model folder when a run begins."""

    @abstractmethod
    def with_teacher(self, model: Model, objectives: Sequence[Objective]) -> Self:
        """Return the objective under a teacher of this architecture, trained for these objectives.

        Raises:
            UsageError: such a one cannot teach it.
        """


class DistillationHead(Head):
    """A head with a teacher.

    The teacher is no submodule: nobody trains, counts or saves it. It goes where the head goes, draws no dropout, and
    has no gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        self._teachers: tuple[Learner, ...] = ()

    @property
    def teacher(self) -> Learner:
        """The network and heads of the trained model."""
        return self._teachers[0]

    def set_teacher(self, teacher: Learner) -> None:
        """Take a trained model as the teacher, in place of any other."""
        self._teachers = (teacher.eval().requires_grad_(False),)

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Self:
        """Move the teacher too, to a device or another type."""
        for teacher in self._teachers:
            teacher._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]


class Teacher(Part):
    """The architecture of a trained masked language model."""

    model: Model
    output: Output = LMHead(transform=Transform())
    """Of its head."""

    def learner(self, vocab_size: int) -> Learner:
        """Build it, with fresh weights."""
        head = MaskedLM(output=self.output)
        return Learner(self.model.build(vocab_size), {head.name: head.build(self.model, vocab_size)})


class DistilledMaskedLM(MaskedLM, Distillation):
    """The masked language model, and two losses by which a teacher who sees the same corrupted sequence helps.

        L = a τ² KL(softmax(t / τ) || softmax(s / τ)) + b (-log softmax(s)[token]) + c (1 - cos(h, h'))

    with s, t the logits and h, h' the last hidden states of student and teacher, and a, b, c the weights `distilled`,
    `masked` and `hidden_cosine`. Each is a mean: over the tokens of `compared`, the masked ones, and all. Numbers are
    those of the released code (huggingface/transformers, research_projects/distillation: README.md, train.py,
    distiller.py), which chooses rare tokens more often than frequent ones: the masking `RareMasking`.

    What is left after training is a masked language model, whose head goes by its name.
    """

    teacher: Teacher | None = None
    """Its architecture, which the teacher that is given to a run replaces."""
    compared: Literal["all", "masked"] = "all"
    """Tokens at which distributions are compared: all as in the released command, or the masked ones as with its
    --restrict_ce_to_mask, for a seventh of the cost."""
    temperature: Positive = 2.0
    """τ."""
    distilled: NotNegative = 5.0
    """Weight of the loss of this name."""
    masked: NotNegative = 2.0
    """Weight of the loss of this name."""
    hidden_cosine: NotNegative = 1.0
    """Weight of the loss of this name; 0 leaves it out, for a teacher of another width."""

    @property
    def losses(self) -> tuple[str, ...]:
        """Its own, the masked language model's first; without that of hidden states where it counts nothing."""
        return (self.target, *(name for name in self.weights() if name != self.target and self._counts(name)))

    @property
    def token_losses(self) -> frozenset[str]:
        """That of the masked language model."""
        return frozenset({self.target})

    @property
    def exported(self) -> Objective:
        """The masked language model."""
        return MaskedLM(masking=self.masking, output=self.output)

    def with_teacher(self, model: Model, objectives: Sequence[Objective]) -> Self:
        """Return the objective under a masked language model."""
        for objective in objectives:
            if isinstance(objective, MaskedLM):
                return replace(self, teacher=Teacher(model=model, output=objective.output))
        raise UsageError("the teacher has no masked-language-model head; take a pretrained model, not a fine-tuned one")

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Do as the masked language model does, and make every token a target of the comparison too."""
        length = len(example.tokens.ids)
        corrupted = super().prepare_example(example, vocabulary, rng)
        every = {TAUGHT: (np.arange(length), np.zeros(length, dtype=np.int64))}
        return Example(corrupted.streams, corrupted.targets | every)

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return those of the masked language model, and one a token."""
        return super().max_targets(tokens, sequences) | {TAUGHT: tokens}

    def build(self, model: Model, vocab_size: int) -> DistilledMaskedLMHead:
        """Return the head, with a fresh teacher if its architecture is known."""
        if self.hidden_cosine and self.teacher is not None and self.teacher.model.width != model.width:
            raise UsageError(
                f"the teacher's hidden states are {self.teacher.model.width} wide, the student's {model.width}: "
                "leave out the loss that compares them (--set objectives.0.hidden_cosine=0)"
            )
        return DistilledMaskedLMHead(self, model, vocab_size)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the demand of the token head where distributions are compared, and of the teacher forward."""
        share = 1.0 if self.compared == "all" else self.masking.rate
        own = (self.output.cost(model, vocab_size) + ComponentCost(activations=2 * vocab_size)).scaled(share)
        if self.teacher is None:
            return own
        other = self.teacher.model
        tokens = self.teacher.output.cost(other, vocab_size).scaled(share)
        whole = other.cost(vocab_size, lengths) + tokens
        return own + ComponentCost(frozen_parameters=whole.parameters, forward_only_flops=whole.flops)

    def weights(self) -> dict[str, float]:
        """Return the weights."""
        return {"distilled": self.distilled, "masked_lm": self.masked, "hidden_cosine": self.hidden_cosine}

    def _counts(self, loss: str) -> bool:
        """Whether a loss is computed: that of hidden states only where it counts."""
        return loss != "hidden_cosine" or self.hidden_cosine > 0


class DistilledMaskedLMHead(MaskedLMHead, DistillationHead):
    """The triple loss at work."""

    def __init__(self, choice: DistilledMaskedLM, model: Model, vocab_size: int) -> None:
        super().__init__(choice, model, vocab_size)
        self.choice, self.compare = choice, Comparison(choice.temperature)
        if choice.teacher is not None:
            self.set_teacher(choice.teacher.learner(vocab_size))

    @property
    def taught_head(self) -> OutputLayer:
        """What makes logits of the teacher's hidden states."""
        return cast("MaskedLMHead", self.teacher.heads[self.choice.name]).lm_head

    def compile_units(self) -> list[nn.Module]:
        """Return the teacher's, both output layers and the comparison."""
        return [*self.teacher.network.compile_units(), self.taught_head, self.lm_head, self.compare]

    def counts(self, batch: Batch) -> Sums:
        """Return the number of tokens that each loss is a sum over."""
        masked, every = (batch.targets[name].count() for name in (self.target, TAUGHT))
        found = {self.loss: masked, "distilled": every if self.choice.compared == "all" else masked}
        return found | ({"hidden_cosine": every} if self.choice.hidden_cosine else {})

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return `masked` and `distilled` in nats, `hidden_cosine`, and `masked/correct`."""
        masked, every = batch.targets[self.target], batch.targets[TAUGHT]
        everywhere = self.choice.compared == "all"
        at = slice(None) if everywhere else masked.index
        states_TH = states["tokens"]
        with torch.no_grad():
            taught_TH = self.teacher.network(batch)["tokens"]
        label_K = _spread(masked, len(states_TH)) if everywhere else masked.label
        width = 2 * network.token_embedding.num_embeddings
        each = in_chunks(self.compared, width, states_TH[at], taught_TH[at], label_K)
        loss_M, hit_M, divergence_K = [one[masked.index] for one in each[:2]] + [each[2]] if everywhere else each
        sums = {
            self.loss: masked.total(loss_M),
            f"{self.loss}/correct": masked.total(hit_M.float()),
            "distilled": every.total(divergence_K[every.index]) if everywhere else masked.total(divergence_K),
        }
        if self.choice.hidden_cosine:
            cosine_T = F.cosine_similarity(states_TH.float(), taught_TH.float(), dim=-1)
            sums["hidden_cosine"] = every.total(1 - cosine_T[every.index])
        return sums

    def compared(self, own_KH: Tensor, taught_KH: Tensor, label_K: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (K,) negative log-likelihoods, 0 without a label, what has the highest logit, and divergences."""
        with torch.no_grad():
            taught_KV = self.taught_head(taught_KH)
        own_KV = self.lm_head(own_KH)
        loss_K = F.cross_entropy(own_KV.float(), label_K, ignore_index=IGNORE, reduction="none")
        return loss_K, own_KV.detach().argmax(-1) == label_K, self.compare(own_KV, taught_KV)


class Comparison(nn.Module):
    """τ² KL(softmax(t / τ) || softmax(s / τ)), from student's logits s and teacher's t."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, own_KV: Tensor, taught_KV: Tensor) -> Tensor:
        """Return (K,)."""
        own, taught = (F.log_softmax(logits.float() / self.temperature, -1) for logits in (own_KV, taught_KV))
        return self.temperature**2 * F.kl_div(own, taught, reduction="none", log_target=True).sum(-1)


def _spread(targets: Targets, tokens: int) -> Tensor:
    """Return the label of every token (T,), `IGNORE` where there is none; what only fills up is cut off again."""
    place_M = torch.where(targets.counted(), targets.index, tokens)
    return targets.label.new_full((tokens + 1,), IGNORE).scatter(0, place_M, targets.label)[:-1]
