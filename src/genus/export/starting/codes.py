"""The discrete VAE whose codes a run learns: found by its folder, known by its fingerprint, asked once an image."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from genus.errors import GenusError, UsageError, say
from genus.examples.formats import captioned_codes
from genus.examples.formats.captioned_codes import CODES, DATA, META, CaptionedCodes, kind_of
from genus.examples.formats.image_captions import FOLDER
from genus.export.folder import LoadedModel, load
from genus.export.starting.distillation import RECORD
from genus.export.weights import fingerprint
from genus.files import append, read_json, write_json
from genus.images import decode, store
from genus.objectives import answering
from genus.objectives.devices import device_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from genus.recipe import Recipe

DIGITS = 16
"""Of the fingerprint that a recipe keeps."""
AT_ONCE = 32
"""Images of a forward pass."""
TOLD = 10_000
"""Images after which it is said how far it is."""
PART = f"{DATA}.part"


@dataclass(frozen=True)
class Codebook:
    """A trained discrete VAE: images to codes, and codes to images.

    Legend: N images, S pixels a side, n codes a side.
    """

    folder: Path
    model: LoadedModel

    @classmethod
    def read(cls, folder: Path) -> Codebook:
        """Read a model folder.

        Raises:
            GenusError: it cannot be read.
            UsageError: it is of another kind of model.
        """
        model = load(folder)
        if model.recipe.model.pixels("tokens") is None:
            raise UsageError(f"{folder}: is {model.recipe.name}, which makes no codes of images; name the folder of a "
                             "discrete VAE, such as dvae's")  # fmt: skip
        return cls(folder, model)

    @property
    def choice(self) -> Any:
        """The architecture: `codes`, `grid` and `side`."""
        return self.model.recipe.model

    @property
    def network(self) -> Any:
        """The network: `logits` and `pictures`."""
        return self.model.learner.network

    def fingerprint(self) -> str:
        """Return the beginning of a hash of the weights."""
        return fingerprint(self.model.learner.state_dict())[:DIGITS]

    def check(self, examples: CaptionedCodes) -> None:
        """Check that a recipe learns codes of this kind (UsageError)."""
        own, asked = self.choice, examples
        for name in ("codes", "grid", "side"):
            if getattr(own, name) != getattr(asked, name):
                raise UsageError(
                    f"{self.folder}: has {name} {getattr(own, name)}, the recipe {getattr(asked, name)}; take another "
                    f"discrete VAE, or set {name} in examples, model and objectives"
                )
        if asked.codebook not in ("", self.fingerprint()):
            raise UsageError(f"{self.folder}: has another codebook than that whose codes were learned; name that one")

    def squares(self, images: Iterable[bytes]) -> Iterator[NDArray[np.uint8]]:
        """Yield the square (S, S, 3) in the middle of each image file."""
        side = self.choice.side
        for data in images:
            yield decode.cropped(decode.resized(decode.decoded(data), side), side, None)

    def encode(self, squares: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.int64]]:
        """Yield the most probable codes (N, n²) of images, so many at a time."""
        device = device_of(self.model.learner)
        waiting = iter(squares)
        while some := [*itertools.islice(waiting, AT_ONCE)]:
            pixels = torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2).to(device)
            with answering(self.model.learner):
                yield self.network.logits(pixels).argmax(1).flatten(1).cpu().numpy()

    def pictures(self, codes: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images (N, S, S, 3) of codes (N, n²)."""
        device, grid = device_of(self.model.learner), self.choice.grid
        found = []
        for first in range(0, len(codes), AT_ONCE):
            some = torch.from_numpy(codes[first : first + AT_ONCE]).view(-1, grid, grid).to(device)
            with answering(self.model.learner):
                found.append(self.network.pictures(some).permute(0, 2, 3, 1).cpu().numpy())
        return np.concatenate(found)


def remembered(folder: Path) -> Path | None:
    """Return the folder of the discrete VAE of a run, by the run's folder or that of its model; None: unknown.

    Raises:
        GenusError: what is remembered is damaged.
    """
    for place in (folder, folder.parent):
        if (place / RECORD).exists():
            known = read_json(place / RECORD).get("folder")
            if not isinstance(known, str):
                raise GenusError(f"{place / RECORD}: is damaged; remove it and name the discrete VAE")
            return Path(known)
    return None


def codebook_of(recipe: Recipe, run: Path, given: Path | None) -> Codebook:
    """Return the discrete VAE of a run: the given or the remembered one, which fits the recipe.

    Raises:
        GenusError: its folder cannot be read.
        UsageError: none is known, it is none, or another one than the run began with.
    """
    found = given or remembered(run)
    if found is None:
        raise UsageError(f"{recipe.name} learns codes of a discrete VAE: say which with --teacher MODEL where it is "
                         "pretrained, --dvae MODEL where it draws")  # fmt: skip
    codebook = Codebook.read(found)
    codebook.check(cast("CaptionedCodes", recipe.examples))
    return codebook


def with_codes(recipe: Recipe, run: Path, given: Path | None) -> Recipe:
    """Return a recipe with the codebook whose codes it learns, and make the codes of all images of a run, once.

    A recipe that learns none is returned as it is. What was interrupted goes on where it was.

    Raises:
        GenusError: a folder cannot be read, or has codes of another codebook.
        UsageError: there is no discrete VAE, or one that does not fit.
    """
    if not recipe.examples.reads_codes:
        return recipe
    codebook = codebook_of(recipe, run, given)
    examples = captioned_codes.with_codebook(cast("CaptionedCodes", recipe.examples), codebook.fingerprint())
    if not (run / CODES / META).exists():
        _write(codebook, run)
    captioned_codes.opened(run / CODES, examples)
    if given is not None or not (run / RECORD).exists():
        write_json(run / RECORD, {"folder": str(codebook.folder.resolve()), "fingerprint": examples.codebook})
    return replace(recipe, examples=examples)


def _write(codebook: Codebook, run: Path) -> None:
    """Write the codes of all images of a run, going on with what is there of the same codebook."""
    images, folder, choice = store.opened(run / FOLDER), run / CODES, codebook.choice
    meta = {"codebook": codebook.fingerprint(), "grid": choice.grid, "codes": choice.codes, "images": len(images)}
    folder.mkdir(parents=True, exist_ok=True)
    part, begun, kind = folder / PART, folder / f"{META}.part", kind_of(choice.codes)
    size = choice.grid**2 * kind.itemsize
    if not begun.exists() or read_json(begun) != meta:
        part.unlink(missing_ok=True)
        write_json(begun, meta)
    done = part.stat().st_size // size if part.exists() else 0
    with part.open("ab", buffering=0) as file:
        file.truncate(done * size)
        say(f"encoding {len(images) - done:,} images by {codebook.folder}")
        for codes in codebook.encode(codebook.squares(images[number] for number in range(done, len(images)))):
            append(file, codes.astype(kind).tobytes())
            done += len(codes)
            if done % TOLD < len(codes):
                say(f"{done:,} of {len(images):,} images are encoded")
    part.replace(folder / DATA)
    write_json(folder / META, meta)
    begun.unlink()
