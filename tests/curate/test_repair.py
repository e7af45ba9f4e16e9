"""Rewrites: what they change, and what they leave alone."""

from __future__ import annotations

import pytest

from genus.curate.presets import PRESETS, load
from genus.curate.repair import HtmlText, MaskedAddresses, Normalized, RepairedUnicode
from genus.errors import GenusError, UsageError, library
from genus.text.normalization import ThaiWikipediaNormalization

EMAIL, PHONE, IP = "|||EMAIL_ADDRESS|||", "|||PHONE_NUMBER|||", "|||IP_ADDRESS|||"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to jo.doe+x@mail.example.co.uk.", f"Write to {EMAIL}."),
        ("<a@b-c.org>, (d_e@f.io)", f"<{EMAIL}>, ({EMAIL})"),
        ("Call (212) 555-0123 or 212-555-0123.", f"Call {PHONE} or {PHONE}."),
        ("+44 20 7946 0958; +66 2 123 4567!", f"{PHONE}; {PHONE}!"),
        ("030 1234 5678", PHONE),
        ("from 8.8.8.8 and 2001:4860:4860::8888.", f"from {IP} and {IP}."),
    ],
)
def test_addresses_are_masked(text: str, masked: str) -> None:
    assert MaskedAddresses().rewrite(text) == masked
    assert MaskedAddresses(email=None, telephone=None, ip=None).rewrite(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "a @ b, and user@localhost",
        "In 1914-1918 there were 1 000 000 of them, or 3.141592653.",
        "version 1.2.3, section 10.1.2.3.4, 192.168.0.1 and 127.0.0.1 and 999.1.1.1",
        "2021-03-15, 12:30:45, ISBN 978-3-16-148410-0, 555-0123",
        "def f(x): return a::b",
        "Ratio 16:9 at 10:20",
    ],
)
def test_what_is_no_address_stays(text: str) -> None:
    assert MaskedAddresses().rewrite(text) == text


def test_a_normalization_is_a_step() -> None:
    step = Normalized(normalization=ThaiWikipediaNormalization())
    assert step.apply("a\u00a0b\u00ad").text == "a b"
    removed = step.apply("\u00ad").document
    assert removed is not None
    assert removed.rule == "empty"


def test_unicode_is_repaired() -> None:
    pytest.importorskip("ftfy")
    assert (
        RepairedUnicode().rewrite("\u00e2\u20ac\u0153quoted\u00e2\u20ac\u009d caf\u00c3\u00a9") == '"quoted" caf\u00e9'
    )
    assert RepairedUnicode().rewrite("caf\u00e9") == "caf\u00e9"


PAGE = """<html><head><title>T</title><script>var x = 1;</script></head><body><nav><a href="/">Home</a></nav>
<article><h1>Of stones</h1><p>{0}</p><p>{1}</p></article><footer>Copyright 2020</footer></body></html>"""


def test_html_becomes_text() -> None:
    pytest.importorskip("trafilatura")
    first, second = (
        ("Stones lie in the river and are round. " * 5).strip(),
        ("Water made them so, slowly. " * 6).strip(),
    )
    text = HtmlText().rewrite(PAGE.format(first, second))
    assert first in text
    assert second in text
    assert not [word for word in ("var x", "Home", "Copyright", "<") if word in text]
    assert HtmlText().rewrite("No page <b>at all</b>.") == "No page <b>at all</b>."


def test_a_missing_library_is_one_line() -> None:
    with pytest.raises(GenusError, match=r"repairing needs another library: pip install 'genus.curate.'"):
        library("no_such_library", "repairing", "curate")


def test_presets_are_found_by_name() -> None:
    for name, curation in PRESETS.items():
        assert type(curation).from_json(curation.written()) == curation == load(name)
    with pytest.raises(UsageError, match=r"no curation 'c5'. Did you mean 'c4'"):
        load("c5")
