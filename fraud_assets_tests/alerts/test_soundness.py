"""What is wrong with a stored list is found, each kind by itself."""

from collections.abc import Iterator

import duckdb
import pytest

from fraud_assets.alerts.soundness import compare_alerts

DAY = "2026-01-05"


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """Three scored transactions, two of them anomalies and on the list of the forest."""
    with duckdb.connect() as con:
        con.execute(
            f"""
            CREATE TABLE scored AS
            SELECT '{DAY}' AS partition_key, 's1' AS silver_version, '1' AS model_version, *
            FROM (VALUES ('a', 0.9, true), ('b', 0.8, true), ('c', 0.2, false))
                AS rows (TransactionID, fraud_score, is_anomaly);
            CREATE TABLE lists AS
            SELECT '{DAY}' AS partition_key, 's1' AS silver_version, '1' AS model_version, 2 AS alerts;
            CREATE TABLE alerts AS
            SELECT
                partition_key, TransactionID, fraud_score, NULL::VARCHAR AS history_version,
                row_number() OVER () AS rank
            FROM scored WHERE is_anomaly;
            """
        )
        yield con


def faults(con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    return compare_alerts(con, alerts="alerts", lists="lists", scored="scored")


def test_a_sound_list_has_no_fault(con: duckdb.DuckDBPyConnection) -> None:
    assert faults(con) == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DELETE FROM alerts WHERE rank = 2", "1 alerts where its list says 2"),
        ("DELETE FROM alerts", "0 alerts where its list says 2"),
        ("UPDATE scored SET is_anomaly = false WHERE TransactionID = 'a'", "1 no anomalies"),
        ("UPDATE scored SET fraud_score = 0.7 WHERE TransactionID = 'b'", "1 without their score"),
        ("DELETE FROM scored WHERE TransactionID = 'b'", "1 without their score"),
        ("UPDATE alerts SET rank = rank + 1", "ranks are not 1 to their number"),
        ("UPDATE alerts SET rank = 2", "ranks are not 1 to their number"),
    ],
)
def test_each_fault_is_said(con: duckdb.DuckDBPyConnection, change: str, said: str) -> None:
    con.execute(change)
    found = faults(con)
    assert [*found] == [DAY]
    assert said in found[DAY]


def test_a_ranker_may_list_what_is_no_anomaly_but_not_what_has_no_score(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("UPDATE scored SET is_anomaly = false; UPDATE alerts SET history_version = 'h1'")
    assert faults(con) == {}
    con.execute("DELETE FROM scored WHERE TransactionID = 'a'")
    assert "1 without their score" in faults(con)[DAY]


def test_a_list_of_scores_that_changed_since_is_due_and_no_fault(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("UPDATE scored SET silver_version = 's2'; DELETE FROM alerts")
    assert faults(con) == {}
