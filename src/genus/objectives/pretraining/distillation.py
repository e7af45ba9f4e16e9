"""Knowledge distillation: a masked language model (student) that also learns from a teacher."""

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
"""Name of the targets (all tokens) at which the student is compared with its teacher."""


class Distillation(Objective):
    """A distillation objective; its teacher is loaded from a model folder at the start of a run."""

    @abstractmethod
    def with_teacher(self, model: Model, objectives: Sequence[Objective]) -> Self:
        """Return the objective with a teacher of this architecture that was trained for `objectives`.

        Raises:
            UsageError: the teacher lacks an objective that the distillation needs.
        """


class DistillationHead(Head):
    """A distillation head with a frozen teacher.

    The teacher is not a submodule: it is not trained, counted or saved. It moves to the head's device and dtype, and
    has no dropout and no gradients.
    """

    def __init__(self) -> None:
        super().__init__()
        self._teachers: tuple[Learner, ...] = ()

    @property
    def teacher(self) -> Learner:
        """The trained model: network and heads."""
        return self._teachers[0]

    def set_teacher(self, teacher: Learner) -> None:
        """Freeze a trained model and use it as the teacher, in place of any other."""
        self._teachers = (teacher.eval().requires_grad_(False),)

    def begin(self, learner: Learner) -> None:
        """Begin fine-tuning of a learner with its first weights; by default the teacher is another model."""

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Self:
        """Apply `fn` (a change of device or dtype) to the teacher too."""
        for teacher in self._teachers:
            teacher._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]


class Teacher(Part):
    """The architecture of the teacher, a trained masked language model."""

    model: Model
    output: Output = LMHead(transform=Transform())
    """The output layer of its head."""

    def learner(self, vocab_size: int) -> Learner:
        """Build the teacher's network and head, with random weights."""
        head = MaskedLM(output=self.output)
        return Learner(self.model.build(vocab_size), {head.name: head.build(self.model, vocab_size)})


class DistilledMaskedLM(MaskedLM, Distillation):
    """Distilled masked language model (DistilBERT): MLM loss and two losses against a teacher on the same input.

        L = a τ² KL(softmax(t / τ) || softmax(s / τ)) + b (-log softmax(s)[token]) + c (1 - cos(h, h'))

    with s, t the logits and h, h' the last hidden states of student and teacher, and a, b, c the weights `distilled`,
    `masked` and `hidden_cosine`. The three terms are means over the tokens of `compared`, the masked tokens, and all
    tokens. Values are those of the released code (huggingface/transformers, research_projects/distillation: README.md,
    train.py, distiller.py), which masks rare tokens more often than frequent ones: the masking `RareMasking`.

    After training, the exported model is a masked language model, with the same head name.
    """

    teacher: Teacher | None = None
    """Architecture of the teacher; the teacher model that is given to a run replaces it."""
    compared: Literal["all", "masked"] = "all"
    """Tokens of the KL term: all, as in the released command, or the masked ones, as with its --restrict_ce_to_mask, at
    a seventh of the cost."""
    temperature: Positive = 2.0
    """Temperature τ of both softmaxes."""
    distilled: NotNegative = 5.0
    """a, the weight of the KL term, the loss `distilled`."""
    masked: NotNegative = 2.0
    """b, the weight of the masked-language-model loss, `masked_lm`."""
    hidden_cosine: NotNegative = 1.0
    """c, the weight of the cosine term; 0 omits it, for a teacher with another hidden size."""

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of its losses, `masked_lm` first; without `hidden_cosine` if its weight is 0."""
        return (self.target, *(name for name in self.weights() if name != self.target and self._counts(name)))

    @property
    def token_losses(self) -> frozenset[str]:
        """The masked-language-model loss."""
        return frozenset({self.target})

    @property
    def exported(self) -> Objective:
        """The masked language model without the teacher."""
        return MaskedLM(masking=self.masking, output=self.output)

    def check(self, model: Model) -> None:
        """Check that the masked language model fits the model, and that its loss has nothing added (ValueError)."""
        super().check(model)
        if not self.output.likelihood_alone:
            raise ValueError("objectives: DistilledMaskedLM does not smooth labels, which its teacher's distributions "
                             "take the place of, and has no z-loss; take output=LMHead")  # fmt: skip

    def with_teacher(self, model: Model, objectives: Sequence[Objective]) -> Self:
        """Return the objective with a masked language model as its teacher.

        Raises:
            UsageError: the teacher has no masked-language-model head.
        """
        for objective in objectives:
            if isinstance(objective, MaskedLM):
                return replace(self, teacher=Teacher(model=model, output=objective.output))
        raise UsageError("the teacher has no masked-language-model head; take a pretrained model, not a fine-tuned one")

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example of the masked language model, with every token as a target `TAUGHT` too."""
        length = len(example.tokens.ids)
        corrupted = super().prepare_example(example, vocabulary, rng)
        every = {TAUGHT: (np.arange(length), np.zeros(length, dtype=np.int64))}
        return Example(corrupted.streams, corrupted.targets | every)

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return the number of targets of the masked language model, and one `TAUGHT` per token."""
        return super().max_targets(tokens, sequences) | {TAUGHT: tokens}

    def build(self, model: Model, vocab_size: int) -> DistilledMaskedLMHead:
        """Build the head, with a randomly initialized teacher if its architecture is known.

        Raises:
            UsageError: `hidden_cosine` is not 0, and the hidden sizes of teacher and student differ.
        """
        if self.hidden_cosine and self.teacher is not None and self.teacher.model.width != model.width:
            raise UsageError(
                f"the teacher's hidden states are {self.teacher.model.width} wide, the student's {model.width}: "
                "leave out the loss that compares them (--set objectives.0.hidden_cosine=0)"
            )
        return DistilledMaskedLMHead(self, model, vocab_size)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost of the output layer at the compared tokens, and of the teacher's forward pass."""
        share = 1.0 if self.compared == "all" else self.masking.expected_rate(lengths["tokens"])
        own = (self.output.cost(model, vocab_size) + ComponentCost(activations=2 * vocab_size)).scaled(share)
        if self.teacher is None:
            return own
        other = self.teacher.model
        tokens = self.teacher.output.cost(other, vocab_size).scaled(share)
        whole = other.cost(vocab_size, lengths) + tokens
        return own + ComponentCost(frozen_parameters=whole.parameters, forward_only_flops=whole.flops)

    def weights(self) -> dict[str, float]:
        """Return the weights a, b and c by loss name."""
        return {"distilled": self.distilled, "masked_lm": self.masked, "hidden_cosine": self.hidden_cosine}

    def _counts(self, loss: str) -> bool:
        """Return whether a loss is computed: `hidden_cosine` only if its weight is not 0."""
        return loss != "hidden_cosine" or self.hidden_cosine > 0


