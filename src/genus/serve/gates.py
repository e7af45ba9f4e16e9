"""What every request passes before its route: the size of its body, and its token."""

from __future__ import annotations

import asyncio
import hmac
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse

from genus.serve.routes.page import FILES

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

DRAINED = 64_000_000
"""Bytes of a refused body that are read and dropped at most."""
LINGER = 2.0
"""Seconds that are waited for more of it."""
OPEN = ("/health", "/ping", "/v2/health/live", "/v2/health/ready", "/", *(f"/page/{name}" for name in FILES))
"""Paths that are read without a token: those that tell a cluster whether the server lives, and the page."""


class Unread(Exception):
    """A body that is not read to its end: it is too large, or comes too slowly."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class BodyLimit:
    """Refuses bodies over a limit (413): by their announced size before they are read, else while they are.

    What has not come within so many seconds is not waited for any longer (408).
    """

    def __init__(self, app: ASGIApp, most: int, seconds: float) -> None:
        self.app, self.most, self.seconds = app, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on whose body is not too large, and comes in time."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, until = Request(scope).headers, asyncio.get_running_loop().time() + self.seconds
        too_large = Unread(413, f"the body has more than {self.most:,} bytes; ask for less at once")
        announced = headers.get("content-length", "")
        if announced.isdigit() and int(announced) > self.most:
            more = "expect" not in headers  # who asks first sends nothing
            await self._refuse(too_large, until if more else 0, scope, receive, send)
            return
        read, more, answered, refused = 0, True, False, None

        async def counted() -> Message:
            nonlocal read, more, refused
            try:
                message = await _received(receive, until) if more else await receive()
                read, more = read + len(message.get("body", b"")), message.get("more_body", False)
                if read > self.most:
                    raise too_large
            except Unread as error:
                refused = error
                raise
            return message

        async def noted(message: Message) -> None:
            nonlocal answered
            if refused is None or answered:  # else it says that the body could not be read
                answered = True
                await send(message)

        with suppress(Unread):
            await self.app(scope, counted, noted)
        if refused is not None and not answered:
            await self._refuse(refused, until if more else 0, scope, receive, send)

    async def _refuse(self, error: Unread, until: float, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; before that, read what comes of the body in time, as a client that writes it may not listen."""
        from genus.serve.app import body

        read, more = 0, until > 0
        with suppress(Unread):
            while more and read < DRAINED:
                part = await _received(receive, min(until, asyncio.get_running_loop().time() + LINGER))
                read, more = read + len(part.get("body", b"")), part.get("more_body", False)
        told = body(scope["path"], error.status, str(error))
        await JSONResponse(told, error.status, {"Connection": "close"})(scope, receive, send)


async def _received(receive: Receive, until: float) -> Message:
    """Return the next part of a body.

    Raises:
        Unread: it has not come in time.
    """
    try:
        async with asyncio.timeout_at(until):
            return await receive()
    except TimeoutError:
        raise Unread(408, "the body did not come in time; send it faster, or ask for less at once") from None


class Token:
    """Refuses requests without the server's token (401), which is compared in constant time."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.expected = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on that bears the token."""
        if scope["type"] != "http" or (scope["path"] in OPEN and scope["method"] in ("GET", "HEAD")):
            await self.app(scope, receive, send)
            return
        given = Request(scope).headers.get("authorization", "").encode()
        if hmac.compare_digest(given, self.expected):
            await self.app(scope, receive, send)
            return
        from genus.serve.app import body

        message = "no token, or a wrong one; send the header Authorization: Bearer TOKEN"
        headers = {"WWW-Authenticate": "Bearer"}
        await JSONResponse(body(scope["path"], 401, message), 401, headers)(scope, receive, send)
