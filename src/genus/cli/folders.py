"""Which model a folder means."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel


def model_folder(folder: Path) -> Path:
    """Return the folder `model/` of a run, or the folder itself where it is a model in the Hugging Face layout."""
    return folder / "model" if (folder / "model" / "config.json").exists() else folder


def read_model(folder: Path) -> "LoadedModel":
    """Read the model of a run, or one in the Hugging Face layout.

    Raises:
        GenusError: it cannot be read.
    """
    from genus.export.folder import load

    return load(model_folder(folder))
