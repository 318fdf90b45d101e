"""The page in a real browser: nothing fails, nothing is asked of anybody, and a person can use it.

Whatever is shown here was made by hand; the page of a real platform is looked at in `assets/test_report.py`.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from fraud_assets.report.page import IndexEntry, render, render_index
from fraud_assets_tests.depth import FULL
from fraud_assets_tests.end_to_end.browser import CHROMIUM, open_browser
from fraud_assets_tests.report import samples

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")

Scheme = Literal["light", "dark"]
WIDTHS: Final = (360, 1440)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of reports, as they lie in `reports/`."""
    folder = tmp_path_factory.mktemp("reports")
    usual = samples.report(cards=6)
    entry = IndexEntry(samples.KEY, "usual.html", "Friday, 30 January 2026", samples.AS_OF, 6, 4, 3012, 1240.0, "1")
    for name, page in {
        "usual": render(usual),
        "empty": render(samples.empty_report()),
        "hostile": render(samples.hostile_report()),
        "index": render_index("simulated", [entry]),
    }.items():
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return folder


@pytest.fixture
def opened(browser: Browser, pages: Path) -> Iterator["Opened"]:
    with browser.new_context() as context:
        page = context.new_page()
        seen = Opened(page, pages)
        yield seen
        assert seen.complaints == []
        assert [request for request in seen.requests if not request.startswith(f"file://{pages}/")] == []


class Opened:
    """A page, what its console said, and what it asked for."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.page, self.folder = page, folder
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self, name: str, *, width: int = 1440, scheme: Scheme = "light") -> Page:
        self.page.emulate_media(color_scheme=scheme)
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.goto(f"file://{self.folder}/{name}.html")
        return self.page


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["usual", "empty", "hostile", "index"])
def test_no_page_scrolls_sideways(opened: "Opened", name: str, width: int) -> None:
    page = opened.open(name, width=width)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize(
    ("name", "scheme"),
    list(itertools.product(["usual", "empty", "hostile", "index"], ["light", "dark"]))
    if FULL
    else [("usual", "light"), ("hostile", "dark"), ("empty", "light"), ("index", "dark")],
)
def test_axe_finds_nothing(opened: "Opened", name: str, scheme: Scheme) -> None:
    page = opened.open(name, scheme=scheme, width=360 if scheme == "dark" else 1440)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    found = Axe().run(page)
    assert [(one["impact"], one["id"], one["nodes"][0]["html"]) for one in found.response["violations"]] == []


def test_what_a_source_wrote_is_text(opened: "Opened") -> None:
    page = opened.open("hostile")
    assert page.title().startswith("Friday, 30 January 2026")
    assert page.locator("img, bdi script, bdi h1").count() == 0
    shown = page.locator("article h3 bdi").all_inner_texts()
    assert shown[0] == samples.HOSTILE[0]
    assert "[U+202E]12.00 refund[U+2066]" in shown
    assert samples.HOSTILE[4] in shown
    assert any(one.endswith("… (10,000 characters)") for one in shown)


def test_cards_are_searched_and_sorted_with_the_keyboard(opened: "Opened") -> None:
    page, report = opened.open("usual"), samples.report(cards=6)
    page.get_by_label("Search").focus()
    page.keyboard.type(report.cards[2].card_id)
    assert page.locator("article:visible h3 bdi").all_inner_texts() == [report.cards[2].card_id]
    assert page.locator("#found").inner_text() == "1 of 6 cards"
    page.keyboard.type("nothing like that")
    assert page.get_by_text("No card matches the search.").is_visible()
    page.get_by_label("Search").fill("")
    page.get_by_label("Order").select_option("amount")
    at_risk = sorted(report.cards, key=lambda card: (-card.amount_at_risk, card.rank))
    assert page.locator("article h3 bdi").all_inner_texts() == [card.card_id for card in at_risk]


def test_the_list_is_whole_without_a_script(browser: Browser, pages: Path) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"file://{pages}/usual.html")
        assert page.locator("article").count() == 6
        assert page.locator(".tools").is_hidden()


def test_whatever_can_be_reached_shows_that_it_has_the_focus(opened: "Opened") -> None:
    page = opened.open("usual")
    for _ in range(12):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", page.evaluate("document.activeElement.outerHTML").split(">")[0]
