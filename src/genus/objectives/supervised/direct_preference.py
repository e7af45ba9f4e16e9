"""Direct preference optimization: a causal language model learns which of several responses people prefer.

Legend: M targets, K responses of a target, T tokens, J entries of the batch.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from torch.nn import functional as F

from genus.batch import IGNORE
from genus.errors import GenusError
from genus.model.head.chunked_loss import classified, in_chunks
from genus.objectives.pretraining.causal_lm import CausalLMHead
from genus.objectives.pretraining.distillation import DistillationHead
from genus.objectives.supervised.completion import CompletionLM
from genus.part import Positive

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from genus.batch import Batch
    from genus.model import Model, Network, States
    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.model.head import OutputLayer
    from genus.objectives import Head, Learner, Prediction, Sums

RESPONSE = 1
"""Segment of the tokens of a response, with the end token after it; what stands before them is given."""


class DirectPreferenceLM(CompletionLM):
    """Direct preference optimization (DPO): -log softmax_k(r(x, y_k))[b] with the implicit reward of each response.

        r(x, y) = beta (log pi(y | x) - log rho(y | x))

    of the policy pi, which is trained, and the reference rho, which is the model as it was before. Of two responses the
    loss is -log sigmoid(r(x, y_best) - r(x, y_other)). log p(y | x) is the sum over the tokens of the response.

    The head is the language model's own, with its weights. Published, the model is a language model as before.

    Source: Rafailov et al. 2023, equation 7; of several responses its appendix A.3 with one of them ranked first.
    """

    keeps_head: ClassVar[bool] = True

    beta: Positive = 0.1
    """Strength of the pull to the reference (released code, README: 0.1 to 0.5, and 0.1 in its commands)."""

    @property
    def losses(self) -> tuple[str, ...]:
        """Name of the loss."""
        return ("direct_preference",)

    @property
    def token_losses(self) -> frozenset[str]:
        """None: the loss is of responses."""
        return frozenset()

    def build(self, model: Model, vocab_size: int) -> Head:
        """Build the output layer as a head."""
        return DirectPreferenceHead(self, model, vocab_size)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost of the output layer at every token; that of the reference is not counted."""
        return self.language_model.cost(model, vocab_size, lengths)

    def label_of(self, label: str | None) -> int | float:
        """Return the number of the best response, from 0; `IGNORE` for None."""
        return IGNORE if label is None else int(label)

    def can_be(self, label: str) -> bool:
        """Return whether the label is the number of a response."""
        return label.isdecimal()

    def decide(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the number (M,) of the response with the largest reward."""
        return np.asarray(outputs.argmax(-1))

    def explain(self, outputs: NDArray[np.float32]) -> tuple[str | float | list[str], dict[str, float]]:
        """Return the number of the response with the largest reward, and the reward of each."""
        found = outputs[np.isfinite(outputs)].tolist()
        return str(int(outputs.argmax())), {str(number): value for number, value in enumerate(found)}


class DirectPreferenceHead(CausalLMHead, DistillationHead):
    """The output layer of a policy, and the reference, which is no submodule: a copy of both as they were before."""

    predicts: Prediction | None = None

    def __init__(self, choice: DirectPreferenceLM, model: Model, vocab_size: int) -> None:
        super().__init__(choice.language_model, model, vocab_size)
        self.target, (self.loss,), self.beta = choice.target, choice.losses, choice.beta

    def begin(self, learner: Learner) -> None:
        """Copy the learner, which has its initial weights, as the reference."""
        self.set_teacher(copy.deepcopy(learner))

    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return `rewards` (M, K): r(x, y) of each response, -inf where a target has fewer than K.

        Raises:
            GenusError: the head has no reference, as one that was read from a folder.
        """
        if not self._teachers:
            raise GenusError("a published model keeps no reference, to which it could be compared; measure it by "
                             "`genus finetune --task direct-preference`, or its texts by a reward model")  # fmt: skip
        index_MK = batch.targets[self.target].index
        own_J = likelihoods(self.lm_head, states, batch)
        with torch.no_grad():
            reference = cast("CausalLMHead", self.teacher.heads[self.target])
            known_J = likelihoods(reference.lm_head, self.teacher.network(batch), batch)
        reward_J = self.beta * (own_J - known_J)
        entry_MK = batch.tokens.sequence[index_MK.clamp(min=0)].long()
        return {"rewards": reward_J[entry_MK].masked_fill(index_MK < 0, float("-inf"))}

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return the loss, and the number of responses that were told as the best ones, summed over targets."""
        rewards_MK = self.outputs(network, states, batch)["rewards"]
        total, correct = classified(rewards_MK, batch.targets[self.target])
        return {self.loss: total, f"{self.loss}/correct": correct}


def likelihoods(lm_head: OutputLayer, states: States, batch: Batch) -> Tensor:
    """Return log p(response | prompt) (J,) in nats of each sequence of a batch: the sum over the response's tokens."""
    packed, states_TH = batch.tokens, states["tokens"]
    sequence_T = packed.sequence.long()
    told_T = (packed.facts["segment"] == RESPONSE) & (sequence_T >= 0)
    told_T = told_T[1:] & (sequence_T[1:] == sequence_T[:-1])  # the first token of all is predicted from nothing
    label_T = packed.ids[1:].masked_fill(~told_T, IGNORE)

    def negative(states_MH: Tensor, label_M: Tensor) -> tuple[Tensor]:
        return (F.cross_entropy(lm_head(states_MH).float(), label_M, ignore_index=IGNORE, reduction="none"),)

    (loss_T,) = in_chunks(negative, 2 * _classes(lm_head), states_TH[:-1], label_T)
    return loss_T.new_zeros(len(packed.offsets) - 1).index_add(0, sequence_T[1:].clamp(min=0), -loss_T)


def _classes(lm_head: OutputLayer) -> int:
    """Return about how many classes an output layer tells apart, by its largest matrix."""
    return max(weight.shape[0] for weight in lm_head.parameters())
