"""The models of a server, by name: loaded when they are needed, reloaded without losing a request."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

from genus.errors import GenusError, UsageError, near, say
from genus.export.adapted.folder import base_of, load
from genus.export.onnx.openvino import Session
from genus.serve.passes import Passes
from genus.serve.placing import computed_in
from genus.serve.served import Served
from genus.serve.ticket import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from genus.export.onnx.session import GraphLearner
    from genus.serve.batching import Watch
    from genus.serve.limits import Limits
    from genus.train.run import Run

Backend = Literal["genus", "openvino"]
"""What computes a model: genus, of graphs ONNX Runtime; or OpenVINO, of graphs."""


@dataclass(frozen=True)
class Source:
    """Where a model lies."""

    name: str
    folder: Path
    base: Path | None = None
    """Of an adapter, the folder of its base."""
    backend: Backend = "genus"
    """What computes: by default what a folder is loaded as."""


@dataclass(eq=False)
class Slot:
    """One model, loaded or not."""

    source: Source
    served: Served | None = None
    used: int = 0
    """The number of the last request for it."""
    loading: threading.Lock = field(default_factory=threading.Lock)


def check_names(sources: Sequence[Source]) -> None:
    """Check that each model has a name of its own.

    Raises:
        UsageError: two have the same name, or there is none.
    """
    if not sources:
        raise UsageError("there is no model to serve; name a folder")
    names = [source.name for source in sources]
    if twice := [name for name in names if names.count(name) > 1]:
        folder = sources[names.index(twice[0])].folder
        raise UsageError(f"two models are called {twice[0]!r}; name them, as in other={folder}")


class Models:
    """Models by name. Those that were not asked for the longest time are unloaded when memory is over the limit."""

    def __init__(self, sources: Sequence[Source], limits: Limits, run: Run) -> None:
        """Take note of the models; `load_all` loads them.

        Raises:
            UsageError: two have the same name, or there is none.
        """
        check_names(sources)
        self.slots = {source.name: Slot(source) for source in sources}
        self.limits, self.run = limits, run
        self.lock, self.passes = threading.Condition(), Passes()
        self.users: Counter[Served] = Counter()
        """Requests that each model is working for."""
        self.requests = 0
        self.closed = False
        """Whether no further model is loaded before it is asked for."""
        self.watch: Watch = lambda works, tokens, seconds: None
        """Told of each pass of each model that is loaded from now on; see `Batching.watch`."""

    @property
    def waiting_tokens(self) -> int:
        """Tokens that wait for a forward pass."""
        loaded = [slot.served for slot in self.slots.values()]
        return sum(queue.tokens for queue in {one.inference.queue for one in loaded if one is not None})

    @property
    def names(self) -> list[str]:
        """The names of all models."""
        return [*self.slots]

    def load_all(self) -> None:
        """Load all models that there is memory for, and ask each once, so that the first request does not wait.

        `closed` ends it before the next model.

        Raises:
            GenusError: a folder cannot be read.
        """
        for name in self.slots:
            if self.closed:
                return
            with self.use(name) as served:
                served.warm()

    def ready(self, name: str) -> bool:
        """Return whether a model is loaded."""
        return self._slot(name).served is not None

    @contextmanager
    def use(self, name: str | None) -> Iterator[Served]:
        """Context manager: a model by name, loaded, which is not unloaded before the end.

        Args:
            name: of the model; None or empty: the only one, or the first.

        Raises:
            Refused: there is no such model.
            GenusError: its folder cannot be read.
        """
        slot = self._slot(name)
        with slot.loading:
            with self.lock:
                self.requests += 1
                slot.used, served = self.requests, slot.served
                if served is not None:
                    self.users[served] += 1
            if served is None:
                served = self._load(slot.source)
                with self.lock:
                    self.users[served] += 1
                    slot.served = served
                self._fit(slot)
        try:
            yield served
        finally:
            with self.lock:
                self.users[served] -= 1
                self.lock.notify_all()

    def reload(self, name: str) -> None:
        """Read a model's folder again; requests go to the old one until the new one is there.

        Raises:
            Refused: there is no such model.
            GenusError: the folder cannot be read; the old model stays.
        """
        slot = self._slot(name)
        fresh = self._load(slot.source)
        fresh.warm()
        self._take_over(slot, fresh)
        self._fit(slot)

    def unload(self, name: str) -> None:
        """Free a model's memory; the next request for it loads it again.

        Raises:
            Refused: there is no such model.
        """
        self._take_over(self._slot(name), None)

    def _take_over(self, slot: Slot, served: Served | None) -> None:
        """Give further requests another model, or one that is to be loaded; close the old one when all have left it."""
        with slot.loading, self.lock:
            old, slot.served = slot.served, served
        if old is None:
            return
        with self.lock:
            self.lock.wait_for(lambda: not self.users[old])
            del self.users[old]
        old.close()

    def close(self) -> None:
        """Answer what waits, and unload all models."""
        for slot in self.slots.values():
            if slot.served is not None:
                slot.served.close()
                slot.served = None
        self.passes.close()

    def _slot(self, name: str | None) -> Slot:
        if not name:
            return next(iter(self.slots.values()))
        if name not in self.slots:
            raise Refused(404, f"there is no model {name!r}.{near(name, self.names)}")
        return self.slots[name]

    def _load(self, source: Source) -> Served:
        """Load a model; an adapter shares the weights of its base, and forward passes, where that is loaded."""
        where = base_of(source.folder, source.base)
        loaded = {slot.source.folder.resolve(): slot.served for slot in self.slots.values()}
        base = None if where is None else loaded.get(where.resolve())
        model = load(source.folder, where, source=None if base is None else base.model)
        if source.backend == "openvino":
            cast("GraphLearner", model.learner).session = Session(source.folder, computed_in(self.run))
        own = self._is_base(source.folder)
        made = Served(source.name, model, self.limits, self.run, self.passes, base, is_base=own)
        made.inference.watch = self.watch
        return made

    def _is_base(self, folder: Path) -> bool:
        """Return whether a model that is served is an adapter on this folder."""
        for slot in self.slots.values():
            with suppress(GenusError):  # of one that cannot be read, whoever loads it is told
                where = base_of(slot.source.folder, slot.source.base)
                if where is not None and where.resolve() == folder.resolve():
                    return True
        return False

    def _fit(self, new: Slot) -> None:
        """Unload models that nobody uses, those first that were not asked for the longest time, until all fit."""
        if self.limits.memory is None:
            return
        while True:
            with self.lock:
                loaded = [slot for slot in self.slots.values() if slot.served is not None]
                weights = [slot.served.weights for slot in loaded if slot.served is not None]
                total = sum({at: size for one in weights for at, size in one.items()}.values())
                idle = [slot for slot in loaded if slot is not new and slot.served and not self.users[slot.served]]
                if total <= self.limits.memory * 1e9 or not idle:
                    return
                oldest = min(idle, key=lambda slot: slot.used)
                served, oldest.served = oldest.served, None
            assert served is not None
            del self.users[served]
            say(f"{served.name}: unloaded, as memory is limited to {self.limits.memory:g} GB")
            served.close()
