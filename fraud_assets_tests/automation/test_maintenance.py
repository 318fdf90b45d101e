"""Maintenance of a whole platform: Dagster's records, scorers, leftovers; and what must not be forgotten."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from fraud_assets.automation.maintenance import Maintained, maintain
from fraud_assets.automation.sensors import MAX_ATTEMPTS
from fraud_assets.cli import main
from fraud_assets.files import replacing
from fraud_assets.resources.landing_zone import SCRATCH
from fraud_assets.resources.run_locks import hold_run_lock
from fraud_assets_tests.automation.test_sensors import landed, run_requested
from fraud_assets_tests.depth import full_only
from fraud_assets_tests.platform import TestPlatform


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """One that keeps its records on disk, as the daemon's does."""
    home = tmp_path / "home"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        yield instance


def maintain_after(platform: TestPlatform, **later: float) -> Maintained:
    now = datetime.now(tz=UTC) + timedelta(**later)
    return maintain(platform.platform, platform.instance, retention_hours=24, now=now)


def run_ids(platform: TestPlatform) -> set[str]:
    return {run.run_id for run in platform.instance.get_runs()}


def left_by_replacing(path: Path) -> Path:
    """Where a process that is killed while it replaces a file leaves what it wrote."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as fresh:
        fresh.touch()
    path.unlink()
    return fresh


def correct(platform: TestPlatform, day: int, seed: int) -> set[str]:
    """Land a day again, changed, and let it be built and scored; return the runs that did."""
    before = run_ids(platform)
    platform.simulate(1, start=date(2026, 1, day), seed=seed, rows_per_day=100)
    assert not [step.problem for step in platform.run() if step.problem]
    return run_ids(platform) - before


@full_only("a dozen runs")
def test_runs_that_later_ones_replaced_are_forgotten_and_what_dagster_shows_stays(
    scored_platform: TestPlatform,
) -> None:
    replaced = correct(scored_platform, 6, seed=1)
    latest = correct(scored_platform, 6, seed=2)
    silver = dg.AssetKey("silver_transactions_base")
    shown = scored_platform.instance.get_latest_materialization_event(silver)

    assert maintain_after(scored_platform, days=6).removed_runs == 0
    done = maintain_after(scored_platform, days=8)

    assert done.removed_runs == len(replaced) > 0
    assert run_ids(scored_platform) == latest
    assert scored_platform.instance.get_latest_materialization_event(silver) == shown
    kept_files = {path.name.split(".")[0] for path in Path(scored_platform.instance.root_directory).rglob("*.db")}
    assert not replaced & kept_files
    assert scored_platform.run() == []


def test_records_of_another_project_are_not_forgotten(scored_platform: TestPlatform) -> None:
    job = scored_platform.definitions.resolve_job_def("maintenance_job")
    foreign, _ = (
        scored_platform.instance.create_run_for_job(
            job,
            status=dg.DagsterRunStatus.SUCCESS,
            remote_job_origin=RemoteJobOrigin(
                RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), "__repository__"), job.name
            ),
        )
        for location in ("another_project", "fraud_assets")
    )

    assert maintain_after(scored_platform, days=8).removed_runs == 1
    assert run_ids(scored_platform) == {foreign.run_id}


@full_only("a run that fails three times")
def test_a_partition_that_waits_for_a_change_waits_after_maintenance_too(scored_platform: TestPlatform) -> None:
    broken = scored_platform.landing_zone.folder / "2026-01-07" / "broken.parquet"
    broken.parent.mkdir()
    broken.write_bytes(b"no parquet")
    for _ in range(2):
        landed(scored_platform)
    for _ in range(MAX_ATTEMPTS):
        [request], _ = landed(scored_platform)
        run_requested(scored_platform, request)

    assert maintain_after(scored_platform, days=100).removed_runs == 0
    requests, why = landed(scored_platform)
    assert requests == []
    assert "waits for a change" in (why or "")


def test_what_dead_processes_left_goes_and_what_living_ones_hold_stays(scored_platform: TestPlatform) -> None:
    folder = scored_platform.data_dir
    left = [
        folder / ".landing_digests.json.0123.tmp",
        folder / ".runs" / "dead.lock",
        folder / "landing" / "2026-01-06" / f".served.{uuid4().hex}.tmp",
        left_by_replacing(folder / "landing" / "reviews" / "0123.csv"),
        left_by_replacing(folder / "reports" / "index.html"),
        folder / "landing" / f"{SCRATCH}x" / "file",
    ]
    young = folder / ".landing_digests.json.4567.tmp"
    delivered = [
        folder / "landing" / ".incoming" / "half.csv",
        folder / "landing" / ".half.csv",
        folder / "landing" / "2026-01-07" / ".half.csv.tmp",
    ]
    unused = folder / "models" / "99" / "scorer"
    for path in (*left, young, *delivered, unused):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    long_ago = time.time() - 2 * 86_400
    for path in (*left, left[-1].parent, *delivered, delivered[0].parent):
        os.utime(path, (long_ago, long_ago))

    with hold_run_lock(str(folder), "alive"):
        alive = folder / ".runs" / "alive.lock"
        os.utime(alive, (long_ago, long_ago))
        assert maintain_after(scored_platform).removed_leftovers == 7
        assert alive.exists()
    assert not [path for path in (*left, left[-1].parent, unused.parent) if path.exists()]
    assert young.exists()
    assert [path for path in delivered if not path.exists()] == [], "whoever delivers may still write there"
    assert (folder / "models" / "1").exists()


def test_the_job_and_the_command_do_the_same_and_readers_see_what_they_saw(
    scored_platform: TestPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = "SELECT TransactionID, fraud_score FROM gold.fraud_predictions ORDER BY ALL"
    scored_platform.lake.publish_views()
    with scored_platform.lake.read_views() as reader:
        before = reader.execute(scores).fetchall()

    job = scored_platform.definitions.resolve_job_def("maintenance_job")
    assert job.execute_in_process(instance=scored_platform.instance).success
    monkeypatch.setenv("FRAUD_DATA_DIR", str(scored_platform.data_dir))
    monkeypatch.setenv("DAGSTER_HOME", scored_platform.instance.root_directory)
    done = CliRunner().invoke(main, ["maintain"])

    assert (done.exit_code, "freed_bytes" in done.output) == (0, True)
    assert scored_platform.lake.views_are_current()
    with scored_platform.lake.read_views() as reader:
        assert reader.execute(scores).fetchall() == before


def test_maintenance_is_on_from_the_start_and_retraining_is_not(scored_platform: TestPlatform) -> None:
    schedules = {one.name: one.default_status for one in scored_platform.definitions.schedules or []}  # type: ignore[union-attr]

    assert schedules == {
        "retraining_schedule": dg.DefaultScheduleStatus.STOPPED,
        "maintenance_schedule": dg.DefaultScheduleStatus.RUNNING,
    }
