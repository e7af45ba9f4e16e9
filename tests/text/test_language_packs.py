"""Language packs: those that come with the package, and those of users."""

from __future__ import annotations

import itertools
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from genus import catalog
from genus.curate import Curation
from genus.curate.c4 import BadWords
from genus.curate.contamination import Contamination
from genus.curate.fineweb import FineWebQuality
from genus.curate.gopher import GopherQuality, GopherRepetition
from genus.curate.language import Language
from genus.curate.presets import PRESETS
from genus.curate.repair import Normalized
from genus.curate.spoken import spoken
from genus.errors import GenusError, UsageError
from genus.text import Fields, read_documents
from genus.text.language_pack import HERE, load
from genus.text.normalization import ThaiNormalization, ThaiWikipediaNormalization
from genus.text.segment import DictionaryWords, JiebaWords, MeCabWords, Segmenter, WordsAndMarks
from genus.tokens.algorithms.unigram_no_spaces import UnigramNoSpaces

if TYPE_CHECKING:
    from pathlib import Path

PACKS = sorted(path.name for path in HERE.iterdir() if path.is_dir())
SENTENCES = {
    "zh": "\u6211\u4eec\u5728\u5317\u4eac\u7684\u5927\u5b66\u5b66\u4e60\u3002 \u4ed6\u662f\u8001\u5e08\uff0c2020.\n",
    "ja": " \u79c1\u306f\u6771\u4eac\u306e\u5927\u5b66\u3067\u65e5\u672c\u8a9e\u3092 \u3057\u305f.\n\nOK \n",
    "th": "\u0e09\u0e31\u0e19\u0e40\u0e23\u0e35\u0e22\u0e19\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22 2020",
}


def test_six_languages_come_along() -> None:
    assert PACKS == ["ar", "de", "en", "ja", "th", "zh"]


@pytest.mark.parametrize("name", PACKS)
def test_every_choice_of_a_pack_fits(name: str) -> None:
    found = load(name)
    assert found.pack.code == name
    assert found.pack.stop_words is not None
    words = found.words(found.pack.stop_words)
    assert len(words) == len({*words}) >= 8
    kinds = {kind.__name__: kind() for kind in (GopherQuality, GopherRepetition, FineWebQuality)}
    assert found.steps.keys() <= kinds.keys()
    whole = spoken(Curation(steps=(*kinds.values(), Language())), found)
    quality, repetition, fineweb, language = whole.steps
    assert isinstance(quality, GopherQuality)
    assert quality.stop_words == words
    assert {one.segmenter for one in (quality, repetition, fineweb)} == {found.pack.segmenter}  # type: ignore[attr-defined]
    assert language == Language(keep=(name,))
    for recipe in ("bert", "roberta", "albert", "wangchanberta", "gpt2"):
        row = catalog.load(recipe)
        changed = catalog.spoken(row, name)
        assert changed.tokens.vocab_size == row.tokens.vocab_size
        assert changed.tokens.special_tokens == row.tokens.special_tokens


def test_numbers_are_those_of_the_pack() -> None:
    found = spoken(PRESETS["gopher"], load("de")).steps
    quality, repetition = found[:2]
    assert isinstance(quality, GopherQuality)
    assert isinstance(repetition, GopherRepetition)
    assert (quality.max_word_length, quality.letters, quality.stop_words[-1]) == (15, 0.774, "f\u00fcr")
    assert (repetition.lines, repetition.top[0], repetition.repeated[-1]) == (0.263, (2, 0.169), (10, 0.098))


def test_thai_in_words_and_pieces() -> None:
    pack = load("th")
    steps = spoken(Curation(steps=(Normalized(normalization=ThaiWikipediaNormalization()),)), pack).steps
    assert steps == (Normalized(normalization=ThaiNormalization()),)
    tokens = catalog.spoken(catalog.load("bert/mini"), "th").tokens
    assert isinstance(tokens, UnigramNoSpaces)
    assert tokens.normalization == ThaiNormalization()
    assert tokens.vocab_size == catalog.load("bert/mini").tokens.vocab_size


def test_prose_of_a_language_stays(shared: Path) -> None:
    """Paragraphs of an encyclopedia pass the rules with the pack's words, and fail Gopher's for English."""
    pytest.importorskip("pythainlp")
    documents = read_documents([shared / "data" / "xquad" / "th.jsonl.gz"], Fields("context"))
    texts = [*dict.fromkeys(text for text in itertools.islice(documents, 400) if len(text) > 400)][:40]
    choice = spoken(Curation(steps=(GopherQuality(), GopherRepetition())), load("th")).steps
    kept = [text for text in texts if not any(step.rule(text) for step in choice)]  # type: ignore[attr-defined]
    assert len(kept) > 0.8 * len(texts)  # what goes has many numbers
    assert not [text for text in texts if GopherQuality().rule(text) is None]


