"""Files that others wrote become partitions, and what would damage the table is refused where Delta would take it."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction

from fraud_assets.columns import UTC_MICROSECONDS, column
from fraud_assets.resources.data_files import DataFile, write_data_file
from fraud_assets.resources.file_commits import UnsoundFilesError
from fraud_assets.resources.lake import Lake, PartitionConflictError, open_lake
from fraud_assets.resources.tables import Table

TABLE = Table(
    "silver",
    "things",
    "one thing",
    pa.schema(
        [
            column("name", pa.string(), "Its name."),
            column("at", UTC_MICROSECONDS, "When."),
            column("amount", pa.float64(), "How much.", nullable=True),
            column("tags", pa.list_(pa.string()), "What it is like."),
            column("version", pa.string(), "Of all rows of the partition."),
            column("partition_key", pa.string(), "The partition."),
        ]
    ),
)
AT = datetime(2026, 1, 5, 23, 59, 59, 999_999, UTC)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path / "data")


def rows_of(key: str, names: list[str]) -> list[dict]:
    made = {"at": AT, "amount": None, "tags": ["t"], "version": f"v-{key}", "partition_key": key}
    return [{"name": name, **made} for name in names]


def write(lake: Lake, key: str, *names: str) -> DataFile:
    batches = pa.Table.from_pylist(rows_of(key, [*names]), TABLE.schema).drop_columns("partition_key").to_batches()
    made = write_data_file(Path(lake.location(TABLE)), TABLE.schema, "partition_key", key, batches)
    assert made is not None
    return made


def commit(lake: Lake, *files: DataFile, keys: tuple[str, ...] = ("a",), before: dict | None = None) -> None:
    paths = lake.paths(TABLE) if before is None else before
    lake.replace_with_files(
        TABLE, files, instead_of={key: paths.get(key, []) for key in keys}, provenance={"producer": "test"}
    )


def names(lake: Lake) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in lake.rows(TABLE):
        found.setdefault(row["partition_key"], []).append(row["name"])
    return {key: sorted(values) for key, values in sorted(found.items())}


def log(lake: Lake) -> list[dict]:
    """What the table's log says of each file."""
    actions = DeltaTable(lake.location(TABLE)).get_add_actions(flatten=True)
    return pa.RecordBatchReader.from_stream(actions).read_all().to_pylist()


def test_files_replace_their_partitions_whole_and_no_other(lake: Lake) -> None:
    commit(lake, write(lake, "a", "one"), write(lake, "b", "two"), keys=("a", "b"))
    commit(lake, write(lake, "a", "three"), write(lake, "a", "four"))
    assert names(lake) == {"a": ["four", "three"], "b": ["two"]}

    commit(lake, keys=("a",))
    assert names(lake) == {"b": ["two"]}
    assert DeltaTable(lake.location(TABLE)).history(1)[0]["producer"] == "test"


def test_the_log_says_of_a_file_what_delta_s_own_writer_says(lake: Lake) -> None:
    rows = rows_of("a", ["one", "two" * 40])
    commit(lake, write(lake, "a", *(row["name"] for row in rows)))
    lake.replace_partition(
        TABLE,
        "b",
        pa.Table.from_pylist([r | {"partition_key": "b", "version": "v-a"} for r in rows], TABLE.schema),
        provenance={},
    )

    ours, theirs = (
        {name: row[name] for name in row if name.startswith(("num_records", "null_count", "min.", "max."))}
        for row in sorted(
            log(lake),
            key=lambda row: row["partition.partition_key"],
        )
    )
    assert {name: ours[name] for name in ("num_records", "min.version", "max.version", "null_count.amount")} == {
        name: theirs[name] for name in ("num_records", "min.version", "max.version", "null_count.amount")
    }
    assert ours["min.at"] <= AT <= ours["max.at"]
    assert ours["min.name"] <= "one"
    assert lake.partition_states(TABLE, ("version",)) == {
        "a": {"rows": 2, "version": "v-a"},
        "b": {"rows": 2, "version": "v-a"},
    }


def test_a_table_that_both_write_stays_readable_by_the_oldest_protocol(lake: Lake) -> None:
    commit(lake, write(lake, "a", "one"))

    protocol = DeltaTable(lake.location(TABLE)).protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)


def test_a_file_that_is_missing_or_cut_is_refused(lake: Lake) -> None:
    made = write(lake, "a", "one")
    path = Path(lake.location(TABLE), made.name)
    with pytest.raises(UnsoundFilesError, match="not there as it was written"):
        commit(lake, replace(made, size=made.size + 1))
    path.unlink()
    with pytest.raises(UnsoundFilesError, match="not there as it was written"):
        commit(lake, made)
    assert names(lake) == {}


