"""Resolution of model folders given on the command line."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel


def model_folder(folder: Path) -> Path:
    """Return the subfolder `model/` of a run folder, or the folder itself where it has none."""
    return folder / "model" if (folder / "model" / "config.json").exists() else folder


def read_model(folder: Path) -> "LoadedModel":
    """Load the model of a run folder or of a model folder.

    Raises:
        GenusError: the model cannot be read.
    """
    from genus.export.folder import load

    return load(model_folder(folder))
