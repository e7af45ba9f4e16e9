"""Prompts as token ids, within the model's positions."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import UsageError

if TYPE_CHECKING:
    from genus.generate import Request
    from genus.model import Model, Network
    from genus.tokens.tokenizer import Tokenizer


class Prompts:
    """Prompts of one model: their token ids, and how many tokens may follow.

    A model that reads a source gets the prompt as that, and continues the tokens with which its decoder begins.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        model: Model,
        network: Network | None = None,
        *,
        cut: bool = False,
        whole: bool = False,
    ) -> None:
        """Prepare for prompts.

        Args:
            tokenizer: the model's own.
            model: its positions, and whether it reads a source.
            network: the model's, in which trained vectors may take the first positions; None: none do.
            cut: whether the left end of a prompt that is too long is dropped, of a source the right one; else it is
                refused.
            whole: whether a prompt is a text of its own, with the special tokens after it: a source, of which a decoder
                writes the target in the same sequence.
        """
        self.whole = whole
        self.tokenizer, self.cut, self.reads_source = tokenizer, cut, "source" in model.streams
        ends = {stream: model.max_length_of(stream) for stream in model.streams}
        ahead = {stream: 0 if network is None else network.ahead(stream) for stream in ends}
        room = {stream: None if end is None else end - ahead[stream] for stream, end in ends.items()}
        self.max_length, self.source_length = room["tokens"], room.get("source")

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Ids that end a text: the end token, and the token that separates documents."""
        roles = self.tokenizer.vocabulary.roles
        return tuple(dict.fromkeys(roles[role] for role in ("eos", "sep") if role in roles))

    def check(self, request: Request, prompt: str = "the prompt") -> None:
        """Refuse a request that cannot be answered (UsageError), whose prompt has a name in the message."""
        for name, number in (("max_tokens", request.max_tokens), ("samples", request.samples)):
            if number < 1:
                raise UsageError(f"{name}: expected at least 1, got {number}")
        if "" in request.stop:
            raise UsageError("stop: an empty string would end every text before its first token; leave it out")
        self.ids(request, prompt)
        self.source(request, prompt)

    def source(self, request: Request, name: str = "the prompt") -> list[int]:
        """Return the ids of the source, with its special tokens; none where the model reads no source.

        Raises:
            UsageError: the source is longer than the encoder's positions.
        """
        whole, longest = self._whole_source(request), self.source_length
        if longest is None or len(whole) <= longest:
            return whole
        if not self.cut:
            raise UsageError(
                f"{name} has {len(whole)} tokens, and the encoder {longest} positions; shorten it, or drop its right "
                "end (--cut-prompt)"
            )
        ends = self.tokenizer.vocabulary.finishes
        kept = len(ends) if tuple(whole[len(whole) - len(ends) :]) == ends else 0
        return whole[: longest - kept] + whole[len(whole) - kept :]

    def _whole_source(self, request: Request) -> list[int]:
        """Return the ids of a source of any length; none where the model reads no source."""
        if not self.reads_source:
            return []
        return self._framed(request)

    def _framed(self, request: Request) -> list[int]:
        """Return the ids of a prompt that is a text of its own."""
        if not isinstance(request.prompt, str):
            return [int(one) for one in request.prompt]
        text = np.array(self.tokenizer.encode([request.prompt], specials=False)[0], dtype=np.int64)
        framed, _, _ = self.tokenizer.vocabulary.frame(text)
        return [int(one) for one in framed]

    def dropped(self, request: Request) -> int:
        """Return how many tokens of a prompt are dropped, where prompts may be cut."""
        if self.reads_source:
            return len(self._whole_source(request)) - len(self.source(request))
        return len(self._whole(request, "the prompt")) - len(self.ids(request)[0])

    def _whole(self, request: Request, name: str) -> list[int]:
        """Return the ids of a prompt of any length; see `ids`."""
        if self.reads_source:
            ids = [*self.tokenizer.vocabulary.target_begins]
        elif self.whole:
            ids = self._framed(request)
        elif isinstance(request.prompt, str):
            ids = [*self.tokenizer.vocabulary.begins, *self.tokenizer.encode([request.prompt], specials=False)[0]]
        else:
            ids = [int(one) for one in request.prompt]
        if ids:
            return ids
        roles = self.tokenizer.vocabulary.roles
        first = next((roles[role] for role in ("bos", "eos", "sep", "cls") if role in roles), None)
        if first is None:
            raise UsageError(f"{name} is empty, and the vocabulary has no token that begins a text; give a word")
        return [first]

    def ids(self, request: Request, name: str = "the prompt") -> tuple[list[int], int]:
        """Return the prompt's ids, and the most tokens that may follow.

        An empty prompt is the token that begins a text, or that separates documents.

        Raises:
            UsageError: the prompt is longer than the model's positions, or empty and there is no token to begin with.
        """
        ids = self._whole(request, name)
        if self.max_length is None:
            return ids, request.max_tokens
        if len(ids) >= self.max_length:
            if not self.cut:
                raise UsageError(
                    f"{name} has {len(ids)} tokens, and the model {self.max_length} positions, of which at least "
                    "one is for what follows; shorten it, or drop its left end (--cut-prompt)"
                )
            ids = self._cut(ids, request.max_tokens)
        return ids, min(request.max_tokens, self.max_length - len(ids))

    def _cut(self, ids: list[int], follow: int) -> list[int]:
        """Return the right end of a prompt, after the tokens that begin it, with room for what follows."""
        assert self.max_length is not None
        room = max(self.max_length - follow, self.max_length // 2)
        begins = self.tokenizer.vocabulary.begins
        first = len(begins) if tuple(ids[: len(begins)]) == begins else 0
        return ids[:first] + ids[len(ids) - max(1, room - first) :]

    def continuation(self, prompt: str, text: str) -> list[int]:
        """Return the ids of a text that continues a prompt: of the whole, where the prompt's stay the same in it."""
        alone, whole = self.tokenizer.encode([prompt, prompt + text], specials=False)
        if whole[: len(alone)] == alone and len(whole) > len(alone):
            return whole[len(alone) :]
        return self.tokenizer.encode([text], specials=False)[0]
