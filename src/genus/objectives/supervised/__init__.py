"""Supervised fine-tuning objectives: what a head learns from annotated rows, and the decoding of its outputs."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from genus.errors import UsageError
from genus.objectives import Objective
from genus.objectives.linear_head import LinearObjective
from genus.part import Fraction

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from genus.examples import Lengths, Limits
    from genus.model import Model
    from genus.model.pooler import Pooler
    from genus.objectives import Head
    from genus.tokens.vocabulary import Frames

SOURCE = "source"
"""The stream that an encoder-decoder's encoder reads."""


class FineTuned(Objective):
    """A supervised fine-tuning objective: it learns from annotated rows of a table."""

    gives_facts: ClassVar[frozenset[str]] = frozenset({"prefix", "order"})
    """A text of a task has no prefix and no order but where an objective says so: networks take both for 0."""

    pooled: ClassVar[bool] = False
    """Whether its targets are whole sequences."""
    of_words: ClassVar[bool] = False
    """Whether a text is given as its words, which are tokenized one by one."""
    of_one_sequence: ClassVar[bool] = False
    """Whether a target's outputs depend on its sequence alone: on no other one, and on no other target."""
    teachable: ClassVar[bool] = False
    """Whether it can be learned from the outputs of another model (`soft_loss`)."""
    multi_label: ClassVar[bool] = False
    """Whether a target may have any number of the classes, each told by itself."""
    embeds: ClassVar[bool] = False
    """Whether it gives vectors of texts; its head is then sentence-transformers' modules in a model folder."""
    keeps_head: ClassVar[bool] = False
    """Whether its head goes on with the weights of the same head, where the model has one that it starts from."""

    texts: Literal[1, 2] | None = None
    """Number of texts of an example in training: 2 for pairs; None if it is unknown."""
    symmetric: bool = False
    """Whether pairs are read in both orders, and the states of both are summed."""

    @abstractmethod
    def reads(self, model: Model, pooler: Pooler | None) -> Model:
        """Return the model that the head reads, which may get a pooler, or lose its own."""

    def lengths(self, raw: Lengths, frames: Frames) -> Lengths:
        """Return the lengths, of a source that it adds the same: a recipe is checked by them, rows of tasks vary."""
        return {**raw, SOURCE: raw["tokens"]} if SOURCE in self.adds else raw

    def raw_limits(self, limits: Limits, frames: Frames) -> Limits:
        """Return the limits, the least of both streams where it adds a source."""
        return {"tokens": min(limits.values())} if SOURCE in self.adds else limits

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; empty if its labels are numbers."""
        return ()

    @property
    def tuned_thresholds(self) -> dict[str, float]:
        """Thresholds of its decisions that were tuned in validation, by name; by default none."""
        return {}

    @property
    def told_over(self) -> str:
        """A sentence on these thresholds; empty if there are none."""
        return ""

    def dropped(self, rate: float) -> Self:
        """Return the objective with this dropout rate of the head's input; unchanged if the head has no dropout."""
        return self

    def continued(self, objectives: Sequence[Objective], model: Model) -> Self:
        """Return the objective for a model, with what it goes on with of the model's objectives in pretraining.

        Raises:
            UsageError: what it needs is not among them, or the model is of another kind.
        """
        return self

    def soft_loss(self, own_MV: Tensor, taught_MV: Tensor, temperature: float) -> Tensor:
        """Return the losses (M,) of a student's outputs against a published teacher's; defined where `teachable`."""
        raise NotImplementedError(f"{type(self).__name__} is not learned from outputs")

    def folded(self, head: Head) -> Objective:
        """Return the objective for the head as it is published, changed in place to answer in the user's units."""
        return self

    def tempered(self, head: Head, temperature: float) -> Self:
        """Return the objective for a head changed in place so that its logits are divided by the temperature.

        What is told stays the same: the largest logit, and what is over a threshold.

        Raises:
            UsageError: it has no probabilities of classes.
        """
        kind = type(self).__name__
        raise UsageError(f"calibration: {kind} tells no classes whose probabilities a temperature changes")

    def sized(self, outputs: int) -> Self:
        """Return the objective for a loaded head with that many outputs per target; by default itself."""
        return self

    @abstractmethod
    def label_of(self, label: str | None) -> int | float:
        """Return the target value of a label; None gives the value that the loss ignores.

        Raises:
            ValueError: the label is unknown; the message names the known ones.
        """

    @abstractmethod
    def can_be(self, label: str) -> bool:
        """Return whether a label may be one of those learned, rather than a sign for no label."""

    def truth(self, targets: NDArray[Any]) -> NDArray[Any]:
        """Return target values (M,) as `decide` returns predictions."""
        return targets

    @abstractmethod
    def decide(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the predictions (M,), class indices or regression values, of the head's outputs (M, V)."""

    def judged(self, outputs: NDArray[np.float32], judges: str) -> NDArray[Any]:
        """Return what metrics compare with the truth that judge such: by default the predictions (M,)."""
        return self.decide(outputs)

    def rewards(self, outputs: NDArray[np.float32], label: str | None) -> NDArray[np.float64]:
        """Return one number (N,) for each of N texts, of the head's outputs for them (N, V): what they are worth.

        Args:
            outputs: of single texts.
            label: the class that is wanted, where texts have classes; None where there are none.

        Raises:
            UsageError: there is no such number, or no such class.
        """
        raise UsageError(f"--reward: {type(self).__name__} gives no number for a text; take a reward model "
                         "(--task preference), a classifier with --reward-class, or a regression")  # fmt: skip

    def refuse_class(self, label: str | None) -> None:
        """Refuse the name of a class (UsageError), for objectives that have none."""
        if label is not None:
            raise UsageError(f"--reward-class {label}: {type(self).__name__} has no classes; leave it out")

    @abstractmethod
    def explain(self, outputs: NDArray[np.float32]) -> tuple[str | float | list[str], dict[str, float]]:
        """Return one target's predicted label or value and the class probabilities by label, of its outputs (V,)."""


class LinearFineTuned(LinearObjective, FineTuned):
    """A fine-tuning objective with a linear head over hidden states of tokens or pooled states of sequences."""

    of_one_sequence: ClassVar[bool] = True

    dropout: Fraction = 0.1
    """Dropout rate of the head's input (released code, run_classifier.py)."""
    bias: bool = True
    """Whether the linear layer has a bias; those of Hugging Face's decoders have none."""
    repeated: bool = False
    """Whether an encoder-decoder reads each text twice: the encoder, and the decoder one token later, whose last state
    represents the whole (Lewis et al. 2019, section 3.1)."""

    @property
    def adds(self) -> frozenset[str]:
        """The stream `source`, if texts are read twice."""
        return frozenset({SOURCE}) if self.repeated else frozenset()

    def continued(self, objectives: Sequence[Objective], model: Model) -> Self:
        """Return the objective, with texts that are read twice by an encoder-decoder.

        Raises:
            UsageError: it is one of words, of which a decoder has seen the first ones only.
        """
        if SOURCE not in model.streams:
            return self
        if not self.pooled:
            raise UsageError("task: an encoder-decoder tells no tags of words; take an encoder or a decoder, or "
                             "--task entities-to-text")  # fmt: skip
        return replace(self, repeated=True)

    @property
    def rate(self) -> float:
        """The dropout rate of the head's input."""
        return self.dropout

    @property
    def biased(self) -> bool:
        """Whether the linear layer has a bias."""
        return self.bias

    def dropped(self, rate: float) -> Self:
        """Return the objective with this dropout rate of the head's input."""
        return replace(self, dropout=rate)

    def reads(self, model: Model, pooler: Pooler | None) -> Model:
        """Return the model with its own pooler, or else this one, if the objective is pooled; otherwise without one."""
        if not self.pooled:
            return model.unpooled()
        return model if pooler is None else model.pooled(pooler)
