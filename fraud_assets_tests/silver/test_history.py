import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.partition_keys import Grain, day_of, key_of
from fraud_assets.silver.history import (
    HISTORY_SCHEMA,
    HistoryDigest,
    add_card_sums,
    create_card_sums,
    earlier_digests,
    keep_card_sums,
    make_history,
    seen_from,
)
from fraud_assets_tests.depth import cases

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    id: str
    at: datetime
    card: str
    product: str
    amount: float


def told(row: Row, rows: Sequence[Row], grain: Grain) -> tuple[Any, ...]:
    """The oracle: what the rows of earlier partitions tell of a row, from all rows there are, one by one."""
    midnight = row.at.replace(hour=0, minute=0, second=0, microsecond=0)
    own = [
        other
        for other in rows
        if other.card == row.card
        and other.at >= midnight - timedelta(days=30)
        and key_of(other.at, grain) < key_of(row.at, grain)
    ]
    is_new = int(all(other.product != row.product for other in own))
    if not own:
        return (0, None, None, None, is_new)
    logs = [Fraction(round(Fraction(math.log(1 + other.amount) * 1e6)), 10**6) for other in own]
    mean = sum(logs) / len(logs)
    variance = sum((log - mean) ** 2 for log in logs) / (len(logs) - 1) if len(logs) > 1 else Fraction(0)
    since = row.at - max(other.at for other in own)
    days = since // timedelta(microseconds=1) / 86_400_000_000
    return (len(own), float(mean), math.sqrt(variance), days, is_new)


def as_relation(con: duckdb.DuckDBPyConnection, rows: Sequence[Row], grain: Grain, input_version: str = "i") -> str:
    found = [vars(row) | {"input_version": input_version, "partition_key": key_of(row.at, grain)} for row in rows]
    con.register("raw", pa.Table.from_pylist(found))
    con.execute(
        'CREATE OR REPLACE TABLE silver AS SELECT id AS TransactionID, "at" AS event_timestamp, card AS card_id,'
        " product AS ProductCD, ln(1 + amount) AS log_transaction_amount, input_version, partition_key FROM raw"
    )
    return "silver"


def history(
    con: duckdb.DuckDBPyConnection, rows: Sequence[Row], grain: Grain, *, most: int
) -> tuple[dict[str, tuple[Any, ...]], dict[str, tuple[str, str]]]:
    """Make the history of all partitions, `most` at a time, as the asset does; by id, and the versions by partition."""
    silver = as_relation(con, rows, grain)
    keys = sorted({key_of(row.at, grain) for row in rows})
    create_card_sums(con)
    summed: dict[str, str] = {}
    found: dict[str, tuple[Any, ...]] = {}
    versions: dict[str, tuple[str, str]] = {}
    for first in range(0, len(keys), most):
        part = keys[first : first + most]
        keep_card_sums(con, part[0])
        summed = {key: summed[key] for key in seen_from(part[0], summed)}
        added = sorted({*part, *(key for one in part for key in seen_from(one, keys))} - {*summed})
        summed |= add_card_sums(con, f"(FROM {silver} WHERE partition_key IN {tuple(added)!r})".replace(",)", ")"))
        earlier = earlier_digests(summed, part)
        digests = {key: HistoryDigest("own", str(earlier[key])) if key in earlier else None for key in summed}
        listed = f"(FROM {silver} WHERE partition_key IN {tuple(part)!r})".replace(",)", ")")
        make_history(con, grain, listed, digests, summed)
        names = [name for name, *_ in con.execute("DESCRIBE card_history").fetchall()]
        assert names == HISTORY_SCHEMA.names
        for id_, *values, version, told_on, key in con.execute("FROM card_history").fetchall():
            found[id_] = tuple(values)
            versions[key] = (version, told_on)
    return found, versions


def times(grain: Grain) -> st.SearchStrategy[datetime]:
    """Times close to the edges of partitions and of thirty days, and some between."""
    edge = st.sampled_from([0, 1, 12 * 3600 * 10**6, 86_400 * 10**6 - 1, 3600 * 10**6, 3600 * 10**6 - 1])
    day = st.sampled_from([0, 1, 2, 29, 30, 31, 32, 60, 61]) if grain == "daily" else st.sampled_from([0, 1, 30, 31])
    return st.builds(lambda days, us: START + timedelta(days=days, microseconds=us), day, edge)


def histories(grain: Grain) -> st.SearchStrategy[list[Row]]:
    one = st.tuples(
        times(grain),
        st.sampled_from(["c", "d"]),
        st.sampled_from(["W", "H", ""]),
        st.sampled_from([0.0, 0.005, 9.99, 10.0, 31_234.567]),
    )
    return st.lists(one, min_size=1, max_size=10).map(
        lambda found: [Row(f"T{number}", *values) for number, values in enumerate(found)]
    )


