"""A corpus from the docstrings of the installed Python packages, with a text classification task made from it.

Source files are parsed and never imported. A corpus document is the prose of one module: its docstrings and its long
string literals that read as prose. The task is to predict the package from the opening of a docstring, with the names
of the packages removed; the docstrings of its validation split are left out of the corpus.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import os
import re
import sysconfig
import warnings
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from genus.errors import GenusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

STANDARD_LIBRARY = "python"
"""The package name given to the standard library."""
SKIPPED = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "lib2to3", "_vendor"}
SHORTEST, LONGEST = 80, 300
"""Length in characters of a task text: shorter docstrings say too little, longer ones are cut at a word."""
CODE = re.compile(r"\s*(>>>|\.\.|[-=~^*#_+]{3,}\s*$)")
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
    """The packages that are the classes of the task."""
    examples: tuple[int, int]
    """Numbers of training and of validation examples."""


def read(
    roots: Sequence[tuple[str | None, Path]] = (),
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Module]:
    """Return the prose of every module under the roots, in order of path, with repeated texts removed.

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
    with ExitStack() as stack:
        each: Iterator[Module] = map(_parse, files)
        if workers > 1:
            pool = stack.enter_context(ProcessPoolExecutor(workers, mp_context=get_context("spawn")))
            each = pool.map(_parse, files, chunksize=32)
        for done, module in enumerate(each, 1):
            kept = [[text for text in texts if _unseen(text, seen)] for texts in (module.docstrings, module.texts)]
            modules.append(Module(module.package, *kept))
            progress(done, len(files))
    return modules


def make(
    modules: Sequence[Module],
    folder: Path,
    *,
    characters: int = 8_000_000,
    labels: int = 10,
    train: int = 40,
    validation: int = 50,
) -> Made:
    """Write `corpus.jsonl`, `train.jsonl` and `validation.jsonl`; the same modules give the same bytes.

    Args:
        modules: the result of `read`.
        folder: where to write.
        characters: length of the corpus; the largest packages are cut to a common length to meet it.
        labels: maximum number of classes: the packages with the most docstrings.
        train: training examples per package: few, where pretraining is worth most.
        validation: validation examples per package.

    Raises:
        GenusError: fewer than two packages have enough docstrings.
    """
    chosen = _choose(modules, labels, train + validation)
    if len(chosen) < 2:
        raise GenusError(
            f"fewer than two installed packages have {train + validation} docstrings: install more packages"
        )
    hidden = {text for texts in chosen.values() for text in texts[:validation]}
    documents = _shorten(_documents(modules, hidden), characters)
    opening = _opener(list(chosen))
    examples = {
        "train": [(opening(text), package) for package, texts in chosen.items() for text in texts[validation:]],
        "validation": [(opening(text), package) for package, texts in chosen.items() for text in texts[:validation]],
    }
    folder.mkdir(parents=True, exist_ok=True)
    return Made(
        corpus=_write(folder / "corpus.jsonl", documents),
        train=_write(folder / "train.jsonl", examples["train"]),
        validation=_write(folder / "validation.jsonl", examples["validation"]),
        documents=len(documents),
        characters=sum(len(text) for text, _ in documents),
        labels=list(chosen),
        examples=(len(examples["train"]), len(examples["validation"])),
    )


def _files(name: str | None, root: Path) -> Iterator[tuple[str, str]]:
    """Yield (package, path) of every source file under a root, in order."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(inner for inner in folders if inner not in SKIPPED)
        for file in sorted(names):
            if file.endswith(".py"):
                path = Path(folder, file)
                yield name or path.relative_to(root).parts[0].removesuffix(".py"), str(path)


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
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if text := ast.get_docstring(node, clean=False):
                known.add(text)
                docstrings.append(_prose(text))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _reads_as_prose(node.value):
            texts.append(node.value)
    texts = [_prose(text) for text in texts if text not in known]
    return Module(package, [text for text in docstrings if text], texts)


def _reads_as_prose(text: str) -> bool:
    """Return whether a string literal is several lines of words rather than a template, a table or code."""
    words = sum(letter.isalpha() or letter == " " for letter in text)
    return len(text) > 200 and text.count("\n") > 2 and words > 0.85 * len(text) and ". " in text


def _prose(text: str) -> str:
    """Return a docstring without its indentation, code lines, rulers and inline markup."""
    lines = [line.rstrip() for line in inspect.cleandoc(text).splitlines() if not CODE.match(line)]
    return re.sub(r"\n{3,}", "\n\n", MARKUP.sub("", "\n".join(lines))).strip()


def _unseen(text: str, seen: set[str]) -> bool:
    """Return whether the text, up to case and white space, is not in `seen`, and add it there."""
    key = _key(" ".join(text.lower().split()))
    fresh = key not in seen
    seen.add(key)
    return fresh


def _key(text: str) -> str:
    """Return the SHA-256 of a text: a sort key that does not depend on the text's origin."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _choose(modules: Iterable[Module], labels: int, needed: int) -> dict[str, list[str]]:
    """Return {package: `needed` docstrings, sampled by hash} for the packages with the most docstrings."""
    texts: dict[str, list[str]] = defaultdict(list)
    for module in modules:
        texts[module.package] += [text for text in module.docstrings if len(text) >= SHORTEST]
    enough = sorted((name for name in texts if len(texts[name]) >= needed), key=lambda name: (-len(texts[name]), name))
    return {name: sorted(texts[name], key=_key)[:needed] for name in sorted(enough[:labels])}


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


def _opener(packages: Sequence[str]) -> Callable[[str], str]:
    """Return a function that cuts a docstring to its opening and replaces every form of the packages' names."""
    names = {part for package in packages for part in (package, *package.split("_")) if len(part) > 2}
    spaced = [r"[\s_-]?".join(name) if len(name) > 4 else name for name in sorted(names, key=len, reverse=True)]
    pattern = re.compile(rf"[\w.]*(?:{'|'.join(spaced)})[\w.]*", re.IGNORECASE)

    def opening(text: str) -> str:
        words = pattern.sub("package", " ".join(text.split()))
        return words if len(words) <= LONGEST else words[:LONGEST].rsplit(" ", 1)[0]

    return opening


def _write(path: Path, rows: Iterable[tuple[str, str]]) -> Path:
    """Write (text, package) rows as JSON lines, shuffled by hash."""
    lines = (json.dumps({"text": text, "package": package}, ensure_ascii=False) for text, package in rows)
    beside = path.with_suffix(".tmp")
    beside.write_text("".join(f"{line}\n" for line in sorted(lines, key=_key)), encoding="utf-8", errors="replace")
    return beside.replace(path)
