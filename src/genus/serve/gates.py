"""What every request passes before its route: the size of its body, and its token."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse

from genus.serve.routes.page import FILES

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = ("/health", "/ping", "/v2/health/live", "/v2/health/ready", "/", *(f"/page/{name}" for name in FILES))
"""Paths that need no token: those that a cluster asks whether the server lives, and the page, which asks for it."""


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
        announced = Request(scope).headers.get("content-length", "")
        if announced.isdigit() and int(announced) > self.most:
            await self._refuse(scope, receive, send)
            return
        read, answered = 0, False

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.most:
                raise TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self.app(scope, counted, noted)
        except TooLarge:
            if not answered:
                await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"the body has more than {self.most:,} bytes; ask for less at once"
        from genus.serve.app import body

        await JSONResponse(body(scope["path"], 413, message), 413, {"Connection": "close"})(scope, receive, send)


class Token:
    """Refuses requests without the server's token (401), which is compared in constant time."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.expected = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on that bears the token."""
        if scope["type"] != "http" or scope["path"] in OPEN:
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