class DistilledMaskedLMHead(MaskedLMHead, DistillationHead):
    """Head of `DistilledMaskedLM`: it computes the three losses."""

    def __init__(self, choice: DistilledMaskedLM, model: Model, vocab_size: int) -> None:
        super().__init__(choice, model, vocab_size)
        self.choice, self.compare = choice, Comparison(choice.temperature)
        if choice.teacher is not None:
            self.set_teacher(choice.teacher.learner(vocab_size))

    @property
    def taught_head(self) -> OutputLayer:
        """The teacher's output layer."""
        return cast("MaskedLMHead", self.teacher.heads[self.choice.name]).lm_head

    def compile_units(self) -> list[nn.Module]:
        """Return the modules of the teacher's network, both output layers and the comparison."""
        return [*self.teacher.network.compile_units(), self.taught_head, self.lm_head, self.compare]

    def counts(self, batch: Batch) -> Sums:
        """Return the number of targets of each loss."""
        masked, every = (batch.targets[name].count() for name in (self.target, TAUGHT))
        found = {self.loss: masked, "distilled": every if self.choice.compared == "all" else masked}
        return found | ({"hidden_cosine": every} if self.choice.hidden_cosine else {})

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return `masked_lm` and `distilled` in nats, `hidden_cosine`, and `masked_lm/correct`, summed over targets."""
        masked, every = batch.targets[self.target], batch.targets[TAUGHT]
        everywhere = self.choice.compared == "all"
        at = slice(None) if everywhere else masked.index
        states_TH = states["tokens"]
        with torch.no_grad():
            taught_TH = self.teacher.network(batch)["tokens"]
        label = _spread(masked, len(states_TH)) if everywhere else masked.label
        width = 2 * network.token_embedding.num_embeddings
        each = in_chunks(self.compared, width, states_TH[at], taught_TH[at], label)
        loss_M, hit_M, divergence = [one[masked.index] for one in each[:2]] + [each[2]] if everywhere else each
        sums = {
            self.loss: masked.total(loss_M),
            f"{self.loss}/correct": masked.total(hit_M.float()),
            "distilled": every.total(divergence[every.index]) if everywhere else masked.total(divergence),
        }
        if self.choice.hidden_cosine:
            cosine_T = F.cosine_similarity(states_TH.float(), taught_TH.float(), dim=-1)
            sums["hidden_cosine"] = every.total(1 - cosine_T[every.index])
        return sums

    def compared(self, own_MH: Tensor, taught_MH: Tensor, label_M: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (M,) negative log-likelihoods, 0 without a label, whether argmax is the label, and KL divergences."""
        with torch.no_grad():
            taught_MV = self.taught_head(taught_MH)
        own_MV = self.lm_head(own_MH)
        loss_M = F.cross_entropy(own_MV.float(), label_M, ignore_index=IGNORE, reduction="none")
        return loss_M, own_MV.detach().argmax(-1) == label_M, self.compare(own_MV, taught_MV)


class Comparison(nn.Module):
    """KL divergence with temperature: τ² KL(softmax(t / τ) || softmax(s / τ)) of student s and teacher t (logits)."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, own_MV: Tensor, taught_MV: Tensor) -> Tensor:
        """Return the divergences (M,) in nats, of student and teacher logits (M, V)."""
        own, taught = (F.log_softmax(logits.float() / self.temperature, -1) for logits in (own_MV, taught_MV))
        return self.temperature**2 * F.kl_div(own, taught, reduction="none", log_target=True).sum(-1)


def _spread(targets: Targets, tokens: int) -> Tensor:
    """Scatter labels to all tokens (T,), `IGNORE` elsewhere; padding targets go to an extra entry that is cut off."""
    place_M = torch.where(targets.counted(), targets.index, tokens)
    return targets.label.new_full((tokens + 1,), IGNORE).scatter(0, place_M, targets.label)[:-1]
