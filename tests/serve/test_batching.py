"""Dynamic batching: what waits together is computed together, errors stay with their request, limits hold."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pytest

from genus.inference import Work
from genus.serve.batching import Batching
from genus.serve.limits import Limits
from genus.serve.passes import Passes
from genus.serve.ticket import Refused, Ticket, current

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from genus.objectives import Learner

LEARNER = cast("Learner", object())


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted(Work):
    """A work whose answer is its number, and an error where that is negative."""

    number: int

    def examples(self) -> list[Any]:
        """Return nothing: the passes here compute nothing."""
        return []


class Slow(Batching):
    """Passes that wait until they may go on, and note what was in them."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.held = threading.Event()
        self.held.set()
        self.seen: list[list[int]] = []
        super().__init__(limits or Limits(), Passes())

    def forward(self, works: Sequence[Work]) -> list[Any]:
        """Return the numbers."""
        self.held.wait(10)
        numbers = [cast("Counted", work).number for work in works]
        self.seen.append(numbers)
        if min(numbers) < 0:
            raise ValueError(f"no answer to {numbers}")
        return numbers


def work(number: int, tokens: int = 4, head: str = "a") -> Counted:
    """Return a work of one sequence."""
    return Counted(learner=LEARNER, head=head, target=head, pad=0, lengths={"tokens": [tokens]}, number=number)


@contextmanager
def batching(limits: Limits | None = None) -> Iterator[Slow]:
    """Context manager: a batching thread."""
    made = Slow(limits)
    try:
        yield made
    finally:
        made.held.set()
        made.close()


def asking(made: Slow, works: Sequence[Work], ticket: Ticket | None = None) -> tuple[threading.Thread, list[Any]]:
    """Start a thread that asks; what it gets, or its error, is in the list when it ends."""
    found: list[Any] = []

    def ask() -> None:
        current.set(ticket or Ticket())
        try:
            found.extend(made.run(works))
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, found


def waits(made: Slow, number: int) -> None:
    """Wait until so many works wait."""
    until = time.monotonic() + 10
    while len(made.queue.works) != number and time.monotonic() < until:
        time.sleep(0.002)
    assert len(made.queue.works) == number


def test_what_comes_during_a_pass_is_the_next_pass() -> None:
    with batching() as made:
        made.held.clear()
        first = asking(made, [work(0)])
        waits(made, 0)
        others = [asking(made, [work(n), work(10 * n)]) for n in (1, 2, 3)]
        waits(made, 6)
        made.held.set()
        for thread, _ in (first, *others):
            thread.join(10)
        assert [found for _, found in (first, *others)] == [[0], [1, 10], [2, 20], [3, 30]]
        assert len(made.seen) == 2
        assert sorted(made.seen[1]) == [1, 2, 3, 10, 20, 30]


def test_a_pass_has_one_head_and_texts_of_like_length_up_to_its_tokens() -> None:
    with batching(Limits(batch_tokens=100)) as made:
        made.held.clear()
        started = asking(made, [work(0)])
        waits(made, 0)
        asked = [work(1, 60), work(2, 60), work(3, 30), work(4, 5, "b"), work(5, 300)]
        thread, found = asking(made, asked)
        waits(made, 5)
        made.held.set()
        thread.join(10)
        started[0].join(10)
        assert found == [1, 2, 3, 4, 5]
        assert made.seen == [[0], [1, 3], [2], [4], [5]]


def test_an_error_is_that_of_its_own_request() -> None:
    with batching() as made:
        made.held.clear()
        started = asking(made, [work(0)])
        waits(made, 0)
        good, bad = asking(made, [work(1)]), asking(made, [work(-2)])
        waits(made, 2)
        made.held.set()
        for thread, _ in (started, good, bad):
            thread.join(10)
        assert good[1] == [1]
        assert isinstance(bad[1][0], ValueError)
        assert made.run([work(7)]) == [7]


def test_a_client_that_has_left_costs_no_pass() -> None:
    with batching() as made:
        made.held.clear()
        started, ticket = asking(made, [work(0)]), Ticket()
        waits(made, 0)
        gone = asking(made, [work(1)], ticket)
        waits(made, 1)
        ticket.gone.set()
        gone[0].join(10)
        assert isinstance(gone[1][0], Refused)
        assert gone[1][0].status == 499
        made.held.set()
        started[0].join(10)
        assert made.run([work(2)]) == [2]
        assert made.seen == [[0], [2]]


def test_time_is_limited() -> None:
    with batching() as made:
        made.held.clear()
        late = asking(made, [work(1)], Ticket(deadline=time.monotonic() + 0.1))
        late[0].join(10)
        assert isinstance(late[1][0], Refused)
        assert late[1][0].status == 504


def test_a_full_queue_refuses_and_an_empty_one_takes_anything() -> None:
    with batching(Limits(waiting_tokens=10)) as made:
        assert made.run([work(1, 50)]) == [1]
        made.held.clear()
        started = asking(made, [work(0)])
        waits(made, 0)
        waiting = asking(made, [work(1, 8)])
        waits(made, 1)
        with pytest.raises(Refused, match="8 tokens wait") as refused:
            made.run([work(2, 8)])
        assert refused.value.status == 429
        made.held.set()
        for thread, _ in (started, waiting):
            thread.join(10)


def test_a_request_has_a_limited_number_of_tokens() -> None:
    with batching(Limits(tokens=100)) as made:
        token = current.set(Ticket())
        try:
            made.run([work(1, 60)])
            with pytest.raises(Refused, match="120 tokens in one request, of which it may have 100") as refused:
                made.run([work(2, 60)])
        finally:
            current.reset(token)
        assert refused.value.status == 413


def test_closing_answers_what_waits_and_refuses_the_rest() -> None:
    made = Slow()
    made.held.clear()
    started = asking(made, [work(0)])
    waits(made, 0)
    waiting = asking(made, [work(1)])
    waits(made, 1)
    ending = threading.Thread(target=made.close)
    ending.start()
    made.held.set()
    ending.join(10)
    for thread, _ in (started, waiting):
        thread.join(10)
    assert (started[1], waiting[1]) == ([0], [1])
    with pytest.raises(Refused) as refused:
        made.run([work(2)])
    assert refused.value.status == 503


def test_what_is_computed_alone_takes_its_turn_in_the_thread_of_all_passes() -> None:
    """Each thread that computes keeps memory, so that threads of requests do not."""
    with batching() as one:
        assert one.alone(threading.current_thread) is one.passes(threading.current_thread)
        order: list[str] = []
        one.held.clear()
        threads = [threading.Thread(target=one.run, args=([work(1)],))]
        threads += [threading.Thread(target=one.alone, args=(lambda: order.append("alone"),)) for _ in range(2)]
        threads += [threading.Thread(target=one.run, args=([work(2)],))]
        for thread in threads:
            thread.start()
            time.sleep(0.05)
        one.held.set()
        for thread in threads:
            thread.join()
        assert order == ["alone", "alone"]
        assert one.seen == [[1], [2]]
        with pytest.raises(ZeroDivisionError):
            one.alone(lambda: 1 / 0)
        token = current.set(Ticket(time.monotonic() - 1))
        try:
            with pytest.raises(Refused, match="time for the answer is over"):
                one.alone(threading.current_thread)
        finally:
            current.reset(token)
