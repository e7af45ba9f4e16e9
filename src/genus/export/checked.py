"""Model folders that are read again before they are written."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from genus.errors import GenusError
from genus.export.folder import save
from genus.export.verify import verify

if TYPE_CHECKING:
    from collections.abc import Collection

    from genus.export.folder import LoadedModel


def write_checked(folder: Path, model: LoadedModel, source: Path, replaced: Collection[Path] = ()) -> dict[str, float]:
    """Write a model folder; return the largest differences of the model that is read from it, by output.

    Args:
        folder: where to write.
        model: the model.
        source: where it lies, for messages.
        replaced: files of an older model there, relative to the folder, that do not stay.

    Raises:
        GenusError: the folder would not give the same outputs.
    """
    write = partial(save, generation=model.generation, task=model.task)
    with TemporaryDirectory(prefix="genus-") as work:
        trial = Path(work) / "model"
        write(trial, model.recipe, model.learner, model.tokenizer)
        try:
            differences = verify(trial, model.learner)
        except GenusError as error:
            raise GenusError(f"{str(error).replace(str(trial), str(source))}; nothing is exported") from None
    write(folder, model.recipe, model.learner, model.tokenizer, replaced=replaced)
    return differences
