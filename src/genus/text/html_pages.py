"""Pages of the web, a file each, as blocks of text in HTML."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import TYPE_CHECKING, NamedTuple

from genus.text.blocks import TextBlock, stripped
from genus.text.encoding import decoded
from genus.text.read import BLOCK_BYTES, LONGEST_DOCUMENT, readable, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from genus.text.blocks import Documents

HEAD = 1 << 16
"""Characters at the beginning of a page in which it may say its address and date."""


class Page(NamedTuple):
    """A page as it was stored."""

    row: int
    data: bytes
    charset: str | None
    """The encoding that a server told."""
    kept: dict[str, object]
    """What is known of the page beside its text."""


@dataclass(frozen=True, slots=True)
class Pages(TextBlock):
    """A run of pages. Where no address is known, the page is asked for its own and for its date."""

    pages: tuple[Page, ...]
    cut: int = 0
    """Pages that were longer than the longest document, of which the end is missing."""

    def documents(self) -> Documents:
        """Return the pages, in their markup."""
        texts, kept, replaced = [], {}, 0
        for page in self.pages:
            text, bad = decoded(page.data, page.charset)
            replaced += bad
            texts.append((page.row, ("", text, ())))
            kept[page.row] = page.kept if "url" in page.kept else {**page.kept, **told(text)}
        return stripped(texts, replaced, self.cut, kept)


def read_pages(paths: list[Path], start: int) -> Iterator[Pages]:
    """Yield files of one page each as blocks.

    The source of a page is its folder, its `id` the name of its file, its row the place among the pages of the folder.

    Raises:
        GenusError: a file cannot be read to its end.
    """
    rows: dict[Path, int] = defaultdict(int)
    pages: list[Page] = []
    size = cut = 0
    for place, path in enumerate(paths):
        with readable(path), path.open("rb") as raw, unpacked(raw, path) as file:
            data = file.read(LONGEST_DOCUMENT)
            cut += bool(file.read(1))
            start += path.stat().st_size
        rows[path.parent] += 1
        pages.append(Page(rows[path.parent], data, None, {"id": path.name}))
        size += len(data)
        following = paths[place + 1].parent if place + 1 < len(paths) else None
        if size >= BLOCK_BYTES or following != path.parent:
            yield Pages(str(path.parent), pages[0].row, start, tuple(pages), cut)
            pages, size, cut = [], 0, 0


def told(text: str) -> dict[str, object]:
    """Return the address and the date that a page tells, as `url` and `date`, where it does.

    Source: RFC 6596 (`canonical`), the Open Graph protocol (`og:url`, `article:published_time`), Dublin Core.
    """
    head = _Head()
    head.feed(text[:HEAD])
    return {
        name: next(head.found[one] for one in several if one in head.found)
        for name, several in NAMES.items()
        if not head.found.keys().isdisjoint(several)
    }


NAMES: dict[str, tuple[str, ...]] = {
    "url": ("canonical", "og:url"),
    "date": ("article:published_time", "date", "dc.date", "dcterms.date", "dc.date.issued"),
}
"""Names by which pages tell what is asked for, the best first."""


class _Head(HTMLParser):
    """What the links and the metadata of a page say, by their names in lower case; the first of a name counts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: Iterable[tuple[str, str | None]]) -> None:
        """Keep what a tag says."""
        values = {name: value or "" for name, value in attrs}
        if tag == "link":
            names, content = values.get("rel", "").lower().split(), values.get("href", "")
        elif tag == "meta":
            names, content = [(values.get("property") or values.get("name", "")).lower()], values.get("content", "")
        else:
            return
        for name in names if content.strip() else ():
            self.found.setdefault(name, content.strip())
