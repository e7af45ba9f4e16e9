"""The corpus of installed documentation: parsed and never imported, deterministic, without the validation part."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from genus.errors import GenusError
from genus.text.installed import SENTENCE, make, read

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ["graph", "node", "edge", "path", "colour", "number", "matrix", "vector", "string", "parser", "token", "model"]


def docstring(package: str, number: int) -> str:
    """Return a docstring that no other number has, with one sentence that the task may take."""
    words = [WORDS[(number * step + step) % len(WORDS)] for step in range(2, 16)]
    letters = f"{number:02}".translate(str.maketrans("0123456789", "abcdefghij"))
    sentence = f"Return item {letters} of\n    {package.replace('_', '')}, given {' '.join(words)}."
    return f"{sentence}\n\n    See item {number}, f({number}).\n\n    >>> import {package}\n    "


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    root = tmp_path / "packages"
    for package in ("alpha_beta", "gamma", "delta"):
        (root / package / "tests").mkdir(parents=True)
        body = [f'def f{n}():\n    """{docstring(package, n)}"""\n' for n in range(30)]
        (root / package / "__init__.py").write_text("raise SystemExit('imported')\n" + "\n".join(body))
        (root / package / "again.py").write_text("\n".join(body))
        (root / package / "tests" / "test_it.py").write_text(
            '"""A test of nothing, which is not documentation at all."""'
        )
    (root / "broken.py").write_text('"""Never closed')
    (root / "binary.py").write_bytes(b"\xff\xfe\x00" * 50)
    return root


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_files_are_parsed_never_imported_and_read_once(packages: Path) -> None:
    modules = read([(None, packages)])
    prose = [text for module in modules for text in module.docstrings]
    assert len(prose) == len(set(prose)) == 90
    assert {module.package for module in modules} >= {"alpha_beta", "gamma", "delta", "broken"}
    assert not any(">>>" in text or "A test of nothing" in text for text in prose)


def test_the_validation_part_is_not_in_the_corpus(packages: Path, tmp_path: Path) -> None:
    modules = read([(None, packages)])
    made = make(modules, tmp_path / "out", train=60, validation=15)
    assert made.examples == (60, 15)
    corpus = " ".join(" ".join(row["text"].split()) for row in rows(made.corpus))
    asked = [sorted(row["text"].rstrip(".").split()) for row in rows(made.validation)]
    assert len(asked) == 15
    kept = [sorted(text.rstrip(".").split()) for text in corpus.split(". ")]
    assert not [words for words in asked if words in kept]
    assert all(sorted(row["text"].rstrip(".").split()) in kept for row in rows(made.train))
    assert corpus.count("Return item") == 90 - 15


def test_a_document_is_paragraphs_of_words(tmp_path: Path) -> None:
    """Code, its output, lists of parameters and headings are none; a paragraph is on one line, and is read once."""
    documented = """Return the sum of two vectors, which
    have the same length in `all` cases.

    Parameters
    ----------
    first, second : array_like of shape (n,), optional
        The vectors that are summed, of which
        neither is changed at all.

    >>> add([1], [2])
    These words are printed by an example.

    Examples are left out, and this is read again.

    x = [first[i] + second[i] for i in range(len(first))]

    Return the sum of two vectors, which have the same length in all cases.
    """
    (tmp_path / "one.py").write_text(f'def add(x):\n    """{documented}"""\n')
    (module,) = read([(None, tmp_path)])
    assert module.docstrings == [
        "Return the sum of two vectors, which have the same length in all cases.\n\n"
        "The vectors that are summed, of which neither is changed at all.\n\n"
        "Examples are left out, and this is read again."
    ]


def test_docstrings_are_read_in_their_order_wherever_they_stand(tmp_path: Path) -> None:
    """Definitions on one line and within others; long literals that are no docstrings are texts."""
    told = "This literal has words on several lines. " * 3
    source = [
        '"""First the words of the module itself."""',
        "class A:",
        '    """Second are the words of a class."""',
        "    def f(self):",
        '        """Third are the words of a method."""',
        "        if self:",
        '            def g(): "Fourth is what one line says here."',
        "def h():",
        '    """Fifth is what follows after the class."""',
        f'h.text = """{told}\n\n{told[::-1]}\n\n{told}"""',
    ]
    (tmp_path / "one.py").write_text("\n".join(source))
    (module,) = read([(None, tmp_path)])
    assert [text.split()[0] for text in module.docstrings] == ["First", "Second", "Third", "Fourth", "Fifth"]
    assert module.texts == [told.strip()]


def test_half_of_the_sentences_have_four_words_reversed_inside(packages: Path, tmp_path: Path) -> None:
    modules = read([(None, packages)])
    made = make(modules, tmp_path / "out", train=60, validation=15)
    written = {
        " ".join(part.split()) for module in modules for text in module.docstrings for part in text.split("\n\n")
    }
    assert made.labels == ["as written", "reversed"]
    for path, number in ((made.train, 30), (made.validation, 7)):
        found = rows(path)
        assert sum(row["order"] == "reversed" for row in found) == number
        for row in found:
            words = row["text"].split()
            assert SENTENCE.fullmatch(row["text"])
            assert (row["text"] in written) == (row["order"] == "as written")
            if row["order"] == "reversed":
                back = [[*words[:i], *words[i : i + 4][::-1], *words[i + 4 :]] for i in range(1, len(words) - 4)]
                assert sum(" ".join(one) in written for one in back) >= 1


def test_it_takes_the_sentences_that_there_are(packages: Path, tmp_path: Path) -> None:
    made = make(read([(None, packages)]), tmp_path / "out", train=1_000, validation=15)
    assert made.examples == (90 - 15, 15)
    assert len(rows(made.train)) == 75


def test_the_same_packages_give_the_same_bytes(packages: Path, tmp_path: Path) -> None:
    written = []
    for workers in (1, 2):
        made = make(read([(None, packages)], workers), tmp_path / str(workers), train=60, validation=15)
        written.append([path.read_bytes() for path in (made.corpus, made.train, made.validation)])
    assert written[0] == written[1]


def test_large_packages_are_cut_to_one_length(tmp_path: Path) -> None:
    root = tmp_path / "packages"
    for package, files in (("large", 20), ("small", 4)):
        (root / package).mkdir(parents=True)
        for file in range(files):
            body = [f'def f{n}():\n    """{docstring(package, file * 50 + n)}"""\n' for n in range(10)]
            (root / package / f"m{file}.py").write_text("\n".join(body))
    modules = read([(None, root)])
    whole = make(modules, tmp_path / "whole", train=5, validation=5)
    cut = make(modules, tmp_path / "cut", characters=whole.characters // 2, train=5, validation=5)
    kept = [row["package"] for row in rows(cut.corpus)]
    assert kept.count("small") == 4
    assert 4 <= kept.count("large") < 20
    assert cut.characters <= whole.characters // 2


def test_too_few_sentences_is_one_line(packages: Path, tmp_path: Path) -> None:
    with pytest.raises(GenusError, match=r"have 90 plain sentences .* takes 1,000: install more packages"):
        make(read([(None, packages)]), tmp_path)


def test_progress_counts_files(packages: Path) -> None:
    seen: list[tuple[int, int]] = []
    read([(None, packages)], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 8) for n in range(1, 9)]
