"""A corpus from the docstrings of the installed Python packages, with a text classification task made from it.

Source files are parsed and never imported. A corpus document is the prose of one module: the paragraphs of its
docstrings and long string literals that are mostly words, each once. Lists of parameters, formulas, code and its output
are left out: of them a small model learns little else than punctuation. The task is to tell whether a sentence is as it
was written or has four neighboring words in reverse order, which no count of words tells; docstrings with a sentence of
its validation split are left out of the corpus.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import inspect
import json
import os
import re
import sysconfig
import warnings
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from genus.errors import GenusError
from genus.processes import in_order
from genus.text.sentences import split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

STANDARD_LIBRARY = "python"
"""The package name given to the standard library."""
SKIPPED = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "lib2to3", "_vendor"}
SHORTEST = 80
"""Minimum length of a corpus document, in characters."""
WORDY = 0.9
"""Least share of letters and spaces in a paragraph of prose."""
FEWEST = 5
"""Words of a paragraph of prose: shorter ones are headings and names."""
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
"""Nodes with docstrings."""
WRITTEN, REVERSED = "as written", "reversed"
"""The classes of the task."""
STRETCH = 4
"""Words of a sentence that are reversed."""
SENTENCE = re.compile(r"[A-Z][a-z]*(?: [A-Za-z]+,?){7,23}\.")
"""A sentence of the task: 8 to 24 words of letters, with commas between them."""
EXAMPLE = re.compile(r"[ \t]*>>>.*(?:\n.*\S.*)*")
"""An example and its output, up to the next empty line."""
CODE = re.compile(r"\s*(\.\.|[-=~^*#_+]{3,}\s*$)")
BATCH = 32
"""Source files that a parsing process takes at once."""
MARKUP = re.compile(r":[\w:]+:(?=`)|[`*]+")


@dataclass(frozen=True, slots=True)
class Module:
    """The prose of one source file."""

    package: str
    docstrings: list[str]
    texts: list[str]
    """Long string literals that read as prose, such as documentation that is attached to objects elsewhere."""


@dataclass(frozen=True, slots=True)
class Made:
    """The three files that were written, and their sizes and labels."""

    corpus: Path
    train: Path
    validation: Path
    documents: int
    characters: int
    labels: list[str]
    """The classes of the task."""
    examples: tuple[int, int]
    """Numbers of training and of validation examples."""


def read(
    roots: Sequence[tuple[str | None, Path]] = (),
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Module]:
    """Return the prose of every module under the roots, in order of path, with repeated paragraphs removed.

    Args:
        roots: (package name, folder); without a name, each entry of the folder is a package. Default: the standard
            library and the packages installed in this environment.
        workers: number of parsing processes.
        progress: called with (files parsed, files in all).
    """
    paths = sysconfig.get_paths()
    roots = roots or [(STANDARD_LIBRARY, Path(paths["stdlib"])), (None, Path(paths["purelib"]))]
    files = [found for name, root in roots for found in _files(name, root)]
    modules, seen = [], set[str]()
    batches = (files[first : first + BATCH] for first in range(0, len(files), BATCH))
    for module in chain.from_iterable(in_order(_parse_all, batches, workers)):
        kept = ([_unseen(text, seen) for text in texts] for texts in (module.docstrings, module.texts))
        modules.append(Module(module.package, *([text for text in texts if text] for texts in kept)))
        progress(len(modules), len(files))
    return modules


def make(
    modules: Sequence[Module],
    folder: Path,
    *,
    characters: int = 8_000_000,
    train: int = 6_000,
    validation: int = 500,
    unread: Sequence[str] = (),
) -> Made:
    """Write `corpus.jsonl`, `train.jsonl` and `validation.jsonl`; the same modules give the same bytes.

    Args:
        modules: the result of `read`.
        folder: where to write.
        characters: length of the corpus; the largest packages are cut to a common length to meet it.
        train: number of training sentences; where there are fewer, all that validation leaves, if these are as many.
        validation: number of validation sentences.
        unread: texts that the corpus must not hold, in whatever case: docstrings with one of them are left out.

    Raises:
        GenusError: the docstrings have fewer sentences than twice the validation split.
    """
    sentences = {text: _sentences(text) for module in modules for text in module.docstrings}
    known = sorted({one for found in sentences.values() for one in found}, key=_key)
    if len(known) < 2 * validation:
        raise GenusError(
            f"the installed packages have {len(known):,} plain sentences of 8 to 24 words in their docstrings, and the "
            f"task takes {2 * validation:,}: install more packages"
        )
    train = min(train, len(known) - validation)
    splits = {"validation": known[:validation], "train": known[validation : validation + train]}
    asked = set(splits["validation"])
    hidden = {text for text, found in sentences.items() if asked.intersection(found)}
    documents = _shorten(_documents(modules, hidden | _holding(modules, unread)), characters)
    folder.mkdir(parents=True, exist_ok=True)
    corpus = [{"text": text, "package": package} for text, package in documents]
    files = {name: _write(folder / f"{name}.jsonl", list(_labeled(part))) for name, part in splits.items()}
    return Made(
        corpus=_write(folder / "corpus.jsonl", corpus),
        train=files["train"],
        validation=files["validation"],
        documents=len(documents),
        characters=sum(len(text) for text, _ in documents),
        labels=[WRITTEN, REVERSED],
        examples=(train, validation),
    )


def _files(name: str | None, root: Path) -> Iterator[tuple[str, str]]:
    """Yield (package, path) of every source file under a root, in order."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(inner for inner in folders if inner not in SKIPPED)
        for file in sorted(names):
            if file.endswith(".py"):
                path = Path(folder, file)
                yield name or path.relative_to(root).parts[0].removesuffix(".py"), str(path)


