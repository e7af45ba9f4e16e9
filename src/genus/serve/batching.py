"""Dynamic batching: what requests ask at the same time is answered by the same forward passes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from genus.adapt.mixture import Mixture
from genus.inference.engine import TOKENS_AT_ONCE, Inference, row_of
from genus.serve.ticket import Refused, Ticket, busy, current

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.inference import Work
    from genus.objectives import Learner
    from genus.serve.limits import Limits
    from genus.serve.passes import Passes

T = TypeVar("T")
Watch = Callable[[int, int, float], None]
"""Told of a pass: its works, its tokens, its seconds."""


@dataclass(eq=False, slots=True)
class Waiting:
    """A work that waits for its pass."""

    work: Work | None
    ticket: Ticket
    tokens: int
    longest: int
    most: int
    """Tokens of a pass of such works."""
    answered: threading.Semaphore
    """Released when there is an answer, or an error."""
    compute: Callable[[], Any] | None = None
    """What is computed in the place of a work, by itself."""
    answer: Any = None
    error: BaseException | None = None


@dataclass(eq=False, slots=True)
class Queue:
    """What waits, oldest first, and how many tokens that is."""

    works: deque[Waiting] = field(default_factory=deque)
    tokens: int = 0


class Batching(Inference):
    """Answers works of all threads in the thread of passes: as many at once as there are, up to so many tokens.

    The oldest work decides of which head and of which length a pass is, and all that fit join it. Nothing is waited
    for: while a pass is computed, the next one collects. Adapters on one base share a `Batching`, and its passes.
    """

    def __init__(self, limits: Limits, passes: Passes, precision: str = "float32") -> None:
        """Begin with an empty queue.

        Args:
            limits: of what may wait, and of a pass.
            passes: the thread that makes them, between those of others.
            precision: dtype of forward passes, as in `Run.precision`.
        """
        super().__init__(precision)
        self.limits, self.passes, self.users = limits, passes, 1
        self.queue, self.ready = Queue(), threading.Condition()
        self.watch: Watch = lambda works, tokens, seconds: None
        """Told of each pass."""
        self.due = False
        """Whether the thread of passes will look into the queue, or is at a pass of it."""
        self.closed = False

    def run(self, works: Sequence[Work], most: int = TOKENS_AT_ONCE) -> list[Any]:
        """Return the answer to each work, as soon as all are there.

        Raises:
            Refused: too much waits already, the request is too large, the client has left, or the time is over.
        """
        ticket, answered = current.get(), threading.Semaphore(0)
        if not ticket.truncate and any(work.shortened for work in works):
            raise Refused(413, "a text is longer than what the model reads; shorten it, or ask for truncation")
        waiting = [
            Waiting(
                work,
                ticket,
                max(map(sum, work.lengths.values())),
                max(map(max, work.lengths.values())),
                min(most, self.limits.batch_tokens),
                answered,
            )
            for work in works
        ]
        return self._answers(waiting)

    def alone(self, compute: Callable[[], T]) -> T:
        """Return what a function computes that makes a forward pass of its own, in the thread that makes all passes.

        Threads of requests should not compute: each that has done so keeps memory (`Passes`).

        Raises:
            Refused: the client has left, or the time is over.
        """
        (found,) = self._answers([Waiting(None, current.get(), 0, 0, 0, threading.Semaphore(0), compute)])
        return cast("T", found)

    def _answers(self, waiting: Sequence[Waiting]) -> list[Any]:
        ticket = current.get()
        self._join(waiting)
        for one in waiting:
            while not one.answered.acquire(timeout=min(1.0, max(0.0, ticket.left))):
                ticket.check()
        for one in waiting:
            if one.error is not None:
                raise one.error
        return [one.answer for one in waiting]

    def _join(self, waiting: Sequence[Waiting]) -> None:
        tokens = sum(one.tokens for one in waiting)
        ticket = current.get()
        ticket.tokens += tokens
        if ticket.tokens > self.limits.tokens:
            raise Refused(413, f"{ticket.tokens:,} tokens in one request, of which it may have {self.limits.tokens:,}")
        ticket.check()
        with self.ready:
            if self.closed:
                raise Refused(503, "the model is being unloaded; try again")
            if self.queue.works and self.queue.tokens + tokens > self.limits.waiting_tokens:
                raise busy(f"{self.queue.tokens:,} tokens wait for this model")
            self.queue.works.extend(waiting)
            self.queue.tokens += tokens
            self._be_due()

    def join(self, first: Learner, learner: Learner) -> bool:
        """Take the works of a further learner; return whether they can share passes with those of the first."""
        with self.ready:
            mixture = self.mixtures[0] if self.mixtures else Mixture(first)
            if self.closed or not mixture.add(learner):
                return False
            self.mixtures = [mixture]
            self.users += 1
            return True

    def leave(self, learner: Learner) -> None:
        """Forget a learner, of which no work waits; the last one closes."""
        with self.ready:
            for mixture in self.mixtures:
                mixture.remove(learner)
            self.users -= 1
            left = self.users
        if not left:
            self.close()

    def close(self) -> None:
        """Take no more works, and wait until those that wait are answered."""
        with self.ready:
            self.closed = True
            self.ready.wait_for(lambda: not self.due)

    def _be_due(self) -> None:
        """Let the thread of passes look into the queue, if anything waits there and it is not to look anyway."""
        if self.queue.works and not self.due:
            self.due = True
            self.passes.later(self._serve)

    def _serve(self) -> None:
        """Compute the next pass of the queue; the one after it comes after those of others."""
        with self.ready:
            chosen = self._next()
        if chosen:
            self._answer(chosen)
        for one in chosen:
            one.answered.release()
        with self.ready:
            self.due = False
            self._be_due()
            self.ready.notify_all()

    def _next(self) -> list[Waiting]:
        """Take the works of the next pass from the queue; what nobody waits for any more is dropped."""
        chosen: list[Waiting] = []
        rest: deque[Waiting] = deque()
        tokens = 0
        for one in self.queue.works:
            if not one.ticket.wanted:
                self.queue.tokens -= one.tokens
            elif not chosen or (self._alike(one, chosen[0]) and tokens + one.tokens <= chosen[0].most):
                chosen.append(one)
                tokens += one.tokens
                self.queue.tokens -= one.tokens
            else:
                rest.append(one)
        self.queue.works = rest
        return chosen

    def _answer(self, chosen: Sequence[Waiting]) -> None:
        """Compute a pass; what cannot be computed with others is tried alone, so that only one request fails."""
        begun = time.perf_counter()
        try:
            answers = self._computed(chosen)
        except Exception as error:  # whatever it is, it is its request's
            if len(chosen) == 1:
                chosen[0].error = error
                return
            for one in chosen:
                self._answer([one])
            return
        self.watch(len(chosen), sum(one.tokens for one in chosen), time.perf_counter() - begun)
        for one, answer in zip(chosen, answers, strict=True):
            one.answer = answer

    def _computed(self, chosen: Sequence[Waiting]) -> list[Any]:
        if (compute := chosen[0].compute) is not None:
            return [compute()]
        return self.forward([one.work for one in chosen if one.work is not None])

    def _alike(self, one: Waiting, first: Waiting) -> bool:
        """Return whether two works may share a pass."""
        if one.work is None or first.work is None:
            return False
        return self.shared(one.work) == self.shared(first.work) and row_of(one.longest) == row_of(first.longest)
