"""The lake on real Delta tables and real processes: nothing torn, nobody waits, errors that say what to do."""

import json
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import DeltaError

from fraud_assets.alerts.schemas import CARD_TRANSACTION, REASON
from fraud_assets.resources.data_format import FORMAT, NewerFormatError
from fraud_assets.resources.lake import (
    Lake,
    LakeError,
    PartitionConflictError,
    open_lake,
)
from fraud_assets.resources.row_batches import BATCH_ROWS, batches, prefetched
from fraud_assets.resources.tables import (
    PARTITION_BUILDS,
    PREDICTIONS,
    RAW_TRANSACTIONS,
    SILVER_TRANSACTIONS,
    TABLES,
    Table,
)
from fraud_assets_tests.depth import cases

NOTES = Table(
    group="test",
    name="notes",
    grain="one note",
    schema=pa.schema(
        [
            pa.field("author", pa.string(), nullable=False),
            pa.field("number", pa.int64()),
            pa.field("partition_key", pa.string(), nullable=False),
        ]
    ),
)

WRITERS = 4
TABLES_MADE = cases(3, 12)


def notes(author: str, numbers: Sequence[int], key: str = "2026-01-05") -> pa.Table:
    return pa.table(
        {"author": [author] * len(numbers), "number": list(numbers), "partition_key": [key] * len(numbers)},
        schema=NOTES.schema,
    )


def one_row(table: Table, key: str, **values: Any) -> pa.Table:
    """Return a row of any table of the lake: its key, the given values, and something of the right type."""
    fillers = {
        pa.string(): "x",
        pa.int32(): 1,
        pa.int64(): 1,
        pa.float64(): 0.5,
        pa.bool_(): True,
        pa.timestamp("us", tz="UTC"): datetime(2026, 1, 5, 12, tzinfo=UTC),
        pa.list_(pa.string()): ["x"],
        pa.list_(REASON): [],
        pa.list_(CARD_TRANSACTION): [],
    }
    row = {field.name: fillers[field.type] for field in table.schema} | values | {table.partition_by: key}
    return pa.Table.from_pylist([row], schema=table.schema)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path / "data")


def put(lake: Lake, author: str, numbers: Sequence[int], key: str = "2026-01-05", **provenance: str) -> int | None:
    lake.replace_partition(NOTES, key, notes(author, numbers, key), provenance=provenance)
    return lake.version(NOTES)


def rows_of(lake: Lake, relation: str) -> list[tuple[Any, ...]]:
    with lake.connect() as connection:
        return connection.execute(f"SELECT author, number, partition_key FROM {relation} ORDER BY ALL").fetchall()


def making_ahead() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("batches-ahead")]


def path_of(lake: Lake, table: Table) -> Path:
    return Path(lake.data_dir) / "lake" / table.group / table.name


# Connections


def test_a_connection_is_in_utc_and_closed_after_an_error(lake: Lake) -> None:
    kept = []

    def fail() -> None:
        with lake.connect() as connection:
            kept.append(connection)
            assert connection.execute("SELECT current_setting('TimeZone')").fetchall() == [("UTC",)]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with pytest.raises(duckdb.ConnectionException):
        kept[0].execute("SELECT 1")


def test_a_lake_is_opened_without_a_trace(lake: Lake) -> None:
    assert lake.version(NOTES) is None
    assert lake.partition_states(NOTES, ["author"]) == {}
    assert rows_of(lake, lake.select(NOTES)) == []
    assert not lake.views_are_current()
    assert not Path(lake.data_dir).exists()


# Partitions


def test_replacing_twice_gives_the_same_rows(lake: Lake) -> None:
    for _ in range(2):
        put(lake, "ann", [1, 2])
    assert rows_of(lake, lake.select(NOTES)) == [("ann", 1, "2026-01-05"), ("ann", 2, "2026-01-05")]


def test_replacing_a_partition_leaves_the_others_alone(lake: Lake) -> None:
    put(lake, "ann", [1], "2026-01-05")
    put(lake, "bob", [2], "2026-01-06")
    put(lake, "eve", [3], "2026-01-05")
    assert rows_of(lake, lake.select(NOTES)) == [("bob", 2, "2026-01-06"), ("eve", 3, "2026-01-05")]


def test_no_row_empties_a_partition(lake: Lake) -> None:
    put(lake, "ann", [1], "2026-01-05")
    put(lake, "bob", [2], "2026-01-06")
    put(lake, "ann", [], "2026-01-05")
    assert rows_of(lake, lake.select(NOTES)) == [("bob", 2, "2026-01-06")]
    assert lake.partition_states(NOTES, ["author"]) == {"2026-01-06": {"author": "bob", "rows": 1}}


def test_a_table_may_begin_and_become_empty(lake: Lake) -> None:
    assert put(lake, "ann", []) is not None
    assert lake.partition_states(NOTES, ["author"]) == {}
    put(lake, "ann", [1])
    put(lake, "ann", [])
    assert lake.partition_states(NOTES, ["author"]) == {}
    assert rows_of(lake, lake.select(NOTES)) == []


def test_rows_of_another_partition_are_refused(lake: Lake) -> None:
    put(lake, "ann", [1], "2026-01-06")
    with pytest.raises(DeltaError, match="partition_key"):
        lake.replace_partition(NOTES, "2026-01-05", notes("bob", [2], "2026-01-06"), provenance={})
    assert rows_of(lake, lake.select(NOTES)) == [("ann", 1, "2026-01-06")]