def _parse_all(batch: list[tuple[str, str]]) -> list[Module]:
    """Parse without garbage collection, which takes a fifth of the time and finds no cycles."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return [_parse(found) for found in batch]
    finally:
        if collects:
            gc.enable()


def _parse(found: tuple[str, str]) -> Module:
    """Return the prose of one file, empty if the file cannot be read or parsed."""
    package, path = found
    try:
        source = Path(path).read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in strings of third-party files
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return Module(package, [], [])
    docstrings, texts, known = [], [], set[str]()
    for node in _nodes(tree):
        if isinstance(node, DOCUMENTED):
            if text := ast.get_docstring(node, clean=False):
                known.add(text)
                docstrings.append(_prose(text))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _reads_as_prose(node.value):
            texts.append(node.value)
    texts = [_prose(text) for text in texts if text not in known]
    return Module(package, [text for text in docstrings if text], [text for text in texts if text])


def _nodes(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes in the order of the source, without those on one line that define nothing: most, and no text."""
    left: list[ast.AST] = [tree]
    while left:
        node = left.pop()
        yield node
        inner = []
        for child in ast.iter_child_nodes(node):
            first, last = getattr(child, "lineno", None), getattr(child, "end_lineno", None)
            if first is None or last is None or last > first or isinstance(child, DOCUMENTED):
                inner.append(child)
        left.extend(reversed(inner))


def _reads_as_prose(text: str) -> bool:
    """Return whether a string literal is several lines of words rather than a template, a table or code."""
    return len(text) > 200 and text.count("\n") > 2 and ". " in text and _wordy(text) > 0.85


def _prose(text: str) -> str:
    """Return the paragraphs of a docstring that are prose, each on one line, with an empty line between them.

    A paragraph is a run of lines of one indentation, so that a description below a parameter's name is one.
    """
    paragraphs: list[list[str]] = []
    indented = -1
    for line in EXAMPLE.sub("", inspect.cleandoc(text)).splitlines():
        words = "" if CODE.match(line) else MARKUP.sub("", line).strip()
        depth = len(line) - len(line.lstrip()) if words else -1
        if words and depth == indented:
            paragraphs[-1].append(words)
        elif words:
            paragraphs.append([words])
        indented = depth
    return "\n\n".join(one for one in map(" ".join, paragraphs) if _is_sentences(one))


