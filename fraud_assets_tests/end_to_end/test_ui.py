"""The Dagster UI as a user sees it after the first run: real pages, of a real webserver, in a real browser."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Page, expect

from fraud_assets.definitions import build_definitions
from fraud_assets.resources.tables import PREDICTIONS
from fraud_assets.settings import Settings
from fraud_assets_tests.depth import full_only
from fraud_assets_tests.end_to_end.browser import CHROMIUM, open_browser
from fraud_assets_tests.end_to_end.servers import a_free_port, serve
from fraud_assets_tests.end_to_end.shell import copy_of_the_project

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium"),
    full_only("a first run, a webserver and a browser take two minutes"),
]

DAY: Final = "2026-01-03"
"""A partition in the middle of those that one run made."""

PATIENCE: Final = 60_000
"""Milliseconds that a page may take to show what is waited for, on a busy machine."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's clone, with five days landed and all that was due done: the UI has a history to show."""
    folder = copy_of_the_project(tmp_path_factory.mktemp("ui"))
    for command in ("simulate --days 5 --rows-per-day 700 --dirt", "run"):
        done = subprocess.run(
            [sys.executable, "-m", "fraud_assets.cli", *command.split()],
            cwd=folder,
            env=environment(folder),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def page(project: Path) -> Iterator[Page]:
    """The one page of one browser, before one webserver; wide enough for the lineage graph to show every name whole."""
    port = a_free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "dagster_webserver", "--host", "127.0.0.1", "--port", str(port)]
    with (
        serve(command, f"{address}/server_info", folder=project, environment=environment(project)),
        open_browser() as browser,
        browser.new_context(base_url=address, viewport={"width": 5200, "height": 4200}) as context,
    ):
        context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        yield context.new_page()
        expect.set_options(timeout=None)


def environment(project: Path) -> dict[str, str]:
    """Return a new user's environment, activated."""
    return {**os.environ, "DAGSTER_HOME": str(project / "dagster_home")}


def assets_by_group() -> dict[str, str]:
    definitions = build_definitions(Settings(_env_file=None))  # pyright: ignore[reportCallIssue] of pydantic-settings
    specs = definitions.resolve_all_asset_specs()
    return {spec.key.to_user_string(): spec.group_name or "" for spec in specs}


def test_the_lineage_graph_shows_every_asset_and_nothing_amber_or_red(page: Page) -> None:
    assets = assets_by_group()
    expanded = ",".join(f"global@global:{group}" for group in sorted(set(assets.values())))

    page.goto(f"/asset-groups?expanded={expanded}")

    graph = page.locator("svg foreignObject")
    for asset in assets:
        expect(graph.get_by_text(asset, exact=True)).to_be_visible()
    expect(graph.get_by_text(re.compile("Passed")).first).to_be_visible()
    expect(graph.get_by_text(re.compile("Failed|Unsynced|Overdue|Warning|Degraded"))).to_have_count(0)
    assert {"silver_transactions_base", "quarantined_transactions", "fraud_predictions"} <= {*assets}


def test_an_asset_s_page_explains_the_asset_and_its_columns(page: Page) -> None:
    page.goto("/assets/fraud_predictions")

    expect(page.get_by_text("One score per Silver transaction")).to_be_visible()
    for column in ("TransactionID", "fraud_score", "is_anomaly", "model_version"):
        row = page.get_by_role("row").filter(has=page.get_by_text(column, exact=True))
        expect(row.get_by_text(PREDICTIONS.meanings[column])).to_be_visible()


def test_an_asset_s_checks_have_passed_and_say_what_they_claim(page: Page) -> None:
    page.goto("/assets/silver_transactions_base?view=checks&checkDetail=rows_are_accounted_for")

    expect(page.get_by_text("features_match_contract", exact=True).first).to_be_visible()
    expect(page.get_by_text("Evaluation result")).to_be_visible()
    expect(page.get_by_text("Passed", exact=True)).to_be_visible()


def test_a_partition_s_page_shows_how_many_rows_it_has_and_which_model_scored_them(page: Page, project: Path) -> None:
    page.goto(f"/assets/fraud_predictions?view=partitions&partition={DAY}")

    expect(page.get_by_text("Materialized (5)")).to_be_visible()
    landed = (project / f"data/simulated/landing/{DAY}/simulated-{DAY}.csv").read_text().count("\n")
    rows = int(metadata(page, "dagster/partition_row_count"))
    assert landed - 30 < rows < landed  # the dirt is in quarantine
    assert metadata(page, "model_version") == "1"


@pytest.mark.parametrize(
    ("asset", "of_the_day"),
    [
        ("raw_transactions", f"{DAY}/"),
        ("silver_transactions_base", DAY.replace("-", "")),
        ("fraud_predictions", DAY.replace("-", "")),
    ],
)
def test_a_partition_s_page_previews_the_rows_of_that_partition(page: Page, asset: str, of_the_day: str) -> None:
    page.goto(f"/assets/{asset}?view=partitions&partition={DAY}")

    preview = page.get_by_role("row").filter(has=page.get_by_text("preview", exact=True)).locator("tbody tr")
    expect(preview.first).to_be_visible()
    assert [row for row in preview.all_inner_texts() if not row.startswith(of_the_day)] == []


def test_every_job_is_listed(page: Page) -> None:
    page.goto("/jobs")

    for job in ("silver_job", "training_job", "scoring_job"):
        expect(page.get_by_text(job, exact=True).first).to_be_visible()


@pytest.mark.parametrize("job", ["silver_job", "training_job", "scoring_job"])
def test_a_job_s_history_has_the_run_of_the_command_line(page: Page, job: str) -> None:
    page.goto(f"/locations/fraud_assets/jobs/{job}/runs")

    expect(page.get_by_text("Success", exact=True)).to_be_visible()


def test_the_overview_shows_the_runs_of_the_command_line(page: Page) -> None:
    page.goto("/overview/activity/timeline")

    expect(page.get_by_text("silver_job", exact=True).first).to_be_visible()


def test_a_run_can_be_opened_and_says_what_it_did(page: Page) -> None:
    page.goto("/locations/fraud_assets/jobs/scoring_job/runs")

    page.locator("a[href^='/runs/']").first.click()

    expect(page.get_by_text("Run of").first).to_contain_text("scoring_job")
    expect(page.get_by_text("Succeeded (5)")).to_be_visible()
    expect(page.get_by_text(f"{DAY}: ").first).to_be_visible()


def metadata(page: Page, name: str) -> str:
    """Return the value that the page shows beside `name`."""
    row = page.get_by_role("row").filter(has=page.get_by_text(name, exact=True))
    return row.get_by_role("cell").nth(1).inner_text().strip()