@pytest.mark.parametrize(("name", "kind"), [("zh", JiebaWords), ("ja", MeCabWords), ("th", DictionaryWords)])
def test_words_join_to_the_text(name: str, kind: type[Segmenter]) -> None:
    for library in {"zh": ["rjieba"], "ja": ["fugashi", "unidic_lite"], "th": ["pythainlp"]}[name]:
        pytest.importorskip(library)
    assert isinstance(load(name).pack.segmenter, kind)
    for text in (SENTENCES[name], "", " ", "a", f"{SENTENCES[name]}{SENTENCES[name]}"):
        words = kind().words(text)
        assert "".join(words) == text
        assert all(words)
    stop = {*load(name).words("stop_words.txt")}
    assert len(stop & {*kind().words(SENTENCES[name])}) >= (0 if name == "th" else 2)


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content, encoding="utf-8")
    return folder


def test_a_pack_of_a_user(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "mine",
        pack__toml="name = 'Mine'\ncode = 'la'\nbad_words = 'bad.txt'\nstop_words = 'stop.txt'\ntables = ['t.jsonl']\n",
        bad__txt="malum\n",
        stop__txt="et\nin\n",
        t__jsonl='{"a": "b"}\n',
        clean__toml="[GopherQuality]\nmin_words = 3\n",
        tokens__toml="[WordPiece]\nlowercase = false\n",
    )
    steps = spoken(Curation(steps=(BadWords(), GopherQuality(), Language())), load(str(folder))).steps
    assert steps == (
        BadWords(file=str(folder / "bad.txt")),
        GopherQuality(min_words=3, stop_words=("et", "in")),
        Language(keep=("la",)),
        Contamination(tables=(str(folder / "t.jsonl"),)),
    )
    recipe = catalog.spoken(catalog.load("bert"), str(folder))
    assert {
        one.name for one in fields(recipe) if getattr(recipe, one.name) != getattr(catalog.load("bert"), one.name)
    } == {"tokens"}
    assert recipe.tokens.lowercase is False  # type: ignore[attr-defined]


BROKEN: list[tuple[dict[str, Any], type[GenusError], str]] = [
    ({}, GenusError, "mine: is no language pack; it lacks pack.toml"),
    (
        {"pack__toml": "name = 'M'\ncode = 'm'\nstop_words = 'w.txt'"},
        GenusError,
        "the language pack lacks w.txt, which",
    ),
    ({"pack__toml": "name = 'M'\ncode = 'm'\ntables = ['t']"}, GenusError, "the language pack lacks t, which"),
    ({"pack__toml": "name = 'M'\n"}, UsageError, "pack.toml: .*code"),
    ({"pack__toml": "name = 'M'\ncode = 'm'\nsegmentor = 1"}, UsageError, "pack.toml: .*Did you mean 'segmenter'"),
    ({"pack__toml": "name = "}, GenusError, "pack.toml: cannot be read as TOML"),
]


@pytest.mark.parametrize(("files", "kind", "message"), BROKEN)
def test_what_a_pack_lacks_is_one_line(
    tmp_path: Path, files: dict[str, str], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        load(str(write(tmp_path / "mine", **files)))


def test_choices_that_a_step_has_not_are_one_line(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "mine",
        pack__toml="name = 'M'\ncode = 'm'",
        clean__toml="[GopherQuality]\nwords = 3\n",
        tokens__toml="[WordPiece]\ncase = 3\n",
    )
    with pytest.raises(UsageError, match=r"clean.toml: GopherQuality: .*words"):
        spoken(PRESETS["gopher"], load(str(folder)))
    with pytest.raises(UsageError, match=r"tokens.toml: .*case"):
        catalog.spoken(catalog.load("bert"), str(folder))
    with pytest.raises(UsageError, match=r"--language: there is no pack 'tj', nor a folder of that name.*'th'"):
        load("tj")


def test_without_a_pack_nothing_changes() -> None:
    assert catalog.spoken(catalog.load("bert"), None) == catalog.load("bert")
    assert WordsAndMarks().words("a b") == ["a", " ", "b"]
