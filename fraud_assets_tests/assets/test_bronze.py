"""What landed, observed on a real platform."""

from collections.abc import Callable
from datetime import date

import dagster as dg
import pytest

from fraud_assets.assets import partition_runs
from fraud_assets.resources.tables import RAW_TRANSACTIONS
from fraud_assets_tests.platform import FIRST_DAY, TestPlatform


def test_days_on_which_nothing_landed_are_refused_and_cost_no_other_day(
    make_platform: Callable[..., TestPlatform], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_runs, "_SLICE_PARTITIONS", 1)
    platform = make_platform()
    for day in (FIRST_DAY, date(2026, 1, 3)):
        platform.simulate(1, start=day, rows_per_day=20)
    only = platform.definitions.resolve_job_def("silver_job").get_subset(
        asset_selection={dg.AssetKey("raw_transactions")}
    )
    result = only.execute_in_process(
        instance=platform.instance,
        tags={
            "dagster/asset_partition_range_start": "2026-01-01",
            "dagster/asset_partition_range_end": "2026-01-03",
        },
        raise_on_error=False,
    )
    [failure] = [event for event in result.all_events if event.is_step_failure]
    failed = failure.step_failure_data.user_failure_data
    assert failed is not None
    assert str(failed.description).startswith("2026-01-02: Nothing landed for 2026-01-02 in ")
    observed = platform.rows("SELECT partition_key FROM {t} ORDER BY ALL", t=RAW_TRANSACTIONS)
    assert observed == [("2026-01-01",), ("2026-01-03",)]
