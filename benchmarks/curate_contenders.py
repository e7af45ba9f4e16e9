"""What one process of `curate.py` does: a curation, or the same by another library; and how signatures err."""

from __future__ import annotations

import itertools
import random
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.curate import Curation
from genus.curate.engines.local import LocalProcesses
from genus.curate.exact_substrings import ExactSubstrings
from genus.curate.minhash import words_of
from genus.curate.near_duplicates import NearDuplicates
from genus.curate.presets import PRESETS
from genus.curate.repair import HtmlText
from genus.curate.run import Cleaning, fields_of
from genus.curate.sketches import signatures
from genus.text import read_documents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

VALUES, WORDS = 128, 5
RENSA_BANDS = 16
"""It asks for a divisor of the values."""
BATCH = 1_000
"""Texts whose signatures are made by one call."""


def cleaned(curation: Curation) -> Callable[[Path, int], int]:
    """Return the work of a curation: documents kept, with so many processes."""

    def work(text: Path, threads: int) -> int:
        folder = Path(tempfile.mkdtemp(dir=text.parent))
        cleaning = Cleaning(
            curation, [text], folder, fields_of("text", ()), "none", engine=LocalProcesses(workers=threads)
        )
        try:
            return int(cleaning.run()["kept"]["documents"])
        finally:
            shutil.rmtree(folder)

    return work


def batches(text: Path) -> Iterable[list[str]]:
    """Yield the documents of a file, many at once."""
    documents = read_documents([text])
    while batch := list(itertools.islice(documents, BATCH)):
        yield batch


def runs(text: str) -> list[str]:
    """Return the runs of words as others take them, by the fastest way that we know."""
    words = words_of(text)
    return list(map(" ".join, zip(*(words[i:] for i in range(WORDS)), strict=False))) or [" ".join(words)]


def ours(texts: Sequence[str]) -> NDArray[Any]:
    return signatures(texts, WORDS, VALUES)


def of_rensa(texts: Sequence[str]) -> NDArray[Any]:
    return np.array([rensa_sketch(text).digest() for text in texts], np.uint32)


def rensa_sketch(text: str) -> Any:
    import rensa

    sketch = rensa.RMinHash(num_perm=VALUES, seed=0)
    sketch.update(runs(text))
    return sketch


def of_datasketch(texts: Sequence[str]) -> NDArray[Any]:
    return np.stack([datasketch_sketch(text).hashvalues for text in texts])


def datasketch_sketch(text: str) -> Any:
    from datasketch import MinHash

    sketch = MinHash(num_perm=VALUES)
    sketch.update_batch([run.encode() for run in runs(text)])
    return sketch


SKETCHES: dict[str, Callable[[Sequence[str]], NDArray[Any]]] = {
    "genus": ours,
    "rensa": of_rensa,
    "datasketch": of_datasketch,
}


def sketched(name: str) -> Callable[[Path, int], int]:
    """Return the work of signatures from raw text."""
    return lambda text, _: sum(len(SKETCHES[name](batch)) for batch in batches(text))


def rensa_duplicates(text: Path, _: int) -> int:
    """Signatures and a table of bands, without a look at the texts: documents that no earlier one is near to."""
    import rensa

    index, kept = rensa.RMinHashLSH(threshold=0.8, num_perm=VALUES, num_bands=RENSA_BANDS), 0
    for number, one in enumerate(one for batch in batches(text) for one in batch):
        sketch = rensa_sketch(one)
        kept += not index.query(sketch)
        index.insert(number, sketch)
    return kept


def datasketch_duplicates(text: Path, _: int) -> int:
    """The same by datasketch."""
    from datasketch import MinHashLSH

    index, kept = MinHashLSH(num_perm=VALUES, params=NearDuplicates().banding), 0
    for number, one in enumerate(one for batch in batches(text) for one in batch):
        sketch = datasketch_sketch(one)
        kept += not index.query(sketch)
        index.insert(str(number), sketch)
    return kept


def suffix_array(text: Path, _: int) -> int:
    """All of the text in memory, its suffix array and the prefixes that neighbours share: units that repeat."""
    from pydivsufsort import divsufsort, kasai

    units = np.frombuffer(bytearray(b"\xff".join(one.encode() for one in read_documents([text]))), np.uint8)
    order = divsufsort(units)
    return int(np.count_nonzero(kasai(units, order) >= ExactSubstrings().units))


def datatrove_filters(names: tuple[str, ...]) -> Callable[[Path, int], int]:
    """Return the work of datatrove's filters on each document, with our words and sentences."""

    def work(text: Path, _: int) -> int:
        from datatrove.data import Document
        from datatrove.pipeline import filters
        from datatrove.pipeline.filters import c4_filters, fineweb_quality_filter, gopher_quality_filter
        from datatrove.pipeline.filters import gopher_repetition_filter as repetition

        from genus.text.sentences import split

        for module in (gopher_quality_filter, repetition, fineweb_quality_filter):
            module.split_into_words = lambda text, language: text.split()
        c4_filters.split_into_sentences = lambda text, language: split(text)
        steps = [getattr(filters, name)() for name in names]
        documents = (Document(text=one, id="0") for batch in batches(text) for one in batch)
        return sum(all(step.filter(document) is True for step in steps) for document in documents)

    return work


def filters_of(name: str) -> Curation:
    """Return a preset's filters of single documents."""
    steps = PRESETS[name].steps
    kinds = {"gopher": 2, "fineweb": 6}
    kept = steps[: kinds[name]] if name in kinds else steps[:3]
    return Curation(steps=tuple(step for step in kept if step != HtmlText()))


WORK: dict[str, dict[str, Callable[[Path, int], int]]] = {
    "signatures": {name: sketched(name) for name in SKETCHES},
    "near duplicates": {
        "genus": cleaned(Curation(steps=(NearDuplicates(),))),
        "rensa": rensa_duplicates,
        "datasketch": datasketch_duplicates,
    },
    "exact substrings": {"genus": cleaned(Curation(steps=(ExactSubstrings(),))), "pydivsufsort": suffix_array},
    "gopher": {
        "genus": cleaned(filters_of("gopher")),
        "datatrove": datatrove_filters(("GopherQualityFilter", "GopherRepetitionFilter")),
    },
    "c4": {"genus": cleaned(filters_of("c4")), "datatrove": datatrove_filters(("C4QualityFilter",))},
    "fineweb": {
        "genus": cleaned(filters_of("fineweb")),
        "datatrove": datatrove_filters(
            ("GopherRepetitionFilter", "GopherQualityFilter", "C4QualityFilter", "FineWebQualityFilter")
        ),
    },
}
"""By question and contender: what is done with a file, and so many threads."""
PARALLEL = "genus"
"""The contender that shares its work out among processes; the others have one thread as they are called here."""


def errors(texts: Sequence[str], name: str) -> dict[str, float]:
    """Return the root mean square of the estimates' errors, and their mean, of texts and spoiled copies of them."""
    draw, pairs = random.Random(0), list[tuple[str, str, float]]()
    for text in texts:
        words, share = words_of(text), draw.uniform(0.0, 0.1)
        copy = [word if draw.random() > share else "other" for word in words]
        sets = [{*runs(" ".join(row))} for row in (words, copy)]
        pairs.append((text, " ".join(copy), len(sets[0] & sets[1]) / len(sets[0] | sets[1])))
    left, right = (SKETCHES[name]([pair[side] for pair in pairs]) for side in (0, 1))
    found = (left == right).mean(axis=1) - np.array([exact for *_, exact in pairs])
    return {"root mean square": float(np.sqrt(np.mean(np.square(found)))), "mean": float(np.mean(found))}
