"""What every task on an executor shares: a DuckDB of its own, the rows of its bucket, files for rows, and reports.

Nothing on an executor knows Spark, nor Dagster, MLflow or Delta: a task takes batches and yields reports, one text of
JSON each. Rows go to files; which of them count, the driver decides by the reports, so that a task that failed or was
run twice leaves nothing that anybody sees.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection

from fraud_assets.resources.data_files import write_rows
from fraud_assets.resources.row_batches import BATCH_ROWS
from fraud_assets.sql import literal

Batches = Iterator[pa.RecordBatch]


@contextmanager
def connected(memory: str) -> Iterator[DuckDBPyConnection]:
    """Give an in-memory DuckDB connection in UTC with one thread: Spark gives a task one core."""
    config = {"memory_limit": memory, "threads": 1, "allocator_background_threads": True}
    with TemporaryDirectory() as folder, duckdb.connect(config=config) as con:
        con.execute(f"SET TimeZone = 'UTC'; SET temp_directory = {literal(folder)}")
        yield con


def numbers(batches: Batches) -> Iterator[int]:
    """Yield the numbers of what a task is to do."""
    for batch in batches:
        yield from batch.column(0).to_pylist()


def register(con: DuckDBPyConnection, batches: Batches, cells: str) -> list[Any]:
    """Make the relation `bucket` of all batches, and return which cells it has; none where there is no row."""
    rows = list(batches)
    if not rows:
        return []
    con.register("bucket", pa.Table.from_batches(rows))
    found = con.execute(f"SELECT DISTINCT {cells} FROM bucket ORDER BY ALL").fetchall()
    return [cell[0] if len(cell) == 1 else cell for cell in found]


def scratch(
    con: DuckDBPyConnection, folder: str, query: str, schema: pa.Schema, parameters: dict[str, Any] | None = None
) -> tuple[str, int]:
    """Write the answer of a query to a file of the scratch folder; return its path, empty where there is no row."""
    path = Path(folder, f"{uuid4()}.parquet")
    rows = write_rows(path, schema, _exactly(con, query, schema, parameters))
    if not rows:
        path.unlink()
    return str(path) if rows else "", rows


def _exactly(con: DuckDBPyConnection, query: str, schema: pa.Schema, parameters: dict[str, Any] | None) -> Batches:
    columns = ", ".join(schema.names)
    for batch in con.sql(f"SELECT {columns} FROM ({query})", params=parameters).to_arrow_reader(BATCH_ROWS):
        yield batch.cast(schema)


def over_parquet(paths: Sequence[str]) -> str:
    """Return a relation over Parquet files."""
    return f"(FROM read_parquet([{', '.join(map(literal, paths))}]))"


def report(**found: Any) -> pa.RecordBatch:
    """Return what a task tells the driver."""
    return pa.RecordBatch.from_pydict({"report": pa.array([json.dumps(found)], pa.string())})
