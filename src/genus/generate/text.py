"""Text from token ids as they are generated: whole characters only, up to the first stop string."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.tokens.tokenizer import Tokenizer

BEFORE, MOST_BEFORE = 8, 32
"""Fewest and most tokens before a new one that are decoded with it, as what it adds depends on them (spaces, parts of
characters)."""
BYTES = 4
"""Bytes of a character, at most: more tokens than that which do not complete one are none."""
CUT = "\N{REPLACEMENT CHARACTER}"
"""How tokenizers decode the beginning of a character that further tokens complete."""


class Text:
    """The text of a continuation, which grows by tokens."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stop: tuple[str, ...] = ()) -> None:
        """Begin after a prompt; the text ends before the first of the strings `stop`."""
        self.tokenizer, self.stop = tokenizer, stop
        self.before = list(prompt[-BEFORE:])
        self.known = tokenizer.decode(self.before)
        """The text of `before`."""
        self.pending: list[int] = []
        self.text, self.given = "", 0
        """The text so far, and how many characters of it were returned."""
        self.stopped = False
        """Whether a stop string has occurred."""

    def add(self, ids: Sequence[int], *, last: bool = False) -> str:
        """Add tokens; return the text that is certain by now and was not returned before.

        Args:
            ids: the next tokens.
            last: whether no more follow, so that nothing is held back.
        """
        self.pending += ids
        whole = self.tokenizer.decode(self.before + self.pending)
        cut = whole.endswith(CUT) and len(self.pending) <= BYTES
        if (not cut or last) and len(whole) >= len(self.known):
            self.text += whole[len(self.known) :]
            self.before, self.known, self.pending = self.before + self.pending, whole, []
            if len(self.before) > MOST_BEFORE:
                self.before = self.before[-BEFORE:]
                self.known = self.tokenizer.decode(self.before)
        self._stop()
        certain = len(self.text) if last or self.stopped else len(self.text) - self._held()
        new, self.given = self.text[self.given : certain], max(self.given, certain)
        return new

    def _stop(self) -> None:
        """End the text before the first stop string in it."""
        longest = max(map(len, self.stop), default=0)
        start = max(0, self.given - longest)
        places = [place for one in self.stop if (place := self.text.find(one, start)) >= 0]
        if places:
            self.text, self.stopped = self.text[: min(places)], True

    def _held(self) -> int:
        """Return how many of the last characters could be the beginning of a stop string."""
        lengths = (n for one in self.stop for n in range(1, len(one)) if self.text.endswith(one[:n]))
        return max(lengths, default=0)
