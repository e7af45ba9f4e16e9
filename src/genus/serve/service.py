"""Requests as they are worked on: a thread each, with a ticket that ends when its client leaves or its time is over."""

from __future__ import annotations

import asyncio
import contextvars
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from genus.errors import heard
from genus.processes import return_memory
from genus.serve.ticket import Refused, Ticket, busy, current

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from starlette.requests import Request

    from genus.serve.limits import Limits
    from genus.serve.models import Models
    from genus.serve.served import Served

T = TypeVar("T")
RETURNED = 3.0
"""Seconds after which freed memory is returned, where requests have come; for 90 MB that takes 5 ms."""
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""Half of a character beyond the first 65,536, as JSON may write it."""


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """What was made of a request."""

    value: T
    model: str
    """The name of the model."""
    notices: list[str]
    """What is said of the request, such as how many texts lost their end, a line each."""
    tokens: int
    """Tokens that went through forward passes, special ones included."""


@dataclass(frozen=True)
class _Piece(Generic[T]):
    """One value of a streamed answer; without one it is the last."""

    value: tuple[()] | tuple[T] = ()
    error: BaseException | None = None


class Service:
    """Takes requests: how many at once, for how long, and none any more when the server ends."""

    def __init__(self, models: Models, limits: Limits) -> None:
        self.models, self.limits = models, limits
        self.pool = ThreadPoolExecutor(limits.requests, thread_name_prefix="genus-request")
        self.taken = 0
        """Requests so far."""
        self.working = 0
        """Requests that are worked on."""
        self.tokens = 0
        """Tokens that went through forward passes so far."""
        self.ready = False
        """Whether all models are loaded and warm."""
        self.ending = False
        """Whether no further request is taken."""

    async def call(
        self, request: Request, model: str | None, ask: Callable[[Served], T], *, truncate: bool = True
    ) -> Done[T]:
        """Return what a model answers.

        Args:
            request: whose client may leave, which ends the work.
            model: its name; None or empty: the first one.
            ask: called in a thread of its own with the model.
            truncate: whether texts that are too long lose their end; else they are refused.

        Raises:
            Refused: there is no such model, too much to do, no client any more, no time left, or what is no text.
            GenusError: the model cannot answer that.
        """
        _check_characters(await request.body())
        self.admit()
        request.state.ticket = ticket = Ticket(time.monotonic() + self.limits.seconds, truncate=truncate)
        watcher = asyncio.create_task(_watch(request, ticket))
        work = contextvars.copy_context().run
        try:
            return await asyncio.get_running_loop().run_in_executor(self.pool, work, self._do, ticket, model, ask)
        finally:
            watcher.cancel()
            ticket.gone.set()  # of a request that is cancelled; else nobody asks any more
            self.working -= 1
            self.tokens += ticket.tokens

    async def stream(
        self, request: Request, model: str | None, ask: Callable[[Served], Iterator[T]]
    ) -> AsyncIterator[T]:
        """Return what a model answers piece by piece; when the reader closes the iterator, the work ends.

        The first piece is there before this returns, so that what is refused is refused by a status.

        Args:
            request: whose client may leave, which ends the work.
            model: its name; None or empty: the first one.
            ask: iterated in a thread of its own, with the model.

        Raises:
            Refused: as `call`; an error after the first piece is raised by the iterator.
            GenusError: the model cannot answer that.
        """
        _check_characters(await request.body())
        self.admit()
        request.state.ticket = ticket = Ticket(time.monotonic() + self.limits.seconds)
        watcher = asyncio.create_task(_watch(request, ticket))
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue["_Piece[T]"]()

        def work() -> None:
            def each(served: Served) -> None:
                for value in ask(served):
                    loop.call_soon_threadsafe(pieces.put_nowait, _Piece(value=(value,)))

            try:
                self._do(ticket, model, each)
                last: _Piece[T] = _Piece()
            except BaseException as error:
                last = _Piece(error=error)
            loop.call_soon_threadsafe(pieces.put_nowait, last)

        loop.run_in_executor(self.pool, work)
        try:
            first = await pieces.get()
            if first.error is not None:
                raise first.error
        except BaseException:
            self._left(ticket)
            raise
        finally:
            watcher.cancel()
        return self._rest(first, pieces, ticket)

    async def _rest(self, first: _Piece[T], pieces: asyncio.Queue[_Piece[T]], ticket: Ticket) -> AsyncIterator[T]:
        """Yield the values of pieces until the last one."""
        try:
            piece = first
            while piece.value:
                yield piece.value[0]
                piece = await pieces.get()
            if piece.error is not None:
                raise piece.error
        finally:
            self._left(ticket)

    def _left(self, ticket: Ticket) -> None:
        """Count a streamed request out, and end what is left of it."""
        ticket.leave()
        self.working -= 1
        self.tokens += ticket.tokens

    def admit(self) -> None:
        """Count a request in, which its end counts out of `working`.

        Raises:
            Refused: there are too many, or the server ends.
        """
        if self.ending:
            raise Refused(503, "the server is shutting down")
        if self.working >= self.limits.requests:
            raise busy(f"{self.working:,} requests are worked on")
        self.working += 1
        self.taken += 1

    def _do(self, ticket: Ticket, model: str | None, ask: Callable[[Served], T]) -> Done[T]:
        token = current.set(ticket)
        try:
            with heard() as notices, self.models.use(model) as served:
                ticket.model = served.name
                value = ask(served)
                return Done(value, served.name, notices, ticket.tokens)
        finally:
            current.reset(token)

    async def return_memory(self) -> None:
        """Return freed memory to the system, now and then while requests come, until it is cancelled.

        Commands keep what they free (`genus.model.cpu.disable_malloc_trim`), as the next step needs it again. A server
        would keep for ever what its largest requests needed at the same time, and what lies between.
        """
        before = 0
        while True:
            await asyncio.sleep(RETURNED)
            if self.taken != before:
                before = self.taken
                await asyncio.to_thread(return_memory)

    async def drained(self) -> None:
        """Wait until no request is worked on; none is taken any more."""
        self.ending = True
        while self.working:
            await asyncio.sleep(0.02)


def _check_characters(body: bytes) -> None:
    """Refuse texts that JSON can write, and that no encoding has: with half of a surrogate pair.

    Raises:
        Refused: there is one.
    """
    if not SURROGATE.search(body):
        return
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Refused(400, "a text has half of a surrogate pair, which is no character; send its other half") from None
    except ValueError:  # it is not JSON, or not all of it
        pass


async def _watch(request: Request, ticket: Ticket) -> None:
    """Mark the ticket when the client leaves."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    ticket.leave()


def service_of(request: Request) -> Service:
    """Return the service of the application that a request came to."""
    found: Service = request.app.state.service
    return found
