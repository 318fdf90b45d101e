"""Keeps disk and records as small as on the first day: the schedule, its job, and what it does beside the tables.

Nothing that counts is removed: no row, no landed file, no registered version, no run that says what a partition is made
of or why it waits. How tables are kept small: `fraud_assets.resources.table_maintenance`.
See docs/adr/0017-nobody-types-a-command.md.
"""

import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

import dagster as dg
from filelock import FileLock, Timeout

from fraud_assets.automation.notifications import CHECK_KEYS, ENDED, ended_run
from fraud_assets.automation.own_runs import CODE_LOCATION, own_runs
from fraud_assets.files import LEFT_BEHIND
from fraud_assets.platform_state import PlatformState
from fraud_assets.resources.lake import READER_DATABASE, Lake
from fraud_assets.resources.landing_zone import SCRATCH
from fraud_assets.resources.models.registry import RUN_TAG
from fraud_assets.resources.platform import Platform
from fraud_assets.resources.reader_views import published
from fraud_assets.resources.table_maintenance import TableMaintained, maintain_table
from fraud_assets.resources.tables import SILVER_TRANSACTIONS, TABLES
from fraud_assets.staleness import decide

_PAGE: Final = 1_000
"""Events read from Dagster's records at a time."""

_LEFT_SECONDS: Final = 86_400
"""A temporary file that nobody touched for a day is nobody's: the longest write takes minutes."""

maintenance_schedule = dg.ScheduleDefinition(
    name="maintenance_schedule",
    job_name="maintenance_job",
    cron_schedule="0 4 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Removes what nobody needs any more, every day at 04:00 UTC. On: a full disk stops everything. What "
    "readers hold stays for FRAUD_RETENTION_HOURS.",
)


@dataclass(frozen=True)
class Maintained:
    """What was done: by table; runs removed from Dagster's records; files and folders that dead processes left."""

    tables: dict[str, TableMaintained]
    removed_runs: int
    removed_leftovers: int

    def summary(self) -> dict[str, int]:
        """Return the figures that a person reads."""
        done = self.tables.values()
        return {
            "freed_bytes": sum(one.freed_bytes for one in done),
            "removed_files": sum(one.removed_files for one in done),
            "compacted_partitions": sum(one.compacted_partitions for one in done),
            "busy_partitions": sum(one.busy_partitions for one in done),
            "removed_runs": self.removed_runs,
            "removed_leftovers": self.removed_leftovers,
        }


def maintain(
    platform: Platform,
    instance: dg.DagsterInstance,
    *,
    retention_hours: int,
    now: datetime,
    location: str = CODE_LOCATION,
) -> Maintained:
    """Do all maintenance, one at a time for a data directory.

    Args:
        platform: the tables and models.
        instance: Dagster's records; `FRAUD_HISTORY_DAYS` of them are kept.
        retention_hours: how long readers may hold on to a replaced version.
        now: the moment from which Dagster's records are counted back.
        location: the code location whose records they are.
    """
    lake = platform.lake
    with lake.hold("maintenance"):
        shown = published(platform.data_dir / READER_DATABASE) or []
        versions = {name: version for name, version, _ in shown}
        done = {}
        for table in TABLES:
            known_by = ("silver_version",) if table is SILVER_TRANSACTIONS else ()
            version = versions.get(table.address)
            kept = maintain_table(lake, table, retention_hours=retention_hours, shown=version, version_columns=known_by)
            if kept is not None:
                done[table.address] = kept
        lake.publish_views()
        state = platform.state(platform.look())
        before = now - timedelta(days=platform.settings.history_days)
        removed = [_forget(instance, run) for run in _forgettable(platform, instance, state, before, location)]
        return Maintained(done, len(removed), _remove_leftovers(platform, state))


# Dagster's records


