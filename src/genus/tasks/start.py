"""The initial weights, tokenizer and recipe of fine-tuning, and the learner built from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from genus.errors import GenusError, UsageError
from genus.export.weights import fingerprint

if TYPE_CHECKING:
    from genus.objectives import Learner
    from genus.objectives.supervised import FineTuned
    from genus.recipe import FineTuning, Recipe
    from genus.tokens.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Start:
    """A recipe with its tokenizer and, if there are any, pretrained weights."""

    recipe: Recipe
    tokenizer: Tokenizer
    learner: Learner | None = None
    """None: random weights, drawn for every seed."""

    def fine_tuned(self, objective: FineTuned, settings: FineTuning) -> Recipe:
        """Return the recipe of what is fine-tuned: the same network under another objective.

        It has a pooler where the objective needs one: its own, or that of the settings.

        Raises:
            GenusError: the tokenizer and the weights do not belong together.
            UsageError: a maximal length beyond the network's positions, or a network that the task cannot learn with,
                such as one that reads a source.
        """
        model, longest = self.recipe.model, self.recipe.model.max_length
        if longest is not None and settings.max_length > longest:
            raise UsageError(f"finetuning.max_length: {settings.max_length} is over the model's {longest} positions")
        pieces = self.tokenizer.vocabulary.size
        expected = replace(self.recipe, tokens=self.tokenizer.tokens).vocab_rows
        if self.learner is not None and (rows := self.learner.network.token_embedding.num_embeddings) != expected:
            raise GenusError(f"the tokenizer has {pieces} pieces, the weights {rows}: they do not belong together")
        tokens = self.tokenizer.tokens
        try:
            return replace(
                self.recipe,
                model=objective.reads(model, settings.pooler),
                tokens=tokens,
                objectives=(objective,),
                stages=tuple(stage.whole() for stage in self.recipe.stages),
                finetuning=settings,
            )
        except ValueError as error:
            raise UsageError(str(error)) from None

    def build(self, recipe: Recipe, seed: int) -> Learner:
        """Return a learner of the fine-tuning recipe, initialized from the seed, with the pretrained weights loaded.

        Raises:
            GenusError: the weights and the network differ in more than the pooler.
        """
        torch.manual_seed(seed)
        learner = recipe.learner()
        if self.learner is not None:
            missing, unknown = learner.network.load_state_dict(self.learner.network.state_dict(), strict=False)
            lost = [name for name in (*unknown, *missing) if not name.startswith("pooler.")]
            if lost:
                raise GenusError(f"the weights do not belong to {recipe.name}: {', '.join(lost[:3])} on one side only")
        return learner

    def fingerprint(self) -> str:
        """Return a hash of the pretrained weights, `random` if there are none."""
        return "random" if self.learner is None else fingerprint(self.learner.network.state_dict())
