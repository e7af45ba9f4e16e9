"""Text out of wikitext: by hand, and beside another library."""

from __future__ import annotations

import re

import pytest

from genus.curate.wikitext import WikiText

pytest.importorskip("mwparserfromhell")

ARTICLE = """{{Infobox stone|color=gray|weight={{kg|3}}}}
[[File:stone.jpg|thumb|A [[stone]] in ''water'']]
A '''stone''' is a piece of [[rock (geology)|rock]].<ref name="a">A book, page 3.</ref> It is ''hard''<ref name="a" />
and lies in the [[river]]s.&nbsp;See [https://e.org the page] too.<!-- no one sees this -->

== Kinds ==
* Round ones
* Flat ones, of which {{as of|2020}} few are left

=== Of the sea ===
They are <b>salty</b>, as <math>x^2</math> shows.

{| class="wikitable"
! Name !! Size
|-
| A || 3
|}

== See also ==
== References ==
{{reflist}}
<references />

[[Category:Stones]]
__NOTOC__
"""
TEXT = """A stone is a piece of rock. It is hard
and lies in the rivers.\u00a0See the page too.

Kinds

Round ones
Flat ones, of which  few are left

Of the sea

They are salty, as  shows."""


def test_an_article() -> None:
    assert WikiText().rewrite(ARTICLE) == TEXT


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Plain text stays.", "Plain text stays."),
        ("[[:File:x.jpg]] is a file, [[:Category:Y|Y]] a category.", ":File:x.jpg is a file, Y a category."),
        ("== A ==\n=== B ===\nText.\n=== C ===\n== D ==\nMore.", "A\n\nB\n\nText.\n\nD\n\nMore."),
        ("a {{unclosed [[b]] '''c", None),
        ("<ref>a {{b|<ref>c</ref>}}</ref>d", None),
    ],
)
def test_pieces(text: str, plain: str | None) -> None:
    found = WikiText().apply(text)
    if plain is not None:
        assert found.text == plain


def test_an_article_of_nothing_is_removed() -> None:
    removed = WikiText().apply("{{stub}}\n[[Category:X]]").document
    assert removed is not None
    assert removed.rule == "empty"


def test_another_library_finds_the_same_words() -> None:
    """Words of prose, where it keeps references, tables and files as they are."""
    other = pytest.importorskip("wikitextparser")
    no_prose = (
        r"<ref.*?(?:/>|</ref>)|<math>.*?</math>|\{\|.*?\|\}|\[\[(?:File|Category):.*?\n|__NOTOC__|== (?:See|Ref).*? =="
    )
    theirs = other.parse(re.sub(no_prose, "", ARTICLE, flags=re.DOTALL)).plain_text()
    assert re.findall(r"\w+", theirs) == re.findall(r"\w+", TEXT)
