import hashlib
import math
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_assets.silver.contract import FEATURE_NAMES, FEATURES
from fraud_assets.silver.features import (
    EMPTY_TAIL,
    FeatureDigests,
    compute_features,
    read_transactions,
    sum_features,
)
from fraud_assets_tests.depth import cases
from fraud_assets_tests.silver.feed import make_source
from fraud_assets_tests.silver.oracle import FIVE_MINUTES_US, Transaction, features_of

DAILY = make_source()
HOURLY = make_source(partitions={"grain": "hourly", "start": "2026-01-01"})
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
NOON_US = int(NOON.timestamp()) * 1_000_000
HOUR_US = 3_600_000_000

Bits = dict[str, tuple]


def compute(
    con: duckdb.DuckDBPyConnection,
    rows: Sequence[Transaction],
    *,
    source=DAILY,
    key: str = "2026-01-05",
    lookback: str | None = None,
    labels: Sequence[int | None] | None = None,
) -> tuple[Bits, FeatureDigests]:
    """Return the features by id, each double as its bits, and the digests."""
    table = pa.table(
        {
            "TransactionID": pa.array([row.id for row in rows], pa.string()),
            "event_timestamp": pa.array([row.time_us for row in rows], pa.timestamp("us", tz="UTC")),
            "card_id": pa.array([row.card for row in rows], pa.string()),
            "ProductCD": pa.array([row.product for row in rows], pa.string()),
            "amount_thousandths": pa.array([row.thousandths for row in rows], pa.int64()),
            "is_international_txn": pa.array([int(row.is_international) for row in rows], pa.int32()),
            "isFraud": pa.array(labels or [None] * len(rows), pa.int32()),
        }
    )
    con.register("given_rows", table)
    con.execute("CREATE OR REPLACE TEMP TABLE good_transactions AS FROM given_rows")
    con.unregister("given_rows")
    compute_features(con, source, read_transactions(con, source, key, lookback))
    digests = sum_features(con, source, key).digests
    names = ", ".join(FEATURE_NAMES)
    found = con.execute(f"SELECT TransactionID, {names} FROM featured_transactions").fetchall()
    return {identifier: tuple(map(bits, values)) for identifier, *values in found}, digests


def bits(value: float) -> str:
    return value.hex() if isinstance(value, float) else str(value)


def values(found: tuple) -> dict[str, float]:
    return {
        feature.name: float.fromhex(text) if feature.type == "double" else int(text)
        for feature, text in zip(FEATURES, found, strict=True)
    }


def transaction(identifier: str, seconds: float = 0, **changes) -> Transaction:
    given = {"card": "c", "product": "W", "thousandths": 10_000} | changes
    return Transaction(id=identifier, time_us=NOON_US + round(seconds * 1_000_000), **given)


def counts(found: Bits) -> dict[str, int]:
    return {identifier: values(row)["txn_count_5min"] for identifier, row in found.items()}


# Times crowd around an hour's boundary and one window's length from each other, where an off-by-one would show.
TIMES = st.builds(
    lambda hour, windows, offset: NOON_US + hour * HOUR_US + windows * FIVE_MINUTES_US + offset,
    hour=st.integers(-1, 1),
    windows=st.integers(-2, 1),
    offset=st.sampled_from([-1, 0, 0, 0, 1, 60_000_000]),
)
AMOUNTS = st.one_of(st.integers(0, 3), st.integers(0, 10**6), st.sampled_from([499_999, 500_000, 99_999_999_999_999]))


@st.composite
def histories(draw: st.DrawFn, max_size: int = 14) -> list[Transaction]:
    rows = draw(
        st.lists(
            st.tuples(TIMES, st.sampled_from("ab"), st.sampled_from("WCH"), AMOUNTS, st.booleans()),
            max_size=max_size,
        )
    )
    return [Transaction(f"T{i}", *row) for i, row in enumerate(rows)]


