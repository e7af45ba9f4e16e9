"""The initial weights, tokenizer and recipe of fine-tuning, and the learner built from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from genus.errors import GenusError, UsageError
from genus.export.starting.transplant import by_vocabulary
from genus.export.weights import fingerprint
from genus.objectives.pretraining.distillation import DistillationHead
from genus.objectives.supervised import FineTuned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from genus.model import Network
    from genus.objectives import Learner, Objective
    from genus.recipe import FineTuning, Recipe
    from genus.tokens.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Start:
    """A recipe with its tokenizer and, if there are any, pretrained weights."""

    recipe: Recipe
    tokenizer: Tokenizer
    learner: Learner | None = None
    """None: random weights, drawn for every seed."""
    path: Path | None = None
    """The folder that they were read from, which adapters name as their base; None: unknown."""

    def reader(self, objective: FineTuned, settings: FineTuning) -> Tokenizer:
        """Return the tokenizer that reads the task's texts, to which tasks of sequences may add special tokens."""
        if settings.task_tokens is not None and objective.pooled:
            return self.tokenizer.for_tasks(settings.task_tokens)
        return self.tokenizer.read_by(causal=self.recipe.model.causal)

    def fine_tuned(self, objective: FineTuned, settings: FineTuning, *others: Objective) -> Recipe:
        """Return the recipe of what is fine-tuned: the same network under another objective, and others beside it.

        It has a pooler where the objective needs one, its own, or that of the settings, and beside the objective the
        language model of pretraining, if the settings give that a weight.

        Raises:
            GenusError: the tokenizer and the weights do not belong together.
            UsageError: a maximal length beyond the network's positions, or a network that the task cannot learn with,
                such as one that reads a source.
        """
        model, longest = self.recipe.model, self.recipe.model.max_length
        if model.pixels("tokens") is not None:
            raise UsageError(f"{self.recipe.name} reads images, and tasks are of texts; take a model of texts")
        ahead = self._check_adaptation(settings)
        if longest is not None and settings.max_length + ahead > longest:
            told = f" and {ahead} in front" if ahead else ""
            raise UsageError(
                f"finetuning.max_length: {settings.max_length}{told} is over the model's {longest} positions"
            )
        pieces = self.tokenizer.vocabulary.size
        expected = replace(self.recipe, tokens=self.tokenizer.tokens).vocab_rows
        if self.learner is not None and (rows := self.learner.network.token_embedding.num_embeddings) != expected:
            raise GenusError(f"the tokenizer has {pieces} pieces, the weights {rows}: they do not belong together")
        several = [] if objective.token_losses or not settings.language_model else [self._language_model()]
        beside = [one for one in several if one.name != objective.name]  # whose head is not the language model's own
        try:
            return replace(
                self.recipe,
                model=objective.reads(model, settings.pooler),
                tokens=self.reader(objective, settings).tokens,
                objectives=(objective, *beside, *others),
                stages=tuple(stage.whole() for stage in self.recipe.stages),
                finetuning=settings,
            )
        except ValueError as error:
            raise UsageError(str(error)) from None

    def build(self, recipe: Recipe, seed: int) -> Learner:
        """Return a learner of the fine-tuning recipe, initialized from the seed, with the pretrained weights loaded.

        Those are the network's and a language model's; what is added to the vocabulary keeps its initial weights, as do
        the top layers that are to be drawn anew.

        Raises:
            GenusError: the weights and the network differ in more than tasks add, or no token can be added to them.
            UsageError: more layers are to be drawn anew than there are.
        """
        torch.manual_seed(seed)
        learner = recipe.learner()
        kept = [f"heads.{one.name}." for one in recipe.objectives if one.token_losses or _goes_on(one)]
        for one in recipe.objectives[1:]:
            learner.weights |= dict.fromkeys(one.token_losses, recipe.finetuning.language_model)
        if self.learner is not None:
            own, state = learner.state_dict(), self.learner.state_dict()
            given = {name: tensor for name, tensor in state.items() if name.startswith(("network.", *kept))}
            if recipe.tokens.vocab_size > (pieces := self.tokenizer.vocabulary.size):
                given |= _grown(by_vocabulary(learner), given, own, pieces)
            sides = (name.removeprefix("network.") for name in own.keys() ^ state.keys() if name.startswith("network."))
            of_tasks = tuple(f"{name}." for name in learner.network.task_modules)
            if lost := sorted(name for name in sides if not name.startswith(of_tasks)):
                raise GenusError(f"the weights do not belong to {recipe.name}: {', '.join(lost[:3])} on one side only")
            kept_new = _reinitialized(learner.network, recipe.finetuning.reinitialize)
            taken = {name: tensor for name, tensor in given.items() if name in own and name not in kept_new}
            learner.load_state_dict(taken, strict=False)
            if recipe.finetuning.adaptation is not None:
                recipe.finetuning.adaptation.apply(learner, taken.keys())
        for head in learner.heads.values():
            if isinstance(head, DistillationHead):
                head.begin(learner)
        return learner

    def _check_adaptation(self, settings: FineTuning) -> int:
        """Return how many positions the adaptation takes in front of each text.

        Raises:
            UsageError: it has no pretrained weights to adapt, adds tokens, or its positions are over the source's.
        """
        adaptation, learner = settings.adaptation, self.learner
        if learner is not None and not all(weight.requires_grad for weight in learner.parameters()):
            raise UsageError("the model is an adapter on a base; fine-tune the base, or merge both first (genus export "
                             "--merge)")  # fmt: skip
        if adaptation is None:
            return 0
        if learner is None:
            raise UsageError("finetuning.adaptation: few parameters are trained of a pretrained model; leave --random "
                             "out")  # fmt: skip
        if settings.task_tokens is not None:
            raise UsageError("finetuning.task_tokens: these are new rows of a token embedding, which is frozen; set it "
                             "to null")  # fmt: skip
        return adaptation.in_front

    def fingerprint(self) -> str:
        """Return a hash of the pretrained weights, `random` if there are none."""
        return "random" if self.learner is None else fingerprint(self.learner.network.state_dict())

    def _language_model(self) -> Objective:
        """Return the objective of pretraining that predicts the next token."""
        for objective in self.recipe.objectives:
            if objective.causal and objective.token_losses:
                return objective
        raise UsageError("finetuning.language_model: the model was not pretrained to predict the next token, so that "
                         "this cannot be learned beside the task; set it to 0")  # fmt: skip


