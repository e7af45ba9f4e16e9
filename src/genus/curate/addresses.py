"""Filters of documents by their address (URL)."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from genus.curate import DocumentStep, Outcome, Removal
from genus.errors import GenusError
from genus.part import Count
from genus.text.read import read_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from genus.curate.document import Document

ADDRESS = "url"
"""The field of a document's address."""
BETWEEN = re.compile(r"[\W_]+")
"""What separates words of an address."""


class BlockedAddresses(DocumentStep):
    """Remove documents by their field `url`; documents without one stay.

    Lists are files, a domain, an address or a word a line, without case; lines that begin with `#` count for nothing.
    No list comes with the package. The rules and their order are FineWeb's (Penedo et al. 2024, arXiv:2406.17557,
    section 3.1; released code, datatrove's URLFilter), those of words RefinedWeb's before (Penedo et al. 2023,
    arXiv:2306.01116, appendix G.1). Unlike there, a domain blocks all below it, and escapes (`%C3%A9`) are read.
    """

    only: str | None = None
    """The domains that stay, as those of RealNews in C4's variant of the name (Raffel et al. 2020, section 3.4)."""
    domains: str | None = None
    """Domains that are blocked with all below them: `example.com` blocks `www.example.com` too."""
    addresses: str | None = None
    """Whole addresses that are blocked."""
    words: str | None = None
    """Words, of which one blocks an address. They stand between what is neither letter nor digit."""
    soft_words: str | None = None
    """Words, of which `soft` different ones block an address."""
    soft: Count = 2
    parts: str | None = None
    """Parts of words: they are looked for in the address without what is neither letter nor digit."""

    @property
    def files(self) -> tuple[str, ...]:
        """The lists."""
        lists = (self.only, self.domains, self.addresses, self.words, self.soft_words, self.parts)
        return tuple(file for file in lists if file is not None)

    def check(self) -> None:
        """Check that the lists can be read, and that each has an entry."""
        listed.cache_clear()  # a file may have changed
        for file in self.files:
            listed(file, str.strip)
        listed.cache_clear()  # this form is not asked for

    def outcomes(self, documents: Sequence[Document]) -> Iterable[Outcome]:
        """Return each document, unless its address is blocked."""
        for document in documents:
            address = document.identity.get(ADDRESS)
            rule = self.rule(address) if isinstance(address, str) and address.strip() else None
            yield Outcome(document.text) if rule is None else Outcome("", Removal(rule, str(address)))

    def rule(self, address: str) -> str | None:
        """Return the first rule that blocks an address."""
        within = {*domains_of(host_of(address))}
        if self.only is not None and within.isdisjoint(listed(self.only, domain)):
            return "other_domain"
        if self.domains is not None and not within.isdisjoint(listed(self.domains, domain)):
            return "domain"
        if self.addresses is not None and plain(address) in listed(self.addresses, plain):
            return "address"
        read = unquote(address).lower()
        words = {*BETWEEN.split(read)}
        if self.words is not None and not words.isdisjoint(listed(self.words, joined)):
            return "word"
        if self.soft_words is not None and len(words & listed(self.soft_words, joined)) >= self.soft:
            return "soft_words"
        if self.parts is not None and any(part in joined(read) for part in listed(self.parts, joined)):
            return "part"
        return None


def host_of(address: str) -> str:
    """Return the host of an address, in the form that is asked for; "" where there is none."""
    with suppress(ValueError):
        return domain(urlsplit(address if "//" in address else f"//{address}").hostname or "")
    return ""


def domains_of(host: str) -> Iterable[str]:
    """Yield a host, and the domains that it is in."""
    while host:
        yield host
        host = host.partition(".")[2]


def domain(name: str) -> str:
    """Return a domain in the letters that the network has: lower case, without a dot at the end, others as `xn--`."""
    name = name.strip().strip(".").lower()
    if not name.isascii():
        with suppress(UnicodeError):
            return name.encode("idna").decode("ascii")
    return name


def plain(address: str) -> str:
    """Return an address without what seldom tells two apart: its scheme, `www.`, a slash at the end, and case."""
    return re.sub(r"^(?:https?:)?//(?:www\.)?|/$", "", address.strip().lower())


def joined(word: str) -> str:
    """Return the letters and digits of a word in lower case."""
    return BETWEEN.sub("", word.lower())


@cache
def listed(file: str, form: Callable[[str], str]) -> frozenset[str]:
    """Return the entries of a list in a form.

    Raises:
        GenusError: the file cannot be read, or has no entry.
    """
    lines = (line.strip() for line in read_whole(Path(file)).splitlines())
    found = frozenset(form(line) for line in lines if line and not line.startswith("#")) - {""}
    if not found:
        raise GenusError(f"{file}: there is nothing in it; write one entry a line")
    return found
