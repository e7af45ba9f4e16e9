"""Safe overwriting of export folders: only models and tokenizers that genus wrote are replaced, and then wholly."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from genus.errors import GenusError
from genus.export.layouts import layouts
from genus.export.onnx.folder import graph_files
from genus.export.open_clip.folder import CONFIG, WEIGHTS, is_open_clip
from genus.export.sentence_transformers import module_files
from genus.export.usage import FILES
from genus.export.weights import weight_files
from genus.files import read_json
from genus.recipe import Recipe
from genus.run_folder import LOCK, RunFolder
from genus.tokens.tokenizer import CHOICES, Tokenizer

MARK = "# Written by genus"
"""How the first line of a file for a service begins, by which its folder is known."""
BESIDE_THE_TOKENIZER = ("README.md", "config.json", "recipe.json")
"""Files of every genus model folder besides weights and tokenizer."""


def replaced_by_model(folder: Path) -> set[Path]:
    """Return the files, relative to the folder, that a model written there replaces.

    Raises:
        UsageError: the folder holds something that is not a genus model.
    """
    found = _of_model(folder)
    if not found:
        RunFolder(folder).refuse_unless_empty("a model")
    return found


def replaced_by_tokenizer(folder: Path) -> set[Path]:
    """Return the files, relative to the folder, that a tokenizer written there replaces.

    Raises:
        UsageError: the folder holds something that is not a genus tokenizer, such as a model beside one.
    """
    found = tokenizer_files(folder)
    if not found or files_in(folder) - found:
        RunFolder(folder).refuse_unless_empty("a tokenizer alone")
    return found


def replaced_by_triton_model(folder: Path) -> set[Path]:
    """Return the files, relative to the folder, that a model for Triton written there replaces, none of other versions.

    Raises:
        UsageError: the folder holds something that is not a model that genus wrote for Triton.
    """
    if not _is_marked(folder / "config.pbtxt"):
        RunFolder(folder).refuse_unless_empty("a Triton model")
        return set()
    return {path for path in files_in(folder) if path.parts[0] in ("config.pbtxt", "labels.txt", "1")}


def replaced_by_container(folder: Path) -> set[Path]:
    """Return the files, relative to the folder, that a container's Dockerfile and model written there replace.

    Raises:
        UsageError: the folder holds something that is not a Dockerfile of genus with a model of genus.
    """
    found = _of_model(folder / "model") if _is_marked(folder / "Dockerfile") else set()
    if not found:
        RunFolder(folder).refuse_unless_empty("a folder of a container")
        return set()
    return {Path("model") / path for path in found} | {*map(Path, ("Dockerfile", ".dockerignore", "README.md"))}


def replaced_by_open_clip(folder: Path) -> set[Path]:
    """Return the files, relative to the folder, that an OpenCLIP model written there replaces.

    Raises:
        UsageError: the folder holds something else than an OpenCLIP model with a tokenizer of genus.
    """
    found = tokenizer_files(folder) if is_open_clip(folder) else set()
    if not found:
        RunFolder(folder).refuse_unless_empty("an OpenCLIP model")
        return set()
    return found | {Path(CONFIG), Path(WEIGHTS[0])}


def _is_marked(file: Path) -> bool:
    try:
        return file.read_text(encoding="utf-8").startswith(MARK)
    except (OSError, ValueError):
        return False


def files_in(folder: Path) -> set[Path]:
    """Return all files in a folder and its subfolders, relative to it, but for the lock of who writes there."""
    return {path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()} - {Path(LOCK)}


def tokenizer_files(folder: Path) -> set[Path]:
    """Return the files that the genus tokenizer in a folder writes when saved; empty where there is no tokenizer."""
    if not (folder / CHOICES).is_file():
        return set()
    try:
        tokenizer = Tokenizer.load(folder)
    except (GenusError, ValueError):
        return set()
    with TemporaryDirectory(prefix="genus-") as work:
        tokenizer.save(Path(work) / "tokenizer")
        return files_in(Path(work) / "tokenizer")


def _of_model(folder: Path, name: str | None = None) -> set[Path]:
    """Return the files of a genus model (named `name`, if given) and of the models in its subfolders; empty for others.

    A model is one of genus if `recipe.json` is a recipe, of the tokenizer beside it, and `config.json` names an
    architecture.
    """
    try:
        recipe = Recipe.from_json(read_json(folder / "recipe.json"))
        ours = "architectures" in read_json(folder / "config.json") and recipe.tokens == Tokenizer.load(folder).tokens
    except (GenusError, ValueError):
        return set()
    if not ours or name not in (None, recipe.name):
        return set()
    weights = {*weight_files(folder), *graph_files(folder)}
    found = tokenizer_files(folder).union(map(Path, (*BESIDE_THE_TOKENIZER, *weights)))
    beside = (*FILES, *(Path(name) for layout in layouts() for name in layout.derived.files))
    found |= {file for file in beside if (folder / file).is_file()} | module_files(folder)
    for inner in folder.iterdir():
        found |= {Path(inner.name) / path for path in _of_model(inner, f"{recipe.name}-{inner.name}")}
    return found