SETTINGS = settings(
    max_examples=cases(30, 120), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def agrees(actual: dict[str, float], expected: dict[str, float]) -> bool:
    return all(
        math.isclose(actual[f.name], expected[f.name], rel_tol=1e-12)
        if f.type == "double"
        else actual[f.name] == expected[f.name]
        for f in FEATURES
    )


@given(history=histories())
@SETTINGS
def test_all_features_agree_with_exact_arithmetic(con: duckdb.DuckDBPyConnection, history: list[Transaction]):
    found, _ = compute(con, history)
    assert found.keys() == {row.id for row in history}
    for row in history:
        expected = features_of(row, history, high_value_amount=500.0)
        assert agrees(values(found[row.id]), expected), (values(found[row.id]), expected)


def test_all_features_agree_with_exact_arithmetic_on_many_rows(con: duckdb.DuckDBPyConnection):
    chance = random.Random(7)
    rows = cases(2_000, 50_000)
    history = [
        Transaction(
            id=f"T{i}",
            # Twenty rows of a card within twenty minutes: about five in a window.
            time_us=NOON_US + chance.randrange(1_200_000_000),
            card=f"card-{chance.randrange(rows // 20)}",
            product=chance.choice("WCHRS"),
            thousandths=int(chance.lognormvariate(11, 1.2)),
            is_international=chance.random() < 0.1,
        )
        for i in range(rows)
    ]
    found, _ = compute(con, history)
    by_card: dict[str, list[Transaction]] = {}
    for row in history:
        by_card.setdefault(row.card, []).append(row)
    for row in history:
        assert agrees(values(found[row.id]), features_of(row, by_card[row.card], high_value_amount=500.0))


@given(history=histories(), chance=st.randoms(use_true_random=False))
@SETTINGS
def test_the_order_of_rows_changes_no_bit(
    con: duckdb.DuckDBPyConnection, history: list[Transaction], chance: random.Random
):
    shuffled = chance.sample(history, k=len(history))
    assert compute(con, shuffled) == compute(con, history)


@given(history=histories(max_size=20))
@SETTINGS
def test_hours_built_one_after_the_other_equal_one_whole_build_bit_for_bit(
    con: duckdb.DuckDBPyConnection, history: list[Transaction]
):
    whole, _ = compute(con, history)
    parts: Bits = {}
    lookback, tail = None, EMPTY_TAIL
    for hour in range(10, 14):
        start = NOON_US + (hour - 12) * HOUR_US
        rows = [row for row in history if start <= row.time_us < start + HOUR_US]
        found, digests = compute(con, rows, source=HOURLY, key=f"2026-01-05-{hour:02}", lookback=lookback)
        assert digests.lookback_digest == tail
        parts |= found
        con.execute("CREATE OR REPLACE TEMP TABLE hour_before AS FROM featured_transactions")
        lookback, tail = "hour_before", digests.tail_digest
    assert parts == whole


@given(history=histories())
@SETTINGS
def test_a_feature_never_sees_a_later_row(con: duckdb.DuckDBPyConnection, history: list[Transaction]):
    whole, _ = compute(con, history)
    for now in sorted({row.time_us for row in history})[::3]:
        known = [row for row in history if row.time_us <= now]
        found, _ = compute(con, known)
        assert all(found[row.id] == whole[row.id] for row in known)


def test_the_window_is_closed_at_both_ends_and_no_longer_than_five_minutes(con: duckdb.DuckDBPyConnection):
    found, _ = compute(
        con,
        [
            transaction("just too early", -300.000001),
            transaction("five minutes before", -300),
            transaction("now", 0),
            transaction("tie", 0),
            transaction("just later", 0.000001),
            transaction("another card", -1, card="d"),
        ],
    )
    assert counts(found) == {
        "just too early": 1,
        "five minutes before": 2,
        "now": 3,
        "tie": 3,
        "just later": 3,
        "another card": 1,
    }


def test_a_window_looks_back_over_midnight(con: duckdb.DuckDBPyConnection):
    midnight = -12 * 3600
    before = [
        transaction("too early", midnight - 299.000001, product="H"),
        transaction("seen", midnight - 299, product="C", thousandths=20_000),
        transaction("another card", midnight - 1, card="d"),
    ]
    compute(con, before, key="2026-01-04")
    con.execute("CREATE TEMP TABLE day_before AS FROM featured_transactions")
    row = transaction("first", midnight + 1)
    found, digests = compute(con, [row], lookback="(SELECT * FROM day_before)")
    assert found.keys() == {"first"}
    assert agrees(values(found["first"]), features_of(row, [*before, row], high_value_amount=500.0))
    assert values(found["first"])["avg_amount_5min"] == 15.0
    assert digests.lookback_digest != EMPTY_TAIL


def test_rows_of_the_lookback_that_are_not_from_just_before_are_not_seen(con: duckdb.DuckDBPyConnection):
    rows = [transaction("same day", 0), transaction("long ago", -24 * 3600)]
    compute(con, rows)
    con.execute("CREATE TEMP TABLE around AS FROM featured_transactions")
    found, digests = compute(con, [transaction("now", 1)], lookback="around")
    assert counts(found) == {"now": 1}
    assert digests.lookback_digest == EMPTY_TAIL


def test_large_amounts_do_not_overflow_and_their_spread_is_exact(con: duckdb.DuckDBPyConnection):
    limit = 99_999_999_999_999
    found, _ = compute(con, [transaction(str(i), thousandths=limit - i % 2) for i in range(1000)])
    spread = values(found["7"])["stddev_amount_5min"]
    assert spread == pytest.approx(0.0005 * math.sqrt(1000 / 999), rel=1e-12)


def test_each_of_many_rows_gets_its_own_window(con: duckdb.DuckDBPyConnection):
    # More than DuckDB and the batches take at a time: rows and windows must not slip against each other.
    con.execute(
        """
        CREATE TEMP TABLE good_transactions AS
        SELECT
            i::VARCHAR AS TransactionID, TIMESTAMPTZ '2026-01-05 12:00:00+00' AS event_timestamp,
            'card ' || hash(i) % 300_000 AS card_id, 'W' AS ProductCD, hash(-i) % 1_000_000 AS amount_thousandths,
            0 AS is_international_txn, NULL::INTEGER AS isFraud
        FROM range(400_000) AS numbers(i)
        """
    )
    compute_features(con, DAILY, read_transactions(con, DAILY, "2026-01-05", None))
    [(wrong, rows)] = con.execute(
        """
        SELECT count(*) FILTER (txn_count_5min <> n OR avg_amount_5min <> mean), count(*)
        FROM featured_transactions JOIN (
            SELECT card_id, count(*) AS n, sum(amount_thousandths)::DOUBLE / (1000 * count(*)) AS mean
            FROM good_transactions GROUP BY card_id
        ) USING (card_id)
        """
    ).fetchall()
    assert (wrong, rows) == (0, 400_000)


LAST_MINUTE = 12 * 3600 - 60


def digests_of(con: duckdb.DuckDBPyConnection, *rows: Transaction, **kwargs) -> FeatureDigests:
    return compute(con, rows, **kwargs)[1]


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({"thousandths": 10_001}, {"silver_digest", "tail_digest"}),
        ({"seconds": LAST_MINUTE + 1}, {"silver_digest", "tail_digest"}),
        ({"card": "d"}, {"silver_digest", "tail_digest"}),
        ({"identifier": "T9"}, {"silver_digest"}),
        ({"is_international": True}, {"silver_digest"}),
        # Alone in its window, a product is no part of any feature of its own day; the next day counts it.
        ({"product": "C"}, {"tail_digest"}),
        ({"seconds": LAST_MINUTE - 240.000001}, {"silver_digest", "tail_digest"}),
        ({}, set()),
    ],
)
def test_a_digest_changes_with_what_it_stands_for_and_nothing_else(
    con: duckdb.DuckDBPyConnection, change: dict, changed: set[str]
):
    row = {"identifier": "T1", "seconds": LAST_MINUTE, "thousandths": 10_000}
    before = digests_of(con, transaction(**row))
    after = digests_of(con, transaction(**row | change))
    assert {name for name in vars(before) if vars(before)[name] != vars(after)[name]} == changed


