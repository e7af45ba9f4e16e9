"""Curations by name."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from genus.curate import Curation
from genus.curate.addresses import BlockedAddresses
from genus.curate.c4 import BadWords, C4Lines, FewSentences
from genus.curate.duplicates import ExactDuplicates, RepeatedSpans
from genus.curate.fineweb import FineWebQuality
from genus.curate.gopher import GopherQuality, GopherRepetition
from genus.curate.language import Language
from genus.curate.near_duplicates import NearDuplicates
from genus.curate.repair import HtmlText, MaskedAddresses, Normalized
from genus.curate.source_code import CodexFiles
from genus.curate.wikitext import WikiText
from genus.errors import UsageError, near
from genus.files import reason
from genus.part.renames import SCHEMA
from genus.text.normalization import ThaiNormalization
from genus.text.segment import WordsAndMarks

PRESETS = {
    # Raffel et al. 2020, section 2.2; sentences are counted again at the end, as in the released code. Not here, since
    # it needs a library: Language(keep=("en",), least=0.99)
    "c4": Curation(steps=(C4Lines(), BadWords(), FewSentences(), RepeatedSpans(), FewSentences())),
    # Rae et al. 2021, appendix A.1.1: quality, repetition, copies, near duplicates by 13-grams; how near is ours
    "gopher": Curation(
        steps=(GopherQuality(), GopherRepetition(), ExactDuplicates(), NearDuplicates(words=13, edit=None))
    ),
    # Penedo et al. 2024, section 3; released code, datatrove, examples/fineweb.py, which compares no texts that
    # agree in a band, and masks addresses by made-up ones
    "fineweb": Curation(
        steps=(
            BlockedAddresses(),
            HtmlText(),
            Language(keep=("en",)),
            GopherRepetition(segmenter=WordsAndMarks()),
            GopherQuality(segmenter=WordsAndMarks()),  # as in datatrove, a mark is a word without a letter
            C4Lines(end_punctuation=False),
            FewSentences(),
            FineWebQuality(),
            NearDuplicates(values=112, rows=8, threshold=0.75, edit=None),
            MaskedAddresses(telephone=None),
        )
    ),
    # Lowphansirikul et al. 2021, section 3; that copies are removed is ours
    "wangchanberta": Curation(steps=(Normalized(normalization=ThaiNormalization()), ExactDuplicates())),
    # Chen et al. 2021, section 3.1: unique files
    "code": Curation(steps=(CodexFiles(), ExactDuplicates())),
    # ours: what is good for any text
    "light": Curation(steps=(ExactDuplicates(), NearDuplicates())),
    "pages": Curation(steps=(HtmlText(), ExactDuplicates(), NearDuplicates())),
    "wiki": Curation(steps=(WikiText(), ExactDuplicates(), NearDuplicates())),
}


READERS = {".json": json.loads, ".toml": tomllib.loads}


def load(name: str) -> Curation:
    """Return a curation by its name, or from a `.json` or `.toml` file.

    Raises:
        UsageError: there is none of that name, or the file cannot be read as one.
    """
    if (path := Path(name)).suffix in READERS:
        try:
            table = READERS[path.suffix](path.read_text(encoding="utf-8"))
            return Curation.from_json({"schema": SCHEMA, **table} if isinstance(table, dict) else table)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"{path}: cannot be read: {reason(error)}") from None
    if name not in PRESETS:
        raise UsageError(f"--preset: there is no curation {name!r}.{near(name, [*PRESETS])}")
    return PRESETS[name]