def test_a_file_of_another_partition_is_refused(lake: Lake) -> None:
    commit(lake, write(lake, "b", "two"), keys=("b",))
    other = write(lake, "b", "three")
    with pytest.raises(UnsoundFilesError, match="is no file of a"):
        commit(lake, other, keys=("a",))
    with pytest.raises(UnsoundFilesError, match="is no file of a"):
        commit(lake, replace(other, key="a"), keys=("a",))
    assert names(lake) == {"b": ["two"]}


def test_a_commit_that_names_no_partition_is_refused(lake: Lake) -> None:
    commit(lake, write(lake, "a", "one"))
    with pytest.raises(UnsoundFilesError, match="would replace all"):
        commit(lake, keys=())
    assert names(lake) == {"a": ["one"]}


def test_a_file_that_is_named_twice_is_refused(lake: Lake) -> None:
    made = write(lake, "a", "one")
    with pytest.raises(UnsoundFilesError, match="twice"):
        commit(lake, made, made)


@pytest.mark.parametrize("lacking", ["numRecords", "minValues", "nullCount"])
def test_a_file_without_statistics_is_refused(lake: Lake, lacking: str) -> None:
    made = write(lake, "a", "one")
    found = json.loads(made.statistics)
    del found[lacking]
    with pytest.raises(UnsoundFilesError, match="lacks statistics"):
        commit(lake, replace(made, statistics=json.dumps(found)))
    assert names(lake) == {}


def test_whoever_lost_a_partition_to_another_writer_computes_it_anew(lake: Lake) -> None:
    commit(lake, write(lake, "a", "one"))
    before = lake.paths(TABLE)
    lake.replace_partition(TABLE, "a", pa.Table.from_pylist(rows_of("a", ["other"]), TABLE.schema), provenance={})

    with pytest.raises(PartitionConflictError, match="another run wrote it meanwhile"):
        commit(lake, write(lake, "a", "mine"), before=before)
    assert names(lake) == {"a": ["other"]}


@pytest.mark.parametrize("meanwhile", ["a", "b"])
def test_of_two_that_commit_at_once_the_second_looks_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    commit(lake, write(lake, "z", "old"), keys=("z",))
    real = Lake._prepare

    def prepare(self: Lake, table: Table) -> DeltaTable:
        opened = real(self, table)
        monkeypatch.setattr(Lake, "_prepare", real)
        commit(self, write(self, meanwhile, "other"), keys=(meanwhile,))
        return opened

    before = lake.paths(TABLE)
    monkeypatch.setattr(Lake, "_prepare", prepare)
    if meanwhile == "a":
        with pytest.raises(PartitionConflictError):
            commit(lake, write(lake, "a", "mine"), before=before)
        assert names(lake) == {"a": ["other"], "z": ["old"]}
    else:
        commit(lake, write(lake, "a", "mine"), before=before)
        assert names(lake) == {"a": ["mine"], "b": ["other"], "z": ["old"]}


def test_the_local_writer_loses_a_partition_that_was_filled_meanwhile(lake: Lake) -> None:
    commit(lake, write(lake, "z", "old"), keys=("z",))
    opened = DeltaTable(lake.location(TABLE))
    commit(lake, write(lake, "a", "mine"))

    with pytest.raises(CommitFailedError):
        write_deltalake(
            opened,
            pa.Table.from_pylist(rows_of("a", ["other"]), TABLE.schema),
            mode="overwrite",
            predicate="partition_key = 'a'",
        )


def test_delta_itself_refuses_none_of_this(lake: Lake) -> None:
    """What `file_commits` is for: when a release of Delta checks more, it may do less."""
    commit(lake, write(lake, "z", "old"), keys=("z",))
    stale, schema = DeltaTable(lake.location(TABLE)), Schema.from_arrow(TABLE.schema)
    commit(lake, write(lake, "a", "mine"))
    other, missing = (
        AddAction(name, size, {"partition_key": "a"}, 0, True, "{}")
        for name, size in ((write(lake, "a", "other").name, 1), ("partition_key=a/none.parquet", 1))
    )

    stale.create_write_transaction([other], "overwrite", schema, ["partition_key"], [("partition_key", "in", ["a"])])
    assert names(lake)["a"] == ["mine", "other"]

    fresh = DeltaTable(lake.location(TABLE))
    fresh.create_write_transaction([missing], "overwrite", schema, ["partition_key"], [("partition_key", "in", ["b"])])
    assert {row["partition.partition_key"] for row in log(lake)} == {"a", "z"}
    assert "partition_key=a/none.parquet" in {row["path"] for row in log(lake)}
