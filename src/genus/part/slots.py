"""Slots and what stands in them: a part joins a slot by existing in the slot's folder."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import sys
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from genus.part import Part

P = TypeVar("P", bound="Part")


def slots_of(slot: type[P]) -> dict[str, type[P]]:
    """Return the concrete parts of a slot by kind, having imported every module of the slot's folder."""
    _import_folder(folder_of(slot))
    found: dict[str, type[P]] = {}
    pending: list[type[P]] = [slot]
    while pending:
        part = pending.pop()
        if not inspect.isabstract(part):
            found[part.__name__] = part
        pending.extend(part.__subclasses__())
    return dict(sorted(found.items()))


def folder_of(slot: type[Part]) -> str:
    """Return the package whose modules may hold parts of a slot: the one in whose `__init__` it is defined.

    A slot that is defined in a module of a room has that module's package. One that is defined in a module right under
    `genus` has that module alone.
    """
    module = slot.__module__
    package, _, _ = module.rpartition(".")
    return module if hasattr(sys.modules[module], "__path__") or "." not in package else package


@functools.cache
def _import_folder(folder: str) -> None:
    package = importlib.import_module(folder)
    for module in pkgutil.walk_packages(getattr(package, "__path__", []), f"{folder}."):
        importlib.import_module(module.name)
