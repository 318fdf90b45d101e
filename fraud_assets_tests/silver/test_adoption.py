"""Rows that something else wrote: what they are known by, and which of them may not be scored."""

import random
from pathlib import Path

import duckdb
import pytest

from fraud_assets.silver.adoption import adopt_partition, is_adopted
from fraud_assets.silver.build import InputDigest, build_partition
from fraud_assets.silver.contract import FEATURE_NAMES
from fraud_assets.silver.features import EMPTY_TAIL
from fraud_assets_tests.silver.feed import make_source, row, write_csv

DAY, NEXT = "2026-01-05", "2026-01-06"
SOURCE = make_source()
NOTHING = InputDigest("", "", "")


@pytest.fixture
def stored(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> str:
    """A day's rows as its build makes them, without our versions."""
    chance = random.Random(1)
    cards = [chance.choice("abc") for _ in range(60)]
    times = [*(f"2026-01-05 1{n % 10}:{n:02}:00" for n in range(50)), *(f"2026-01-05 23:5{n}:30" for n in range(10))]
    rows = [row(id=f"T{n}", time=time, card=card) for n, (time, card) in enumerate(zip(times, cards, strict=True))]
    build_partition(con, SOURCE, DAY, [write_csv(tmp_path, *rows)], None, NOTHING)
    nulls = ", ".join(f"NULL::VARCHAR AS {name}_version" for name in ("input", "lookback", "tail", "silver"))
    con.execute(f"CREATE TABLE stored AS SELECT * REPLACE ({nulls}) FROM silver_rows")
    return "stored"


def changed(by: str) -> str:
    return f"(SELECT * REPLACE ({by}) FROM stored)"


def test_equal_rows_are_known_by_the_same_in_any_order(con: duckdb.DuckDBPyConnection, stored: str) -> None:
    found = adopt_partition(con, SOURCE, DAY, stored)
    assert found.check.passed
    assert adopt_partition(con, SOURCE, DAY, "(FROM stored ORDER BY hash(TransactionID))") == found
    assert adopt_partition(con, SOURCE, DAY, changed("1::INTEGER AS isFraud")) == found, "a label is not scored"


def test_what_a_score_depends_on_changes_what_rows_are_known_by(con: duckdb.DuckDBPyConnection, stored: str) -> None:
    changes = {
        "TransactionID": "'x' || TransactionID",
        "card_id": "'x' || card_id",
        "event_timestamp": "event_timestamp - INTERVAL 1 MICROSECOND",
        "is_high_value_txn": "1 - is_high_value_txn",
        "is_international_txn": "1 - is_international_txn",
        "txn_count_5min": "txn_count_5min + 1",
        "avg_amount_5min": "if(txn_count_5min > 1, avg_amount_5min + 1e-9, avg_amount_5min)",
        "stddev_amount_5min": "if(txn_count_5min > 1, stddev_amount_5min + 1e-9, stddev_amount_5min)",
        "product_diversity_5min": "greatest(1, txn_count_5min - product_diversity_5min)",
    }
    amount = "TransactionAmt + 0.001 AS TransactionAmt, ln(1 + (TransactionAmt + 0.001)) AS log_transaction_amount"
    by = [f"{value} AS {name}" for name, value in changes.items()]
    found = [adopt_partition(con, SOURCE, DAY, relation) for relation in (stored, *map(changed, by))]
    found.append(
        adopt_partition(
            con,
            SOURCE,
            DAY,
            changed(f"{amount}, if(txn_count_5min > 1, avg_amount_5min, TransactionAmt + 0.001) AS avg_amount_5min"),
        )
    )
    assert {*changes} | {"TransactionAmt", "log_transaction_amount"} >= {*FEATURE_NAMES}
    assert all(one.check.passed for one in found), [one.check.summary() for one in found]
    assert len({one.silver_digest for one in found}) == len(found)


def test_the_next_day_finds_its_lookback_to_be_what_is_known_of_the_last_window(
    con: duckdb.DuckDBPyConnection, stored: str, tmp_path: Path
) -> None:
    tail = adopt_partition(con, SOURCE, DAY, stored).tail_digest
    first = row(id="N", time="2026-01-06 00:01:00", card="a")
    built = build_partition(con, SOURCE, NEXT, [write_csv(tmp_path, first, name="next.csv")], "stored", NOTHING)
    assert tail == built.lookback_digest != EMPTY_TAIL


@pytest.mark.parametrize(
    ("by", "violations"),
    [
        (
            "1e11 AS TransactionAmt, ln(1 + 1e11) AS log_transaction_amount, 9::BIGINT AS txn_count_5min",
            {"TransactionAmt is below 100,000,000,000": 60},
        ),
        ("event_timestamp + INTERVAL 10 HOUR AS event_timestamp", {"event_timestamp lies in the partition": 40}),
        ("0::BIGINT AS txn_count_5min", {"txn_count_5min >= 1": 60}),
        ("NULL::VARCHAR AS card_id", {"card_id is present": 60}),
    ],
)
def test_rows_that_may_not_be_scored_are_counted_by_the_rule_that_they_break(
    con: duckdb.DuckDBPyConnection, stored: str, by: str, violations: dict[str, int]
) -> None:
    found = adopt_partition(con, SOURCE, DAY, changed(by))
    assert violations.items() <= dict(found.check.violations).items()
    assert (found.silver_digest, found.tail_digest) == ("", "")


def test_a_build_is_told_from_an_adoption_by_what_it_was_made_of() -> None:
    assert not is_adopted(str(InputDigest("files", "source", "contract")))
    assert is_adopted("0123456789abcdef")
