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


@settings(max_examples=cases(60, 1000), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(silver=KEYS.map(lambda keys: sorted(set(keys))), gold=KEYS)
def test_the_comparison_agrees_with_counting_by_hand(con: duckdb.DuckDBPyConnection, silver: Keys, gold: Keys) -> None:
    scores = Counter(gold)
    faults, rows = {}, 0
    for partition in sorted({key for key, _ in gold}):
        here = [key for key in {*silver, *gold} if key[0] == partition]
        rows += len(here)
        counts = (
            sum(scores[key] == 0 for key in here),
            sum(scores[key] > 1 for key in here),
            sum(key not in silver for key in here),
        )
        if any(counts):
            faults[partition] = "{} not scored, {} scored more than once, {} not in Silver".format(*counts)
    assert compare(con, silver, gold) == Completeness(rows=rows, faults=faults)
