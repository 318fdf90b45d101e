from collections import Counter
from collections.abc import Iterator

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_assets.gold.completeness import Completeness, compare_scored
from fraud_assets_tests.depth import cases

Keys = list[tuple[str, str]]


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def compare(con: duckdb.DuckDBPyConnection, silver: Keys, gold: Keys) -> Completeness:
    for name, keys in (("silver", silver), ("gold", gold)):
        con.execute(f"CREATE OR REPLACE TEMP TABLE {name} (partition_key VARCHAR, TransactionID VARCHAR)")
        if keys:
            con.executemany(f"INSERT INTO {name} VALUES (?, ?)", keys)
    return compare_scored(con, silver="silver", gold="(SELECT * FROM gold)")


ALL = [("5", "A"), ("5", "B"), ("6", "A")]


def test_one_score_for_each_row_is_no_fault(con: duckdb.DuckDBPyConnection) -> None:
    assert compare(con, ALL, ALL) == Completeness(rows=3, faults={})


def test_a_partition_that_is_not_scored_yet_is_no_fault(con: duckdb.DuckDBPyConnection) -> None:
    assert compare(con, ALL, ALL[:2]) == Completeness(rows=2, faults={})
    assert compare(con, ALL, []) == Completeness(rows=0, faults={})


@pytest.mark.parametrize(
    ("gold", "faults"),
    [
        pytest.param(
            [("5", "A"), ("6", "A")],
            {"5": "1 not scored, 0 scored more than once, 0 not in Silver"},
            id="a row without a score",
        ),
        pytest.param(
            [*ALL, ("5", "A"), ("5", "A")],
            {"5": "0 not scored, 1 scored more than once, 0 not in Silver"},
            id="a row with three",
        ),
        pytest.param(
            [*ALL, ("6", "B")],
            {"6": "0 not scored, 0 scored more than once, 1 not in Silver"},
            id="a score of the other partition's row",
        ),
        pytest.param(
            [*ALL, ("7", "A")],
            {"7": "0 not scored, 0 scored more than once, 1 not in Silver"},
            id="a partition that Silver does not have",
        ),
        pytest.param(
            [("5", "B"), ("5", "B"), ("5", "C"), ("6", "Z")],
            {
                "5": "1 not scored, 1 scored more than once, 1 not in Silver",
                "6": "1 not scored, 0 scored more than once, 1 not in Silver",
            },
            id="all at once",
        ),
    ],
)
def test_faults_are_counted_by_partition(con: duckdb.DuckDBPyConnection, gold: Keys, faults: dict[str, str]) -> None:
    assert compare(con, ALL, gold).faults == faults


KEYS = st.lists(st.tuples(st.sampled_from("567"), st.sampled_from("ABC")), max_size=8)


@settings(max_examples=cases(60, 250), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(silver=KEYS, gold=KEYS)
def test_the_comparison_agrees_with_counting_by_hand(con: duckdb.DuckDBPyConnection, silver: Keys, gold: Keys) -> None:
    built, scores = Counter(silver), Counter(gold)
    faults, rows = {}, 0
    for partition in sorted({key for key, _ in gold}):
        here = [key for key in {*silver, *gold} if key[0] == partition]
        counts = (
            sum(scores[key] < built[key] for key in here),
            sum(scores[key] > max(built[key], 1) for key in here),
            sum(key not in silver for key in here),
        )
        rows += len(here) if any(counts) else sum(scores[key] for key in here)
        if any(counts):
            faults[partition] = "{} not scored, {} scored more than once, {} not in Silver".format(*counts)
    assert compare(con, silver, gold) == Completeness(rows=rows, faults=faults)


@settings(max_examples=cases(20, 60), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    first=st.integers(0, 10**12),
    step=st.sampled_from([1, 2, 10, 2**32]),
    changes=st.dictionaries(st.integers(0, 999), st.integers(-2, 1002), max_size=3),
)
def test_ids_that_follow_one_another_are_told_apart_by_their_fingerprints(
    con: duckdb.DuckDBPyConnection, first: int, step: int, changes: dict[int, int]
) -> None:
    made = [changes.get(row, row) for row in range(1_000)]
    for name, rows in (("silver", range(1_000)), ("gold", made)):
        values = ", ".join(f"('5', '{first + row * step}')" for row in rows)
        con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM (VALUES {values}) t(partition_key, TransactionID)")
    same = sorted(made) == list(range(1_000))
    assert (not compare_scored(con, silver="silver", gold="gold").faults) == same
