"""Rewrites: repaired characters, text of HTML, masked addresses, and any normalization of tokenizers."""

from __future__ import annotations

import ipaddress
import re
from typing import ClassVar

from genus.curate import Outcome, Removal, Rewrite
from genus.errors import library
from genus.part import Count
from genus.text.normalization import Normalization

EMAIL = re.compile(r"(?<![\w.+-])[\w.+%-]+@(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W\d_]{2,}(?![\w-])")
TELEPHONE = re.compile(
    r"(?<![\w.+(-])(?:"
    r"\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,6}"  # international
    r"|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}"  # North America
    r"|0\d{1,4}[ -]\d{2,4}[ -]\d{3,4}(?:[ -]\d{2,4})?"  # with a national prefix
    r")(?![\w-]|\.\d)"
)
ADDRESS = re.compile(
    r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)"
    r"|(?<![\w:])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{1,4}(?![\w:])"
)
UNICAST = ipaddress.ip_network("2000::/3")
"""The IPv6 addresses that are given out (RFC 4291): others, such as `a::b`, are rather something else."""


class RepairedUnicode(Rewrite):
    """Characters that were decoded wrongly are repaired (the `ftfy` library): `â€œ` is a quotation mark again."""

    def check(self) -> None:
        """Check that the library is there."""
        library("ftfy", "repairing characters", "curate")

    def rewrite(self, text: str) -> str:
        """Return the repaired text."""
        return str(library("ftfy", "repairing characters", "curate").fix_text(text))


class HtmlText(Rewrite):
    """The main text of a page of HTML (the `trafilatura` library), without menus, headers and footers.

    A text that does not begin with a tag is taken as it is.
    """

    markup: ClassVar[str | None] = "HTML"
    precise: bool = True
    """Rather too little than too much of a page (as for FineWeb)."""
    longest: Count = 20_000_000
    """Bytes of a page over which it is removed, and not looked into (as by trafilatura's own command)."""

    def check(self) -> None:
        """Check that the library is there."""
        library("trafilatura", "taking text out of HTML", "curate")

    def apply(self, text: str) -> Outcome:
        """Return the page's text, unless it is too long."""
        if len(text) > self.longest or len(text.encode(errors="replace")) > self.longest:
            return Outcome("", Removal("too_long", text))
        return super().apply(text)

    def rewrite(self, text: str) -> str:
        """Return the page's text, "" where there is none."""
        if not text.lstrip().startswith("<"):
            return text
        found = library("trafilatura", "taking text out of HTML", "curate").extract(
            text, favor_precision=self.precise, include_comments=False, deduplicate=False
        )
        return found or ""


class MaskedAddresses(Rewrite):
    """E-mail addresses, telephone numbers and IP addresses are replaced by what stands for them.

    The names are Dolma's (Soldaini et al. 2024, arXiv:2402.00159); None keeps what is there. IP addresses that are no
    person's, as those of a local network, are kept. A telephone number is told by its form: a `+`, or groups of digits.
    """

    email: str | None = "|||EMAIL_ADDRESS|||"
    telephone: str | None = "|||PHONE_NUMBER|||"
    ip: str | None = "|||IP_ADDRESS|||"

    def rewrite(self, text: str) -> str:
        """Return the text with addresses replaced."""
        if self.email is not None:
            text = EMAIL.sub(lambda _: str(self.email), text)
        if self.ip is not None:
            text = ADDRESS.sub(lambda found: str(self.ip) if is_global(found[0]) else found[0], text)
        if self.telephone is not None:
            text = TELEPHONE.sub(lambda _: str(self.telephone), text)
        return text


class Normalized(Rewrite):
    """A normalization of tokenizers, applied once to the text and not again whenever it is read."""

    normalization: Normalization

    def rewrite(self, text: str) -> str:
        """Return the normalized text."""
        return self.normalization.clean(text)


def is_global(address: str) -> bool:
    """Return whether a text is an IP address that is valid everywhere."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return found.is_global and (found.version == 4 or found in UNICAST)
