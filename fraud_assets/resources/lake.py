"""The lake: the only module that opens tables.

Tables are Delta tables under `lake/<group>/<name>`; DuckDB, in memory, computes on their files; `fraud.duckdb`
shows them. Why Delta and not one DuckDB file stands in docs/adr/0002-delta-tables-duckdb-engine.md.
"""

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote
from uuid import uuid4

import dagster as dg
import duckdb
import pyarrow as pa
from dagster_duckdb import DuckDBResource
from deltalake import CommitProperties, DeltaTable, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError, TableNotFoundError
from duckdb import DuckDBPyConnection
from filelock import FileLock

from fraud_assets.errors import FraudAssetsError
from fraud_assets.resources.run_locks import hold_run_lock
from fraud_assets.resources.tables import TABLES, Table

BATCH_ROWS: Final = 65_536
"""Rows handed over at a time: a few MB, so that a partition of any size passes through bounded memory."""

_FILES: Final = WriterProperties(
    compression="SNAPPY", max_row_group_size=BATCH_ROWS, dictionary_page_size_limit=64 * 1024
)
"""How rows lie in a file. Small row groups bound what writer and reader hold. A dictionary that outgrows its limit is
given up: constant columns keep theirs, columns of which no two values are alike do not pay for one."""

_FILE_BYTES: Final = 64 * 2**20
"""About the size at which another file is begun: the writer holds one file until it is whole."""

for _bound, _value in (("DELTARS_MAX_CONCURRENT_WRITERS", "1"), ("DELTARS_WRITER_BATCH_CHANNEL_SIZE", "2")):
    # Delta takes these from the environment alone. By its defaults it holds dozens of batches, the faster the source.
    os.environ.setdefault(_bound, _value)

_BATCHES_AHEAD: Final = 2
"""Batches that wait for the writer: enough that neither side waits for the other, few enough to hold."""

DUCKDB_MEMORY: Final = "512MiB"
"""With it a partition of ten million rows is built in less than 2 GiB, and one of a hundred thousand never spills."""

READER_DATABASE: Final = "fraud.duckdb"
"""File name of the read-only views; a reader opens it with any DuckDB client."""

_NOT_IN_PATHS: Final = re.compile(r"[%*?\[\]\\^|\x00-\x1f]")
"""Delta takes a path for a URL and DuckDB for a pattern; with these characters they look elsewhere, or Delta panics."""

_DUCKDB_TYPES: Final[Mapping[pa.DataType, str]] = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP WITH TIME ZONE",
    pa.list_(pa.string()): "VARCHAR[]",
}
"""What DuckDB makes of the types that tables use."""

_DECORATION: Final = re.compile(r"\x1b\[\d*m|\u21b3")
"""Colours and arrows with which Delta sets out its errors for a terminal."""


class LakeError(FraudAssetsError):
    """The lake cannot be used as asked; the message says what to do."""


class PartitionConflictError(LakeError):
    """Another writer replaced the same partition meanwhile; compute it anew and write again."""


def quoted(text: str) -> str:
    """Return `text` as an SQL string literal, for the places that take no bound parameter (file lists, views)."""
    return "'" + text.replace("'", "''") + "'"


