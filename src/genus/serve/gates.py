"""What every request passes before its route: the size of its body, and its token."""

from __future__ import annotations

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
OPEN = ("/health", "/ping", "/v2/health/live", "/v2/health/ready", "/", *(f"/page/{name}" for name in FILES))
"""Paths that may be read without a token: those that a cluster asks whether the server lives, and the page, which asks for it."""


class TooLarge(Exception):
    """A body over the limit."""


class BodyLimit:
    """Refuses bodies over a limit (413): by their announced size before they are read, else while they are."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on whose body is not too large."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Request(scope).headers
        announced = headers.get("content-length", "")
        if announced.isdigit() and int(announced) > self.most:
            await self._refuse(scope, receive, send, more="expect" not in headers)  # who asks first sends nothing
            return
        read, answered, more = 0, False, True

        async def counted() -> Message:
            nonlocal read, more
            message = await receive()
            read, more = read + len(message.get("body", b"")), message.get("more_body", False)
            if read > self.most:
                raise TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal answered
            if read <= self.most or answered:  # else it says that the body could not be read
                answered = True
                await send(message)

        with suppress(TooLarge):
            await self.app(scope, counted, noted)
        if read > self.most and not answered:
            await self._refuse(scope, receive, send, more=more)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, *, more: bool) -> None:
        """Answer; before that, where more of the body comes, read it, as a client that writes it may not listen."""
        message = f"the body has more than {self.most:,} bytes; ask for less at once"
        from genus.serve.app import body

        read = 0
        while more and read < DRAINED:
            part = await receive()
            read, more = read + len(part.get("body", b"")), part.get("more_body", False)
        await JSONResponse(body(scope["path"], 413, message), 413, {"Connection": "close"})(scope, receive, send)


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
