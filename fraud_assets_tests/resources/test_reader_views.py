"""The read-only views by themselves; what they show of real tables is in test_lake.py."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from filelock import FileLock, Timeout

from fraud_assets.resources.lake import open_lake
from fraud_assets.resources.reader_views import View, open_views, publish, published
from fraud_assets.resources.tables import PREDICTIONS, TABLES
from fraud_assets_tests.resources.test_lake import one_row

EMPTY = View(PREDICTIONS, None, "nowhere", "(SELECT " + ", ".join(f"1 AS {c}" for c in PREDICTIONS.schema.names) + ")")


def test_one_publishes_at_a_time_and_looks_at_the_tables_inside_the_lock(tmp_path: Path) -> None:
    asked = []

    def current() -> list[View]:
        with pytest.raises(Timeout):
            FileLock(tmp_path / ".fraud.duckdb.lock", timeout=0).acquire()
        asked.append(1)
        return [EMPTY]

    publish(tmp_path / "fraud.duckdb", current)
    assert asked == [1]
    assert published(tmp_path / "fraud.duckdb") == [("gold.fraud_predictions", None, "nowhere")]


def test_views_that_cannot_be_made_leave_the_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "fraud.duckdb"
    publish(path, lambda: [EMPTY])
    with pytest.raises(duckdb.ParserException):
        publish(path, lambda: [View(PREDICTIONS, 1, "somewhere", "no query")])
    with open_views(path) as connection:
        assert connection.execute("SELECT count(*) FROM gold.fraud_predictions").fetchall() == [(1,)]
    assert sorted(file.name for file in tmp_path.iterdir()) == [".fraud.duckdb.lock", "fraud.duckdb"]


# Killed publishers

PUBLISH_AND_HANG = """
import sys, time
from pathlib import Path
from fraud_assets.resources.reader_views import publish

def hang():
    print("writing", flush=True)
    time.sleep(600)
    yield

publish(Path(sys.argv[1]), hang)
"""


def test_what_a_killed_publisher_left_goes_with_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "fraud.duckdb"
    publish(path, lambda: [EMPTY])
    with subprocess.Popen([sys.executable, "-c", PUBLISH_AND_HANG, path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        process.kill()
    assert list(tmp_path.glob(".fraud.duckdb.*.tmp"))
    assert published(path) == [("gold.fraud_predictions", None, "nowhere")]
    publish(path, lambda: [EMPTY])
    assert sorted(file.name for file in tmp_path.iterdir()) == [".fraud.duckdb.lock", "fraud.duckdb"]


# The DuckDB that people have

SAY_ALL = """
import json, sys
import duckdb

with duckdb.connect(sys.argv[1], read_only=True) as connection:
    connection.execute("SET TimeZone = 'UTC'")
    said = {"version": duckdb.__version__, "rows": {}}
    for name in [row[0] for row in connection.execute("SELECT name FROM tables ORDER BY ALL").fetchall()]:
        columns = connection.execute(f"DESCRIBE {name}").fetchall()
        rows = connection.execute(f"SELECT to_json(v)::VARCHAR FROM {name} AS v ORDER BY ALL").fetchall()
        said["rows"][name] = [[row[:2] for row in columns], rows]
    said["tables"] = connection.execute("SELECT to_json(t)::VARCHAR FROM tables AS t ORDER BY ALL").fetchall()
    said["comments"] = connection.execute(
        "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal ORDER BY ALL"
    ).fetchall()
    said["views"] = connection.execute(
        "SELECT view_name, comment FROM duckdb_views() WHERE NOT internal ORDER BY ALL"
    ).fetchall()
    print(json.dumps(said))
"""


@pytest.fixture(scope="session")
def python_with_duckdb_1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python of its own environment with the long-term release of DuckDB 1."""
    folder = tmp_path_factory.mktemp("duckdb") / "venv"
    uv, python = Path(sys.executable).with_name("uv"), folder / "bin" / "python"
    for arguments in (
        ["venv", "--python", sys.executable, folder],
        ["pip", "install", "--python", python, "duckdb~=1.4.0"],
    ):
        made = subprocess.run([uv, *arguments], capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"DuckDB 1.4 cannot be had here: {made.stderr.strip()[-300:]}")
    return python


def said_by(python: str | Path, database: Path) -> dict[str, Any]:
    answer = subprocess.run([python, "-c", SAY_ALL, database], capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)


def test_duckdb_1_shows_every_view_as_duckdb_2_does(tmp_path: Path, python_with_duckdb_1: Path) -> None:
    lake = open_lake(tmp_path / "data")
    for table in TABLES[:-1]:  # The last one stays without rows.
        for key in ("2026-01-05", "2026-01-06"):
            lake.replace_partition(table, key, one_row(table, key), provenance={})
    new, old = (said_by(python, lake.publish_views()) for python in (sys.executable, python_with_duckdb_1))
    assert (new.pop("version")[0], old.pop("version")[:4]) == ("2", "1.4.")
    assert new == old
    assert {name: len(rows) for name, (_, rows) in old["rows"].items()} == {
        table.address: 0 if table is TABLES[-1] else 2 for table in TABLES
    }
    assert ["fraud_predictions", "One row is one scored transaction."] in old["views"]


def test_views_in_the_format_of_duckdb_2_are_written_anew(tmp_path: Path) -> None:
    lake = open_lake(tmp_path / "data")
    path = lake.publish_views()
    path.unlink()
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE tables (name VARCHAR, version BIGINT, location VARCHAR)")
        connection.executemany(
            "INSERT INTO tables VALUES (?, NULL, ?)", [(table.address, lake.location(table)) for table in TABLES]
        )
    assert not lake.views_are_current()
    lake.publish_views()
    assert lake.views_are_current()