def assert_as_told(found: dict[str, tuple[Any, ...]], rows: Sequence[Row], grain: Grain) -> None:
    assert len(found) == len(rows)
    for row in rows:
        expected = told(row, rows, grain)
        assert found[row.id][0] == expected[0], row
        assert found[row.id][3:] == expected[3:], row
        for value, exact in zip(found[row.id][1:3], expected[1:3], strict=True):
            assert value == exact or value == pytest.approx(exact, rel=1e-12), row


@pytest.mark.parametrize("grain", ["daily", "hourly"])
def test_a_row_is_told_what_the_partitions_before_it_hold_and_nothing_else(grain: Grain) -> None:
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")

        @settings(max_examples=cases(20, 300))
        @given(rows=histories(grain), most=st.sampled_from([1, 2, 100]))
        def tell(rows: list[Row], most: int) -> None:
            found, _ = history(con, rows, grain, most=most)
            assert_as_told(found, rows, grain)

        tell()


def test_how_many_partitions_are_made_together_and_the_order_of_rows_change_no_bit(
    con: duckdb.DuckDBPyConnection,
) -> None:
    @settings(max_examples=cases(6, 12))
    @given(rows=histories("daily"))
    def make(rows: list[Row]) -> None:
        assert history(con, rows, "daily", most=1) == history(con, rows[::-1], "daily", most=100)

    make()


def test_late_data_changes_the_thirty_days_after_it_and_no_other(con: duckdb.DuckDBPyConnection) -> None:
    rows = [Row(f"T{day}", START + timedelta(days=day), "c", "W", 10.0) for day in range(70)]
    late = Row("late", START + timedelta(days=20, hours=3), "c", "H", 99.0)

    before, versions = history(con, rows, "daily", most=7)
    after, corrected = history(con, [*rows, late], "daily", most=7)

    changed = {int(id_[1:]) for id_, values in before.items() if after[id_] != values}
    assert changed == set(range(21, 51))
    days = {key for key, (version, _) in versions.items() if corrected[key][0] != version}
    assert days == {(START + timedelta(days=day)).strftime("%Y-%m-%d") for day in range(21, 51)}
    # The day itself has the same input here, which the test says; what it hands on tells the rest.
    assert {key for key, (_, told) in versions.items() if corrected[key][1] != told} == {"2026-01-21"}


@pytest.mark.parametrize(
    ("changes", "is_told"),
    [
        ({"card": "d"}, True),
        ({"product": "H"}, True),
        ({"amount": 10.001}, True),
        ({"at": START}, True),
        ({"id": "U"}, False),
    ],
)
def test_what_a_partition_hands_on_is_all_that_later_ones_look_at(
    con: duckdb.DuckDBPyConnection, changes: dict[str, Any], is_told: bool
) -> None:
    own = {"id": "T", "at": START + timedelta(hours=5), "card": "c", "product": "W", "amount": 10.0}
    _, one = history(con, [Row(**own)], "daily", most=1)
    _, other = history(con, [Row(**(own | changes))], "daily", most=1)

    assert (one["2026-01-01"][1] != other["2026-01-01"][1]) == is_told


@given(
    told_on=st.dictionaries(
        times("hourly").map(lambda at: key_of(at, "hourly")), st.sampled_from(["a", "b", None]), max_size=12
    )
)
def test_a_digest_covers_each_partition_that_is_looked_back_on(told_on: dict[str, str | None]) -> None:
    def one_by_one(key: str) -> list[tuple[str, str | None]]:
        first = (datetime.fromisoformat(day_of(key)) - timedelta(days=30)).strftime("%Y-%m-%d")
        return [(other, version) for other, version in sorted(told_on.items()) if first <= other < key]

    keys = sorted(told_on)
    found = earlier_digests(told_on, keys)
    for key in keys:
        assert seen_from(key, keys) == [other for other, _ in one_by_one(key)]
        assert (found[key] is None) == any(version is None for _, version in one_by_one(key))
    same = {}
    for key in keys:
        if found[key] is not None:
            assert same.setdefault(found[key], one_by_one(key)) == one_by_one(key)


def test_the_history_of_many_partitions_costs_some_texts_each() -> None:
    days = [(START + timedelta(days=day)).strftime("%Y-%m-%d") for day in range(5_000)]
    found = earlier_digests(dict.fromkeys(days, "0" * 32), days)
    assert len({*found.values()}) == 5_000
