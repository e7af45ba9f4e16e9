"""A model that answers outside of our server, which bounds nothing: another server does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.serve.limits import Limits
from genus.serve.passes import Passes
from genus.serve.served import Served
from genus.train.run import Run

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel

UNLIMITED = 1 << 40


def answering(name: str, model: LoadedModel) -> Served:
    """Return a model that answers on the CPU in float32, whatever is asked; who has it closes it."""
    limits = Limits(texts=UNLIMITED, tokens=UNLIMITED, waiting_tokens=UNLIMITED)
    return Served(name, model, limits, Run(device="cpu", precision="float32"), Passes())
