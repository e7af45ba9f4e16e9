"""Slots and their parts: a part belongs to a slot if it is a subclass in the slot's folder, without registration."""

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
    """Return {kind: part class} for the concrete subclasses of a slot, after importing all modules of its folder."""
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
    """Return the package or module that may hold parts of a slot: the package in whose `__init__` it is defined.

    A slot that is defined in a module of a subpackage has the package of that module. A slot that is defined in a
    module directly in `genus` has that module alone.
    """
    module = slot.__module__
    package, _, _ = module.rpartition(".")
    return module if hasattr(sys.modules[module], "__path__") or "." not in package else package


@functools.cache
def _import_folder(folder: str) -> None:
    package = importlib.import_module(folder)
    for module in pkgutil.walk_packages(getattr(package, "__path__", []), f"{folder}."):
        importlib.import_module(module.name)
