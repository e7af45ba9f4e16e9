"""Text out of wikitext."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from genus.curate import Outcome, Removal, Rewrite
from genus.errors import library

if TYPE_CHECKING:
    from collections.abc import Iterator

LINKED = re.compile(r"\s*(?:File|Image|Media|Category)\s*:", re.IGNORECASE)
TAGS = frozenset(
    """
    chem gallery graph hiero imagemap maplink math ref references score source syntaxhighlight table templatestyles
    timeline
    """.split()  # noqa: SIM905
)
"""Elements whose content is no prose."""
SWITCH = re.compile(r"__[A-Z]+__")
"""Words to the parser, such as `__NOTOC__`."""
LINES = re.compile(r"\s*\n\s*\n\s*")
WHY = "taking text out of wikitext"


class WikiText(Rewrite):
    """The prose of an article of MediaWiki (the `mwparserfromhell` library).

    Templates, tables, references, files, categories and formulas go; of links stays what is read. Headings are lines of
    their own, and go where nothing follows. So does the `wikipedia` script of Hugging Face's datasets, which keeps all
    headings, and the names of categories.
    """

    markup: ClassVar[str | None] = "wikitext"

    def check(self) -> None:
        """Check that the library is there."""
        library("mwparserfromhell", WHY, "curate")

    def apply(self, text: str) -> Outcome:
        """Return the prose, unless the library cannot read the text."""
        parser = library("mwparserfromhell", WHY, "curate")
        try:
            return super().apply(text)
        except (parser.parser.ParserError, RecursionError):
            return Outcome("", Removal("unreadable", text))

    def rewrite(self, text: str) -> str:
        """Return the prose."""
        parsed = library("mwparserfromhell", WHY, "curate").parse(text)
        files = [link for link in parsed.filter_wikilinks() if LINKED.match(str(link.title))]
        no_prose = [tag for tag in parsed.filter_tags() if str(tag.tag).strip().lower() in TAGS]
        for node in (*files, *no_prose):
            with suppress(ValueError):  # it went with another one that held it
                parsed.remove(node)
        return "\n\n".join(sections(parsed))


def sections(parsed: Any) -> Iterator[str]:
    """Yield the sections that have text, each after its heading; a heading of others without text stays above them."""
    above: list[tuple[int, str]] = []
    for section in parsed.get_sections(flat=True, include_lead=True):
        headings = section.filter_headings()
        for heading in headings[:1]:
            above = [one for one in above if one[0] < heading.level]
            above.append((heading.level, plain(heading.title)))
            section.remove(heading)
        if body := plain(section):
            yield "\n\n".join([*(title for _, title in above if title), body])
            above = [(level, "") for level, _ in above]


def plain(parsed: Any) -> str:
    """Return what is read of wikitext, with one blank line between paragraphs."""
    text = SWITCH.sub("", parsed.strip_code(normalize=True, collapse=True))
    return LINES.sub("\n\n", "\n".join(line.strip() for line in text.split("\n"))).strip()
