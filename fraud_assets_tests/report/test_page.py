"""The page as text: what stands on it, what is escaped, and that it needs nothing else."""

import re
from dataclasses import replace

import pytest

from fraud_assets.report.facts import Note
from fraud_assets.report.page import MOST_TIMELINES, render
from fraud_assets_tests.report import samples


@pytest.fixture(scope="module")
def page() -> str:
    return render(samples.report())


def test_the_page_names_day_model_and_time(page: str) -> None:
    assert "<h1>Friday, 30 January 2026</h1>" in page
    assert 'datetime="2026-01-31T06:30:00+00:00"' in page
    assert "version 1" in page


def test_every_card_and_every_alert_stands_on_the_page(page: str) -> None:
    report = samples.report()
    assert page.count("<article") == len(report.cards)
    for card in report.cards:
        assert card.card_id in page
        for alert in card.alerts:
            assert alert.transaction_id in page


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    assert len(page.encode()) < 5 * 2**20
    assert re.findall(r"""\s(?:src|href)=["']([^"'#][^"']*)""", page) == ["index.html"]
    assert not re.search(r"url\(|@import|<link|<iframe|<img", page)
    assert "default-src 'none'" in page


def test_pictures_take_their_colours_from_the_page(page: str) -> None:
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) > 5
    for picture in pictures:
        used = set(re.findall(r'(?:fill|stroke)="([^"]+)"', picture)) - {"none", "transparent"}
        assert {colour for colour in used if not colour.startswith("var(--")} == set()


def test_ids_are_unique(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert sorted(ids) == sorted(set(ids))


def test_texts_of_the_source_are_text() -> None:
    page = render(samples.hostile_report())
    assert "<script>document" not in page
    assert "<img" not in page
    assert "<h1>mine" not in page
    assert "\u202e" not in page
    assert "49" not in re.findall(r"<bdi[^>]*>(.*?)</bdi>", page)
    assert "x" * 301 not in page


def test_a_failed_check_is_said_on_top_and_in_the_table() -> None:
    report = samples.report(cards=1)
    failed = replace(report.checks[0], passed=False, found="2 rows are missing")
    page = render(replace(report, checks=(failed,), notes=(Note("failed", "rows_are_accounted_for: 2 rows missing."),)))
    assert page.index("2 rows missing") < page.index('id="alerts"')
    assert '<strong class="failed">failed</strong>' in page


def test_an_empty_day_shows_sentences_and_no_zero_that_looks_like_good_news() -> None:
    page = render(samples.empty_report())
    assert "No transaction of this day was scored" in page
    assert 'class="value">0<' not in page
    assert "was not evaluated here" in page
    assert "No alert was reviewed yet" in page
    assert "<svg" not in page


def test_far_down_the_list_words_stand_for_the_picture() -> None:
    page = render(samples.report(cards=MOST_TIMELINES + 5))
    assert page.count("in the 5 minutes up to") > MOST_TIMELINES
