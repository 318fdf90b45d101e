"""Parquet files of a table that others than Delta's own writer write, and what the table's log has to know of each.

Needs neither Dagster nor Delta, so that a Spark executor can write them. A file belongs to the table when a commit
names it (`fraud_assets.resources.file_commits`); until then it is an orphan, which nobody sees and a vacuum removes.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

_COUNTED_BYTES: Final = 64
"""Of a text: a longer one is cut as a least value, and is no greatest value, as Delta's own writer does."""


@dataclass(frozen=True)
class DataFile:
    """One file of a partition: its path below the table's folder, its size, its rows, and Delta's statistics of it."""

    key: str
    name: str
    size: int
    rows: int
    statistics: str
    """As the JSON text that stands in the log."""


def write_data_file(
    folder: Path, schema: pa.Schema, partition_by: str, key: str, batches: Iterable[pa.RecordBatch]
) -> DataFile | None:
    """Write the rows of a partition to a new file of the table in `folder`; None where there is no row.

    The batches have the table's columns without the one it is partitioned by, which stands in the path. The name is
    nobody else's: of two attempts at one task, both may write.
    """
    columns = schema.remove(schema.get_field_index(partition_by))
    name = f"{partition_by}={key}/part-{uuid4()}.snappy.parquet"
    path = folder / name
    rows = write_rows(path, columns, batches)
    if not rows:
        path.unlink(missing_ok=True)
        return None
    return DataFile(key, name, path.stat().st_size, rows, file_statistics(path))


def write_rows(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    """Write batches of a schema to a Parquet file, and return how many rows they had."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = 0
    with pq.ParquetWriter(path, schema, compression="snappy", dictionary_pagesize_limit=65_536) as writer:
        for batch in batches:
            if len(batch):
                writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=schema))
                rows += len(batch)
    return rows


def file_statistics(path: Path) -> str:
    """Return Delta's statistics of a Parquet file, from its footer: rows, and per column nulls, least and greatest."""
    footer = pq.read_metadata(path)
    least: dict[str, Any] = {}
    greatest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    unbounded: set[str] = set()
    for group in map(footer.row_group, range(footer.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            name, found = column.path_in_schema, column.statistics
            if "." in name or found is None:  # Of lists Delta keeps nothing.
                continue
            nulls[name] = nulls.get(name, 0) + found.null_count
            if found.has_min_max:
                least[name] = min(least.get(name, found.min), _cut(found.min))
                greatest[name] = max(greatest.get(name, found.max), found.max)
                unbounded |= {name} if _cut(found.max) != found.max else set()
            elif found.null_count < group.num_rows:
                unbounded.add(name)
    least = dict.fromkeys(unbounded, "") | least  # Only texts go without, where they are very long.
    return json.dumps(
        {
            "numRecords": footer.num_rows,
            "minValues": {name: _as_json(value) for name, value in least.items()},
            "maxValues": {name: _as_json(value) for name, value in greatest.items() if name not in unbounded},
            "nullCount": nulls,
        }
    )


def _cut(value: Any) -> Any:
    return value.encode()[:_COUNTED_BYTES].decode(errors="ignore") if isinstance(value, str) else value


def _as_json(value: object) -> object:
    return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}" if isinstance(value, datetime) else value
