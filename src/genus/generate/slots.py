"""Texts that are decoded together, token by token, in slots that they join and leave at any step.

What else is in the batch changes no text: each has its own region of the cache, and its own draws, keyed by
(seed, request or its key, sample) and taken one a token.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import torch

from genus.generate import Piece, Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from torch import Tensor

    from genus.generate import Decoding, Penalty, Reason, Request
    from genus.generate.answers import Answers
    from genus.generate.prompts import Prompts
    from genus.generate.reader import Reader
    from genus.generate.sampling import TokenByToken
    from genus.generate.text import Text

PROMPT_TOKENS = 4096
"""Tokens of prompts that join the batch in one forward pass, at least one prompt: so running texts wait for little."""
CHOICES = 1024
"""Ways to choose that are remembered, so that texts of different requests are chosen for together."""


@dataclass(frozen=True, eq=False)
class Choice:
    """How the tokens of a text are chosen; texts with the same object are chosen for at once."""

    decoding: Decoding
    penalties: tuple[Penalty, ...]


choice = lru_cache(CHOICES)(Choice)
"""Returns a `Choice`: the same object for equal arguments, of any threads."""


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
    choice: Choice
    told: bool = False
    """Whether the log-probability of each token is told."""
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

    def add(self, number: int, likely: float, ends: Sequence[int]) -> Piece:
        """Add a token, one of `ends` at the end; return what it adds to what can be read."""
        self.ids.append(number)
        self.log_probabilities.append(likely)
        reason = self._reason(number, ends)
        new = self.text.add([] if reason == "end" else [number], last=reason is not None)
        if self.text.stopped:
            reason = "stop"
        return Piece(self.number, self.sample, new, None if reason is None else self.result(reason))

    def _reason(self, number: int, ends: Sequence[int]) -> Reason | None:
        """Return why the text ends with this token, apart from stop strings; None: it goes on."""
        if number in ends:
            return "end" if self.answers is None else "answer"
        if self.answers is not None and self.answers.complete(self.ids):
            return "answer"
        return "length" if len(self.ids) >= self.most else None


class Slots:
    """The loop that all texts share whose tokens are chosen one by one: `step` is one forward pass for all of them."""

    def __init__(self, reader: Reader, slots: int, prompts: Prompts, waiting: Iterable[Running] = ()) -> None:
        """Begin without running texts.

        Args:
            reader: has room for each of the texts, when no other is there.
            slots: the most texts that are decoded together.
            prompts: of the reader's model.
            waiting: texts that join in this order, when there is a slot and room; others may be appended at any time.
        """
        self.reader, self.prompts = reader, prompts
        self.free = list(range(slots))[::-1]
        self.waiting, self.running = deque(waiting), list[Running]()

    def step(self) -> list[tuple[Running, Piece]]:
        """Let texts join, generate a token of each that runs, and let those go that have ended.

        If this raises, no slot is lost: the texts that are `running` can `leave`.
        """
        new = {text.slot: text.ids[-1:] for text in self.running}
        new |= {text.slot: text.prompt for text in self._joining()}
        with torch.inference_mode():  # not of those who take the pieces
            chosen, told = self._choose(self.reader.read(new))
        found = [
            (text, text.add(number, likely, self.prompts.ends))
            for text, number, likely in zip(self.running, chosen, told, strict=True)
        ]
        for text, piece in found:
            if piece.result is not None:
                self.leave(text)
        return found

    def leave(self, text: Running) -> None:
        """Let a text go, whether it runs or waits."""
        if text in self.running:
            self.running.remove(text)
            self.reader.close(text.slot)
            self.free.append(text.slot)
        elif text in self.waiting:
            self.waiting.remove(text)

    def _joining(self) -> list[Running]:
        """Let the next texts run that have room; return them, with their slots."""
        joining: list[Running] = []
        tokens = 0
        while self.waiting and self.free and (not joining or tokens + self.waiting[0].given <= PROMPT_TOKENS):
            text = self.waiting[0]
            if not self.reader.room(text.capacity, len(text.source)):
                break
            self.reader.open(self.free[-1], text.capacity, text.source)
            text.slot = self.free.pop()
            self.running.append(self.waiting.popleft())
            tokens += text.given
            joining.append(text)
        return joining

    def _choose(self, logits_SV: Tensor) -> tuple[list[int], list[float]]:
        """Return the next id of each running text, and its log-probability if it is asked for."""
        texts = self.running
        likely_SV = logits_SV.log_softmax(-1) if any(text.told for text in texts) else None  # before they are changed
        alike: dict[Choice, list[int]] = defaultdict(list)
        for place, text in enumerate(texts):
            alike[text.choice].append(place)
        if len(alike) == 1:
            ids = chosen(logits_SV, texts, self.prompts)
        else:
            parts = [chosen(logits_SV[some], [texts[one] for one in some], self.prompts) for some in alike.values()]
            places = torch.tensor([place for some in alike.values() for place in some], device=logits_SV.device)
            ids = torch.cat(parts)[places.argsort()]
        if likely_SV is None:
            return ids.tolist(), [0.0] * len(texts)
        told = likely_SV.gather(-1, ids[:, None])[:, 0].tolist()
        return ids.tolist(), [one if text.told else 0.0 for one, text in zip(told, texts, strict=True)]


def chosen(logits_SV: Tensor, texts: Sequence[Running], prompts: Prompts) -> Tensor:
    """Return the next ids (S,) of texts with the same choice."""
    logits_SV = changed(logits_SV, texts, prompts)
    draws = torch.tensor([text.draws.random() for text in texts], dtype=torch.float64, device=logits_SV.device)
    decoding = cast("TokenByToken", texts[0].choice.decoding)
    return decoding.choose(decoding.tempered(logits_SV, [len(text.ids) for text in texts]), draws)


def changed(logits_SV: Tensor, texts: Sequence[Running], prompts: Prompts) -> Tensor:
    """Return the logits of texts with the same choice after penalties, without tokens that are not allowed."""
    for penalty in texts[0].choice.penalties:
        logits_SV = penalty(logits_SV, [text.whole for text in texts])
    logits_SV[:, prompts.tokenizer.vocabulary.size :] = -torch.inf  # rows that only fill the matrix up
    for logits, text in zip(logits_SV, texts, strict=True):
        if text.request.ignore_end:
            logits[[*prompts.ends]] = -torch.inf
        if text.answers is not None:
            allowed = text.answers.allowed(text.ids)
            kept = logits[allowed]
            logits.fill_(-torch.inf)
            logits[allowed] = kept
    return logits_SV
