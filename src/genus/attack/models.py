"""The models of an attack: the classifier, and those that say how similar, how fluent and how probable words are."""

from __future__ import annotations

import hashlib
import math
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genus.evaluate.bert_score import BertScorer, check_encoder
from genus.evaluate.likelihood import log_likelihoods
from genus.evaluate.text_metrics import LARGEST
from genus.evaluate.token_prediction import Predictor
from genus.export.weights import fingerprint
from genus.objectives import on

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from genus.attack.target import Target
    from genus.export.folder import LoadedModel


@dataclass(frozen=True)
class Models:
    """The models of an attack."""

    target: Target
    """The classifier that is attacked."""
    encoder: BertScorer
    """Says how similar two texts are."""
    fluency: LoadedModel | None = None
    """A causal language model, by which texts are held to be fluent; None: they are not."""
    masked: LoadedModel | None = None
    """A masked language model, which proposes other words."""

    @classmethod
    def of(
        cls,
        target: Target,
        references: Sequence[str],
        *,
        encoder: LoadedModel | None = None,
        fluency: LoadedModel | None = None,
        masked: LoadedModel | None = None,
        layer: int = -1,
    ) -> Models:
        """Return the models.

        Args:
            target: the classifier.
            references: texts by which idf weights of BERTScore are counted.
            encoder: says how similar texts are; None: the causal language model, as in the released code of the
                gradient-based attack, or without one the classifier.
            fluency: see `fluency`.
            masked: see `masked`.
            layer: of the encoder, whose states are compared.

        Raises:
            UsageError: the encoder reads more than a text.
        """
        chosen = encoder or fluency or target.model
        check_encoder(chosen.recipe.model, chosen.recipe.name)
        length = chosen.recipe.finetuning.max_length
        length = max(length, target.model.recipe.finetuning.max_length)
        length = min(length, chosen.recipe.model.max_length or length)
        scorer = BertScorer(chosen.learner, chosen.tokenizer, length, layer, tuple(references))
        return cls(target, scorer, fluency, masked)

    @property
    def predictor(self) -> Predictor | None:
        """The head of the causal language model that predicts the next token; None where there is none."""
        return None if self.fluency is None else Predictor.find(self.fluency.learner, "following")

    def perplexity(self, text: str) -> float | None:
        """Return the perplexity per token of a text under the causal language model, of the tokens it has places for.

        None: there is no such model, or the text has no token.
        """
        model = self.fluency
        if model is None or self.predictor is None:
            return None
        most = model.recipe.model.max_length
        if most is not None:
            _, spans = model.tokenizer.encode_with_offsets(text)
            room = most - max(1, len(model.tokenizer.vocabulary.begins))
            text = text[: spans[room, 0]] if len(spans) > room else text
        (found,) = log_likelihoods(model.learner, model.tokenizer, [text], most)
        return math.exp(min(-found.nats / found.tokens, LARGEST)) if found.tokens else None

    @contextmanager
    def on(self, device: torch.device, *beside: LoadedModel) -> Iterator[None]:
        """Context manager: all models, and others beside, are on a device, and back where they were at the end."""
        several = [self.target.model, self.fluency, self.masked, *beside]
        learners = [model.learner for model in several if model is not None] + [self.encoder.learner]
        with ExitStack() as stack:
            for learner in {id(one): one for one in learners}.values():
                stack.enter_context(on(learner, device))
            yield


def identity(model: LoadedModel | None) -> str | None:
    """Return a SHA-256 of what a model's answers depend on: weights, architecture, tokenizer; None of no model."""
    if model is None:
        return None
    recipe = model.recipe
    parts = [recipe.model.hash(), model.tokenizer.hash(), str(recipe.finetuning.max_length)]
    told = [fingerprint(model.learner.state_dict()), *parts, *(objective.hash() for objective in recipe.objectives)]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()
