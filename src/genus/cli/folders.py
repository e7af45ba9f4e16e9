"""Resolution of model folders given on the command line."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel


MODELS = ("config.json", "adapter_config.json")
"""Files by which the folder of a model, or of an adapter, is known."""


def model_folder(folder: Path) -> Path:
    """Return the subfolder `model/` of a run folder, or the folder itself where it has none."""
    return folder / "model" if any((folder / "model" / name).exists() for name in MODELS) else folder


def model_name(folder: Path) -> str:
    """Return the name of a model in services: that of its folder, or of the run's, where that has the model in it."""
    resolved = folder.resolve()
    return (resolved.parent.name if resolved.name == "model" else resolved.name) or resolved.name


def read_model(folder: Path, base: Path | None = None) -> "LoadedModel":
    """Load the model of a run folder, of a model folder or of an adapter folder.

    Args:
        folder: the folder.
        base: of an adapter, the folder of its base, or of a run; None: where the adapter says.

    Raises:
        GenusError: the model cannot be read.
    """
    from genus.export.adapted.folder import load

    return load(model_folder(folder), base and model_folder(base))