@pytest.mark.parametrize("key", ["2026-01-05", "2026-01-05-07", "1", "it's", "a b", "a/b", "50%", "ü"])
def test_a_partition_key_is_any_text_and_stays_text(lake: Lake, key: str) -> None:
    put(lake, "ann", [1], key)
    put(lake, "bob", [2], key)
    assert rows_of(lake, lake.select(NOTES, keys=[key])) == [("bob", 2, key)]
    assert list(lake.partition_states(NOTES, [])) == [key]


def test_what_is_read_may_be_streamed_into_the_partition_that_it_is_read_from(lake: Lake) -> None:
    put(lake, "ann", range(1000))
    with lake.connect() as connection:
        doubled = f"(SELECT author, number * 2 AS number, partition_key FROM {lake.select(NOTES)})"
        rows = batches(connection, doubled, NOTES.schema)
        lake.replace_partition(NOTES, "2026-01-05", rows, provenance={})
    assert [row[1] for row in rows_of(lake, lake.select(NOTES))] == list(range(0, 2000, 2))


def test_provenance_stands_in_the_history(lake: Lake) -> None:
    version = put(lake, "ann", [1], dagster_run_id="run 7", model_version="3")
    latest = DeltaTable(path_of(lake, NOTES)).history(1)[0]
    assert (latest["version"], latest["dagster_run_id"], latest["model_version"]) == (version, "run 7", "3")


def test_tables_stay_readable_by_every_delta_reader(lake: Lake) -> None:
    for table in TABLES:
        lake.replace_partition(table, "2026-01-05", one_row(table, "2026-01-05"), provenance={})
        protocol = DeltaTable(path_of(lake, table)).protocol()
        assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2), table.address


def test_a_source_of_rows_that_fails_leaves_the_old_rows_and_says_what_failed(lake: Lake) -> None:
    version = put(lake, "ann", [1])

    def failing() -> Iterator[pa.RecordBatch]:
        yield from notes("bob", [2]).to_batches()
        raise ValueError("the scorer failed")

    with pytest.raises(Exception, match="the scorer failed") as caught:
        lake.replace_partition(
            NOTES, "2026-01-05", pa.RecordBatchReader.from_batches(NOTES.schema, failing()), provenance={}
        )
    assert not making_ahead()
    assert "FRAUD_DATA_DIR" not in str(caught.value)
    assert lake.version(NOTES) == version
    assert rows_of(lake, lake.select(NOTES)) == [("ann", 1, "2026-01-05")]


def test_few_batches_are_made_ahead_by_one_other_thread_in_their_order() -> None:
    made: list[int] = []
    makers = set()

    def counting() -> Iterator[pa.RecordBatch]:
        for number in range(20):
            made.append(number)
            makers.add(threading.current_thread())
            yield from notes("ann", [number]).to_batches()

    threads = set(threading.enumerate())
    with prefetched(pa.RecordBatchReader.from_batches(NOTES.schema, counting())) as stream:
        for taken in range(10):
            assert stream.read_next_batch().column("number").to_pylist() == [taken]
            time.sleep(0.02)  # time enough to make too many
            assert len(made) <= taken + 3
    assert len(made) < 20, "what nobody took is not made"
    assert len(makers) == 1
    assert makers.isdisjoint(threads)
    assert set(threading.enumerate()) == threads


def test_a_writer_that_fails_leaves_no_thread_and_asks_for_little_more(lake: Lake) -> None:
    made: list[int] = []

    def endless() -> Iterator[pa.RecordBatch]:
        for number in range(100_000):
            made.append(number)
            yield from notes("bob", [number] * 100, "2026-01-06").to_batches()

    rows = pa.RecordBatchReader.from_batches(NOTES.schema, endless())
    with pytest.raises(DeltaError, match="partition_key"):
        lake.replace_partition(NOTES, "2026-01-05", rows, provenance={})
    assert not making_ahead()
    assert len(made) < 100_000


def test_files_have_small_row_groups_and_dictionaries_only_where_values_repeat(lake: Lake) -> None:
    put(lake, "ann", range(BATCH_ROWS + 1))
    [file] = path_of(lake, NOTES).rglob("*.parquet")
    parquet = pq.read_metadata(file)
    assert [parquet.row_group(group).num_rows for group in range(parquet.num_row_groups)] == [BATCH_ROWS, 1]
    columns = {column.path_in_schema: column for column in map(parquet.row_group(0).column, range(2))}
    assert {column.compression for column in columns.values()} == {"SNAPPY"}
    assert columns["author"].total_uncompressed_size < 10_000
    assert columns["number"].total_uncompressed_size < 1.1 * 8 * BATCH_ROWS


# Selecting


def test_a_selection_is_of_the_asked_partitions(lake: Lake) -> None:
    for number, key in enumerate(("2026-01-05", "2026-01-06", "2026-01-07")):
        put(lake, "ann", [number], key)
    assert [row[1] for row in rows_of(lake, lake.select(NOTES, keys=iter(["2026-01-05", "2026-01-07"])))] == [0, 2]
    assert rows_of(lake, lake.select(NOTES, keys=["2026-01-08"])) == []
    assert rows_of(lake, lake.select(NOTES, keys=[])) == []


