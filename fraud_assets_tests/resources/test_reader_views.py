"""The read-only views by themselves; what they show of real tables is in test_lake.py."""

from pathlib import Path

import duckdb
import pytest
from filelock import FileLock, Timeout

from fraud_assets.resources.reader_views import View, open_views, publish, published
from fraud_assets.resources.tables import PREDICTIONS

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
