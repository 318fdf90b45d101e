"""Reports of a real platform: what stands on a page is what SQL says, and only what changed is rendered anew."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

import fraud_assets.silver.source as silver_source
from fraud_assets.assets.report_inputs import ReportInputs
from fraud_assets.resources.tables import ALERT_LISTS, ALERTS, PREDICTIONS, QUARANTINED_TRANSACTIONS, REPORTS
from fraud_assets.staleness import decide
from fraud_assets_tests.end_to_end.browser import CHROMIUM, open_browser
from fraud_assets_tests.platform import WITHOUT_HISTORY, TestPlatform

DAY = "2026-01-04"
PACKAGED = Path(silver_source.__file__).parent / "sources/simulated.toml"


@pytest.fixture(scope="module")
def reported(_scored_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestPlatform]:
    """Six scored days with their pages; the tests of this module change it one after the other."""
    data_dir = tmp_path_factory.mktemp("reported") / "data"
    shutil.copytree(_scored_data, data_dir)
    with dg.DagsterInstance.ephemeral() as instance:
        platform = replace(TestPlatform(data_dir, instance), stages=WITHOUT_HISTORY)
        assert [(step.request.stage, step.problem) for step in platform.run()] == [("report", "")]
        yield platform


def pages(platform: TestPlatform) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in (platform.data_dir / "reports").glob("*.html")}


def text(page: bytes) -> str:
    """The page's words, without tags."""
    return re.sub(r"\s+", " ", re.sub(r"<(style|script).*?</\1>|<[^>]+>", " ", page.decode(), flags=re.DOTALL))


def test_every_scored_day_has_a_page_and_the_index_lists_them(reported: TestPlatform) -> None:
    days = sorted(reported.state().gold)
    made = pages(reported)
    assert sorted(made) == [*days, "index"]
    index = made["index"].decode()
    assert re.findall(r'href="([0-9-]+)\.html"', index) == [days[-1], *reversed(days)]
    assert decide(reported.state(), WITHOUT_HISTORY).due == ()
    assert reported.rows("SELECT count(*), min(bytes) > 0 FROM {r}", r=REPORTS) == [(6, True)]


def test_the_asset_s_page_links_to_the_file_and_has_figures_to_plot(reported: TestPlatform) -> None:
    event = reported.instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey("fraud_report"), asset_partitions=[DAY]), limit=1
    ).records[0]
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert metadata["page"].value == (reported.data_dir / "reports" / f"{DAY}.html").as_uri()
    [(alerts, at_risk, rate)] = reported.rows(
        f"SELECT alerts, amount_at_risk, alerts / scored_rows FROM {{t}} WHERE partition_key = '{DAY}'", t=ALERT_LISTS
    )
    assert [metadata[name].value for name in ("alerts", "amount_at_risk", "alert_rate")] == [alerts, at_risk, rate]
    assert str(metadata["pictures"].value).count("data:image/png;base64,") == 2


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")
def test_the_numbers_on_the_page_are_those_of_sql(reported: TestPlatform) -> None:
    [(scored, anomalies)] = reported.rows(
        f"SELECT count(*), count(*) FILTER (is_anomaly) FROM {{g}} WHERE partition_key = '{DAY}'", g=PREDICTIONS
    )
    [(alerts, cards, at_risk)] = reported.rows(
        "SELECT count(*), count(DISTINCT card_id), sum(TransactionAmt::DECIMAL(18, 3))::DOUBLE "
        f"FROM {{a}} WHERE partition_key = '{DAY}'",
        a=ALERTS,
    )
    ordered = reported.rows(
        f"SELECT card_id, TransactionID FROM {{a}} WHERE partition_key = '{DAY}' ORDER BY rank", a=ALERTS
    )
    [(refused,)] = reported.rows(
        f"SELECT count(*) FROM {{q}} WHERE partition_key = '{DAY}'", q=QUARANTINED_TRANSACTIONS
    )
    with open_browser() as browser:
        page = browser.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda request: complaints.extend([] if request.url.startswith("file:") else [request.url]))
        page.goto((reported.data_dir / "reports" / f"{DAY}.html").as_uri())

        values = page.locator(".glance .value").all_inner_texts()
        assert values[:4] == [f"{alerts:,}", f"{cards:,}", f"{at_risk:,.2f}", f"{anomalies - alerts:,}"]
        assert f"of {scored:,} scored transactions" in page.locator(".glance").inner_text()
        assert page.locator("article h3 bdi").all_inner_texts() == list(dict.fromkeys(card for card, _ in ordered))
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        listed = page.locator("table:has(caption:text-is('Alerts of this card')) tbody th").all_inner_texts()
        assert listed == [transaction for _, transaction in ordered]
        assert page.get_by_text(re.compile(f"^{refused} of [0-9,]+ landed rows were refused")).is_visible()
        for key, rows, n in reported.rows("SELECT partition_key, scored_rows, alerts FROM {t}", t=ALERT_LISTS):
            if key <= DAY:
                cells = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=key)).inner_text()
                assert [f"{rows:,}", f"{n:,}"] == [cells.split()[1], cells.split()[5]]
        assert complaints == []


def test_the_page_says_what_the_checks_found_and_where_the_model_comes_from(reported: TestPlatform) -> None:
    page = text(pages(reported)[DAY])
    assert page.count(" passed ") == 6
    assert "failed" not in page
    assert "Version 1: an Isolation Forest of 200 trees, trained without labels on" in page
    assert "was promoted by gate" in page


def test_a_page_says_that_the_feed_is_late_also_where_an_old_day_was_built_again(
    scored_platform: TestPlatform, tmp_path: Path
) -> None:
    source = tmp_path / "simulated.toml"
    source.write_text(PACKAGED.read_text().replace('end = "2026-02-10"', ""))
    platform = replace(scored_platform, source=str(source))
    latest = max(platform.state().gold)
    [newest] = (platform.landing_zone.folder / latest).iterdir()
    long_ago = (datetime.now(tz=UTC) - timedelta(days=3)).timestamp()
    os.utime(newest, (long_ago, long_ago))
    inputs = ReportInputs(platform.lake, platform.landing_zone, platform.model_registry, 0.1, 100)

    def notes(key: str) -> list[str]:
        with platform.lake.connect() as connection:
            return [note.text for note in inputs.read(connection, key, as_of=datetime.now(tz=UTC)).notes]

    assert notes(DAY) == []
    [said] = notes(latest)
    assert said.startswith("Nothing landed since ")


def test_a_corrected_day_changes_its_own_page_and_no_other(reported: TestPlatform) -> None:
    before = pages(reported)
    reported.simulate(1, start=date.fromisoformat(DAY), seed=8)

    steps = reported.run()

    assert {step.problem for step in steps} == {""}
    rendered = [step.request.keys for step in steps if step.request.stage == "report"]
    after = pages(reported)
    touched = {key for key, page in after.items() if page != before[key]} - {"index"}
    latest = max(before.keys() - {"index"})
    # The day after looks back on its last five minutes; the latest page shows the evaluation, which is made anew.
    assert {DAY} <= touched <= {DAY, "2026-01-05", latest}
    assert {key for keys in rendered for key in keys} == touched
    assert decide(reported.state(), WITHOUT_HISTORY).due == ()