def test_a_selection_is_pinned_to_its_version(lake: Lake) -> None:
    put(lake, "ann", [1])
    pinned = lake.select(NOTES)
    put(lake, "bob", [2])
    put(lake, "bob", [3], "2026-01-06")
    assert rows_of(lake, pinned) == [("ann", 1, "2026-01-05")]


def test_an_earlier_version_can_be_read(lake: Lake) -> None:
    versions = [put(lake, author, [1]) for author in ("ann", "bob")]
    assert [rows_of(lake, lake.select(NOTES, version=version))[0][0] for version in versions] == ["ann", "bob"]
    assert rows_of(lake, lake.select(NOTES, version=0)) == []


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.address)
def test_an_empty_selection_has_the_types_of_a_full_one(lake: Lake, table: Table) -> None:
    with lake.connect() as connection:
        before = connection.execute(f"DESCRIBE {lake.select(table)}").fetchall()
        lake.replace_partition(table, "2026-01-05", one_row(table, "2026-01-05"), provenance={})
        after = connection.execute(f"DESCRIBE {lake.select(table)}").fetchall()
        assert before == after
        assert [row[0] for row in before] == table.schema.names
        # What comes out fits what goes in.
        assert batches(connection, lake.select(table), table.schema).read_all().num_rows == 1


@pytest.mark.parametrize("name", ["with space", "it's", "ü", "a#b", "env=prod", "a{b}", "~a"])
def test_a_data_directory_may_have_such_a_name(tmp_path: Path, name: str) -> None:
    lake = open_lake(tmp_path / name)
    put(lake, "ann", [1])
    put(lake, "bob", [2])
    assert rows_of(lake, lake.select(NOTES)) == [("bob", 2, "2026-01-05")]
    lake.publish_views()
    assert lake.views_are_current()


@pytest.mark.parametrize("name", ["50%20", "a[1]", "a|b", "a^b", "a\\b", "a?b", "a*", "a\nb"])
def test_a_data_directory_of_an_unusable_name_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    lake = open_lake(tmp_path / name)
    for use in (lambda: put(lake, "ann", [1]), lambda: lake.version(NOTES), lake.publish_views):
        with pytest.raises(LakeError, match="FRAUD_DATA_DIR"):
            use()
    assert not list(tmp_path.rglob("*_delta_log*"))


# States


def test_states_are_read_from_the_log_alone(lake: Lake) -> None:
    put(lake, "ann", [7, 7], "2026-01-05")
    put(lake, "bob", [8], "2026-01-06")
    for file in path_of(lake, NOTES).rglob("*.parquet"):
        file.unlink()
    assert lake.partition_states(NOTES, ["author", "number"]) == {
        "2026-01-05": {"author": "ann", "number": 7, "rows": 2},
        "2026-01-06": {"author": "bob", "number": 8, "rows": 1},
    }
    assert lake.partition_states(NOTES, []) == {"2026-01-05": {"rows": 2}, "2026-01-06": {"rows": 1}}


def test_a_column_that_is_not_constant_in_its_partition_is_an_error(lake: Lake) -> None:
    put(lake, "ann", [1, 2])
    with pytest.raises(LakeError, match=r"test\.notes: .* mixes values of number"):
        lake.partition_states(NOTES, ["author", "number"])


def test_the_files_of_a_partition_count_together(lake: Lake) -> None:
    put(lake, "ann", [1])
    write_deltalake(path_of(lake, NOTES), notes("ann", [2, 3]), mode="append")
    assert lake.partition_states(NOTES, ["author"]) == {"2026-01-05": {"author": "ann", "rows": 3}}
    with pytest.raises(LakeError, match="mixes values of number"):
        lake.partition_states(NOTES, ["number"])
    write_deltalake(path_of(lake, NOTES), notes("bob", [4]), mode="append")
    with pytest.raises(LakeError, match="mixes values of author"):
        lake.partition_states(NOTES, ["author"])


def test_a_version_of_any_length_that_we_write_is_kept_whole(lake: Lake) -> None:
    # Delta cuts the statistics of texts at 64 bytes; an input version has 50.
    version = "-".join(["0123456789abcdef"] * 3)
    put(lake, version, [1])
    assert lake.partition_states(NOTES, ["author"])["2026-01-05"]["author"] == version


# Streaming


@pytest.mark.parametrize(
    "relation",
    [
        "(SELECT 'ann' AS author, 1::INTEGER AS number, 'k' AS partition_key)",
        "(SELECT 'ann' AS author, '1' AS number, 'k' AS partition_key)",
        "(SELECT 'ann' AS author, 1::BIGINT AS n, 'k' AS partition_key)",
        "(SELECT 1::BIGINT AS number, 'ann' AS author, 'k' AS partition_key)",
        "(SELECT 'ann' AS author, 1::BIGINT AS number)",
        "(SELECT 'ann' AS author, 1::BIGINT AS number, 'k' AS partition_key, 1 AS more)",
    ],
)
def test_another_schema_is_refused_never_cast(lake: Lake, relation: str) -> None:
    with lake.connect() as connection, pytest.raises(TypeError, match="where the table has"):
        batches(connection, relation, NOTES.schema)


def test_batches_have_exactly_the_tables_schema(lake: Lake) -> None:
    with lake.connect() as connection:
        rows = batches(
            connection, "(SELECT 'ann' AS author, 1::BIGINT AS number, 'k' AS partition_key)", NOTES.schema
        ).read_all()
    assert rows.schema.equals(NOTES.schema, check_metadata=True)


