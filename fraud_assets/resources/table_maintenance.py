"""Keeps tables small and quick to open, without a reader or a writer noticing: compaction, checkpoint, vacuum.

Beside `fraud_assets.resources.lake` and its `open_tables` the only module that opens tables; it changes no row. What is
removed elsewhere, and when, is `fraud_assets.automation.maintenance`. Why so: docs/adr/0017-nobody-types-a-command.md.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError

from fraud_assets.resources.lake import FILE_BYTES, FILES, Lake
from fraud_assets.resources.tables import Table

_FEW_COMMITS: Final = 10
"""Commits after the latest checkpoint that cost an opening less than to write a checkpoint costs."""

_LOG_RETENTION: Final = "delta.logRetentionDuration"


@dataclass(frozen=True)
class TableMaintained:
    """What was done to one table."""

    compacted_partitions: int = 0
    busy_partitions: int = 0
    removed_files: int = 0
    freed_bytes: int = 0


def maintain_table(
    lake: Lake, table: Table, *, retention_hours: int, shown: int | None, version_columns: tuple[str, ...] = ()
) -> TableMaintained | None:
    """Compact, checkpoint and vacuum one table; None where it was never written.

    Old files stay for `retention_hours` after they were replaced. A partition that somebody writes meanwhile is left
    for the next time: of him and us it is we who give way, unless we were first; then he computes it anew, as always.

    Args:
        lake: where the table is.
        table: the table.
        retention_hours: how long readers may hold on to a version after it was replaced.
        shown: the version that the published views show, whose files stay in any case.
        version_columns: a partition where one of these is NULL is known by its files, and is not compacted.
    """
    if lake.version(table) is None:
        return None
    opened = DeltaTable(lake.location(table))
    compacted, busy = _compact(opened, table, version_columns)
    removed, freed = _vacuum(DeltaTable(lake.location(table)), retention_hours, shown)
    _expire_log(DeltaTable(lake.location(table)), retention_hours)
    return TableMaintained(compacted, busy, removed, freed)


def _compact(opened: DeltaTable, table: Table, version_columns: tuple[str, ...]) -> tuple[int, int]:
    """Make one file of the small files of a partition; return the partitions compacted, and those that were busy."""
    compacted = busy = 0
    for key in _scattered(opened, table, version_columns):
        try:
            opened.optimize.compact(
                partition_filters=[(table.partition_by, "=", key)],
                target_size=FILE_BYTES,
                writer_properties=FILES,
                commit_properties=CommitProperties(custom_metadata={"maintenance": "compaction"}),
            )
            compacted += 1
        except CommitFailedError:
            busy += 1
        opened.update_incremental()
    return compacted, busy


def _scattered(opened: DeltaTable, table: Table, version_columns: tuple[str, ...]) -> Iterator[str]:
    """Yield the partitions with several files of which two would fit into one."""
    sizes: dict[str, list[int]] = {}
    unversioned = set[str]()
    for added in _added(opened):
        key = added[f"partition.{table.partition_by}"]
        sizes.setdefault(key, []).append(added["size_bytes"])
        if any(added.get(f"null_count.{column}") != 0 for column in version_columns):
            unversioned.add(key)
    for key, found in sizes.items():
        if key not in unversioned and len(found) > 1 and sum(sorted(found)[:2]) <= FILE_BYTES:
            yield key


def _added(opened: DeltaTable) -> list[dict[str, Any]]:
    return pa.RecordBatchReader.from_stream(opened.get_add_actions(flatten=True)).read_all().to_pylist()


def _expire_log(opened: DeltaTable, retention_hours: int) -> None:
    """Write a checkpoint where opening the table would read many commits, and remove the log that is older."""
    kept = f"interval {max(retention_hours, 1)} hours"
    if opened.metadata().configuration.get(_LOG_RETENTION) != kept:
        with suppress(CommitFailedError):  # Somebody writes: next time. It is set once in a table's life.
            opened.alter.set_table_properties({_LOG_RETENTION: kept})
    log = Path(opened.table_uri.removeprefix("file://")) / "_delta_log"
    checkpoints = [int(path.name.split(".")[0]) for path in log.glob("*.checkpoint*.parquet")]
    if opened.version() - max(checkpoints, default=0) >= _FEW_COMMITS:
        opened.create_checkpoint()
    opened.cleanup_metadata()


def _vacuum(opened: DeltaTable, retention_hours: int, shown: int | None) -> tuple[int, int]:
    """Remove files that nobody may need any more, also of killed writers; return how many, and their bytes."""
    folder = Path(opened.table_uri.removeprefix("file://"))
    asked: dict[str, Any] = {
        "retention_hours": retention_hours,
        "enforce_retention_duration": False,
        "full": True,
        "keep_versions": None if shown is None else [shown],
    }
    # The log goes on naming files that are gone: a vacuum that frees nothing would be two commits for nothing.
    there = [path for name in opened.vacuum(dry_run=True, **asked) if (path := folder / name).exists()]
    freed = sum(path.stat().st_size for path in there)
    if there:
        opened.vacuum(dry_run=False, **asked)
    return len(there), freed
