"""A closed set of answers, as a trie of token ids: at each step only tokens that continue one of them are allowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from genus.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from genus.generate import Request
    from genus.generate.prompts import Prompts


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers that a text may be."""

    whole: frozenset[tuple[int, ...]]
    """The ids of each answer."""
    following: dict[tuple[int, ...], list[int]]
    """The ids that may follow, by the ids so far; the end token where an answer is the beginning of another."""

    @classmethod
    def of(cls, prompts: Prompts, request: Request, most: int) -> Answers | None:
        """Return the answers of at most so many tokens that a request allows; None: any text.

        Raises:
            UsageError: an answer is empty, longer than the request allows, tokenized as another one, or the beginning
                of another where no end token could tell them apart.
        """
        if not request.answers:
            return None
        prompt = request.prompt if isinstance(request.prompt, str) else ""
        ids = {answer: tuple(prompts.continuation(prompt, answer)) for answer in request.answers}
        for answer, one in ids.items():
            if not one or len(one) > most:
                raise UsageError(f"answers: {answer!r} has {len(one)} tokens; expected 1 to {most}")
        if len({*ids.values()}) < len(ids):
            raise UsageError(f"answers: {', '.join(map(repr, ids))}: some are the same tokens; name them otherwise")
        return cls(frozenset(ids.values()), _trie(ids, prompts.ends))

    def allowed(self, ids: Sequence[int]) -> list[int]:
        """Return the ids that may follow what was generated so far; none where it is the beginning of no answer."""
        return self.following.get(tuple(ids), [])

    def complete(self, ids: Sequence[int]) -> bool:
        """Return whether what was generated is an answer, and not the beginning of another one."""
        return tuple(ids) in self.whole and tuple(ids) not in self.following


def _trie(ids: Mapping[str, tuple[int, ...]], ends: tuple[int, ...]) -> dict[tuple[int, ...], list[int]]:
    """Return the ids that may follow, by the ids so far, of answers given as ids."""
    following: dict[tuple[int, ...], list[int]] = {}
    for one in ids.values():
        for place, number in enumerate(one):
            allowed = following.setdefault(one[:place], [])
            if number not in allowed:
                allowed.append(number)
    for answer, one in ids.items():
        if one in following:
            if not ends:
                raise UsageError(f"answers: {answer!r} is the beginning of another one, and the vocabulary has no "
                                 "end token to tell them apart; name them otherwise")  # fmt: skip
            following[one].append(ends[0])
    return following
