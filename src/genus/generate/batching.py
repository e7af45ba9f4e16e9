"""Continuous batching: requests of any decodings come from any threads, and share one model's forward passes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from genus.errors import GenusError, UsageError
from genus.generate import Piece
from genus.generate.reader import Reader
from genus.generate.sampling import TokenByToken
from genus.generate.slots import Slots

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genus.generate import Decoding, Penalty, Request
    from genus.generate.engine import Engine
    from genus.generate.slots import Running

UNBOUNDED = 4096
"""Tokens of the longest text of a model without a last position, where nothing else is said."""
USUAL = 1024
"""Tokens of a text for which each slot has room, where nothing else is said."""

LATE = "the time of the request was over before its texts had ended; give it more time, or ask for fewer tokens"
CLOSED = "generation was closed before the texts of the request had ended; ask again once it runs"


class DeadlineError(GenusError):
    """The time of a request was over before its texts had ended."""


class ClosedError(GenusError):
    """Generation was closed, so that nothing more is generated."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is being generated, and what waits."""

    running: int
    """Requests of which something has been generated."""
    waiting: int
    """Requests of which nothing has."""
    slots: int
    """Slots that are taken, by samples; none by searches."""
    tokens: int
    """Entries of the cache that are taken: the tokens that texts in slots have room for."""


