"""Language packs: what cleaning and tokenizers take for a language, as a folder of data.

The folder has `pack.toml`, the choices of a `LanguagePack`; lists of words, an entry a line, under the names that it
gives; and, if there is something to say, `clean.toml`, choices of steps of a curation, and `tokens.toml`, choices of
tokenizers, each in tables by kind.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genus.errors import GenusError, UsageError, near
from genus.files import reason
from genus.part import Part
from genus.part.renames import SCHEMA
from genus.text.normalization import Normalization
from genus.text.read import read_whole
from genus.text.segment import Segmenter

HERE = Path(__file__).with_name("languages")
PACK, CLEAN, TOKENS = "pack.toml", "clean.toml", "tokens.toml"


class LanguagePack(Part):
    """What is the same for all texts of a language."""

    name: str
    code: str
    """The language by ISO 639, as `Language` of a curation tells it."""
    segmenter: Segmenter | None = None
    """How words are counted; None: between white space. Sentences are cut by one set of rules for all languages."""
    normalization: Normalization | None = None
    """What `Normalized` steps of a curation do."""
    stop_words: str | None = None
    """The file of the words of which prose has some."""
    bad_words: str | None = None
    """The file of the words of which one removes a document."""
    tables: tuple[str, ...] = ()
    """Files of evaluation tables, which a curation looks for."""


@dataclass(frozen=True)
class LoadedPack:
    """A pack with its folder."""

    pack: LanguagePack
    folder: Path
    steps: dict[str, Any]
    """Choices of a curation's steps, by kind."""
    tokens: dict[str, Any]
    """Choices of tokenizers, by the kind that they replace or change."""

    def path(self, file: str) -> str:
        """Return the path of a file of the pack."""
        return str(self.folder / file)

    def words(self, file: str) -> tuple[str, ...]:
        """Return the entries of a list."""
        return tuple(line.strip() for line in read_whole(self.folder / file).splitlines() if line.strip())


def load(name: str) -> LoadedPack:
    """Return a pack by the name of a language, such as `th`, or by its folder.

    Raises:
        UsageError: there is none, or a choice is invalid.
        GenusError: a file of the pack is missing or cannot be read.
    """
    folder = HERE / name
    if not folder.is_dir() or Path(name).name != name:
        folder = Path(name)
    if not folder.is_dir():
        known = sorted(path.name for path in HERE.iterdir() if path.is_dir())
        raise UsageError(f"--language: there is no pack {name!r}, nor a folder of that name.{near(name, known)}")
    table = _table(folder / PACK)
    if table is None:
        raise GenusError(f"{folder}: is no language pack; it lacks {PACK}")
    try:
        pack = LanguagePack.from_json({"schema": SCHEMA, "kind": LanguagePack.__name__, **table})
    except UsageError as error:
        raise UsageError(f"{folder / PACK}: {error}") from None
    for file in (pack.stop_words, pack.bad_words, *pack.tables):
        if file is not None and not (folder / file).is_file():
            raise GenusError(f"{folder}: the language pack lacks {file}, which its {PACK} names")
    return LoadedPack(pack, folder, _table(folder / CLEAN) or {}, _table(folder / TOKENS) or {})


def _table(path: Path) -> dict[str, Any] | None:
    """Return the table in a TOML file; None: there is no such file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError) as error:
        raise GenusError(f"{path}: cannot be read as TOML: {reason(error)}") from None
