"""Server-sent events: what is answered piece by piece."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.responses import StreamingResponse

from genus.errors import GenusError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def events(told: AsyncIterator[Any], *, last: str | None = None) -> StreamingResponse:
    """Return a response with an event for each piece, as JSON; an error after the first piece is the last event.

    Args:
        told: the pieces.
        last: the data of a last event where all went well, such as OpenAI's `[DONE]`.
    """

    async def lines() -> AsyncIterator[str]:
        try:
            async for one in told:
                yield f"data: {json.dumps(one)}\n\n"
            if last is not None:
                yield f"data: {last}\n\n"
        except GenusError as error:
            yield f"data: {json.dumps({'error': {'message': str(error)}})}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