def _forgettable(
    platform: Platform, instance: dg.DagsterInstance, state: PlatformState, before: datetime, location: str
) -> list[dg.DagsterRun]:
    """Return the runs that ended before a moment and say nothing that counts.

    What counts: the latest materialization of a partition or asset, and the latest result of a check; the run that
    registered a version; a failed run of work that is due still, by which it is known that the work waits.
    """
    ended = own_runs(instance, dg.RunsFilter(statuses=ENDED, created_before=before), location=location)
    if not ended:
        return []
    registries = (platform.model_registry, platform.ranker_registry)
    versions = [tags for registry in registries for tags in registry.versions().values()]
    telling = {*_latest_runs(instance), *(tags[RUN_TAG] for tags in versions if RUN_TAG in tags)}
    due, keys = {(item.stage, item.key) for item in decide(state, platform.stages).due}, state.keys

    def waits(run: dg.DagsterRun) -> bool:
        was = ended_run(run, platform.stages, keys)
        return was.failed and bool(due & {(stage, key) for stage in was.stages for key in was.keys})

    return [run for run in ended if run.run_id not in telling and not waits(run)]


def _latest_runs(instance: dg.DagsterInstance) -> Iterable[str]:
    """Yield the run of each asset's latest materialization, by partition, and of each check's latest result."""
    for asset in instance.get_asset_keys():
        seen, cursor, has_more = set[str | None](), None, True
        while has_more:
            found = instance.fetch_materializations(asset, limit=_PAGE, cursor=cursor)
            for record in found.records:
                if record.partition_key not in seen:
                    seen.add(record.partition_key)
                    yield record.run_id
            cursor, has_more = found.cursor, found.has_more
    for record in instance.event_log_storage.get_latest_asset_check_execution_by_key(CHECK_KEYS).values():
        yield record.run_id


def _forget(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Remove a run from Dagster's records: its row, its events, what it printed, and the file that held its events."""
    instance.compute_log_manager.delete_logs(prefix=[run.run_id])
    instance.delete_run(run.run_id)
    events: Any = instance.event_log_storage
    if hasattr(events, "path_for_shard"):  # By default a run's events are a database of their own.
        for path in Path(events.path_for_shard(run.run_id)).parent.glob(f"{run.run_id}.db*"):
            path.unlink(missing_ok=True)


# What dead processes left


def _remove_leftovers(platform: Platform, state: PlatformState) -> int:
    """Remove temporary files, locks of runs, and copies of scorers and rankers that nothing is scored or listed by."""
    folder, landing = platform.data_dir, platform.landing_zone.folder
    left = [*folder.glob(".*.tmp*"), *folder.glob(".runs/*.lock"), *folder.glob(f"reports/{LEFT_BEHIND}")]
    left += [*landing.glob(f"*/{LEFT_BEHIND}"), *landing.glob(f"{SCRATCH}*")]
    removed = sum(_remove(path) for path in left)
    scoring = {made.of["model_version"] for made in state.gold.values()} | {state.prod_version}
    ranking = {made.of["ranker_version"] for made in state.made.get("alerts", {}).values()}
    ranking |= {state.ranker and state.ranker.version}
    for registry, versions in ((platform.model_registry, scoring), (platform.ranker_registry, ranking)):
        removed += registry.local_scorers.keep_only({*filter(None, versions)})
    return removed


def _remove(path: Path) -> bool:
    """Remove a file or folder that nobody has touched for long, or held; return whether it went."""
    try:
        if time.time() - path.stat().st_mtime < _LEFT_SECONDS:
            return False
        if path.is_dir():
            rmtree(path)
            return True
        with FileLock(path, timeout=0) if path.suffix == ".lock" else nullcontext():
            path.unlink()
    except (OSError, Timeout):
        return False
    return True


def build_maintenance_job(platform: Platform) -> dg.JobDefinition:
    """Return the job that does all maintenance of a platform."""

    @dg.op(
        out=dg.Out(dg.Nothing),
        description="Compaction, checkpoints and vacuum of tables; old records; what dead processes left.",
    )
    def maintain_platform(context: dg.OpExecutionContext, lake: Lake) -> None:
        origin = context.run.remote_job_origin
        done = maintain(
            platform,
            context.instance,
            retention_hours=platform.settings.retention_hours,
            now=datetime.now(tz=UTC),
            location=CODE_LOCATION if origin is None else origin.location_name,
        )
        context.log.info(", ".join(f"{name}: {value:,}" for name, value in done.summary().items()))

    @dg.job(name="maintenance_job", description="Removes what nobody needs any more; changes no row.")
    def maintenance_job() -> None:
        maintain_platform()

    return maintenance_job
