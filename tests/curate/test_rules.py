"""Every rule by hand: a text that it keeps, and one a step away that it removes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from genus.curate.c4 import BadWords, C4Lines, FewSentences
from genus.curate.fineweb import FineWebQuality
from genus.curate.gopher import GopherQuality, GopherRepetition
from genus.curate.source_code import CodexFiles
from genus.errors import GenusError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from genus.curate import DocumentFilter

GOOD = "This is a good line."
PROSE = " ".join(["the", "house", "of", "stone"] * 15)  # 60 words


def words(number: int, length: int = 5) -> str:
    """Return that many different words, with two stop words."""
    return " ".join(["the", "of", *(f"{i:0{length}x}".replace("0", "g") for i in range(number - 2))])


def test_the_words_of_these_tests_are_prose() -> None:
    assert GopherQuality().rule(words(50)) is None


@pytest.mark.parametrize(
    ("line", "rule", "other"),
    [
        ("This is a good line", "end_punctuation", "This is a good line!"),
        ("This is a good line...", "end_punctuation", "This is a good line.."),
        ("Not enough.", "min_words", "Not quite enough."),
        ("This is too " + "l" * 1001 + ".", "word_length", "This is not " + "l" * 999 + "."),
        ("Please enable JavaScript to see this.", "javascript", "Please enable scripts to see this."),
        ("Read our Privacy Policy before you go.", "policy", "Read our policy before you go."),
        ("This site uses cookies for everything.", "policy", "This site sells cookies and everything."),
    ],
)
def test_lines_of_c4(line: str, rule: str, other: str) -> None:
    outcome = C4Lines().apply(f"{GOOD}\n{line}\n{GOOD}")
    assert outcome.text == f"{GOOD}\n{GOOD}"
    assert [(one.rule, one.text) for one in outcome.lines] == [(rule, line)]
    assert C4Lines().apply(f"{GOOD}\n{other}").text == f"{GOOD}\n{other}"


@pytest.mark.parametrize(
    ("line", "rule"),
    [("Now comes Lorem Ipsum, as ever.", "lorem_ipsum"), ("Here is if (x) { y } else z.", "curly_bracket")],
)
def test_pages_of_c4(line: str, rule: str) -> None:
    outcome = C4Lines().apply(f"{GOOD}\n{line}")
    assert outcome.document is not None
    assert (outcome.document.rule, outcome.document.text, outcome.text) == (rule, line, "")
    assert C4Lines(lorem_ipsum=False, curly_bracket=False).apply(line).text == line
    assert C4Lines().apply(f"{GOOD}\n{line[:-1]}").text == GOOD  # a line that goes is not asked


def test_citations_of_c4() -> None:
    text = "It is so.[3] And so[citation needed] it was.[12]\nBut [a] stays here."
    assert C4Lines().apply(text).text == "It is so. And so it was.\nBut [a] stays here."
    assert C4Lines(citations="keep").apply(text).text == "But [a] stays here."


def test_every_rule_of_c4_can_be_left_out() -> None:
    lines = ["No end", "x", "y " + "l" * 2000, "javascript", "privacy policy"]
    choice = C4Lines(end_punctuation=False, min_words=0, max_word_length=None, javascript=False, policy=False)
    assert choice.apply("\n".join(lines)).text == "\n".join(lines)


def test_a_page_without_lines_is_removed() -> None:
    outcome = C4Lines().apply("Menu\nLinks")
    assert outcome.document is not None
    assert outcome.document.rule == "no_line"


def test_few_sentences() -> None:
    assert FewSentences().rule("One is. Two is. Three is. Four is.") == "sentences"
    assert FewSentences().rule("One is. Two is. Three is. Four is. Five is.") is None


def test_bad_words(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("darn\nbad phrase\nc++\n\n")
    choice = BadWords(file=str(path))
    for text in ("Oh DARN it", "darn", "a bad phrase.", "in c++ only"):
        assert choice.rule(text) == "bad_word", text
    for text in ("darned", "bad phrases", "undarn", "abc++"):
        assert choice.rule(text) is None, text
    assert BadWords(file=str(path), apart=False).rule("darned") == "bad_word"
    assert BadWords().rule("darn") is None
    path.write_text("\n\n")
    with pytest.raises(GenusError, match="there is no word in it"):
        choice.check()


def dotted(dots: int) -> str:
    return words(60) + " a..." * dots + " b\u2026" * 3 + " end"


def cut(whole: int, broken: int) -> str:
    return "\n".join([words(30)] * whole + [f"{words(30)}..."] * broken)


QUALITY: list[tuple[str, str, dict[str, Any], str]] = [
    ("min_words", words(49), {}, words(50)),
    ("max_words", words(61), {"max_words": 60}, words(60)),
    ("min_word_length", "the of " + "ab " * 98, {}, "the that " + "abc " * 98),
    ("max_word_length", "the of " + "a" * 11 + (" " + "b" * 11) * 60, {}, "the of " + "a" * 10 + (" " + "b" * 10) * 60),
    ("hash_signs", words(60) + " #" * 7, {}, words(60) + " #" * 6),
    (
        "ellipsis_signs",
        words(60) + " a..." * 4 + " b\u2026" * 3 + " end",
        {},
        words(60) + " a..." * 3 + " b\u2026" * 3 + " end",
    ),
    ("bullets", "\n".join(f"- {words(6)}" for _ in range(10)), {}, "\n".join([f"- {words(6)}"] * 9 + [words(6)])),
    (
        "ellipsis_lines",
        "\n".join([words(30)] * 2 + [f"{words(30)}..."]),
        {},
        "\n".join([words(30)] * 7 + [f"{words(30)}..."] * 3),
    ),
    ("letters", words(60) + " 17" * 16, {}, words(60) + " 17" * 15),
    ("stop_words", words(60).replace("the ", "The "), {}, words(60)),
]


@pytest.mark.parametrize(("rule", "bad", "settings", "good"), QUALITY, ids=[row[0] for row in QUALITY])
def test_quality_of_gopher(rule: str, bad: str, settings: dict[str, Any], good: str) -> None:
    assert GopherQuality(**settings).rule(bad) == rule
    assert GopherQuality(**settings).rule(good) is None


def different(number: int) -> list[str]:
    return [f"line {number:04d}" for number in range(number)]


REPETITION = [
    ("repeated_paragraphs", "\n\n".join([*different(6), *["a"] * 5]), "\n\n".join([*different(7), *["a"] * 4])),
    ("characters_of_repeated_paragraphs", "\n\n".join([*different(9), "b" * 40, "b" * 40]), "\n\n".join(different(9))),
    ("repeated_lines", "\n".join([*different(6), *["a"] * 5]), "\n".join([*different(12), *["a"] * 5])),
    (
        "characters_of_repeated_lines",
        "\n".join([*different(9), "b" * 40, "b" * 40]),
        "\n".join([*different(40), "b" * 9]),
    ),
]


@pytest.mark.parametrize(("rule", "bad", "good"), REPETITION, ids=[row[0] for row in REPETITION])
def test_repetition_of_gopher(rule: str, bad: str, good: str) -> None:
    choice = GopherRepetition(top=(), repeated=())
    assert choice.rule(bad) == rule
    assert choice.rule(good) is None


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_most_frequent_n_gram(n: int) -> None:
    """`times` x (5 n - 1 characters and spaces) of a text of known length, at the table's limit."""
    gram = " ".join("abcde"[:4] + str(i) for i in range(n))
    limit = {2: 0.2, 3: 0.18, 4: 0.16}[n]
    times = 10
    for share, rule in ((limit + 0.01, f"top_{n}_gram"), (limit - 0.01, None)):
        length = round(times * len(gram) / share)
        filling = iter(f"{i:x}".replace("0", "g") * 3 for i in range(16**3, 16**4))
        parts: list[str] = []
        for _ in range(times):
            parts += [next(filling), gram]
        text = " ".join(parts)
        while len(text) < length - 13:
            text += f" {next(filling)}"
        text += " " + "z" * (length - len(text) - 1)
        assert GopherRepetition(top=((n, limit),), repeated=()).rule(text) == rule


