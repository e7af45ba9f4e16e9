"""Texts as clients of embeddings send them: a string, the ids of its tokens, or a list of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field

if TYPE_CHECKING:
    from genus.serve.tokenwise import Text

Id = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
Inputs = str | list[Id] | list[str | list[Id]]


def texts_of(inputs: Inputs) -> list[Text]:
    """Return the texts: a string and a list of ids are one; an empty list has none."""
    if isinstance(inputs, str):
        return [inputs]
    if inputs and isinstance(inputs[0], int):
        return [inputs]
    return cast("list[Text]", inputs)
