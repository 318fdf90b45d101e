"""Maintenance of tables: the disk does not grow, readers and writers notice nothing, and no bit changes."""

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from fraud_assets.resources.lake import Lake, PartitionConflictError, open_lake
from fraud_assets.resources.table_maintenance import TableMaintained, maintain_table
from fraud_assets.resources.tables import Table
from fraud_assets_tests.depth import cases
from fraud_assets_tests.resources.test_lake import NOTES, notes, put, rows_of

KEYS = ("2026-01-05", "2026-01-06", "2026-01-07")
ROWS = 20_000
HOUR = 3600


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path / "data")


def maintain(lake: Lake, table: Table = NOTES, *, hours: int = 24, shown: int | None = None) -> TableMaintained:
    done = maintain_table(lake, table, retention_hours=hours, shown=shown)
    assert done is not None
    return done


def age(lake: Lake, hours: float, table: Table = NOTES) -> None:
    """Let hours pass for a table: the log says that files were removed so much earlier, and all files are older."""
    folder = Path(lake.location(table))
    for commit in (folder / "_delta_log").glob("*.json"):
        actions = [json.loads(line) for line in commit.read_text().splitlines()]
        for removed in (action["remove"] for action in actions if "remove" in action):
            removed["deletionTimestamp"] -= int(hours * HOUR * 1000)
        modified = commit.stat().st_mtime
        commit.write_text("".join(f"{json.dumps(action)}\n" for action in actions))
        os.utime(commit, (modified, modified))
    for checkpoint in (folder / "_delta_log").glob("*.parquet"):
        modified, saved = checkpoint.stat().st_mtime, pq.read_table(checkpoint)
        rows = saved.to_pylist()
        for removed in (row["remove"] for row in rows if row.get("remove")):
            removed["deletionTimestamp"] -= int(hours * HOUR * 1000)
        pq.write_table(pa.Table.from_pylist(rows, schema=saved.schema), checkpoint)
        os.utime(checkpoint, (modified, modified))
    for path in folder.rglob("*"):
        modified = path.stat().st_mtime - hours * HOUR
        os.utime(path, (modified, modified))


def bytes_of(lake: Lake) -> int:
    return sum(path.stat().st_size for path in Path(lake.location(NOTES)).rglob("*") if path.is_file())


def live_bytes(lake: Lake) -> int:
    added = DeltaTable(lake.location(NOTES)).get_add_actions(flatten=True)
    return sum(pa.RecordBatchReader.from_stream(added).read_all()["size_bytes"].to_pylist())


def append(lake: Lake, author: str, numbers: Sequence[int], key: str = KEYS[0]) -> None:
    """As another writer does, who makes many small files."""
    write_deltalake(lake.location(NOTES), notes(author, numbers, key), mode="append")


def test_days_of_corrections_of_everything_keep_the_disk_within_three_times_the_live_data(lake: Lake) -> None:
    used, commits = [], []
    for day in range(cases(24, 40)):
        for key in KEYS:
            put(lake, f"day {day}", range(day * ROWS, (day + 1) * ROWS), key)
        age(lake, 24)
        maintain(lake)
        used.append(bytes_of(lake) / live_bytes(lake))
        commits.append(len(list((Path(lake.location(NOTES)) / "_delta_log").iterdir())))
    assert max(used) < 3
    assert max(used[10:]) <= 1.3 * max(used[:10])
    assert max(commits[10:]) <= 1.3 * max(commits[:10])
    assert len(rows_of(lake, lake.select(NOTES))) == len(KEYS) * ROWS


def test_a_reader_of_an_old_version_reads_it_until_the_retention_is_over_and_never_fails_before(lake: Lake) -> None:
    put(lake, "old", [1, 2])
    held, expected = lake.select(NOTES), [("old", 1, KEYS[0]), ("old", 2, KEYS[0])]
    for day in range(23):
        put(lake, f"hour {day}", [day])
        maintain(lake)
        assert rows_of(lake, held) == expected
        age(lake, 1)
    maintain(lake)
    assert rows_of(lake, held) == expected

    age(lake, 2)
    maintain(lake)

    with pytest.raises(duckdb.IOException):
        rows_of(lake, held)