@pytest.mark.parametrize(("n", "limit"), [(5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.1)])
def test_repeated_n_grams(n: int, limit: float) -> None:
    gram = [f"w{i}xyz" for i in range(n)]
    for share, rule in ((limit + 0.01, f"repeated_{n}_grams"), (limit - 0.01, None)):
        length = round(3 * len("".join(gram)) / share)
        filling = [f"f{i:05d}" for i in range(1_000)]
        text = " ".join([*gram, filling[0], *gram, filling[1], *gram, filling[2], *gram])
        for word in filling[3:]:
            if len(text) + 7 < length:
                text += f" {word}"
        text += " " + "z" * (length - len(text) - 1)
        assert (n, limit) in GopherRepetition().repeated
        assert GopherRepetition(top=(), repeated=((n, limit),)).rule(text) == rule


FINEWEB = [
    ("end_punctuation", "\n".join([*[f"{PROSE[:60]}{i}" for i in range(9)], f"{PROSE}."]), f"{PROSE}.\n{PROSE} and on"),
    ("short_lines", "\n".join(["short one.", "short two.", "short three.", PROSE + "."]), f"short one.\n{PROSE}."),
    (
        "repeated_characters",
        f"{PROSE}.\nA line that comes again.\nA line that comes again.",
        f"{PROSE}.\nA line that comes.",
    ),
    ("list", "\n".join(f"{'x' * 40}{i} y." for i in range(9)), "\n".join(f"{'x' * 40}{i} y z w." for i in range(9))),
]


@pytest.mark.parametrize(("rule", "bad", "good"), FINEWEB, ids=[row[0] for row in FINEWEB])
def test_quality_of_fineweb(rule: str, bad: str, good: str) -> None:
    assert FineWebQuality().rule(bad) == rule
    assert FineWebQuality().rule(good) is None


CODE = [
    ("max_bytes", "x = 1\n" * 200_000, "x = 1\n" * 1_000),
    ("mean_line", "\n".join(["x" * 101] * 3), "\n".join(["x" * 100] * 3)),
    ("longest_line", "x\n" * 50 + "y" * 1001, "x\n" * 50 + "y" * 1000),
    ("letters", "ab(-+)(-+", "abc(-+)(-+"),
    (
        "generated",
        "#!/usr/bin/env python\n# This file was Automatically generated\nx = 1",
        "x = 1\n" * 5 + "# generated by hand",
    ),
]


@pytest.mark.parametrize(("rule", "bad", "good"), CODE, ids=[row[0] for row in CODE])
def test_files_of_codex(rule: str, bad: str, good: str) -> None:
    assert CodexFiles().rule(bad) == rule
    assert CodexFiles().rule(good) is None


@pytest.mark.parametrize(
    "step", [GopherQuality(min_words=0, min_stop_words=0), GopherRepetition(), FineWebQuality(), CodexFiles(letters=0)]
)
@pytest.mark.parametrize("text", ["x", "\u0e01\u0e32", "!", "\n", "a\n\n\nb"])
def test_odd_texts_are_no_errors(step: DocumentFilter, text: str) -> None:
    step.rule(text)


def test_settings_are_checked() -> None:
    with pytest.raises(UsageError, match="a share from 0 to 1"):
        GopherQuality.from_json({"kind": "GopherQuality", "bullets": 2})
