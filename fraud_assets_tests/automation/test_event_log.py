"""Events that are stored together: whatever Dagster can be asked of them, it answers as its own class would."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import pytest
from dagster._core.storage.event_log import SqliteEventLogStorage

from fraud_assets.automation.event_log import BATCH_SIZE_VARIABLE, BatchingEventLog

DAYS = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-02-01")
KINDS = (dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
OURS = f"""
event_log_storage: {{module: {__name__}, class: CountingEventLog}}
telemetry: {{enabled: false}}
"""
DAGSTERS = "telemetry: {enabled: false}\n"


class CountingEventLog(BatchingEventLog):
    """Counts what is stored by itself, by type."""

    alone: ClassVar[Counter[str]] = Counter()

    def store_event(self, event: dg.EventLogEntry) -> None:
        if event.is_dagster_event:
            self.alone[event.get_dagster_event().event_type_value] += 1
        super().store_event(event)


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run(), code_version="1")
def landed(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    for key in context.partition_keys:
        context.add_asset_metadata({"rows": int(key[-2:])}, partition_key=key)
    return dg.MaterializeResult(data_version=dg.DataVersion("1"), tags={"by": "a_test"})


@dg.asset(
    partitions_def=DAYS,
    deps=[landed],
    backfill_policy=dg.BackfillPolicy.single_run(),
    code_version="1",
    check_specs=[dg.AssetCheckSpec("good", asset="scored")],
)
def scored(context: dg.AssetExecutionContext) -> Iterator[Any]:
    yield dg.AssetCheckResult(passed=True, metadata={"rows": len(context.partition_keys)})
    yield dg.MaterializeResult(data_version=dg.DataVersion("2"))


JOB = dg.Definitions(
    assets=[landed, scored], jobs=[dg.define_asset_job("job", selection=[landed, scored])]
).resolve_job_def("job")


@contextmanager
def home(folder: Path, settings: str) -> Iterator[dg.DagsterInstance]:
    folder.mkdir(exist_ok=True)
    (folder / "dagster.yaml").write_text(settings)
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        yield instance


def run(instance: dg.DagsterInstance, first: str, last: str) -> str:
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    return JOB.execute_in_process(instance=instance, tags=tags).run_id


def latest_first(instance: dg.DagsterInstance, asset: dg.AssetKey, kind: dg.DagsterEventType) -> list[str]:
    numbers = instance.event_log_storage.get_latest_storage_id_by_partition(asset, kind)
    return sorted(numbers, key=lambda key: -numbers[key])


def answers(instance: dg.DagsterInstance, runs: Sequence[str]) -> dict[str, Any]:
    """What Dagster and its UI ask of a log, without numbers, times and ids of runs."""
    found: dict[str, Any] = {}
    for asset in (landed.key, scored.key):
        records = instance.fetch_materializations(asset, limit=1000, ascending=True).records
        [record] = instance.get_asset_records([asset])
        latest = instance.get_latest_materialization_event(asset)
        found[str(asset)] = {
            "materialized": [
                (one.partition_key, one.asset_materialization.metadata, one.asset_materialization.tags, at)
                for one in records
                if one.asset_materialization
                for at in [runs.index(one.run_id)]
            ],
            "of each partition": instance.get_materialized_partitions(asset),
            "latest first": [latest_first(instance, asset, kind) for kind in KINDS],
            "by number": [one.storage_id for one in records] == sorted(one.storage_id for one in records),
            "tags": sorted(str(dict(one)) for one in instance.get_event_tags_for_asset(asset)),
            "last run": runs.index(record.asset_entry.last_run_id or ""),
            "last partition": latest.asset_materialization.partition if latest and latest.asset_materialization else "",
            "entry": record.asset_entry.last_materialization_record.partition_key
            if record.asset_entry.last_materialization_record
            else "",
        }
    checks = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(scored.key, "good"), limit=10
    )
    found["checks"] = [check.status for check in checks]
    found["events"] = [
        [
            (event.dagster_event_type, event.get_dagster_event().partition)
            for event in instance.all_logs(one)
            if event.is_dagster_event
        ]
        for one in runs
    ]
    return found


def test_what_dagster_says_of_runs_over_ranges_is_what_its_own_log_would_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(BATCH_SIZE_VARIABLE, raising=False)
    with home(tmp_path / "dagsters", DAGSTERS) as instance:
        assert type(instance.event_log_storage) is SqliteEventLogStorage
        expected = answers(
            instance, [run(instance, "2026-01-02", "2026-01-20"), run(instance, "2026-01-15", "2026-01-15")]
        )
    CountingEventLog.alone.clear()
    with home(tmp_path / "ours", OURS) as instance:
        ranged = run(instance, "2026-01-02", "2026-01-20")
        alone = CountingEventLog.alone.copy()
        runs = [ranged, run(instance, "2026-01-15", "2026-01-15")]
        found = answers(instance, runs)

    assert found == expected
    assert alone["ASSET_MATERIALIZATION"] == alone["ASSET_MATERIALIZATION_PLANNED"] == 0, "each by itself"
    monkeypatch.delenv(BATCH_SIZE_VARIABLE)
    with home(tmp_path / "ours", DAGSTERS) as instance:  # Back to Dagster's own class, over the same files.
        assert type(instance.event_log_storage) is SqliteEventLogStorage
        assert answers(instance, runs) == expected


def test_batches_are_as_large_as_somebody_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BATCH_SIZE_VARIABLE, "0")
    CountingEventLog.alone.clear()
    with home(tmp_path / "home", OURS) as instance:
        run(instance, "2026-01-02", "2026-01-04")
    assert CountingEventLog.alone["ASSET_MATERIALIZATION"] == 6


@dg.asset_check(asset=landed)
def one() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.asset_check(asset=landed)
def other() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


def test_a_run_of_checks_alone_has_no_events_that_are_stored_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(BATCH_SIZE_VARIABLE, raising=False)
    checks = dg.AssetSelection.checks(one, other)
    job = dg.Definitions(
        assets=[landed], asset_checks=[one, other], jobs=[dg.define_asset_job("job", selection=checks)]
    ).resolve_job_def("job")
    CountingEventLog.alone.clear()
    with home(tmp_path / "home", OURS) as instance:
        assert job.execute_in_process(instance=instance).success
        for check in ("one", "other"):
            key = dg.AssetCheckKey(landed.key, check)
            [found] = instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
            assert found.status.value == "SUCCEEDED"
    assert CountingEventLog.alone["ASSET_CHECK_EVALUATION_PLANNED"] == 2
    assert "Exception while storing" not in capfd.readouterr().err
