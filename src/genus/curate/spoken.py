"""A curation as a language pack wants it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from genus.curate.c4 import BadWords
from genus.curate.contamination import Contamination
from genus.curate.language import Language
from genus.curate.repair import Normalized
from genus.errors import UsageError
from genus.text.language_pack import CLEAN

if TYPE_CHECKING:
    from genus.curate import Curation, Step
    from genus.text.language_pack import LoadedPack


def spoken(curation: Curation, found: LoadedPack) -> Curation:
    """Return the curation with the words, lists and numbers of a language.

    Steps that count words count those of its segmenter; `Language` keeps it; its evaluation tables are looked for in
    the end.

    Raises:
        UsageError: the pack gives a step a choice that it has not.
    """
    steps = tuple(_step(step, found) for step in curation.steps)
    if found.pack.tables:
        steps += (Contamination(tables=tuple(map(found.path, found.pack.tables))),)
    return replace(curation, steps=steps)


def _step(step: Step, found: LoadedPack) -> Step:
    pack, values = found.pack, dict[str, Any]()
    known = {field.name for field in fields(step)}
    if "segmenter" in known and pack.segmenter is not None:
        values["segmenter"] = pack.segmenter
    if "stop_words" in known and pack.stop_words is not None:
        values["stop_words"] = found.words(pack.stop_words)
    match step:
        case BadWords() if pack.bad_words is not None:
            values["file"] = found.path(pack.bad_words)
        case Language():
            values["keep"] = (pack.code,)
        case Normalized() if pack.normalization is not None:
            values["normalization"] = pack.normalization
    changed = replace(step, **values)
    try:
        return changed.overlay(found.steps.get(type(step).__name__, {}))
    except UsageError as error:
        raise UsageError(f"{found.folder / CLEAN}: {type(step).__name__}: {error}") from None