def _is_sentences(paragraph: str) -> bool:
    """Return whether a paragraph is made of words and ends as a sentence does."""
    return paragraph[-1] in ".:!?)" and paragraph.count(" ") >= FEWEST - 1 and _wordy(paragraph) >= WORDY


def _wordy(text: str) -> float:
    """Return the share of letters and spaces in a text."""
    return (sum(map(str.isalpha, text)) + text.count(" ")) / len(text)


def _unseen(text: str, seen: set[str]) -> str:
    """Return the paragraphs that, up to case, are not in `seen`, and add them there."""
    fresh = []
    for paragraph in text.split("\n\n"):
        if (key := _key(paragraph.lower())) not in seen:
            seen.add(key)
            fresh.append(paragraph)
    return "\n\n".join(fresh)


def _key(text: str) -> str:
    """Return the SHA-256 of a text: a sort key that does not depend on the text's origin."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _sentences(text: str) -> list[str]:
    """Return the sentences of a docstring that the task may take: of plain words, with a place for a reversal."""
    found = [one for part in text.split("\n\n") for one in split(" ".join(part.split()))]
    return [one for one in found if SENTENCE.fullmatch(one) and _places(one.split(" "))]


def _places(words: Sequence[str]) -> list[int]:
    """Return the indices at which a stretch of lowercase words begins whose reversal differs from it.

    Neither the first word nor the last is moved.
    """
    found = []
    for first in range(1, len(words) - STRETCH):
        stretch = [*words[first : first + STRETCH]]
        if all(word.isalpha() and word.islower() for word in stretch) and stretch != stretch[::-1]:
            found.append(first)
    return found


def _labeled(sentences: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a split: every other sentence has a stretch reversed, at a place chosen by its hash."""
    for number, sentence in enumerate(sentences):
        words = sentence.split(" ")
        if number % 2:
            places = _places(words)
            at = places[int(_key(sentence), 16) % len(places)]
            words[at : at + STRETCH] = words[at : at + STRETCH][::-1]
        yield {"text": " ".join(words), "order": REVERSED if number % 2 else WRITTEN}


def _holding(modules: Iterable[Module], wanted: Sequence[str]) -> set[str]:
    """Return the texts of the modules that hold one of the wanted texts, up to case."""
    lower = [one.lower() for one in wanted]
    texts = (text for module in modules for text in (*module.docstrings, *module.texts))
    return {text for text in texts if lower and any(map(text.lower().__contains__, lower))}


def _documents(modules: Iterable[Module], hidden: set[str]) -> dict[str, list[str]]:
    """Return {package: documents}, one document per module, without the hidden docstrings."""
    documents: dict[str, list[str]] = defaultdict(list)
    for module in modules:
        text = "\n\n".join(text for text in (*module.docstrings, *module.texts) if text not in hidden)
        if len(text) >= SHORTEST:
            documents[module.package].append(text)
    return documents


def _shorten(documents: dict[str, list[str]], characters: int) -> list[tuple[str, str]]:
    """Return shuffled (document, package) of about `characters` in all; only the largest packages lose documents."""
    sizes = {package: sum(map(len, texts)) for package, texts in documents.items()}
    kept, left = [], characters
    for number, package in enumerate(sorted(sizes, key=lambda name: (sizes[name], name))):
        room = left // (len(sizes) - number)
        for text in sorted(documents[package], key=_key):
            if len(text) <= room:
                kept.append((text, package))
                room, left = room - len(text), left - len(text)
    return sorted(kept, key=lambda row: _key(row[0]))


def _write(path: Path, rows: Iterable[dict[str, str]]) -> Path:
    """Write rows as JSON lines, shuffled by hash."""
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    beside = path.with_suffix(".tmp")
    beside.write_text("".join(f"{line}\n" for line in sorted(lines, key=_key)), encoding="utf-8", errors="replace")
    return beside.replace(path)
