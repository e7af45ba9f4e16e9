"""What a prompted task asks of a model: log-likelihoods of continuations, and generated continuations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.evaluate.likelihood import Likelihood, Progress, find_predictor, log_likelihoods
from genus.generate import Request
from genus.generate.engine import Engine
from genus.generate.sampling import Greedy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.model import Model
    from genus.objectives import Learner
    from genus.tokens.tokenizer import Tokenizer


class Answerer:
    """A model that answers prompts."""

    def __init__(
        self,
        learner: Learner,
        model: Model,
        tokenizer: Tokenizer,
        *,
        precision: str = "float32",
        cut: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Take a model.

        Args:
            learner: on its device.
            model: the learner's.
            tokenizer: the learner's own.
            precision: dtype of the forward pass, as in `Run.precision`.
            cut: whether a prompt that is longer than the model's positions loses its left end; else it is refused.
            progress: called with how much is done, and of how much.
        """
        self.learner, self.model, self.tokenizer = learner, model, tokenizer
        self.precision, self.cut, self.progress = precision, cut, progress

    @property
    def likelihood(self) -> str:
        """What its likelihoods are: `log-likelihood`, or `pseudo-log-likelihood` of a model that reads both sides.

        Raises:
            UsageError: the model predicts no tokens.
        """
        causal = find_predictor(self.learner).head.predicts == "following"
        return "log-likelihood" if causal else "pseudo-log-likelihood"

    def likelihoods(self, contexts: Sequence[str], texts: Sequence[str], names: Sequence[str]) -> list[Likelihood]:
        """Return the log-likelihood of each text after its context.

        Raises:
            UsageError: the model predicts no tokens; or, with its name, a text that is too long with its context.
        """
        return log_likelihoods(
            self.learner, self.tokenizer, texts, self.model.max_length, self.precision,
            contexts=contexts, cut_contexts=self.cut, names=names, progress=self.progress,
        )  # fmt: skip

    def generated(
        self, prompts: Sequence[str], max_tokens: int, stop: tuple[str, ...], answers: Sequence[tuple[str, ...]]
    ) -> list[str]:
        """Return how the model goes on from each prompt, by greedy decoding.

        Args:
            prompts: the prompts.
            max_tokens: the most tokens of a continuation.
            stop: strings before which it ends.
            answers: of each prompt, the only continuations that are allowed; none: any.

        Raises:
            GenusError: the model does not predict the next token, or a prompt is too long.
        """
        engine = Engine(self.learner, self.model, self.tokenizer, precision=self.precision, cut_prompts=self.cut)
        requests = [
            Request(prompt, max_tokens, stop=stop, answers=own) for prompt, own in zip(prompts, answers, strict=True)
        ]
        texts = [""] * len(prompts)
        done = 0
        for piece in engine.stream(requests, Greedy()):
            texts[piece.request] += piece.text
            done += piece.result is not None
            if piece.result is not None and self.progress is not None:
                self.progress(done, len(prompts))
        return texts

    def too_long(self, prompts: Sequence[str]) -> list[bool]:
        """Return which prompts leave no position for an answer."""
        most = self.model.max_length
        begins = len(self.tokenizer.vocabulary.begins)
        lengths = (begins + len(ids) for ids in self.tokenizer.encode(prompts, specials=False))
        return [most is not None and length >= most for length in lengths]
