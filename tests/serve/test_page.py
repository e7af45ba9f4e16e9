"""The page of a server in a real browser: every form asks, answers are shown, nothing comes from elsewhere."""

from __future__ import annotations

import re
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from genus.objectives.supervised.choice import MultipleChoice
from genus.objectives.supervised.sequence import SequenceClassification
from genus.objectives.supervised.span_extraction import SpanExtraction
from genus.objectives.supervised.token import SpanTagging
from serving import running, small_model

if TYPE_CHECKING:
    from collections.abc import Iterator

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or find_spec("playwright") is None, reason="needs Chromium and playwright"
)
HEADS = {
    "classifier": SequenceClassification(labels=("good", "bad", "neither")),
    "tagger": SpanTagging(labels=("O", "B-PER", "I-PER"), usual="O"),
    "reader": SpanExtraction(),
    "chooser": MultipleChoice(),
    "masked": None,
    "writer": None,
    "images": None,
}
ROWS = {"writer": "gpt2/tiny", "images": "clip/tiny"}
"""Of models that are no BERT."""
WIDTHS = {"phone": 390, "desktop": 1280}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a server of small models, one of each kind."""
    where = tmp_path_factory.mktemp("page")
    with running(
        {name: small_model(where / name, ROWS.get(name, "bert/tiny"), head) for name, head in HEADS.items()}
    ) as found:
        yield f"http://{found}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Yield a browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


def opened(browser: Any, address: str, **options: Any) -> tuple[Any, list[str]]:
    """Return the page when it knows its models, and what went wrong in it."""
    page, wrong = browser.new_page(**options), list[str]()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda told: wrong.append(told.text) if told.type == "error" else None)
    page.on("request", lambda asked: None if asked.url.startswith((address, "data:")) else wrong.append(asked.url))
    page.goto(address)
    page.wait_for_selector("#model option", state="attached")
    return page, wrong


@pytest.mark.parametrize("model", HEADS)
def test_every_form_of_a_model_is_answered(browser: Any, address: str, model: str) -> None:
    from playwright.sync_api import expect

    page, wrong = opened(browser, address)
    page.select_option("#model", model)
    tabs = page.locator("#abilities [role=tab]")
    assert tabs.count()
    for number in range(tabs.count()):
        tabs.nth(number).click()
        page.click("form > button")
        page.wait_for_selector("#answer > *", timeout=20_000)
        expect(page.locator("#status")).to_contain_text(re.compile(" ms|ended"), timeout=20_000)
        assert model in page.inner_text("#code")
    assert not wrong
    page.close()


def test_an_error_is_told_and_the_keyboard_moves_between_tabs(browser: Any, address: str) -> None:
    page, wrong = opened(browser, address)
    page.select_option("#model", "masked")
    page.locator("#abilities [role=tab]", has_text="Fill").click()
    page.fill("[name=text]", "nothing is missing")
    page.click("form > button")
    page.wait_for_selector("#status.error")
    assert "has no mask" in page.inner_text("#status")
    page.keyboard.press("Shift+Tab")
    page.locator("#abilities [aria-selected=true]").focus()
    before = page.inner_text("#abilities [aria-selected=true]")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#abilities [aria-selected=true]") != before
    assert page.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"
    assert all("400" in one for one in wrong)  # the browser's own note of the refused request
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_phones_and_every_field_has_a_name(browser: Any, address: str, width: str, scheme: str) -> None:
    page, wrong = opened(browser, address, viewport={"width": WIDTHS[width], "height": 900}, color_scheme=scheme)
    for model in HEADS:
        page.select_option("#model", model)
        page.click("form > button")
        page.wait_for_selector("#answer > *", timeout=20_000)
        assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width]
        named = "[...document.querySelectorAll('input, select, textarea')].filter(one => !one.labels.length).length"
        assert page.evaluate(named) == 0
    assert not wrong
    page.close()