def test_a_label_changes_no_version(con: duckdb.DuckDBPyConnection):
    row = transaction("T1", LAST_MINUTE)
    assert digests_of(con, row, labels=[1]) == digests_of(con, row, labels=[None])


def test_only_the_last_five_minutes_are_the_tail(con: duckdb.DuckDBPyConnection):
    end = 12 * 3600
    empty = digests_of(con, transaction("T1", end - 300.000001))
    assert empty.tail_digest == EMPTY_TAIL
    assert digests_of(con, transaction("T1", end - 300)).tail_digest != EMPTY_TAIL


def test_the_digests_of_no_rows_are_the_constant(con: duckdb.DuckDBPyConnection):
    assert digests_of(con) == FeatureDigests(EMPTY_TAIL, EMPTY_TAIL, EMPTY_TAIL)


def test_versions_are_the_published_digest(con: duckdb.DuckDBPyConnection):
    # Spelled out once more, so that another engine can compute the same and a release cannot change it.
    rows = [transaction("é1", 0, card="c1"), transaction("T2", 60, thousandths=20_000, product="C", card="c1")]
    texts = [
        ["1767614400000000", "10000", "0", "0", "1", "10000", "100000000", "1", "2", "é1", "c1"],
        ["1767614460000000", "20000", "0", "0", "2", "30000", "500000000", "2", "2", "T2", "c1"],
    ]
    digests = [hashlib.md5("\x1f".join(text).encode()).hexdigest() for text in texts]
    low, high = (sum(int(d[part], 16) for d in digests) for part in (slice(16), slice(16, 32)))
    expected = hashlib.md5(f"2-{low}-{high}".encode()).hexdigest()
    assert digests_of(con, *rows).silver_digest == expected


def test_the_time_zone_of_the_machine_changes_nothing():
    code = (
        "import duckdb, sys\n"
        "from fraud_assets_tests.silver.test_features import compute, transaction\n"
        "con = duckdb.connect()\n"
        "con.execute(\"SET TimeZone = 'UTC'\")\n"
        "print(compute(con, [transaction(str(i), i * 100) for i in range(5)]))\n"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"TZ": zone},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for zone in ("UTC", "Pacific/Auckland")
    }
    assert len(printed) == 1
