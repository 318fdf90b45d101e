"""The lake: opens tables, reads and replaces their partitions, and keeps them open by `open_tables`.

Tables are Delta tables under `lake/<group>/<name>`; DuckDB, in memory, computes on their files. What readers open is
`fraud_assets.resources.reader_views`. Why Delta and not one DuckDB file: docs/adr/0002-delta-tables-duckdb-engine.md.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

import dagster as dg
import duckdb
import pyarrow as pa
from dagster_duckdb import DuckDBResource
from deltalake import CommitProperties, DeltaTable, Schema, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError, TableNotFoundError
from duckdb import DuckDBPyConnection
from filelock import FileLock

from fraud_assets.digests import digest_lines
from fraud_assets.errors import FraudAssetsError
from fraud_assets.resources.data_files import DataFile
from fraud_assets.resources.data_format import record_format, require_format
from fraud_assets.resources.file_commits import Replaced, ReplacedMeanwhileError, commit_files, files_of
from fraud_assets.resources.open_tables import open_latest
from fraud_assets.resources.reader_views import READER_DATABASE, View, open_views, publish, published
from fraud_assets.resources.row_batches import BATCH_ROWS, prefetched
from fraud_assets.resources.run_locks import hold_run_lock
from fraud_assets.resources.spill import spill_folder
from fraud_assets.resources.tables import TABLES, Table
from fraud_assets.sql import duckdb_type, identifier, literal

FILES: Final = WriterProperties(compression="SNAPPY", max_row_group_size=BATCH_ROWS, dictionary_page_size_limit=65_536)
"""How rows lie in a file. Small row groups bound what writer and reader hold. A dictionary that outgrows its limit is
given up: constant columns keep theirs, columns of which no two values are alike do not pay for one."""

FILE_BYTES: Final = 64 * 2**20
"""About the size at which another file is begun: the writer holds one file until it is whole."""

# Delta takes these from the environment alone. By its defaults it holds dozens of batches, the faster the source.
os.environ.setdefault("DELTARS_MAX_CONCURRENT_WRITERS", "1")
os.environ.setdefault("DELTARS_WRITER_BATCH_CHANNEL_SIZE", "2")

DUCKDB_MEMORY: Final = "512MiB"
"""With it a partition of ten million rows is built in less than 2 GiB, and one of a hundred thousand never spills."""

_NOT_IN_PATHS: Final = re.compile(r"[%*?\[\]\\^|\x00-\x1f]")
"""Delta takes a path for a URL and DuckDB for a pattern; with these characters they look elsewhere, or Delta panics."""

_DECORATION: Final = re.compile(r"\x1b\[\d*m|\u21b3|\n +0: (?s:.*)")
"""Colours and arrows with which Delta sets out its errors for a terminal, and the calls that led to one."""


class LakeError(FraudAssetsError):
    """The lake cannot be used as asked; the message says what to do."""


class PartitionConflictError(LakeError):
    """Another writer replaced the same partition meanwhile; compute it anew and write again."""


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
            self.publish_views()

    @contextmanager
    def connect(self) -> Iterator[DuckDBPyConnection]:
        """Give an in-memory DuckDB connection in UTC and close it, also after an error."""
        with spill_folder(Path(self.data_dir)) as folder, self.duckdb.get_connection() as connection, connection:
            connection.execute(f"SET TimeZone = 'UTC'; SET temp_directory = {literal(folder)}")
            yield connection

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
        return str(self._folder / "lake" / table.group / table.name)

    def version(self, table: Table) -> int | None:
        """Return the table's latest version, or None where it was never written."""
        opened = self._open(table)
        return None if opened is None else opened.version()

    def select(self, table: Table, *, keys: Iterable[str] | None = None, version: int | None = None) -> str:
        """Return a parenthesised SQL query over the files of one version, pinned: later commits do not change it.

        By default it is over all partitions, of the latest version.
        """
        files = self.paths(table, version)
        wanted = files if keys is None else set(keys)
        return self.over(table, [path for key, paths in files.items() if key in wanted for path in paths])

    def select_each(self, table: Table, keys: Iterable[str], *, version: int | None = None) -> dict[str, str]:
        """Return for each partition what `select` gives, all of the same version; the table is opened once."""
        files = self.paths(table, version)
        return {key: self.over(table, files.get(key, [])) for key in keys}

    def paths(self, table: Table, version: int | None = None) -> dict[str, list[str]]:
        """Return the files of a version by partition: where each lies."""
        opened = self._open(table, version)
        return {} if opened is None else files_of(opened, Path(self.location(table)), table)

    def over(self, table: Table, files: Sequence[str]) -> str:
        """Return what `select` gives, over some of the table's files."""
        typed = ", ".join(f"NULL::{duckdb_type(field.type)} AS {identifier(field.name)}" for field in table.schema)
        if not files:
            return f"(SELECT {typed} WHERE false)"
        columns, listed = ", ".join(map(identifier, table.schema.names)), ", ".join(map(literal, files))
        # Without the type, DuckDB reads 2026-01-05 as a DATE.
        partition_type = f"hive_partitioning = true, hive_types = {{'{table.partition_by}': VARCHAR}}"
        if table.added:  # The files of an earlier release lack these columns, and DuckDB goes by the first file.
            rows = f"SELECT * FROM read_parquet([{listed}], {partition_type}, union_by_name = true)"
            return f"(SELECT {columns} FROM (SELECT {typed} WHERE false UNION ALL BY NAME {rows}))"
        return f"(SELECT {columns} FROM read_parquet([{listed}], {partition_type}))"

    def rows(self, table: Table, *, keys: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """Return the rows of a small table as values, of all partitions by default."""
        with self.connect() as connection:
            return connection.sql(f"FROM {self.select(table, keys=keys)}").to_arrow_table().to_pylist()

    def partition_states(
        self, table: Table, columns: Sequence[str], *, version: int | None = None
    ) -> dict[str, dict[str, Any]]:
        """Return per partition its `rows` and the value of `columns` that are constant within a partition.

        Read from the Delta log's statistics alone; no data file is opened. A partition without rows is absent. In a
        table that others write to (`Table.shared`) a column that they left NULL, or of which they mix values, is None,
        and `files` is a digest of which files a partition consists of. Raises LakeError where another one mixes values.
        """
        states: dict[str, dict[str, Any]] = {}
        for added in self._files(table, version=version, statistics_of=columns):
            state = states.setdefault(
                added[f"partition.{table.partition_by}"], {"rows": 0, "files": [], **{name: set() for name in columns}}
            )
            state["rows"] += added["num_records"] or 0  # Others may leave statistics out.
            state["files"].append(added["path"])
            for column in columns:
                low, high, nulls = (added.get(f"{kind}.{column}") for kind in ("min", "max", "null_count"))
                state[column] |= {low, high, *([None] if nulls else [])}
        for key, state in states.items():
            files = state.pop("files")
            if table.shared:
                state["files"] = digest_lines(sorted(files))
            for column in columns:
                if len(state[column]) > 1 and not table.shared:
                    raise LakeError(f"{table.address}: {table.partition_by} {key} mixes values of {column}.")
                state[column] = state[column].pop() if len(state[column]) == 1 else None
        return states

    def keys_with_values(self, table: Table, column: str) -> set[str]:
        """Return the partitions that may hold a value of a column, from the Delta log's statistics alone.

        Those are left out of which they say that it is NULL in every row; where others left statistics out, it may not.
        """
        return {
            added[f"partition.{table.partition_by}"]
            for added in self._files(table, statistics_of=[column])
            if added["num_records"] is None or added["num_records"] != added.get(f"null_count.{column}")
        }

    # Writing

    def replace_partition(
        self, table: Table, key: str, rows: pa.RecordBatchReader | pa.Table, *, provenance: Mapping[str, str]
    ) -> None:
        """Replace one partition whole, as `replace_partitions` does."""
        self.replace_partitions(table, [key], rows, provenance=provenance)

    def replace_partitions(
        self,
        table: Table,
        keys: Sequence[str],
        rows: pa.RecordBatchReader | pa.Table,
        *,
        provenance: Mapping[str, str],
    ) -> None:
        """Replace partitions whole, all of them or none; one without rows is emptied. The table is made on first use.

        The rows have exactly the table's columns. The provenance (run id, code version, model version) goes into the
        commit's metadata.

        Raises:
            PartitionConflictError: another writer replaced one of the partitions meanwhile.
            LakeError: the data directory cannot be written.
        """
        listed = ", ".join(map(literal, keys))
        with _writing(self.location(table)), prefetched(rows) as stream:
            try:
                write_deltalake(
                    self._prepare(table),
                    stream,
                    mode="overwrite",
                    predicate=f"{table.partition_by} IN ({listed})",
                    writer_properties=FILES,
                    target_file_size=FILE_BYTES,
                    commit_properties=CommitProperties(custom_metadata=dict(provenance)),
                )
            except CommitFailedError as error:
                raise _conflict(table, keys) from error

    def replace_with_files(
        self, table: Table, files: Sequence[DataFile], *, instead_of: Replaced, provenance: Mapping[str, str]
    ) -> None:
        """Replace partitions whole by files that lie in the table's folder; otherwise as `replace_partitions`.

        `instead_of` holds what `paths` gave of each of these partitions before the files were made.
        """
        folder = Path(self.location(table))
        with _writing(folder):
            try:
                commit_files(lambda: self._prepare(table), folder, table, files, instead_of, provenance)
            except ReplacedMeanwhileError as error:
                raise _conflict(table, [*instead_of]) from error

    # What readers open

    def publish_views(self) -> Path:
        """Make `fraud.duckdb` show the latest versions where the tables lie now, if it does not yet; return its path.

        Raises LakeError where the data directory cannot be written.
        """
        path = self._folder / READER_DATABASE
        if not self.views_are_current():
            with _writing(path):
                publish(path, self._views)
        return path

    def views_are_current(self) -> bool:
        """Whether `fraud.duckdb` shows the latest versions at the place where the tables lie now."""
        latest = sorted((table.address, self.version(table), self.location(table)) for table in TABLES)
        return published(self._folder / READER_DATABASE) == latest

    def read_views(self) -> AbstractContextManager[DuckDBPyConnection]:
        """Give a read-only connection to `fraud.duckdb`, in UTC, as any reader would open it."""
        return open_views(self._folder / READER_DATABASE)

    def _views(self) -> Iterator[View]:
        for table in TABLES:
            version = self.version(table)
            yield View(table, version, self.location(table), self.select(table, version=version))

    # Delta

    @property
    def _folder(self) -> Path:
        if found := _NOT_IN_PATHS.search(self.data_dir):
            raise LakeError(
                f"Tables cannot lie in {self.data_dir!r}, for its {found[0]!r}. Choose another FRAUD_DATA_DIR."
            )
        return Path(self.data_dir)

    def _files(
        self, table: Table, *, version: int | None = None, statistics_of: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """Return what the log says of each file of a version: path, partition, rows, least and greatest values."""
        opened = self._open(table, version)
        if opened is None:
            return []
        # Not `pa.table`, which imports pandas first to ask whether it was given a data frame.
        with _reading(self.location(table)):
            files = pa.RecordBatchReader.from_stream(opened.get_add_actions(flatten=True)).read_all()
        if not files:
            return []
        statistics = [f"{kind}.{column}" for column in statistics_of for kind in ("min", "max", "null_count")]
        there = [name for name in statistics if name in files.schema.names]
        return files.select(["path", f"partition.{table.partition_by}", "num_records", *there]).to_pylist()

    def _open(self, table: Table, version: int | None = None) -> DeltaTable | None:
        require_format(self._folder)
        with _reading(self.location(table)):
            try:
                opened = open_latest(self.location(table))
                if version is not None and version != opened.version():
                    opened = DeltaTable(self.location(table), version=version)
            except TableNotFoundError:
                return None
        missing = {*table.schema.names} - {field.name for field in opened.schema().fields}
        if not missing <= {*table.added}:
            raise _of_other_columns(self.location(table))
        return opened

    def _prepare(self, table: Table) -> DeltaTable:
        """Make the table; give one of an earlier release today's columns, words and NOT NULL.

        That writes to the log alone, once: added columns are NULL in the rows that are there. Whoever writes to the
        table meanwhile has to write again.
        """
        opened, path = self._open(table), Path(self.location(table))
        record_format(self._folder)
        if opened is not None and _is_described(opened, table):
            return DeltaTable(path)
        path.mkdir(parents=True, exist_ok=True)
        # One after the other: Delta would let a second one through, and refuse those who write meanwhile.
        with FileLock(path.with_name(f".{path.name}.lock")):
            DeltaTable.create(
                path,
                schema=table.schema,
                mode="ignore",
                partition_by=[table.partition_by],
                name=table.address,
                description=table.description,
            )
            opened = DeltaTable(path)
            if not _is_described(opened, table):
                opened.alter.set_table_name(table.address)
                opened.alter.set_table_description(table.description)
                # Replaces the files of no partition, and with them the schema.
                schema, none = Schema.from_arrow(table.schema), [(table.partition_by, "in", [])]
                opened.create_write_transaction([], "overwrite", schema, [table.partition_by], none)
        return DeltaTable(path)


def _conflict(table: Table, keys: Sequence[str]) -> PartitionConflictError:
    which = "...".join(sorted({keys[0], keys[-1]}))
    return PartitionConflictError(f"{table.address}, {which}: another run wrote it meanwhile. Run again.")


def _is_described(opened: DeltaTable, table: Table) -> bool:
    schema = Schema.from_arrow(table.schema)
    return (opened.schema(), opened.metadata().description) == (schema, table.description)


def open_lake(data_dir: Path, *, memory: str = DUCKDB_MEMORY) -> Lake:
    """Return the lake under `data_dir`, on DuckDB in memory; opens and creates nothing.

    What DuckDB needs beyond `memory` it puts on the data directory's disk for as long as the connection lives.
    """
    # Without the second, what DuckDB no longer uses stays with the process, while Arrow and numpy ask for more. By the
    # third, tables that live as long as their connection are not compressed anew after every other insertion.
    config: dict[str, Any] = {
        "memory_limit": memory,
        "allocator_background_threads": True,
        "checkpoint_threshold": "1 TB",
    }
    return Lake(data_dir=str(data_dir), duckdb=DuckDBResource(database=":memory:", connection_config=config))


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Say what to do where a table's log cannot be read: no permission, or it is damaged."""
    try:
        yield
    except (OSError, DeltaError) as error:
        raise LakeError(
            f"{path} cannot be read: {_reason(error)}. Check FRAUD_DATA_DIR and its permissions. Where the table is "
            "damaged, restore it from a backup or move it aside: what landed is not touched, and `fraud-assets run` "
            "builds it anew."
        ) from error


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
        raise LakeError(f"{path} cannot be written: {_reason(error)}. Check FRAUD_DATA_DIR.") from error


def _reason(error: Exception) -> str:
    return " ".join(_DECORATION.sub("", str(error)).split()).rstrip(".")


def _of_other_columns(path: str | Path) -> LakeError:
    return LakeError(
        f"{path} was made by a version of fraud_assets with other columns. Move it aside: what landed is not "
        "touched, and `fraud-assets run` builds the table anew."
    )