def test_what_the_views_show_stays_however_old_it_is(lake: Lake) -> None:
    shown = put(lake, "shown", [1])
    put(lake, "new", [2])
    age(lake, 1000)

    assert maintain(lake, shown=shown).removed_files == 0
    assert rows_of(lake, lake.select(NOTES, version=shown)) == [("shown", 1, KEYS[0])]
    assert maintain(lake).removed_files == 1


def test_what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays(lake: Lake) -> None:
    put(lake, "good", [1])
    folder = Path(lake.location(NOTES)) / f"partition_key={KEYS[0]}"
    for name in ("left.parquet", "written now.parquet"):
        pq.write_table(notes("nobody", [1]).drop(["partition_key"]), folder / name)
    os.utime(folder / "left.parquet", (time.time() - 25 * HOUR,) * 2)

    assert maintain(lake).removed_files == 1
    assert sorted(path.name for path in folder.iterdir() if "part-" not in path.name) == ["written now.parquet"]


def test_small_files_become_one_with_the_same_rows_and_statistics(lake: Lake) -> None:
    put(lake, "one", [1, 2], KEYS[1])
    for number in range(5):
        append(lake, "one", [number])
    before, state = rows_of(lake, lake.select(NOTES)), lake.partition_states(NOTES, ("author",))

    assert maintain(lake).compacted_partitions == 1
    assert rows_of(lake, lake.select(NOTES)) == before
    assert lake.partition_states(NOTES, ("author",)) == state
    assert lake.select(NOTES, keys=[KEYS[0]]).count(".parquet'") == 1
    assert maintain(lake).compacted_partitions == 0


def test_a_partition_known_by_its_files_keeps_them(lake: Lake) -> None:
    put(lake, "one", [1])
    for _ in range(3):
        write_deltalake(
            lake.location(NOTES), notes("one", [1]).set_column(1, "number", pa.array([None], pa.int64())), mode="append"
        )
    done = maintain_table(lake, NOTES, retention_hours=24, shown=None, version_columns=("number",))

    assert done is not None
    assert done.compacted_partitions == 0
    assert lake.select(NOTES).count(".parquet'") == 4


def test_a_partition_that_is_written_meanwhile_is_left_and_its_writer_does_not_fail(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(lake, "one", [1])
    append(lake, "two", [2])
    compact = DeltaTable.optimize.fget  # type: ignore[attr-defined]

    def written_meanwhile(table: DeltaTable) -> object:
        optimizer = compact(table)
        put(lake, "meanwhile", [3])
        return optimizer

    monkeypatch.setattr(DeltaTable, "optimize", property(written_meanwhile))

    done = maintain(lake)

    assert (done.compacted_partitions, done.busy_partitions) == (0, 1)
    assert rows_of(lake, lake.select(NOTES)) == [("meanwhile", 3, KEYS[0])]


def test_writers_and_maintenance_at_once_lose_nothing(lake: Lake) -> None:
    """A writer that loses against a compaction writes again, as runs do against each other."""
    for key in KEYS:
        put(lake, "first", [0], key)

    def in_attempts(most: int, write: Callable[..., object], *arguments: object) -> None:
        for attempt in range(1, most + 1):
            try:
                write(lake, "writer", *arguments)
                return
            except (PartitionConflictError, CommitFailedError):
                assert attempt < most, f"lost {most} times"

    def write(key: str) -> None:
        for number in range(1, cases(8, 40)):
            in_attempts(3, put, [number], key)
            # Delta lets a foreign writer's append lose to any commit at once; how often he tries is his own matter.
            in_attempts(20, append, [number], key)

    with ThreadPoolExecutor(len(KEYS)) as pool:
        writers = [pool.submit(write, key) for key in KEYS]
        while not all(writer.done() for writer in writers):
            maintain(lake)
        for writer in writers:
            writer.result()
    last = cases(8, 40) - 1
    assert rows_of(lake, lake.select(NOTES)) == sorted(("writer", last, key) for key in KEYS for _ in range(2))


def test_maintenance_that_has_nothing_to_do_writes_nothing(lake: Lake) -> None:
    put(lake, "one", [1])
    age(lake, 48)
    maintain(lake)
    version = lake.version(NOTES)

    assert maintain(lake) == TableMaintained()
    assert lake.version(NOTES) == version