@dataclass(eq=False)
class Stream(Iterator[Piece]):
    """The pieces of one request as they are generated, for one thread; as a context manager it ends with `cancel`.

    Iteration raises the error of the forward pass that the request was in, `DeadlineError` or `ClosedError`.
    """

    wake: Callable[[], None]
    texts: list[Running]
    search: Iterator[Piece] | None
    """What a decoding generates that is not token by token."""
    end: float | None
    """When the request's time is over, by the monotonic clock."""
    begun: bool = False
    """Whether something of it has been generated."""
    cancelled: bool = False
    over: bool = False
    queue: SimpleQueue[Piece | BaseException | None] = field(default_factory=SimpleQueue)

    def __next__(self) -> Piece:
        """Wait for the next piece, whose `request` is 0."""
        found = None if self.over or self.cancelled else self.queue.get()
        if isinstance(found, Piece):
            return found
        self.over = True
        if found is None:
            raise StopIteration
        raise found

    def cancel(self) -> None:
        """End the request before the next forward pass, and the iteration at once; from any thread."""
        self.cancelled = True
        self.queue.put(None)  # a thread may wait for it
        self.wake()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel what has not ended."""
        self.cancel()

    def left(self) -> bool:
        """Return whether nobody waits for the request any more."""
        return self.cancelled or (self.end is not None and time.monotonic() >= self.end)


class ContinuousBatching:
    """Generates what any threads ask for at any time, in slots that texts join in order and leave at any step.

    A thread of its own makes the forward passes, one after another. What else is generated changes no text: it is that
    of `Engine.generate` of the request alone. A search by beams has forward passes and a cache of its own, between
    those of all other texts; there is one at a time.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        tokens: int | None = None,
        source_tokens: int | None = None,
        passes: Callable[[Callable[[], Any]], Any] | None = None,
    ) -> None:
        """Begin.

        Args:
            engine: its model, slots and precision, and penalties and seed where a request does not say others.
            tokens: entries of the cache: the most tokens of all running texts together, prompts included, and of the
                beams of a search. None: 1,024 for each slot, or less if that is the longest text, and room for one of
                the longest.
            source_tokens: the same for sources, of a model that reads them.
            passes: calls a function that makes a forward pass, where others use the model or its device too: when it is
                its turn, in any thread. None: at once, in the thread of this object.

        Raises:
            UsageError: `tokens` or `source_tokens` is below 1.
            GenusError: the model does not predict the next token.
        """
        self.engine, self._in_turn = engine, passes or _at_once
        self.tokens = _entries("tokens", tokens, engine.prompts.max_length, engine.slots)
        self.source_tokens = _entries("source_tokens", source_tokens, engine.prompts.source_length, engine.slots)
        reader = Reader(engine.learner, engine.model, self.tokens, engine.precision, sources=self.source_tokens)
        self._slots = Slots(reader, engine.slots, engine.prompts)
        self._of: dict[Running, Stream] = {}
        self._searches = deque[Stream]()
        self._changed = threading.Condition()
        self._arrived, self._open = deque[Stream](), dict[Stream, None]()
        self._closing = self._ending = False
        self._thread = threading.Thread(target=self._work, name="genus-generate", daemon=True)
        self._thread.start()

    def submit(
        self,
        request: Request,
        decoding: Decoding,
        *,
        penalties: Sequence[Penalty] | None = None,
        seed: int | None = None,
        log_probabilities: bool | None = None,
        timeout: float | None = None,
    ) -> Stream:
        """Return the pieces of a request as they are generated; from any thread.

        Args:
            request: joins as soon as there is a slot and room, after those that came before; one sample by itself.
            decoding: how its tokens are chosen.
            penalties: applied in this order; None: those of the engine.
            seed: of its draws, with `request.key` or 0; None: that of the engine.
            log_probabilities: whether results have the log-probability of each token; None: as the engine.
            timeout: seconds from now in which its texts end.

        Raises:
            UsageError: it cannot be answered, or never has room.
            ClosedError: after `close`.
        """
        engine = self.engine.altered(penalties=penalties, seed=seed, log_probabilities=log_probabilities)
        engine.check(request, decoding)
        texts = engine.begun(0, request, decoding)
        self._check_room(texts[0], decoding.together())
        search = None if isinstance(decoding, TokenByToken) else decoding.run(engine, [request])
        end = None if timeout is None else time.monotonic() + timeout
        stream = Stream(self._wake, [] if search else texts, search, end)
        with self._changed:
            if self._closing:
                raise ClosedError("generation was closed, and takes no more requests; begin it anew")
            self._open[stream] = None
            self._arrived.append(stream)
            self._changed.notify_all()
        return stream

    def load(self) -> Load:
        """Return how much is being generated, and how much waits; from any thread."""
        with self._changed:
            streams = list(self._open)
        texts = list(self._slots.running)
        running = sum(stream.begun for stream in streams)
        return Load(running, len(streams) - running, len(texts), sum(text.capacity for text in texts))

    def close(self, *, drain: bool = True) -> None:
        """Take no more requests, and wait until all have ended; without `drain` they end at once, by a `ClosedError`.

        A second call may end what the first one waits for.
        """
        with self._changed:
            self._closing, self._ending = True, self._ending or not drain
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        """Close; after an error what is left is not waited for."""
        self.close(drain=error is None)

    def _check_room(self, text: Running, together: int) -> None:
        """Refuse texts that never have room (UsageError)."""
        if (needed := text.capacity * together) > self.tokens:
            each = f"{together} times " if together > 1 else ""
            raise UsageError(f"{each}{len(text.prompt)} tokens of the prompt and max_tokens {text.most} are {needed}, "
                             f"and the cache has room for {self.tokens}; ask for fewer")  # fmt: skip
        if len(text.source) > self.source_tokens:
            raise UsageError(f"the source has {len(text.source)} tokens, and the cache has room for "
                             f"{self.source_tokens}; shorten it")  # fmt: skip

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _work(self) -> None:
        """Generate until closed, in the thread; nobody waits for ever, whatever happens."""
        error: BaseException | None = None
        try:
            while self._awaited():
                self._round()
        except BaseException as fault:
            error = fault
            raise
        finally:
            with self._changed:
                self._closing = True
                while self._open:
                    stream, _ = self._open.popitem()
                    stream.queue.put(error or ClosedError(CLOSED))

    def _awaited(self) -> bool:
        """Wait until there is something to do; return false where it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._open or self._closing)
            return bool(self._open) and not self._ending

    def _admit(self) -> list[Stream]:
        """Let what has arrived wait for its slots; return all that has not ended."""
        with self._changed:
            while self._arrived:
                stream = self._arrived.popleft()
                self._of |= dict.fromkeys(stream.texts, stream)
                self._slots.waiting.extend(stream.texts)
                if stream.search is not None:
                    self._searches.append(stream)
            return list(self._open)

    def _round(self) -> None:
        """Make a forward pass for all texts that are generated token by token, and one for the first search."""
        for stream in self._admit():
            if stream.left():
                self._end(stream, DeadlineError(LATE))
        if self._slots.running or self._slots.waiting:
            self._step()
        if self._searches:
            self._search(self._searches[0])

    def _step(self) -> None:
        """Generate a token of each text; an error ends the requests of these texts."""
        slots = self._slots
        try:
            found = self._in_turn(self._stepped)
        except Exception as error:
            for stream in {self._of[text]: None for text in slots.running or [slots.waiting[0]]}:
                self._end(stream, error)
            return
        for text, piece in found:
            stream = self._of[text]
            self._tell(stream, piece)
            if piece.result is not None:
                stream.texts.remove(text)
                del self._of[text]
            if not stream.texts:
                self._end(stream)

    def _stepped(self) -> list[tuple[Running, Piece]]:
        """Make a forward pass for all texts in slots, and for those that have come while others used the model."""
        with self.engine.reading():
            self._admit()
            return self._slots.step()

    def _search(self, stream: Stream) -> None:
        """Make the next step of a search."""
        search = stream.search
        assert search is not None

        def stepped() -> Piece | None:
            with self.engine.reading():
                return next(search, None)

        try:
            piece = self._in_turn(stepped)
        except Exception as error:
            self._end(stream, error)
            return
        if piece is None:
            self._end(stream)
        else:
            self._tell(stream, piece)

    def _tell(self, stream: Stream, piece: Piece) -> None:
        """Hand over a piece, if there is something to tell."""
        stream.begun = True
        if piece.text or piece.result is not None:
            stream.queue.put(piece)

    def _end(self, stream: Stream, error: BaseException | None = None) -> None:
        """Let a request go, whose iteration ends, with an error or without."""
        for text in stream.texts:
            self._slots.leave(text)
            del self._of[text]
        if stream in self._searches:
            self._searches.remove(stream)
            stream.search = None
        with self._changed:
            self._open.pop(stream, None)
        stream.queue.put(error)


def _at_once(compute: Callable[[], Any]) -> Any:
    return compute()


def _entries(name: str, given: int | None, longest: int | None, slots: int) -> int:
    """Return the entries of a cache, given what was said, the tokens of the longest text and the number of slots.

    Raises:
        UsageError: fewer than 1 were asked for.
    """
    if given is not None and given < 1:
        raise UsageError(f"{name}: expected at least 1, got {given}")
    longest = UNBOUNDED if longest is None else longest
    return max(longest, slots * min(longest, USUAL)) if given is None else given
