"""The page of a curation's report: what is in it, and how it looks in a real browser."""

from __future__ import annotations

import json
import random
import re
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

import curated
from genus.cli import main
from genus.cli.curation_page import grouped, page
from genus.text.sources import CURATION, CURATION_PAGE, find
from genus.tokens.algorithms.wordpiece import WordPiece

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS = {"phone": 390, "desktop": 1280}
BAD = '<script>alert(1)</script><img src="https://elsewhere.org/x.png">&amp;'
ARABIC = "\u0645\u0631\u062d\u0628\u0627"


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cleaned folder, of texts with markup in them and of copies; tokens are counted."""
    folder = tmp_path_factory.mktemp("curation")
    texts = curated.corpus(folder / "text", 200)
    draw = random.Random(5)
    long = " ".join(curated.page(draw, 40) for _ in range(30))
    more = [{"text": f"{BAD}\nOnly a line"}, {"text": f"{ARABIC}."}, {"text": long}, {"text": f"{long} And so on."}]
    texts.append(curated.write(folder / "text" / f"three{BAD[:8].replace('/', '')}.jsonl", more))
    table = curated.write(folder / "task.jsonl", [{"question": curated.lines(texts[1])[3][10:400]}])
    WordPiece(vocab_size=300).train([long]).save(folder / "words")
    (folder / "steps.toml").write_text(
        f"""kind = "Curation"
steps = [
  {{kind = "C4Lines"}}, {{kind = "ExactDuplicates"}}, {{kind = "FewSentences", least = 2}},
  {{kind = "NearDuplicates", values = 32}}, {{kind = "Contamination", tables = [{json.dumps(str(table))}]}},
]"""
    )
    chosen = ["--preset", str(folder / "steps.toml"), "--tokenizer", str(folder / "words"), "--workers", "1"]
    assert main(["clean", str(folder / "text"), *chosen, "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_the_page_says_what_the_report_says(cleaned: Path) -> None:
    report = json.loads((cleaned / CURATION).read_text())
    text = (cleaned / CURATION_PAGE).read_text(encoding="utf-8")
    assert text == page(report, "out")
    for of_step in report["removed"].values():
        for rule, gone in of_step.items():
            assert f">{rule}</td>" in text
            assert f">{gone.get('documents', gone.get('lines')):,}</td>" in text
    for what in ("read", "kept"):
        assert f"{report[what]['documents']:,} documents" in text
        assert report[what]["tokens"] == sum(
            one.get(what, {"tokens": 0})["tokens"] for one in report["sources"].values()
        )
        assert sum(report["lengths"][what].values()) == report[what]["documents"]
    assert "largest clusters" in json.dumps(report["facts"])
    assert "Largest clusters" in text
    assert text.count("<svg") == text.count('role="img"') == 2
    assert not re.search(r"<script|<img|<link|https?://(?!example)[^<\"]*\"", text)
    assert "&lt;script&gt;" in text


def test_the_page_is_no_text(cleaned: Path) -> None:
    assert [path.name for path in find([cleaned])] == ["text-00000.jsonl.gz"]  # type: ignore[union-attr]
    assert find([cleaned], raw=True) == find([cleaned])


def test_tokens_are_those_of_a_store(cleaned: Path, tmp_path: Path) -> None:
    from genus.tokens.store import prepare
    from genus.tokens.tokenizer import Tokenizer

    report = json.loads((cleaned / CURATION).read_text())
    store = prepare([cleaned], Tokenizer.load(cleaned.parent / "words"), tmp_path / "store", workers=1)
    assert store.tokens == report["kept"]["tokens"]


def test_an_empty_report_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    chosen = ["--preset", "code", "--set", "steps.0.max_bytes=3", "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main(["clean", str(tmp_path / "a.txt"), *chosen]) == 0
    assert "0 documents (0 B) were kept" in (tmp_path / "out" / CURATION_PAGE).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Yield a browser."""
    if CHROMIUM is None or find_spec("playwright") is None:
        pytest.skip("needs Chromium and playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_phones_and_asks_for_nothing(browser: Any, cleaned: Path, width: str, scheme: str) -> None:
    opened, wrong = browser.new_page(viewport={"width": WIDTHS[width], "height": 900}, color_scheme=scheme), list[str]()
    opened.on("console", lambda told: wrong.append(told.text) if told.type == "error" else None)
    opened.on("request", lambda asked: None if asked.url.startswith("file:") else wrong.append(asked.url))
    opened.goto((cleaned / CURATION_PAGE).as_uri())
    opened.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert opened.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width]
    boxes = opened.evaluate(
        "[...document.querySelectorAll('svg rect')].map(one => [one.getBBox().width, one.getBBox().height])"
    )
    assert len(boxes) > 8
    assert all(side >= 0 for box in boxes for side in box)
    inside = "[...document.querySelectorAll('svg text')].every(one => {const b = one.getBoundingClientRect(), s = "
    inside += "one.closest('svg').getBoundingClientRect(); return b.left >= s.left - 1 && b.right <= s.right + 1})"
    assert opened.evaluate(inside)
    colors = opened.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
    light = [sum(map(int, re.findall(r"\d+", color)[:3])) for color in colors]
    assert (light[0] > light[1]) == (scheme == "dark")
    assert not wrong
    opened.close()


def test_groups_are_in_their_order() -> None:
    """Languages by number, of many the largest in the figure; ranges by their ends."""
    sizes = {f"l{number}": {"documents": number, "bytes": 10 * number} for number in range(1, 31)}
    text = grouped(sizes)
    assert text.index(">l30<") < text.index(">l29<") < text.index(">l11<")
    assert "The 20 largest of 30." in text
    assert text.count("<rect") == 20
    assert all(f">l{number}</td>" in text for number in range(1, 31))
    ranges = grouped({name: {"documents": 1, "bytes": 1} for name in ("1e+06 to 2e+06", "50 to 100", "200 to 500")})
    assert ranges.index(">50 to 100</td>") < ranges.index(">200 to 500</td>") < ranges.index(">1e+06 to 2e+06</td>")
