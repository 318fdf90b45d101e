"""From scores to a list and back from a spreadsheet, on a real platform: what changes is redone, nothing else."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner
from openpyxl import load_workbook

from fraud_assets.alerts.spreadsheets import read_rows, write_csv
from fraud_assets.cli import main
from fraud_assets.resources.tables import (
    ALERT_LISTS,
    ALERT_REVIEWS,
    ALERTS,
    EVALUATION_METRICS,
    PREDICTIONS,
    REVIEW_FILES,
    REVIEW_SAMPLES,
)
from fraud_assets.staleness import decide
from fraud_assets_tests.automation.test_sensors import tick
from fraud_assets_tests.platform import TestPlatform

MADE = "SELECT partition_key, max(alerted_at) FROM {alerts} GROUP BY ALL"


@pytest.fixture
def command(scored_platform: TestPlatform, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("FRAUD_DATA_DIR", str(scored_platform.data_dir))

    def run(*arguments: str | Path) -> str:
        return CliRunner().invoke(main, [str(one) for one in arguments]).output

    return run


def test_every_scored_day_has_its_list_and_the_check_holds(scored_platform: TestPlatform) -> None:
    compared = scored_platform.rows(
        """
        SELECT lists.anomalies = gold.anomalies, lists.scored_rows = gold.n, lists.alerts = coalesce(listed.n, 0)
        FROM {lists} AS lists
        JOIN (SELECT partition_key, count(*) AS n, count(*) FILTER (is_anomaly) AS anomalies FROM {gold} GROUP BY ALL)
            AS gold USING (partition_key)
        LEFT JOIN (SELECT partition_key, count(*) AS n FROM {alerts} GROUP BY ALL) AS listed USING (partition_key)
        """,
        lists=ALERT_LISTS, gold=PREDICTIONS, alerts=ALERTS,
    )  # fmt: skip
    assert compared == [(True, True, True)] * 6
    job = scored_platform.definitions.resolve_implicit_global_asset_job_def()
    checks = [key for key in job.asset_layer.asset_graph.asset_check_keys if "every_alert" in key.name]
    result = job.get_subset(asset_check_selection=set(checks)).execute_in_process(instance=scored_platform.instance)
    assert [one.passed for one in result.get_asset_check_evaluations()] == [True]


def test_a_corrected_day_changes_its_alerts_and_no_other_days(scored_platform: TestPlatform) -> None:
    before = dict(scored_platform.rows(MADE, alerts=ALERTS))
    scored_platform.simulate(1, start=date(2026, 1, 3), seed=8)
    assert {step.problem for step in scored_platform.run()} == {""}
    after = dict(scored_platform.rows(MADE, alerts=ALERTS))
    # A day whose windows look back on the corrected one may be scored anew, too.
    assert {key for key in after if after[key] != before[key]} - {"2026-01-04"} == {"2026-01-03"}
    assert decide(scored_platform.state(), scored_platform.stages).due == ()


def test_another_number_of_alerts_a_day_makes_lists_and_nothing_else(scored_platform: TestPlatform) -> None:
    settings = scored_platform.settings.model_copy(update={"alerts_per_day": 3})
    platform = replace(scored_platform)
    platform.__dict__["settings"] = settings
    [step] = platform.run()
    assert (step.request.stage, len(step.request.keys), step.problem) == ("alerts", 6, "")
    assert {alerts for (alerts,) in platform.rows("SELECT alerts FROM {lists}", lists=ALERT_LISTS)} == {3}
    assert decide(platform.state(), platform.stages).due == ()


def test_a_spreadsheet_goes_out_and_comes_back_with_decisions(
    scored_platform: TestPlatform, command: Callable[..., str], tmp_path: Path
) -> None:
    assert "alerts on" in command("alerts", "2026-01-04")
    sheet_file = tmp_path / "alerts.xlsx"
    assert "Written" in command("alerts", "2026-01-04", "--xlsx", sheet_file)
    workbook = load_workbook(sheet_file)
    sheet = workbook.worksheets[0]
    head = [cell.value for cell in sheet[1]]
    at = {name: head.index(name) + 1 for name in ("TransactionID", "outcome", "reviewer")}
    outcomes = ["fraud", "genuine", "unsure", "maybe"]
    for number, outcome in enumerate(outcomes, start=2):
        sheet.cell(number, at["outcome"]).value = outcome
    sheet.cell(2, at["reviewer"]).value = "Ada"
    sheet.append([None] * (at["TransactionID"] - 1) + ["4711"])
    sheet.cell(sheet.max_row, at["outcome"]).value = "genuine"
    workbook.save(sheet_file)

    said = command("review", sheet_file, "--by", "Bob")
    assert "1 fraud, 2 genuine, 1 unsure" in said
    assert "'maybe' is none of fraud, genuine, unsure" in said
    assert "4711 is no transaction of this feed" in said
    assert "landed before" in command("review", sheet_file, "--by", "Bob")

    steps = scored_platform.run()
    assert [(step.request.stage, step.problem) for step in steps] == [("reviews", ""), ("evaluation", "")]
    found = scored_platform.rows(
        "SELECT outcome, reviewer, was_alert, partition_key, model_version FROM {reviews} ORDER BY ALL",
        reviews=ALERT_REVIEWS,
    )
    assert found == [
        ("fraud", "Ada", True, "2026-01-04", "1"),
        ("genuine", "Bob", False, None, None),
        ("genuine", "Bob", True, "2026-01-04", "1"),
        ("unsure", "Bob", True, "2026-01-04", "1"),
    ]
    unknown = scored_platform.rows("SELECT decisions, unknown_ids FROM {files}", files=REVIEW_FILES)
    assert unknown == [(4, ["4711"])]
    metrics = scored_platform.rows(
        "SELECT metric, value, not_measurable IS NULL FROM {metrics} WHERE scored_by = 'reviewed alerts' ORDER BY ALL",
        metrics=EVALUATION_METRICS,
    )
    assert metrics == [("precision", 0.5, True), ("recall", None, False), ("reviewed_alerts", 2.0, True)]
    assert decide(scored_platform.state(), scored_platform.stages).due == ()


def test_what_was_drawn_at_random_says_what_the_lists_miss(
    scored_platform: TestPlatform, command: Callable[..., str], tmp_path: Path
) -> None:
    platform = replace(scored_platform, alerts_per_day=3, review_sample_per_day=20)
    assert [(step.request.stage, step.problem) for step in platform.run()] == [("alerts", "")]
    drawn = platform.rows(
        """
        SELECT partition_key, count(*), count(*) FILTER (TransactionID IN (SELECT TransactionID FROM {alerts}))
        FROM {drawn} GROUP BY ALL
        """,
        drawn=REVIEW_SAMPLES, alerts=ALERTS,
    )  # fmt: skip
    assert [counts for _, *counts in drawn] == [[20, 0]] * 6
    assert "20 transactions drawn at random from what is no alert: what they turn out to be" in command(
        "alerts", "2026-01-04"
    )
    said = command("alerts", "2026-01-04", "--xlsx", tmp_path / "day.xlsx")
    assert "Written    3 alerts and 20 drawn transactions to" in said
    rows = read_rows(tmp_path / "day.xlsx", ["TransactionID", "outcome"])
    assert [row["reason"] == "drawn at random from what is no alert" for row in rows] == [False] * 3 + [True] * 20
    write_csv(
        tmp_path / "day.csv", ["TransactionID", "outcome"],
        [[row["TransactionID"], "fraud" if row is rows[0] or row is rows[-1] else "genuine"] for row in rows],
    )  # fmt: skip
    command("review", tmp_path / "day.csv")
    assert [(step.request.stage, step.problem) for step in platform.run()] == [("reviews", ""), ("evaluation", "")]
    [(scored, listed)] = platform.rows(
        "SELECT scored_rows, alerts FROM {lists} WHERE partition_key = '2026-01-04'", lists=ALERT_LISTS
    )
    metrics = dict(
        platform.rows(
            "SELECT metric, value FROM {metrics} WHERE scored_by = 'reviewed alerts'", metrics=EVALUATION_METRICS
        )
    )
    assert metrics == {
        "precision": pytest.approx(1 / 3),
        "reviewed_alerts": 3,
        "reviewed_sample": 20,
        "unalerted_fraud_rate": pytest.approx(0.05),
        "recall": pytest.approx(1 / (1 + 0.05 * (scored - listed))),
    }
    # Nobody draws any more: what was drawn, and may be reviewed, stays, also where a list is made anew.
    later = replace(platform, alerts_per_day=4, review_sample_per_day=0)
    assert {step.problem for step in later.run()} == {""}
    assert later.rows("SELECT count(*) FROM {drawn}", drawn=REVIEW_SAMPLES) == [(120,)]
    assert decide(later.state(), later.stages).due == ()


def test_a_file_of_reviews_that_is_dropped_into_landing_is_read_by_the_sensor(scored_platform: TestPlatform) -> None:
    folder = scored_platform.landing_zone.folder / "reviews"
    folder.mkdir()
    (folder / "mine.csv").write_text("TransactionID,outcome\n1,fraud\n")
    for _ in range(2):  # it looks whether the file holds still
        tick(scored_platform, "landed_partitions_sensor")
    requested, _ = tick(scored_platform, "unscored_partitions_sensor")
    assert [request.job_name for request in requested] == ["review_job"]


def test_a_broken_file_of_reviews_is_named_and_not_read_again(scored_platform: TestPlatform) -> None:
    folder = scored_platform.landing_zone.folder / "reviews"
    folder.mkdir()
    (folder / "broken.csv").write_text("id\n1\n")
    assert {step.problem for step in scored_platform.run()} == {""}
    [(problem,)] = scored_platform.rows("SELECT problem FROM {files}", files=REVIEW_FILES)
    assert problem == "broken.csv has no column TransactionID, outcome; it has id."
    assert decide(scored_platform.state(), scored_platform.stages).due == ()
    (folder / "broken.csv").unlink()
    assert {step.problem for step in scored_platform.run()} == {""}
    assert scored_platform.rows("SELECT count(*) FROM {files}", files=REVIEW_FILES) == [(0,)]
    assert decide(scored_platform.state(), scored_platform.stages).due == ()


def test_a_day_without_a_list_is_named_with_what_there_is(command: Callable[..., str]) -> None:
    assert "There is no list of alerts of 2030-01-01. There are 2026-01-01 to 2026-01-06." in command(
        "alerts", "2030-01-01"
    )


def test_a_file_without_a_decision_says_what_to_write(command: Callable[..., str], tmp_path: Path) -> None:
    assert "Written" in command("alerts", "2026-01-04", "--csv", tmp_path / "a.csv")
    assert "holds no decision: write fraud, genuine or unsure" in command("review", tmp_path / "a.csv")
