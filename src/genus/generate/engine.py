"""The engine of generation: requests join and leave a running batch, whose texts are decoded together.

What else is in the batch changes no text: each has its own region of the cache, and its own draws, keyed by
(seed, request or its key, sample) and taken one a token.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from genus.errors import UsageError
from genus.examples.keys import generator
from genus.generate import Piece, Request, Result
from genus.generate.answers import Answers
from genus.generate.prompts import Prompts
from genus.generate.reader import Reader, writing
from genus.generate.text import Text
from genus.model.cpu import single_rows
from genus.objectives import evaluating

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from torch import Tensor

    from genus.generate import Decoding, Penalty, Reason
    from genus.generate.sampling import TokenByToken
    from genus.model import Model
    from genus.objectives import Learner
    from genus.tokens.tokenizer import Tokenizer

DRAWS = 1 << 20
"""Purpose of the keys of draws: far from the purposes of training."""
SLOTS = 32
"""Texts that are decoded together, where nothing else is said."""
PROMPT_TOKENS = 4096
"""Tokens of prompts that join the batch in one forward pass, at least one prompt: so running texts wait for little."""


@dataclass(eq=False)
class Running:
    """A text that is being generated."""

    number: int
    sample: int
    request: Request
    prompt: list[int]
    source: list[int]
    """The ids of the source, for a model that reads one."""
    most: int
    """The most tokens that may be generated."""
    draws: np.random.Generator
    text: Text
    answers: Answers | None
    slot: int = -1
    ids: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)

    @property
    def given(self) -> int:
        """The number of tokens that are read before the first is generated."""
        return len(self.prompt) + len(self.source)

    @property
    def capacity(self) -> int:
        """The most tokens that the text may have, prompt included."""
        return len(self.prompt) + self.most

    @property
    def whole(self) -> list[int]:
        """The ids of the prompt and of what was generated."""
        return self.prompt + self.ids

    def result(self, reason: Reason) -> Result:
        """Return what was generated."""
        found = tuple(self.ids), tuple(self.log_probabilities)
        return Result(self.number, self.sample, self.text.text, *found, reason)


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
        if seed < 0:
            raise UsageError(f"seed: expected at least 0, got {seed}")
        self.learner, self.model, self.tokenizer = learner, model, tokenizer
        self.penalties, self.slots, self.seed = tuple(penalties), slots, seed
        self.precision, self.told = precision, log_probabilities
        found = writing(learner)
        whole = found is not None and found[0].heads[found[1]].predicts == "written"
        self.prompts = Prompts(tokenizer, model, learner.network, cut=cut_prompts, whole=whole)

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
            self.prompts.check(request, "the prompt" if len(requests) == 1 else f"prompt {number} of {len(requests)}")
        with evaluating(self.learner), single_rows(self.learner):
            yield from decoding.run(self, requests)

    def begun(self, number: int, request: Request) -> list[Running]:
        """Return the texts of a request, one a sample, before the first token."""
        prompt, most = self.prompts.ids(request)
        answers, source = Answers.of(self.prompts, request, most), self.prompts.source(request)
        key = number if request.key is None else request.key
        return [
            Running(
                number, sample, request, prompt, source, most, generator(self.seed, DRAWS, key, sample),
                Text(self.tokenizer, prompt, request.stop), answers,
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
        waiting = deque(text for number, request in enumerate(requests) for text in self.begun(number, request))
        if not waiting:
            return
        reader = self.reader(waiting, self.slots)
        free, running = list(range(self.slots))[::-1], list[Running]()
        while waiting or running:
            joining = self._joining(waiting, free, reader)
            last = {text.slot: text.ids[-1:] for text in running}
            running += joining
            with torch.inference_mode():  # not of those who take the pieces
                logits = reader.read({**last, **{text.slot: text.prompt for text in joining}})
                chosen, told = self._choose(decoding, logits, running)
            left: list[Running] = []
            for text, number, likely in zip(running, chosen, told, strict=True):
                piece = self._add(text, number, likely)
                if piece.text or piece.result is not None:
                    yield piece
                if piece.result is None:
                    left.append(text)
                else:
                    reader.close(text.slot)
                    free.append(text.slot)
            running = left

    def _joining(self, waiting: deque[Running], free: list[int], reader: Reader) -> list[Running]:
        """Return the next texts that have room, with their slots."""
        joining: list[Running] = []
        tokens = 0
        while waiting and free and (not joining or tokens + waiting[0].given <= PROMPT_TOKENS):
            if not reader.room(waiting[0].capacity, len(waiting[0].source)):
                break
            text = waiting.popleft()
            text.slot = free.pop()
            reader.open(text.slot, text.capacity, text.source)
            tokens += text.given
            joining.append(text)
        return joining

    def _choose(
        self, decoding: TokenByToken, logits_SV: Tensor, texts: Sequence[Running]
    ) -> tuple[list[int], list[float]]:
        """Return the next id of each text, and its log-probability if it is asked for."""
        own = logits_SV.log_softmax(-1) if self.told else None  # before anything changes them
        logits_SV = self.changed(logits_SV, texts)
        draws = torch.tensor([text.draws.random() for text in texts], dtype=torch.float64, device=logits_SV.device)
        ids = decoding.choose(logits_SV, draws)
        told = [0.0] * len(texts) if own is None else own.gather(-1, ids[:, None])[:, 0].tolist()
        return ids.tolist(), told

    def changed(self, logits_SV: Tensor, texts: Sequence[Running]) -> Tensor:
        """Return the logits after penalties, without tokens that are not allowed."""
        for penalty in self.penalties:
            logits_SV = penalty(logits_SV, [text.whole for text in texts])
        logits_SV[:, self.tokenizer.vocabulary.size :] = -torch.inf  # rows that only fill the matrix up
        for logits, text in zip(logits_SV, texts, strict=True):
            if text.request.ignore_end:
                logits[[*self.prompts.ends]] = -torch.inf
            if text.answers is not None:
                allowed = text.answers.allowed(text.ids)
                kept = logits[allowed]
                logits.fill_(-torch.inf)
                logits[allowed] = kept
        return logits_SV

    def _add(self, text: Running, number: int, likely: float) -> Piece:
        """Add a token to a text; return what it adds to what can be read."""
        text.ids.append(number)
        text.log_probabilities.append(likely)
        reason = self._reason(text, number)
        new = text.text.add([] if reason == "end" else [number], last=reason is not None)
        if text.text.stopped:
            reason = "stop"
        result = None if reason is None else text.result(reason)
        return Piece(text.number, text.sample, new, result)

    def _reason(self, text: Running, number: int) -> Reason | None:
        """Return why a text ends with this token, apart from stop strings; None: it goes on."""
        if number in self.prompts.ends:
            return "end" if text.answers is None else "answer"
        if text.answers is not None and text.answers.complete(text.ids):
            return "answer"
        return "length" if len(text.ids) >= text.most else None


def batched(requests: Sequence[Request], size: int) -> Iterator[list[tuple[int, Request]]]:
    """Yield numbered requests, so many at a time."""
    numbered = iter(enumerate(requests))
    while some := list(itertools.islice(numbered, size)):
        yield some
