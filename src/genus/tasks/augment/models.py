"""The models that an augmentation reads, each named by its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from genus.errors import UsageError
from genus.export.adapted.folder import load

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel


def read_model(folder: str, choice: str) -> LoadedModel:
    """Return the model of a run folder, a model folder or an adapter folder, named by a choice of an augmentation.

    Raises:
        GenusError: it cannot be read.
        UsageError: none is named.
    """
    if not folder:
        raise UsageError(f"augmentation: name the folder of a model with {choice}=FOLDER")
    within = Path(folder) / "model"
    return load(within if within.is_dir() else Path(folder))