class Lake(dg.ConfigurableResource):
    """Reads and replaces partitions of Delta tables; every commit says which run made it."""

    data_dir: str
    duckdb: dg.ResourceDependency[DuckDBResource]

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["Lake"]:
        """Hold the run's lock while the run uses the lake, and show readers what it wrote; see `run_locks`."""
        if context.run is None:
            yield self
            return
        with hold_run_lock(self.data_dir, context.run.run_id):
            yield self
            if not self.views_are_current():
                self.publish_views()

    @contextmanager
    def connect(self) -> Iterator[DuckDBPyConnection]:
        """Give an in-memory DuckDB connection in UTC and close it, also after an error."""
        with self.duckdb.get_connection() as connection:
            try:
                connection.execute("SET TimeZone = 'UTC'")
                yield connection
            finally:
                connection.close()

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Hold a lock of the data directory: what belongs together in several commits is done by one at a time."""
        path = Path(self.data_dir) / ".locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield

    # Reading

    def location(self, table: Table) -> str:
        """Return where the table lies, for those who open it by other means."""
        return self._uri(table)

    def version(self, table: Table) -> int | None:
        """Return the table's latest version, or None where it was never written."""
        opened = self._open(table)
        return None if opened is None else opened.version()

    def select(self, table: Table, *, keys: Iterable[str] | None = None, version: int | None = None) -> str:
        """Return a parenthesised SQL query over the files of one version, pinned: later commits do not change it.

        Args:
            table: what to read.
            keys: partitions to read; all by default.
            version: the version to read; the latest by default.
        """
        wanted = None if keys is None else set(keys)
        return _select_files(
            table,
            [
                # The log writes its paths as URLs do.
                str(Path(self._uri(table)) / unquote(added["path"]))
                for added in self._files(table, version=version)
                if wanted is None or added[f"partition.{table.partition_by}"] in wanted
            ],
        )

    def partition_states(self, table: Table, columns: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return per partition its `rows` and the value of `columns` that are constant within a partition.

        Read from the Delta log's statistics alone; no data file is opened. A partition without rows is absent.
        """
        states: dict[str, dict[str, Any]] = {}
        for added in self._files(table, statistics_of=columns):
            state = states.setdefault(added[f"partition.{table.partition_by}"], {"rows": 0})
            state["rows"] += added["num_records"]
            for column in columns:
                value = state.setdefault(column, added[f"min.{column}"])
                if not value == added[f"min.{column}"] == added[f"max.{column}"]:
                    raise LakeError(f"{table.address}: {added['path']} mixes values of {column}.")
        return states

    # Writing

    def replace_partition(
        self, table: Table, key: str, rows: pa.RecordBatchReader | pa.Table, *, provenance: Mapping[str, str]
    ) -> int:
        """Replace one partition whole and return a version of the table that holds it; all or nothing.

        Args:
            table: what to write to; made on first use.
            key: value of its partition column.
            rows: exactly the table's columns; no row empties the partition.
            provenance: goes into the commit's metadata (run id, code version, model version).

        Raises:
            PartitionConflictError: another writer replaced the same partition meanwhile.
            LakeError: the data directory cannot be written.
        """
        with _writing(self._uri(table)), _made_ahead(rows) as stream:
            self._create(table)
            try:
                write_deltalake(
                    self._uri(table),
                    stream,
                    mode="overwrite",
                    predicate=f"{table.partition_by} = {quoted(key)}",
                    writer_properties=_FILES,
                    target_file_size=_FILE_BYTES,
                    commit_properties=CommitProperties(custom_metadata=dict(provenance)),
                )
            except CommitFailedError as error:
                raise PartitionConflictError(
                    f"{table.address}, {key}: another run wrote it meanwhile. Run again."
                ) from error
        version = self.version(table)
        assert version is not None
        return version

    # What readers open

    def publish_views(self) -> Path:
        """Write `fraud.duckdb`, views pinned to the latest versions, and move it over the old one; return its path.

        Readers keep what they opened and nobody waits. Versions are read inside the lock, so that a slow publisher
        cannot take the file back in time.

        Raises:
            LakeError: the data directory cannot be written.
        """
        path = self._folder / READER_DATABASE
        with _writing(path), FileLock(path.with_name(f".{READER_DATABASE}.lock")):
            fresh = path.with_name(f".{READER_DATABASE}.{uuid4().hex}.tmp")
            try:
                self._write_views(fresh)
                fresh.replace(path)
            finally:
                fresh.unlink(missing_ok=True)
        return path

    def views_are_current(self) -> bool:
        """Whether `fraud.duckdb` shows the latest versions at the place where the tables lie now."""
        try:
            with self.read_views() as connection:
                shown = connection.execute("SELECT name, version, location FROM tables ORDER BY ALL").fetchall()
        except duckdb.Error:  # It is not there, damaged, of another release, or someone has opened it for writing.
            return False
        return shown == sorted((table.address, self.version(table), self._uri(table)) for table in TABLES)

    @contextmanager
    def read_views(self) -> Iterator[DuckDBPyConnection]:
        """Give a read-only connection to `fraud.duckdb`, in UTC, as any reader would open it."""
        with duckdb.connect(self._folder / READER_DATABASE, read_only=True) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection

    def _write_views(self, path: Path) -> None:
        as_of = datetime.now(tz=UTC)
        with duckdb.connect(path) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.begin()  # one transaction, or each statement waits for the disk
            connection.execute(
                "CREATE TABLE tables (name VARCHAR, version BIGINT, as_of TIMESTAMPTZ, grain VARCHAR, location VARCHAR)"
            )
            for table in TABLES:
                version = self.version(table)
                connection.execute(
                    "INSERT INTO tables VALUES (?, ?, ?, ?, ?)",
                    [table.address, version, as_of, table.grain, self._uri(table)],
                )
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {table.group}")
                connection.execute(f"CREATE VIEW {table.address} AS {self.select(table, version=version)}")
                for column, meaning in table.meanings.items():
                    if column in table.schema.names:
                        connection.execute(f'COMMENT ON COLUMN {table.address}."{column}" IS {quoted(meaning)}')
            connection.commit()

    # Delta

    @property
    def _folder(self) -> Path:
        if found := _NOT_IN_PATHS.search(self.data_dir):
            raise LakeError(
                f"Tables cannot lie in {self.data_dir!r}, for its {found[0]!r}. Choose another FRAUD_DATA_DIR."
            )
        return Path(self.data_dir)

    def _uri(self, table: Table) -> str:
        return str(self._folder / "lake" / table.group / table.name)

    def _files(
        self, table: Table, *, version: int | None = None, statistics_of: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """Return what the log says of each file of a version: path, partition, rows, least and greatest values."""
        opened = self._open(table, version)
        if opened is None:
            return []
        # Not `pa.table`, which imports pandas first to ask whether it was given a data frame.
        files = pa.RecordBatchReader.from_stream(opened.get_add_actions(flatten=True)).read_all()
        if not files:
            return []
        statistics = [f"{bound}.{column}" for column in statistics_of for bound in ("min", "max")]
        return files.select(["path", f"partition.{table.partition_by}", "num_records", *statistics]).to_pylist()

    def _open(self, table: Table, version: int | None = None) -> DeltaTable | None:
        try:
            opened = DeltaTable(self._uri(table), version=version)
        except TableNotFoundError:
            return None
        if {field.name for field in opened.schema().fields} != set(table.schema.names):
            raise _of_other_columns(self._uri(table))
        return opened

    def _create(self, table: Table) -> None:
        if self._open(table) is not None:
            return
        path = Path(self._uri(table))
        path.mkdir(parents=True, exist_ok=True)
        # One after the other: Delta would let a second one through, and refuse those who write meanwhile.
        with FileLock(path.with_name(f".{path.name}.lock")):
            DeltaTable.create(path, schema=table.schema, mode="ignore", partition_by=[table.partition_by])


def open_lake(data_dir: Path, *, memory: str = DUCKDB_MEMORY) -> Lake:
    """Return the lake under `data_dir`, on DuckDB in memory; opens and creates nothing.

    What DuckDB needs beyond `memory` it puts on the data directory's disk for as long as the connection lives.
    """
    config: dict[str, Any] = {"memory_limit": memory, "temp_directory": str(data_dir / ".spill")}
    # Else what DuckDB no longer uses stays with the process, beside what Arrow and numpy need next.
    config["allocator_background_threads"] = True
    return Lake(data_dir=str(data_dir), duckdb=DuckDBResource(database=":memory:", connection_config=config))


def batches(connection: DuckDBPyConnection, relation: str, schema: pa.Schema) -> pa.RecordBatchReader:
    """Stream `relation` in record batches of exactly `schema`; a type that does not match is an error, never a cast."""
    reader = connection.sql(f"FROM {relation}").to_arrow_reader(BATCH_ROWS)
    if [(field.name, field.type) for field in reader.schema] != [(field.name, field.type) for field in schema]:
        raise TypeError(f"{relation} has\n{reader.schema}\nwhere the table has\n{schema}")
    return pa.RecordBatchReader.from_batches(
        schema, (pa.record_batch(batch.columns, schema=schema) for batch in reader)
    )


@contextmanager
def _made_ahead(rows: pa.RecordBatchReader | pa.Table) -> Iterator[pa.RecordBatchReader]:
    """Give the batches of `rows`; another thread makes the next ones while one is written.

    An error of theirs comes out with the batch that it was made for. No thread is left behind.
    """
    reader = rows.to_reader() if isinstance(rows, pa.Table) else rows
    with ThreadPoolExecutor(1, "batches-ahead") as maker:

        def batches_in_order() -> Iterator[pa.RecordBatch]:
            ahead = deque(maker.submit(next, reader, None) for _ in range(_BATCHES_AHEAD))
            while (batch := ahead.popleft().result()) is not None:
                ahead.append(maker.submit(next, reader, None))
                yield batch

        try:
            yield pa.RecordBatchReader.from_batches(reader.schema, batches_in_order())
        finally:
            maker.shutdown(cancel_futures=True)


@contextmanager
def _writing(path: str | Path) -> Iterator[None]:
    """Say what to look at where the system refuses to write: no permission, no space left, a file in the way."""
    try:
        yield
    except SchemaMismatchError as error:
        raise _of_other_columns(path) from error
    except (OSError, DeltaError, duckdb.IOException) as error:
        if isinstance(error, DeltaError) and "(os error " not in str(error):
            raise
        reason = " ".join(_DECORATION.sub("", str(error)).split())
        raise LakeError(f"{path} cannot be written: {reason}. Check FRAUD_DATA_DIR.") from error


def _of_other_columns(path: str | Path) -> LakeError:
    return LakeError(
        f"{path} was made by a version of fraud_assets with other columns. Move it aside: what landed is not "
        "touched, and `fraud-assets run` builds the table anew."
    )


def _select_files(table: Table, files: Sequence[str]) -> str:
    if not files:
        columns = ", ".join(f'NULL::{_DUCKDB_TYPES[field.type]} AS "{field.name}"' for field in table.schema)
        return f"(SELECT {columns} WHERE false)"
    columns = ", ".join(f'"{name}"' for name in table.schema.names)
    listed = ", ".join(quoted(file) for file in files)
    # Without the type, DuckDB reads 2026-01-05 as a DATE.
    partition_type = f"hive_partitioning = true, hive_types = {{'{table.partition_by}': VARCHAR}}"
    return f"(SELECT {columns} FROM read_parquet([{listed}], {partition_type}))"
