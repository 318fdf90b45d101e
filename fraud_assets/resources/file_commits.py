"""Files that others wrote become partitions of a table, in one commit that is guarded where Delta's is not.

Delta's own `create_write_transaction` believes what it is told: it takes files that are not there, files of other
partitions, a replacement of nothing in particular (that is: of everything), files without statistics, and, where two
fill an empty partition at once, the rows of both. Here each of them is refused. The lake opens the table and
calls this. Why so: docs/adr/0020-spark-as-another-producer.md.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import time
from typing import Final
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction

from fraud_assets.resources.data_files import DataFile
from fraud_assets.resources.tables import Table

_ATTEMPTS: Final = 20
"""Commits of other partitions that one may lose against: each costs milliseconds, none costs a computation."""


Replaced = Mapping[str, Sequence[str]]
"""Where the files lie of which each partition that is replaced consisted when the work began, by its key."""


class UnsoundFilesError(ValueError):
    """Files that would damage the table; nothing was committed. This is a defect of whoever wrote them."""


class ReplacedMeanwhileError(Exception):
    """A partition does not consist any more of the files that it did when the work began."""


def commit_files(
    prepare: Callable[[], DeltaTable],
    folder: Path,
    table: Table,
    files: Sequence[DataFile],
    instead_of: Replaced,
    provenance: Mapping[str, str],
) -> None:
    """Replace partitions whole by written files, all of them or none; one without files is emptied.

    Args:
        prepare: opens the table anew, as it is now; makes it where it is not there.
        folder: where the table lies.
        table: what the files hold.
        files: of the partitions that are replaced, and of no other.
        instead_of: the partitions that are replaced, with the files of which each consisted when the work began.
        provenance: for the commit's metadata.

    Raises:
        ReplacedMeanwhileError: another writer replaced one of the partitions since.
        UnsoundFilesError: a file is missing or not as told, or belongs to another partition.
    """
    keys = sorted(instead_of)
    for _ in range(_ATTEMPTS):
        opened = prepare()
        _require_sound(folder, table, keys, files)
        now = files_of(opened, folder, table)
        if any(sorted(now.get(key, [])) != sorted(paths) for key, paths in instead_of.items()):
            raise ReplacedMeanwhileError
        try:
            opened.create_write_transaction(
                [_add(table, file) for file in files],
                "overwrite",
                Schema.from_arrow(table.schema),
                [table.partition_by],
                [(table.partition_by, "in", keys)],
                # Delta's own retries see no conflict where two fill a partition that was empty, and keep both.
                commit_properties=CommitProperties(custom_metadata=dict(provenance), max_commit_retries=0),
            )
        except CommitFailedError:
            continue  # Somebody committed since the table was opened; what they changed, a fresh handle shows.
        return
    raise ReplacedMeanwhileError


def files_of(opened: DeltaTable, folder: Path, table: Table) -> dict[str, list[str]]:
    """Return where the files lie of which each partition of an opened table consists."""
    found: dict[str, list[str]] = {}
    added = pa.RecordBatchReader.from_stream(opened.get_add_actions(flatten=True)).read_all()
    names = ("path", f"partition.{table.partition_by}")
    for path, key in zip(*(added[name].to_pylist() for name in names), strict=True) if added else ():
        found.setdefault(key, []).append(f"{folder}/{unquote(path)}")  # The log writes its paths as URLs do.
    return found


def _require_sound(folder: Path, table: Table, keys: Sequence[str], files: Sequence[DataFile]) -> None:
    """Raise where a commit of these files would damage the table."""
    if not keys:
        raise UnsoundFilesError(f"{table.address}: a commit that replaces no partition would replace all of them.")
    names = [file.name for file in files]
    if len({*names}) < len(names):
        raise UnsoundFilesError(f"{table.address}: a file is named twice.")
    for file in files:
        path, statistics = folder / file.name, json.loads(file.statistics)
        if file.key not in keys or not file.name.startswith(f"{table.partition_by}={file.key}/"):
            raise UnsoundFilesError(f"{path} is no file of {', '.join(keys)}.")
        if not path.is_file() or path.stat().st_size != file.size:
            raise UnsoundFilesError(f"{path} is not there as it was written.")
        nulls, least = statistics.get("nullCount", {}), statistics.get("minValues", {})
        flat = {field.name for field in table.schema if not field.type.num_fields} - {table.partition_by}
        known = {name for name in flat if name in least or nulls.get(name) == file.rows}
        if not file.rows or statistics.get("numRecords") != file.rows or known < flat:
            raise UnsoundFilesError(f"{path} lacks statistics, which say what a partition was made of.")


def _add(table: Table, file: DataFile) -> AddAction:
    return AddAction(
        path=file.name,
        size=file.size,
        partition_values={table.partition_by: file.key},
        modification_time=int(time() * 1000),
        data_change=True,
        stats=file.statistics,
    )