# A directory that cannot be written


def in_the_way(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("not a directory")
    return tmp_path / "file"


@pytest.mark.parametrize("of", ["the directory", "lake", "the table's log"])
def test_a_file_in_the_way_is_said_with_the_variable_to_look_at(tmp_path: Path, of: str) -> None:
    at = {
        "the directory": tmp_path / "data",
        "lake": tmp_path / "data" / "lake",
        "the table's log": tmp_path / "data" / "lake" / "test" / "notes" / "_delta_log",
    }[of]
    at.parent.mkdir(parents=True, exist_ok=True)
    at.write_text("not a directory")
    with pytest.raises(LakeError, match=r"cannot be (written|read): .*FRAUD_DATA_DIR"):
        put(open_lake(tmp_path / "data"), "ann", [1])


def test_a_damaged_log_is_said_with_its_path_and_what_to_do(lake: Lake) -> None:
    put(lake, "ann", [1])
    for entry in (path_of(lake, NOTES) / "_delta_log").glob("*.json"):
        entry.write_text("{ damaged")
    with pytest.raises(LakeError) as raised:
        lake.version(NOTES)
    assert str(raised.value).startswith(f"{path_of(lake, NOTES)} cannot be read: Kernel error: Json error")
    assert "restore it from a backup or move it aside" in str(raised.value)
    assert "<unknown>" not in str(raised.value)


def test_views_that_cannot_be_written_are_said_with_the_variable_to_look_at(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a directory")
    with pytest.raises(LakeError, match=r"fraud\.duckdb cannot be written: .*FRAUD_DATA_DIR"):
        open_lake(tmp_path / "data").publish_views()


def test_a_full_disk_is_said_and_leaves_the_old_rows_and_views(lake: Lake) -> None:
    resource = pytest.importorskip("resource")
    version = put(lake, "ann", [1])
    lake.publish_views()
    lake.replace_partition(PREDICTIONS, "2026-01-05", one_row(PREDICTIONS, "2026-01-05"), provenance={})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond this: writing fails as on a full disk, for whoever runs the test.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(LakeError, match=r"lake/test/notes cannot be written: .*FRAUD_DATA_DIR"):
            put(lake, "bob", range(10_000))
        with pytest.raises(LakeError, match=r"fraud\.duckdb cannot be written: .*FRAUD_DATA_DIR"):
            lake.publish_views()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert lake.version(NOTES) == version
    assert rows_of(lake, lake.select(NOTES)) == [("ann", 1, "2026-01-05")]
    with lake.read_views() as connection:
        assert connection.execute("SELECT count(*) FROM gold.fraud_predictions").fetchall() == [(0,)]
    assert [file.name for file in Path(lake.data_dir).glob(".fraud*")] == [".fraud.duckdb.lock"]


# Read-only views


def test_every_table_has_a_view_before_anything_was_written(lake: Lake) -> None:
    lake.publish_views()
    with lake.read_views() as connection:
        for table in TABLES:
            described = connection.execute(f"DESCRIBE {table.address}").fetchall()
            assert [row[0] for row in described] == table.schema.names
            assert connection.execute(f"SELECT count(*) FROM {table.address}").fetchall() == [(0,)]
        assert connection.execute("SELECT count(*), count(version) FROM tables").fetchall() == [(len(TABLES), 0)]


def test_views_show_what_was_published_until_they_are_published_again(lake: Lake) -> None:
    for version in ("1", "2"):
        lake.replace_partition(
            PREDICTIONS, "2026-01-05", one_row(PREDICTIONS, "2026-01-05", model_version=version), provenance={}
        )
        assert not lake.views_are_current()
        if version == "1":
            lake.publish_views()
            assert lake.views_are_current()
    with lake.read_views() as connection:
        assert connection.execute("SELECT model_version FROM gold.fraud_predictions").fetchall() == [("1",)]
    lake.publish_views()
    with lake.read_views() as connection:
        assert connection.execute("SELECT model_version FROM gold.fraud_predictions").fetchall() == [("2",)]


def test_a_reader_keeps_what_it_opened(lake: Lake) -> None:
    key = "2026-01-05"
    lake.replace_partition(PREDICTIONS, key, one_row(PREDICTIONS, key, model_version="1"), provenance={})
    lake.publish_views()
    with lake.read_views() as connection:
        lake.replace_partition(PREDICTIONS, key, one_row(PREDICTIONS, key, model_version="2"), provenance={})
        lake.publish_views()
        assert connection.execute("SELECT model_version FROM gold.fraud_predictions").fetchall() == [("1",)]


def test_partition_keys_are_text_and_times_are_utc_in_views(lake: Lake) -> None:
    key = "2026-01-05"
    lake.replace_partition(PREDICTIONS, key, one_row(PREDICTIONS, key), provenance={})
    lake.publish_views()
    with lake.read_views() as connection:
        [answer] = connection.execute(
            "SELECT partition_key, typeof(partition_key), typeof(event_timestamp), event_timestamp::VARCHAR "
            "FROM gold.fraud_predictions WHERE partition_key = '2026-01-05'"
        ).fetchall()
    assert answer == (key, "VARCHAR", "TIMESTAMP WITH TIME ZONE", "2026-01-05 12:00:00+00")


def test_tables_says_what_the_views_show(lake: Lake) -> None:
    key = "2026-01-05"
    lake.replace_partition(RAW_TRANSACTIONS, key, one_row(RAW_TRANSACTIONS, key), provenance={})
    version = lake.version(RAW_TRANSACTIONS)
    before = datetime.now(tz=UTC)
    lake.publish_views()
    with lake.read_views() as connection:
        shown = connection.execute("SELECT name, version, grain, location FROM tables").fetchall()
        [(as_of,)] = connection.execute("SELECT DISTINCT as_of FROM tables").fetchall()
    assert before <= as_of <= datetime.now(tz=UTC)
    assert [row[0] for row in shown] == [table.address for table in TABLES]
    assert shown[0] == (
        "bronze.raw_transactions",
        version,
        "one landed file",
        str(path_of(lake, RAW_TRANSACTIONS)),
    )


def test_every_column_of_the_views_says_what_it_means(lake: Lake) -> None:
    lake.publish_views()
    with lake.read_views() as connection:
        comments = connection.execute(
            "SELECT schema_name || '.' || table_name, column_name, comment FROM duckdb_columns() "
            "WHERE NOT internal AND schema_name <> 'main'"
        ).fetchall()
    said = {(view, column): comment for view, column, comment in comments}
    assert said["gold.fraud_predictions", "fraud_score"] == (
        "Higher is more suspicious; 0 is the contamination boundary of the training data."
    )
    assert {place for place, comment in said.items() if not comment} == set()
    assert set(said) == {(table.address, name) for table in TABLES for name in table.schema.names}


def test_views_of_a_data_directory_that_moved_are_not_current(lake: Lake, tmp_path: Path) -> None:
    lake.replace_partition(PREDICTIONS, "2026-01-05", one_row(PREDICTIONS, "2026-01-05"), provenance={})
    lake.publish_views()
    moved = open_lake(Path(lake.data_dir).rename(tmp_path / "moved"))
    assert not moved.views_are_current()
    with moved.read_views() as connection, pytest.raises(duckdb.IOException, match="No files found"):
        connection.execute("FROM gold.fraud_predictions")
    moved.publish_views()
    assert moved.views_are_current()
    with moved.read_views() as connection:
        assert connection.execute("SELECT count(*) FROM gold.fraud_predictions").fetchall() == [(1,)]


def test_views_of_a_copied_data_directory_are_not_current_and_then_show_the_copys_rows(
    lake: Lake, tmp_path: Path
) -> None:
    def shown(lake: Lake) -> list[tuple[Any, ...]]:
        with lake.read_views() as connection:
            return connection.execute("SELECT model_version FROM gold.fraud_predictions").fetchall()

    key = "2026-01-05"
    lake.replace_partition(PREDICTIONS, key, one_row(PREDICTIONS, key, model_version="1"), provenance={})
    lake.publish_views()
    copied = open_lake(Path(shutil.copytree(lake.data_dir, tmp_path / "copy")))
    lake.replace_partition(PREDICTIONS, key, one_row(PREDICTIONS, key, model_version="2"), provenance={})
    assert not copied.views_are_current()
    copied.publish_views()
    shutil.rmtree(lake.data_dir)
    assert shown(copied) == [("1",)]


@pytest.mark.parametrize("content", [b"", b"not a database", None])
def test_a_reader_file_that_is_none_of_ours_is_replaced(lake: Lake, content: bytes | None) -> None:
    path = lake.publish_views()
    if content is None:
        path.unlink()
        with duckdb.connect(path) as other:
            other.execute("CREATE TABLE theirs (x INTEGER)")
    else:
        path.write_bytes(content)
    assert not lake.views_are_current()
    lake.publish_views()
    assert lake.views_are_current()


def test_readers_cannot_write(lake: Lake) -> None:
    lake.publish_views()
    with lake.read_views() as connection, pytest.raises(duckdb.InvalidInputException, match="read-only"):
        connection.execute("DELETE FROM tables")


# Processes. What they do stands in functions of this module, which each of them imports.


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(WRITERS, mp_context=get_context("spawn")) as pool:
        yield pool


def start_together(pool: ProcessPoolExecutor, folder: Path, do: Any, arguments: Sequence[Any]) -> list[Future[Any]]:
    """Run `do` once per argument, each in its own process, and let all of them begin at once."""
    return [
        pool.submit(when_all_are_ready, folder, len(arguments), number, do, a) for number, a in enumerate(arguments)
    ]


def when_all_are_ready(folder: Path, parties: int, number: int, do: Any, argument: Any) -> Any:
    wait_for_all(folder, parties, "start", str(number))
    return do(folder, argument)


def wait_for_all(folder: Path, parties: int, what: str, name: str) -> None:
    (folder / f"{what} {name}").touch()
    give_up = time.monotonic() + 120  # One of the others has failed, and its failure is the news.
    while len(list(folder.glob(f"{what} *"))) < parties:
        assert time.monotonic() < give_up
        time.sleep(0.002)


def make_and_write_tables(folder: Path, author: str) -> list[str]:
    """Return what went wrong."""
    lake, problems = open_lake(folder / "data"), []
    for number in range(TABLES_MADE):
        wait_for_all(folder, WRITERS, f"table {number}", author)
        table = replace(NOTES, name=f"notes_{number}")
        key = f"of {author}"
        try:
            lake.replace_partition(table, key, notes(author, [1, 1], key), provenance={})
        except (LakeError, DeltaError) as error:
            problems.append(f"{type(error).__name__}: {error}")
    return problems


def replace_shared_partition(folder: Path, author: str) -> list[int | None]:
    """Return the version that each attempt made, or None where another writer came first."""
    lake = open_lake(folder / "data")
    versions: list[int | None] = []
    for _ in range(cases(6, 20)):
        try:
            versions.append(put(lake, author, [1] * 50))
        except PartitionConflictError:
            versions.append(None)
    return versions


def write_and_publish(folder: Path, author: str) -> int:
    lake = open_lake(folder / "data")
    rounds = cases(2, 10)
    for round_ in range(1, rounds + 1):
        rows = pa.concat_tables(
            one_row(PREDICTIONS, f"of {author}", model_version=str(round_), TransactionID=str(n)) for n in range(20)
        )
        lake.replace_partition(PREDICTIONS, f"of {author}", rows, provenance={})
        lake.publish_views()
    return rounds


def hold_views_for_writing(folder: Path, database: str) -> None:
    with duckdb.connect(database):
        (folder / "held").touch()
        while not (folder / "let go").exists():
            time.sleep(0.01)


def put_from_elsewhere(folder: Path, key: str) -> int | None:
    return put(open_lake(folder / "data"), "other", [9], key)


def test_processes_may_make_and_write_a_table_at_once(processes: ProcessPoolExecutor, tmp_path: Path) -> None:
    authors = ["ann", "bob", "eve", "dan"]
    tried = start_together(processes, tmp_path, make_and_write_tables, authors)
    assert [done.result() for done in tried] == [[], [], [], []]
    lake = open_lake(tmp_path / "data")
    for number in range(TABLES_MADE):
        table = replace(NOTES, name=f"notes_{number}")
        assert lake.partition_states(table, ["author"]) == {
            f"of {author}": {"author": author, "rows": 2} for author in authors
        }
        assert lake.version(table) == WRITERS  # Version 0 made the table, and each write made one.


def test_a_partition_that_processes_fight_for_is_never_torn(processes: ProcessPoolExecutor, tmp_path: Path) -> None:
    authors = ["ann", "bob", "eve", "dan"]
    tried = [done.result() for done in start_together(processes, tmp_path, replace_shared_partition, authors)]
    lake = open_lake(tmp_path / "data")
    written = sum(version is not None for versions in tried for version in versions)
    assert lake.version(NOTES) == written  # Version 0 made the table, and each success made one.
    assert written >= 1
    for version in range(1, written + 1):
        rows = rows_of(lake, lake.select(NOTES, version=version))
        assert len(rows) == 50
        assert len(set(rows)) == 1


def test_a_writer_that_was_overtaken_in_its_partition_is_told_to_compute_anew(
    processes: ProcessPoolExecutor, tmp_path: Path
) -> None:
    lake = open_lake(tmp_path / "data")
    put(lake, "ann", [1])

    def overtaken(key: str) -> pa.RecordBatchReader:
        def rows() -> Iterator[pa.RecordBatch]:
            processes.submit(put_from_elsewhere, tmp_path, key).result()
            yield from notes("bob", [2]).to_batches()

        return pa.RecordBatchReader.from_batches(NOTES.schema, rows())

    with pytest.raises(
        PartitionConflictError, match=r"test\.notes, 2026-01-05: another run wrote it meanwhile\. Run again"
    ):
        lake.replace_partition(NOTES, "2026-01-05", overtaken("2026-01-05"), provenance={})
    assert rows_of(lake, lake.select(NOTES)) == [("other", 9, "2026-01-05")]

    lake.replace_partition(NOTES, "2026-01-05", overtaken("2026-01-06"), provenance={})
    assert rows_of(lake, lake.select(NOTES)) == [("bob", 2, "2026-01-05"), ("other", 9, "2026-01-06")]


def test_a_process_reads_the_views_while_four_write_and_publish(processes: ProcessPoolExecutor, tmp_path: Path) -> None:
    lake = open_lake(tmp_path / "data")
    lake.publish_views()
    authors = ["ann", "bob", "eve", "dan"]
    writing = start_together(processes, tmp_path, write_and_publish, authors)
    reads, as_of, versions = 0, datetime.min.replace(tzinfo=UTC), dict.fromkeys(authors, 0)
    while not all(future.done() for future in writing):
        with lake.read_views() as connection:
            query = (
                "SELECT partition_key, count(*), min(model_version::INTEGER), max(model_version::INTEGER) "
                "FROM gold.fraud_predictions GROUP BY ALL ORDER BY ALL"
            )
            seen = connection.execute(query).fetchall()
            [(seen_as_of,)] = connection.execute("SELECT max(as_of) FROM tables").fetchall()
            assert connection.execute(query).fetchall() == seen
        # Each partition is whole, and nothing goes back in time.
        for key, rows, oldest, newest in seen:
            author = key.removeprefix("of ")
            assert (rows, oldest) == (20, newest)
            assert newest >= versions[author]
            versions[author] = newest
        assert seen_as_of >= as_of
        as_of = seen_as_of
        reads += 1
    rounds = [future.result() for future in writing]
    assert reads > 1
    assert lake.views_are_current()
    with lake.read_views() as connection:
        shown = connection.execute(
            "SELECT DISTINCT partition_key, model_version FROM gold.fraud_predictions ORDER BY ALL"
        ).fetchall()
    assert shown == sorted((f"of {author}", str(count)) for author, count in zip(authors, rounds, strict=True))


def test_views_that_someone_opened_for_writing_are_replaced(processes: ProcessPoolExecutor, tmp_path: Path) -> None:
    lake = open_lake(tmp_path / "data")
    holding = processes.submit(hold_views_for_writing, tmp_path, str(lake.publish_views()))
    while not (tmp_path / "held").exists():
        assert not wait([holding], timeout=0.02).done
    try:
        assert not lake.views_are_current()
        lake.publish_views()
        assert lake.views_are_current()
    finally:
        (tmp_path / "let go").touch()
        holding.result()


# Words


def test_every_table_has_an_address_of_its_own_and_a_meaning_for_each_column() -> None:
    assert [table.address for table in TABLES] == [
        "bronze.raw_transactions",
        "silver.silver_transactions_base",
        "silver.quarantined_transactions",
        "silver.partition_builds",
        "silver.card_history",
        "gold.fraud_predictions",
        "gold.fraud_alerts",
        "gold.alert_lists",
        "gold.withdrawn_alerts",
        "gold.review_samples",
        "gold.alert_reviews",
        "gold.review_files",
        "gold.fraud_report",
        "model.evaluation_metrics",
        "model.promotions",
        "model.ranker_metrics",
        "model.ranker_promotions",
        "model.ranker_trainings",
    ]
    for table in TABLES:
        assert table.partition_by in table.schema.names
        assert all(table.meanings.values())
    assert PARTITION_BUILDS.partition_by == "partition_key"


def test_a_table_says_what_it_is_to_every_delta_reader(lake: Lake) -> None:
    for table in TABLES:
        lake.replace_partition(table, "2026-01-05", one_row(table, "2026-01-05"), provenance={})
        stored = DeltaTable(path_of(lake, table))
        assert (stored.metadata().name, stored.metadata().description) == (table.address, table.description)
        assert {field.name: field.metadata["comment"] for field in stored.schema().fields} == table.meanings
        assert {field.name: field.nullable for field in stored.schema().fields} == {
            field.name: field.nullable for field in table.schema
        }


def test_pandas_reads_one_version_through_delta_and_too_many_rows_of_the_folder(lake: Lake) -> None:
    for author in ("ann", "bob"):
        put(lake, author, [1, 2])
    assert DeltaTable(path_of(lake, NOTES)).to_pandas()["author"].tolist() == ["bob", "bob"]
    assert sorted(pd.read_parquet(path_of(lake, NOTES))["author"]) == ["ann", "ann", "bob", "bob"]


def test_only_silvers_label_and_what_others_do_not_know_may_be_null(lake: Lake) -> None:
    versions = ["input_version", "lookback_version", "tail_version", "silver_version"]
    assert [field.name for field in SILVER_TRANSACTIONS.schema if field.nullable] == ["isFraud", *versions]
    assert [field.name for field in PARTITION_BUILDS.schema if field.nullable] == []
    columns = [
        pa.nulls(1, field.type) if field.name in ("isFraud", "card_id") else column
        for field, column in zip(SILVER_TRANSACTIONS.schema, one_row(SILVER_TRANSACTIONS, "k").columns, strict=True)
    ]
    rows = pa.table(columns, schema=pa.schema([field.with_nullable(True) for field in SILVER_TRANSACTIONS.schema]))
    with pytest.raises(DeltaError, match="validation check"):
        lake.replace_partition(SILVER_TRANSACTIONS, "k", rows, provenance={})


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.address)
def test_a_table_of_a_release_before_is_read_and_takes_todays_words_without_a_row_being_written(
    lake: Lake, table: Table
) -> None:
    first, second = "2026-01-05", "2026-01-06"
    # Other words, NULL allowed everywhere, and neither name nor description.
    older = pa.schema([pa.field(field.name, field.type, metadata={"comment": "old words"}) for field in table.schema])
    path = path_of(lake, table)
    DeltaTable.create(path, schema=older, partition_by=[table.partition_by])
    for key in (first, second):
        write_deltalake(path, one_row(table, key).cast(older), mode="append")
    assert list(lake.partition_states(table, [])) == [second, first]
    before = lake.rows(table, keys=[first])

    lake.replace_partition(table, second, one_row(table, second), provenance={})
    lake.replace_partition(table, second, one_row(table, second).slice(0, 0), provenance={})

    assert lake.rows(table) == before
    stored = DeltaTable(path)
    assert stored.schema() == DeltaSchema.from_arrow(table.schema)
    assert (stored.metadata().name, stored.metadata().description) == (table.address, table.description)
    assert stored.version() == 7  # Made, two rows, words, name, description, and two partitions replaced.
    assert stored.metadata().partition_columns == [table.partition_by]
    assert (stored.protocol().min_reader_version, stored.protocol().min_writer_version) == (1, 2)


def test_a_table_of_other_columns_is_refused_with_what_to_do(tmp_path: Path) -> None:
    lake = open_lake(tmp_path / "data")
    older = PARTITION_BUILDS.schema.remove(0)
    DeltaTable.create(
        str(tmp_path / "data" / "lake" / "silver" / "partition_builds"), schema=older, partition_by=["partition_key"]
    )

    empty = PARTITION_BUILDS.schema.empty_table()
    for use in (
        lambda: lake.replace_partition(PARTITION_BUILDS, "2026-01-05", empty, provenance={}),
        lambda: lake.partition_states(PARTITION_BUILDS, (older.names[0],)),
        lambda: lake.select(PARTITION_BUILDS),
        lake.publish_views,
    ):
        with pytest.raises(LakeError, match=r"other columns. Move it aside.*`fraud-assets run`"):
            use()


LATER_NOTES = replace(
    NOTES,
    schema=pa.schema(
        [
            pa.field("mood", pa.string()),
            *NOTES.schema,
            pa.field("read_by", pa.list_(pa.struct([("name", pa.string())]))),
        ]
    ),
    added=("mood", "read_by"),
)


def test_added_columns_are_null_in_the_rows_of_before_whoever_reads_them(lake: Lake) -> None:
    put(lake, "before", [1], "2026-01-05")
    put(lake, "before", [2], "2026-01-06")
    before = {"mood": None, "author": "before", "read_by": None}

    assert lake.rows(LATER_NOTES, keys=["2026-01-05"]) == [before | {"number": 1, "partition_key": "2026-01-05"}]
    assert lake.partition_states(LATER_NOTES, ["mood"])["2026-01-05"] == {"rows": 1, "mood": None}

    now = {"mood": "good", "author": "now", "number": 2, "read_by": [{"name": "x"}], "partition_key": "2026-01-06"}
    for _ in range(2):
        table = pa.Table.from_pylist([now], schema=LATER_NOTES.schema)
        lake.replace_partition(LATER_NOTES, "2026-01-06", table, provenance={})
    rows = sorted(lake.rows(LATER_NOTES), key=lambda row: row["number"])
    assert rows == [before | {"number": 1, "partition_key": "2026-01-05"}, now]
    assert {key: state["mood"] for key, state in lake.partition_states(LATER_NOTES, ["mood"]).items()} == {
        "2026-01-05": None,
        "2026-01-06": "good",
    }
    assert DeltaTable(lake.location(NOTES)).schema() == DeltaSchema.from_arrow(LATER_NOTES.schema)


def test_columns_that_a_release_no_longer_has_are_left_where_they_are(lake: Lake) -> None:
    fewer = replace(NOTES, schema=NOTES.schema.remove(1))
    put(lake, "before", [1], "2026-01-05")

    lake.replace_partition(fewer, "2026-01-06", notes("now", [2], "2026-01-06").drop(["number"]), provenance={})

    rows = sorted(lake.rows(fewer), key=lambda row: row["partition_key"])
    assert [row["author"] for row in rows] == ["before", "now"]


def test_what_a_later_release_wrote_is_refused_in_words_and_untouched(lake: Lake) -> None:
    put(lake, "one", [1])
    mark = Path(lake.data_dir) / ".format"
    assert mark.read_text() == f"{FORMAT}\n"
    mark.write_text(f"{FORMAT + 1}\n")

    for use in (lambda: lake.select(NOTES), lambda: put(lake, "two", [2]), lake.publish_views):
        with pytest.raises(NewerFormatError, match=r"later release.*install that release again"):
            use()
    assert DeltaTable(lake.location(NOTES)).version() == 1


def test_views_of_other_columns_or_words_are_written_anew(lake: Lake) -> None:
    path = lake.publish_views()
    assert lake.views_are_current()
    with duckdb.connect(path) as connection:
        connection.execute("COMMENT ON TABLE tables IS 'of another release'")

    assert not lake.views_are_current()
    lake.publish_views()
    assert lake.views_are_current()


def test_where_others_write_mixed_or_missing_values_are_none_and_the_files_are_known(lake: Lake) -> None:
    shared = replace(NOTES, shared=True)
    put(lake, "one", [1])
    alone = lake.partition_states(shared, ["author", "number"])["2026-01-05"]
    write_deltalake(lake.location(NOTES), notes("other", [1]), mode="append")
    mixed = lake.partition_states(shared, ["author", "number"])["2026-01-05"]
    put(lake, "one", [1])

    assert (alone["author"], alone["number"]) == ("one", 1)
    assert (mixed["author"], mixed["number"], mixed["rows"]) == (None, 1, 2)
    assert len({state["files"] for state in (alone, mixed, lake.partition_states(shared, [])["2026-01-05"])}) == 3


def test_statistics_tell_which_partitions_have_no_value_and_one_without_them_may_have_some(lake: Lake) -> None:
    empty = pa.Table.from_pylist([{"author": "ann", "partition_key": "2026-01-05"}], schema=NOTES.schema)
    lake.replace_partition(NOTES, "2026-01-05", empty, provenance={})
    put(lake, "ann", [1], "2026-01-06")
    assert lake.keys_with_values(NOTES, "number") == {"2026-01-06"}

    elsewhere = Path(shutil.copytree(lake.data_dir, f"{lake.data_dir}-elsewhere"))
    for entry in elsewhere.rglob("_delta_log/*.json"):
        actions = [json.loads(line) for line in entry.read_text().splitlines()]
        for action in actions:
            action.get("add", {}).pop("stats", None)
        entry.write_text("\n".join(map(json.dumps, actions)))
    assert open_lake(elsewhere).keys_with_values(NOTES, "number") == {"2026-01-05", "2026-01-06"}
