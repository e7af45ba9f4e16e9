"""What a served model writes: continuations of prompts, and targets of sources, by continuous batching."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from genus.errors import UsageError, say
from genus.generate import Request
from genus.generate.batching import ClosedError, ContinuousBatching, DeadlineError, Stream
from genus.generate.beam import BeamSearch
from genus.generate.configuration import Configuration
from genus.generate.engine import Engine
from genus.generate.penalties import RepetitionPenalty
from genus.generate.sampling import Greedy, Sampling
from genus.serve.ticket import Refused, Ticket, busy, current
from genus.tasks.remembered import remembered

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from genus.export.folder import LoadedModel
    from genus.generate import Decoding, Penalty, Piece, Result
    from genus.serve.limits import Limits
    from genus.serve.passes import Passes

USUAL_TOKENS = 128
"""Tokens of a text at most, where neither the request nor the folder says."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is asked of a text; None: as the folder's `generation_config.json` says, else the likeliest tokens."""

    prompt: str | Sequence[int]
    max_tokens: int | None = None
    samples: int = 1
    stop: tuple[str, ...] = ()
    temperature: float | None = None
    """0: the likeliest token."""
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    beams: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = None

    def decoding(self) -> Decoding | None:
        """Return the decoding that is asked for; None: none is.

        Raises:
            UsageError: choices that contradict each other, or are out of range.
        """
        filtered = self.top_k is not None or self.top_p != 1 or self.min_p != 0
        if self.beams is not None:
            if self.temperature or filtered:
                raise UsageError("beams: a search does not sample; leave temperature, top_k, top_p and min_p out")
            return BeamSearch(beams=self.beams)
        if self.temperature:
            return Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, min_p=self.min_p)
        return None if self.temperature is None and not filtered else Greedy()


class Writer:
    """Writes texts with one model, for all requests together."""

    def __init__(self, model: LoadedModel, limits: Limits, precision: str, passes: Passes) -> None:
        """Take the model; its cache is made for the first request.

        Args:
            model: on its device, in evaluation mode.
            limits: of texts at once, and of tokens.
            precision: of forward passes.
            passes: the thread that makes them.
        """
        self.model, self.limits, self.precision, self.passes = model, limits, precision, passes
        self.making, self.made = threading.Lock(), cast("ContinuousBatching | None", None)
        reads_source = "source" in model.recipe.model.streams
        self.usual = Configuration.of(model.generation or {}, reads_source=reads_source)
        task = remembered(model)
        self.prefix = "" if task is None else task.source_prefix

    @property
    def batching(self) -> ContinuousBatching:
        """What writes for all requests together, made at the first one."""
        with self.making:
            if self.made is None:
                self.made = self._batching()
            return self.made

    def _batching(self) -> ContinuousBatching:
        engine = Engine(
            self.model.learner, self.model.recipe.model, self.model.tokenizer, penalties=self.usual.penalties,
            slots=self.limits.slots, precision=self.precision, log_probabilities=True,
        )  # fmt: skip
        return ContinuousBatching(engine, passes=self.passes)

    def write(self, wish: Wish) -> Iterator[Piece]:
        """Yield the pieces of the texts that are asked for, as they are written; the last one of each has its result.

        Raises:
            Refused: the client has left, the time is over, or the server is too busy.
            UsageError: what is asked for cannot be.
        """
        for pieces in self.together([wish]):
            yield from pieces

    def together(self, wishes: Sequence[Wish]) -> Iterator[Iterator[Piece]]:
        """Yield the pieces of each wish; all are written at the same time. See `write`."""
        ticket = current.get()
        ticket.check()
        if self.batching.load().waiting + len(wishes) > self.limits.requests:
            raise busy("too many texts wait to be written")
        streams: list[Stream] = []
        try:
            for wish in wishes:
                streams.append(self._submitted(wish, ticket.left))
                ticket.ends.append(streams[-1].cancel)
            for stream in streams:
                yield self._read(stream, ticket)
        finally:
            for stream in streams:
                stream.cancel()

    def _read(self, stream: Stream, ticket: Ticket) -> Iterator[Piece]:
        """Yield the pieces of a stream, with errors as a service tells them."""
        try:
            for piece in stream:
                if piece.result is not None:
                    ticket.tokens += len(piece.result.ids)
                yield piece
        except DeadlineError:
            raise Refused(504, "the time for the answer is over; ask for fewer tokens") from None
        except ClosedError:
            raise Refused(503, "the model is being unloaded; try again") from None
        ticket.check()

    def results(self, wish: Wish) -> list[Result]:
        """Return the texts that are asked for, sample by sample; see `write`."""
        found = [piece.result for piece in self.write(wish) if piece.result is not None]
        return sorted(found, key=lambda result: result.sample)

    def tokens_of(self, wish: Wish) -> int:
        """Return the tokens of the prompt, or of the source."""
        request = Request(self._whole(wish.prompt), 1)
        prompts = self.batching.engine.prompts
        return len(prompts.source(request)) if prompts.reads_source else len(prompts.ids(request)[0])

    def close(self) -> None:
        """Write what is begun to its end, and end."""
        if self.made is not None:
            self.made.close()

    def _whole(self, prompt: str | Sequence[int]) -> str | Sequence[int]:
        return self.prefix + prompt if isinstance(prompt, str) else prompt

    def _submitted(self, wish: Wish, seconds: float) -> Stream:
        """Hand a wish to the thread that writes."""
        usual = min(self.usual.max_tokens or USUAL_TOKENS, self.limits.generated_tokens)
        most = usual if wish.max_tokens is None else wish.max_tokens
        if most * wish.samples > self.limits.generated_tokens:
            raise UsageError(f"max_tokens: {wish.samples} times {most:,} tokens, of which a request may ask for "
                             f"{self.limits.generated_tokens:,}")  # fmt: skip
        decoding = wish.decoding()
        penalties: list[Penalty] | None = None
        if wish.repetition_penalty is not None:
            penalties = [RepetitionPenalty(value=wish.repetition_penalty)]
        if decoding is None:
            decoding = self.usual.decoding
        elif penalties is None:
            penalties = []
        if isinstance(wish.prompt, str) and (line := self.model.recipe.examples.unfamiliar_prompt(wish.prompt)):
            say(line)
        request = Request(self._whole(wish.prompt), most, wish.samples, wish.stop, key=0)
        finite = None if seconds == float("inf") else seconds
        return self.batching.submit(request, decoding, penalties=penalties, seed=wish.seed, timeout=finite)
