"""Exports of MediaWiki (`pages-articles.xml.bz2`) as blocks of articles in wikitext, read as a stream.

Source: mediawiki.org, Help:Export, and the schema export-0.11. Articles are the pages of the main namespace that are no
redirects, with their last revision.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree

from genus.errors import GenusError
from genus.text.blocks import TextBlock, stripped
from genus.text.read import BLOCK_BYTES, LONGEST_DOCUMENT, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader
    from pathlib import Path
    from xml.etree.ElementTree import Element

    from genus.text.blocks import Documents
    from genus.text.fields import Fields

ARTICLES = "0"
LINKED = {"-2": "Media", "6": "File", "14": "Category"}
"""Namespaces to which links are no words of an article, and their names in every wiki."""
PLAIN = ";@$!*(),/~:"
"""What MediaWiki leaves as it is in an address (`wfUrlencode`)."""


class Site(NamedTuple):
    """What an export says of its wiki."""

    address: str = ""
    """What an article's address begins with; "": it is not said."""
    names: tuple[tuple[str, str], ...] = ()
    """This wiki's names of the namespaces of `LINKED`, in lower case, each with the name in every wiki."""


class Article(NamedTuple):
    """An article as it was exported."""

    row: int
    text: str
    kept: dict[str, object]


@dataclass(frozen=True, slots=True)
class Articles(TextBlock):
    """A run of articles."""

    articles: tuple[Article, ...]
    site: Site
    cut: int = 0
    """Articles that were longer than the longest document, of which the end is missing."""

    def documents(self) -> Documents:
        """Return the articles, in their markup, in which files and categories have the same names for all wikis."""
        known = dict(self.site.names)
        names = "|".join(re.escape(name) for name in known)
        link = re.compile(rf"\[\[\s*({names})\s*:", re.IGNORECASE) if names else None
        found = []
        for article in self.articles:
            text = article.text
            if link is not None:
                text = link.sub(lambda match: f"[[{known[match[1].lower()]}:", text)
            found.append((article.row, ("", text, ())))
        return stripped(found, 0, self.cut, {article.row: article.kept for article in self.articles})


def read_wiki(path: Path, fields: Fields, start: int) -> Iterator[Articles]:
    """Yield the articles of an export in blocks; memory is that of a block and of the longest page.

    Raises:
        GenusError: the file is no export, or ends too early.
    """
    articles: list[Article] = []
    site, row, size, cut = Site(), 0, 0, 0
    with path.open("rb") as raw, unpacked(raw, path) as file:
        for element in elements(path, file):
            if _name(element) == "siteinfo":
                site = _site(element)
                continue
            row += 1
            if (found := _article(element, row, site)) is not None:
                short = found.text[:LONGEST_DOCUMENT]
                cut += len(short) < len(found.text)
                articles.append(found._replace(text=short))
                size += len(short)
            if size >= BLOCK_BYTES:
                yield Articles(str(path), articles[0].row, start + raw.tell(), tuple(articles), site, cut)
                articles, size, cut = [], 0, 0
        if articles:
            yield Articles(str(path), articles[0].row, start + raw.tell(), tuple(articles), site, cut)


def elements(path: Path, file: BufferedReader) -> Iterator[Element]:
    """Yield what an export has on its first level, and forget it again.

    Raises:
        GenusError: the file is no export, or ends too early.
    """
    depth = 0
    root: Element | None = None
    try:
        for event, element in ElementTree.iterparse(file, ("start", "end")):
            depth += 1 if event == "start" else -1
            if root is None:
                root = element
                if _name(root) != "mediawiki":
                    raise GenusError(f"{path}: is no export of MediaWiki; its XML begins with <{_name(root)}>")
            elif event == "end" and depth == 1:
                if _name(element) in ("siteinfo", "page"):
                    yield element
                root.clear()
    except ElementTree.ParseError as error:
        raise GenusError(f"{path}: is no XML to its end ({error}); the file may be cut short or damaged") from None


def _site(element: Element) -> Site:
    found: dict[str, str] = {name.lower(): name for name in LINKED.values()}
    address = ""
    for inner in element.iter():
        if _name(inner) == "base":
            address = (inner.text or "").rpartition("/")[0]
        elif _name(inner) == "namespace" and inner.get("key") in LINKED and inner.text:
            found[inner.text.lower()] = LINKED[str(inner.get("key"))]
    return Site(f"{address}/" if address else "", tuple(found.items()))


def _article(page: Element, row: int, site: Site) -> Article | None:
    """Return the article that a page is; None: it is none."""
    parts = {_name(part): part for part in page}  # of several revisions the last
    if "redirect" in parts or _text(parts.get("ns")) != ARTICLES or "revision" not in parts:
        return None
    revision = {_name(part): _text(part) for part in parts["revision"]}
    title = _text(parts.get("title"))
    kept: dict[str, object] = {"id": _text(parts.get("id")), "title": title, "date": revision.get("timestamp", "")}
    if site.address:
        kept["url"] = site.address + quote(title.replace(" ", "_"), safe=PLAIN)
    return Article(row, revision.get("text", ""), kept)


def _name(element: Element) -> str:
    """Return the name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def _text(element: Element | None) -> str:
    return (element.text or "") if element is not None else ""