def _goes_on(objective: Objective) -> bool:
    """Return whether an objective's head goes on with the weights of the same head."""
    return isinstance(objective, FineTuned) and objective.keeps_head


def _reinitialized(network: Network, number: int) -> set[str]:
    """Return the names of a learner's tensors that the top layers of its network hold, and the pooler if any.

    Raises:
        UsageError: there are fewer layers.
    """
    if not number:
        return set()
    _, *layers = network.layer_groups()
    if number > len(layers):
        raise UsageError(f"finetuning.reinitialize: the network has {len(layers)} layers, not {number}; layers that "
                         "share weights are one")  # fmt: skip
    drawn = {id(tensor) for layer in layers[-number:] for tensor in layer.state_dict(keep_vars=True).values()}
    of_tasks = tuple(f"{name}." for name in network.task_modules)
    state = network.state_dict(keep_vars=True).items()
    return {f"network.{name}" for name, tensor in state if id(tensor) in drawn or name.startswith(of_tasks)}


def _grown(
    names: Sequence[str], given: Mapping[str, Tensor], own: Mapping[str, Tensor], pieces: int
) -> dict[str, Tensor]:
    """Return the given rows of the vocabulary's `pieces`, followed by the learner's own rows of added tokens."""
    if not all(name in given for name in names if name.startswith("network.")):
        raise GenusError("finetuning.task_tokens: this model's token embedding is made of clusters by frequency, to "
                         "which no token can be added; set it to null")  # fmt: skip
    return {name: torch.cat([given[name][:pieces], own[name][pieces:]]) for name in names if name in given}
