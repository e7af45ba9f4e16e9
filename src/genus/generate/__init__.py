"""Generation: text that a causal model continues, by greedy decoding, sampling or beam search.

Two slots: a `Decoding` chooses tokens, a `Penalty` changes the logits that it chooses from by the text so far.
Legend: S sequences that are decoded together, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from genus.generate.engine import Engine

Reason = Literal["end", "stop", "length", "answer"]
"""Why a text ended: by the end token, by a stop string, by its number of tokens or the model's positions, or as it is
one of the closed set of answers."""


class Penalty(Part, ABC):
    """The slot of penalties: how the text so far changes the logits of the next token."""

    @abstractmethod
    def __call__(self, logits_SV: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        """Return logits (S, V), which may be changed in place, given the ids of each text, prompt included."""


class Decoding(Part, ABC):
    """The slot of decoding strategies."""

    @abstractmethod
    def in_transformers(self) -> dict[str, Any]:
        """Return the choices in the names of transformers' `GenerationConfig`."""

    @abstractmethod
    def run(self, engine: Engine, requests: Sequence[Request]) -> Iterator[Piece]:
        """Yield what is generated for each request, in the order in which it is made.

        Between any two forward passes something is yielded, an empty piece where there is nothing to tell.
        """

    def check(self, request: Request) -> None:
        """Refuse a request that this decoding cannot answer (UsageError); here none."""

    def together(self) -> int:
        """Return how many texts of a request can only be decoded together; here 1."""
        return 1


@dataclass(frozen=True)
class Request:
    """A prompt, and what is asked of its continuation."""

    prompt: str | Sequence[int]
    """Text, or token ids with all special tokens."""
    max_tokens: int = 128
    """The most tokens that are generated; fewer where the model has no position for them."""
    samples: int = 1
    """How many continuations are drawn; of a beam search, how many of its beams are returned, best first."""
    stop: tuple[str, ...] = ()
    """Strings before which a text ends."""
    answers: tuple[str, ...] = ()
    """The closed set of continuations that are allowed; none: any."""
    ignore_end: bool = False
    """Whether the end token may not be generated, so that texts have `max_tokens` tokens."""
    key: int | None = None
    """Of the draws, for texts that do not depend on which requests come before; None: the number of the request."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of generated text: the pieces of a sample, one after another, are its text."""

    request: int
    """The number of the request, in the order in which they were given."""
    sample: int
    text: str
    """Whole characters; "" where a token ends within one, or could begin a stop string."""
    result: Result | None = None
    """All of the sample, with its last piece."""


@dataclass(frozen=True, slots=True)
class Result:
    """A generated text."""

    request: int
    sample: int
    text: str
    """The continuation, without the prompt, the end token and the stop string."""
    ids: tuple[int, ...]
    """Its token ids, with the end token or those of the stop string."""
    log_probabilities: tuple[float, ...]
    """Of each id, in nats, given all before it: those of the model, before temperature, filters and penalties."""
    reason: Reason
    score: float | None = None
    """Of a beam search: the sum of log-probabilities by which it chose, over its length penalty."""
