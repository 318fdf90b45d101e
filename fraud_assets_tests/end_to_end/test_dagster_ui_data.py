"""What the Dagster UI is given to show: a partition's own rows, quarantine over time, runs of the code location."""

from collections.abc import Callable

import dagster as dg
import pytest

from fraud_assets.automation.foreground import Ended, run_due
from fraud_assets.resources.tables import PARTITION_BUILDS
from fraud_assets.silver.accounting import shares_over_limit
from fraud_assets_tests.platform import TestPlatform


@pytest.fixture
def built(make_platform: Callable[..., TestPlatform]) -> TestPlatform:
    """Two days, built by one run over their range, as `fraud-assets run` does it."""
    platform = make_platform()
    platform.simulate(2, dirt=True)
    steps = run_due(platform.definitions, platform.instance, platform.platform)
    assert next(step for step in steps if isinstance(step, Ended)).problem == ""
    return platform


def materializations(platform: TestPlatform, asset: str) -> dict[str | None, dg.AssetMaterialization]:
    records = platform.instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
    return {record.partition_key: made for record in records if (made := record.asset_materialization) is not None}


def preview(made: dg.AssetMaterialization) -> str:
    shown = made.metadata["preview"]
    assert isinstance(shown, dg.MarkdownMetadataValue)
    return shown.value or ""


def test_after_a_range_run_each_partition_previews_its_own_rows(built: TestPlatform) -> None:
    for asset in ("raw_transactions", "silver_transactions_base", "quarantined_transactions"):
        of_days = materializations(built, asset)
        assert sorted(of_days, key=str) == ["2026-01-01", "2026-01-02"]
        for day, other in (("2026-01-01", "2026-01-02"), ("2026-01-02", "2026-01-01")):
            assert any(name in preview(of_days[day]) for name in (day, day.replace("-", ""))), (asset, day)
            assert other not in preview(of_days[day]), (asset, day)


def test_quarantine_is_an_asset_that_counts_rows_by_reason(built: TestPlatform) -> None:
    counts = dict(built.rows("SELECT partition_key, quarantined_rows FROM {t}", t=PARTITION_BUILDS))
    made = materializations(built, "quarantined_transactions")

    assert {day: one.metadata["dagster/partition_row_count"].value for day, one in made.items()} == counts
    reasons = {name for one in made.values() for name in one.metadata if name.startswith("rows with ")}
    assert {"rows with duplicate", "rows with missing_transaction_id", "rows with amount_negative"} <= reasons


def test_a_run_in_the_foreground_belongs_to_the_code_location(built: TestPlatform) -> None:
    [run] = built.instance.get_runs(dg.RunsFilter(tags={".dagster/repository": "__repository__@fraud_assets"}))

    assert (run.job_name, run.status) == ("silver_job", dg.DagsterRunStatus.SUCCESS)
    assert run.remote_job_origin is not None
    assert run.remote_job_origin.location_name == "fraud_assets"


@pytest.mark.parametrize(
    ("quarantined", "limit", "over"),
    [(0, 0.0, {}), (5, 0.05, {}), (6, 0.05, {"2026-01-05": 0.06}), (100, 1.0, {}), (1, 0.0, {"2026-01-05": 0.01})],
)
def test_a_share_of_quarantined_rows_is_over_the_limit_only_above_it(
    quarantined: int, limit: float, over: dict[str, float]
) -> None:
    builds = {"2026-01-05": {"landed_rows": 100, "quarantined_rows": quarantined}}
    assert shares_over_limit(builds, limit=limit) == over
    assert shares_over_limit({"2026-01-05": {"landed_rows": 0, "quarantined_rows": 0}}, limit=limit) == {}


def test_the_check_of_the_share_says_its_limit_and_how_many_partitions_it_looked_at(built: TestPlatform) -> None:
    run = next(iter(built.instance.get_runs()))
    [found] = [
        evaluation
        for record in built.instance.all_logs(run.run_id)
        if record.dagster_event is not None and record.dagster_event.event_type_value == "ASSET_CHECK_EVALUATION"
        for evaluation in [record.dagster_event.asset_check_evaluation_data]
        if evaluation.check_name == "quarantine_share_is_within_limit"
    ]
    assert found.passed
    assert found.metadata["limit"].value == 0.05
    assert found.metadata["partitions"].value == 2
