"""The engine of generation: requests join and leave a running batch, whose texts are decoded together (`slots.py`)."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING

from genus.errors import UsageError
from genus.examples.keys import generator
from genus.generate.answers import Answers
from genus.generate.prompts import Prompts
from genus.generate.reader import Reader, writing
from genus.generate.slots import Running, Slots, choice
from genus.generate.text import Text
from genus.model.cpu import single_rows
from genus.objectives import evaluating

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from genus.generate import Decoding, Penalty, Piece, Request, Result
    from genus.generate.sampling import TokenByToken
    from genus.model import Model
    from genus.objectives import Learner
    from genus.tokens.tokenizer import Tokenizer

DRAWS = 1 << 20
"""Purpose of the keys of draws: far from the purposes of training."""
SLOTS = 32
"""Texts that are decoded together, where nothing else is said."""


class Engine:
    """Generates texts with one model: many requests at once, in `slots` that they join and leave at any step."""

    def __init__(
        self,
        learner: Learner,
        model: Model,
        tokenizer: Tokenizer,
        *,
        penalties: Sequence[Penalty] = (),
        slots: int = SLOTS,
        seed: int = 0,
        precision: str = "float32",
        cut_prompts: bool = False,
        log_probabilities: bool = False,
    ) -> None:
        """Prepare for requests.

        Args:
            learner: with a head that predicts the next token, on its device.
            model: the learner's model, which knows its positions and the facts that it reads.
            tokenizer: the learner's own.
            penalties: applied to the logits in this order, before temperature and filters.
            slots: the most texts that are decoded together.
            seed: of all draws.
            precision: dtype of the forward pass, as in `Run.precision`.
            cut_prompts: whether the left end of a prompt that is too long is dropped; else it is refused.
            log_probabilities: whether results have the log-probability of each token.

        Raises:
            UsageError: `slots` is below 1, or `seed` below 0.
        """
        if slots < 1:
            raise UsageError(f"slots: expected at least 1, got {slots}")
        self.learner, self.model, self.tokenizer = learner, model, tokenizer
        self.penalties, self.slots, self.seed = tuple(penalties), slots, checked(seed)
        self.precision, self.told = precision, log_probabilities
        found = writing(learner)
        whole = found is not None and found[0].heads[found[1]].predicts == "written"
        self.prompts = Prompts(tokenizer, model, learner.network, cut=cut_prompts, whole=whole)

    def altered(
        self,
        *,
        penalties: Sequence[Penalty] | None = None,
        seed: int | None = None,
        log_probabilities: bool | None = None,
    ) -> Engine:
        """Return an engine of the same model that does otherwise what is given (UsageError: `seed` is below 0)."""
        other = copy(self)
        other.penalties = self.penalties if penalties is None else tuple(penalties)
        other.seed = self.seed if seed is None else checked(seed)
        other.told = self.told if log_probabilities is None else log_probabilities
        return other

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> list[list[Result]]:
        """Return the texts of each request, sample by sample."""
        found: list[list[Result]] = [[] for _ in requests]
        for piece in self.stream(requests, decoding):
            if piece.result is not None:
                found[piece.request].append(piece.result)
        return [sorted(results, key=lambda result: result.sample) for results in found]

    def stream(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Piece]:
        """Yield pieces of text as they are generated.

        Raises:
            UsageError: a request asks for what cannot be: an empty stop string, a prompt that is too long.
            GenusError: the model does not predict the next token.
        """
        for number, request in enumerate(requests, 1):
            name = "the prompt" if len(requests) == 1 else f"prompt {number} of {len(requests)}"
            self.check(request, decoding, name)
        with self.reading():
            for piece in decoding.run(self, requests):
                if piece.text or piece.result is not None:
                    yield piece

    def check(self, request: Request, decoding: Decoding, prompt: str = "the prompt") -> None:
        """Refuse a request that cannot be answered (UsageError), whose prompt has a name in the message."""
        self.prompts.check(request, prompt)
        decoding.check(request)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Context manager for forward passes: evaluation mode, and what makes those of single texts fast on CPUs."""
        with evaluating(self.learner), single_rows(self.learner):
            yield

    def begun(self, number: int, request: Request, decoding: Decoding) -> list[Running]:
        """Return the texts of a request, one a sample, before the first token."""
        prompt, most = self.prompts.ids(request)
        answers, source = Answers.of(self.prompts, request, most), self.prompts.source(request)
        key = number if request.key is None else request.key
        return [
            Running(
                number, sample, request, prompt, source, most, generator(self.seed, DRAWS, key, sample),
                Text(self.tokenizer, prompt, request.stop), answers, choice(decoding, self.penalties), self.told,
            )
            for sample in range(request.samples)
        ]  # fmt: skip

    def reader(self, texts: Sequence[Running], together: int, *, sharing: int = 1) -> Reader:
        """Return a reader with room for the `together` largest of so many texts, of which `sharing` share a source."""
        entries = sum(sorted(text.capacity for text in texts)[-together:])
        sources = sum(sorted(len(text.source) for text in [*texts][::sharing])[-together:])
        return Reader(self.learner, self.model, entries, self.precision, sources=sources)

    def token_by_token(self, decoding: TokenByToken, requests: Sequence[Request]) -> Iterator[Piece]:
        """Yield what a decoding that needs one text at a time generates; see `stream`."""
        texts = [text for number, request in enumerate(requests) for text in self.begun(number, request, decoding)]
        if not texts:
            return
        slots = Slots(self.reader(texts, self.slots), self.slots, self.prompts, texts)
        while slots.waiting or slots.running:
            for _, piece in slots.step():
                yield piece


def batched(requests: Sequence[Request], size: int) -> Iterator[list[tuple[int, Request]]]:
    """Yield numbered requests, so many at a time."""
    numbered = iter(enumerate(requests))
    while some := list(itertools.islice(numbered, size)):
        yield some


def checked(seed: int) -> int:
    """Return a seed (UsageError: it is below 0)."""
    if seed < 0:
        raise UsageError(f"seed: expected at least 0, got {seed}")
    return seed
