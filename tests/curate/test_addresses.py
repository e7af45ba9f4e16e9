"""Addresses: each rule by hand, and datatrove's filter on many."""

from __future__ import annotations

import itertools
import random
import warnings
from typing import TYPE_CHECKING, Any

import pytest

import curated
from genus.curate import Curation
from genus.curate.addresses import BlockedAddresses, host_of
from genus.errors import GenusError

if TYPE_CHECKING:
    from pathlib import Path

DOMAINS = ["bad.com", "sub.mixed.org", "evil.co.uk"]
ADDRESSES = ["http://fine.net/secret/page"]
WORDS, SOFT, PARTS = ["poker", "xxx"], ["casino", "bonus", "free"], ["escort", "warez"]


@pytest.fixture
def lists(tmp_path: Path) -> dict[str, str]:
    """The choices of a step with all lists."""
    found = {}
    for name, entries in (("domains", DOMAINS), ("addresses", ADDRESSES), ("words", WORDS), ("soft_words", SOFT),
                          ("parts", PARTS)):  # fmt: skip
        path = tmp_path / f"{name}.txt"
        path.write_text("# a list\n\n" + "".join(f"{entry.upper()}\n" for entry in entries))
        found[name] = str(path)
    return found


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("https://bad.com/", "domain"),
        ("https://www.bad.com:8080/a?b=c", "domain"),
        ("bad.com/page", "domain"),
        ("http://user@bad.com./", "domain"),
        ("https://notbad.com/", None),
        ("https://bad.com.example.org/", None),
        ("https://mixed.org/", None),
        ("https://a.sub.mixed.org/", "domain"),
        ("https://fine.net/secret/page/", "address"),
        ("https://www.fine.net/secret/page", "address"),
        ("https://fine.net/secret/pages", None),
        ("https://fine.net/play-poker-now", "word"),
        ("https://fine.net/POKER", "word"),
        ("https://fine.net/p%6Fker", "word"),
        ("https://fine.net/pokerface", None),
        ("https://fine.net/casino", None),
        ("https://fine.net/casino/casino", None),
        ("https://free.net/casino", "soft_words"),
        ("https://fine.net/e-s-c-o-r-t", "part"),
        ("https://fine.net/escorting", "part"),
        ("https://[not an address", None),
        ("mailto:someone", None),
    ],
)
def test_rules(lists: dict[str, str], address: str, rule: str | None) -> None:
    assert BlockedAddresses(**lists).rule(address) == rule  # type: ignore[arg-type]


def test_without_lists_all_stay() -> None:
    assert BlockedAddresses().rule("https://bad.com/poker") is None


def test_only_some_domains(tmp_path: Path) -> None:
    path = tmp_path / "only.txt"
    path.write_text("news.org\nb\u00fccher.de\n")
    choice = BlockedAddresses(only=str(path))
    for address in (
        "https://news.org/a",
        "https://www.news.org",
        "https://xn--bcher-kva.de/x",
        "http://b\u00fccher.de",
    ):
        assert choice.rule(address) is None, address
    assert choice.rule("https://fakenews.org/a") == "other_domain"
    assert host_of("http://B\u00dcCHER.de/x") == "xn--bcher-kva.de"


def test_documents_without_an_address_stay(tmp_path: Path, lists: dict[str, str]) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "One.", "url": "https://bad.com/a"},
        {"text": "Two.", "url": "https://good.com/a"},
        {"text": "Three."},
        {"text": "Four.", "url": None},
    ]
    path = curated.write(tmp_path / "a.jsonl", rows)
    report = curated.clean(Curation(steps=(BlockedAddresses(**lists),)), [path], tmp_path / "out")  # type: ignore[arg-type]
    assert [one["text"] for one in curated.read(tmp_path / "out")] == ["Two.", "Three.", "Four."]
    gone = report["removed"]["0 BlockedAddresses"]["domain"]
    assert (gone["documents"], gone["bytes"]) == (1, 4)
    assert gone["samples"][0]["text"] == "https://bad.com/a"


def test_lists_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(GenusError, match=r"nothing.txt: cannot be read"):
        BlockedAddresses(words=str(tmp_path / "nothing.txt")).check()
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(GenusError, match=r"empty.txt: there is nothing in it"):
        BlockedAddresses(parts=str(tmp_path / "empty.txt")).check()


def test_as_datatrove(lists: dict[str, str]) -> None:
    """On addresses without escapes, where a list's domain is registered or the whole host."""
    data = pytest.importorskip("datatrove.data")
    module = pytest.importorskip("datatrove.pipeline.filters.url_filter")
    tldextract = pytest.importorskip("tldextract")
    step = module.URLFilter(
        use_integrated_lists=False,
        extra_domains={*DOMAINS},
        extra_urls={*ADDRESSES},
        banned_words={*WORDS},
        banned_subwords={*PARTS},
        soft_banned_words={*SOFT},
    )
    step.tldextractor = tldextract.TLDExtract(suffix_list_urls=())  # its own copy of the list
    names = {
        "domain": "domain",
        "subdomain": "domain",
        "url": "address",
        "hard_blacklisted": "word",
        "soft_blacklisted": "soft_words",
        "blacklisted_subword": "part",
    }
    draw = random.Random(0)
    hosts = ["bad.com", "www.bad.com", "good.com", "free.net", "sub.mixed.org", "mixed.org", "x.evil.co.uk", "co.uk"]
    words = ["poker", "casino", "bonus", "escorts", "page", "a", "news", "xxx", "wa-rez", "index.html", "2020"]
    addresses = [
        f"http://{host}/{'/'.join(draw.choices(words, k=k))}"
        for host, k in itertools.product(hosts, (1, 2, 2, 3, 3, 4))
    ]
    found = set()
    for address in [*addresses, *ADDRESSES]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # theirs, of another library's name
            result = step.filter(data.Document(text="x", id="0", metadata={"url": address}))
        their = None if result is True else names[result[1]]
        found.add(their)
        assert BlockedAddresses(**lists).rule(address) == their, address  # type: ignore[arg-type]
    assert found == {None, "domain", "address", "word", "soft_words", "part"}
