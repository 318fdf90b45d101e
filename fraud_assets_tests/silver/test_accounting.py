from collections.abc import Iterator

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.silver.accounting import Accounting, account_for_rows
from fraud_assets_tests.depth import cases

Counts = dict[str, int]


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def account(con: duckdb.DuckDBPyConnection, landed: Counts, silver: Counts, quarantined: Counts) -> Accounting:
    con.execute("CREATE OR REPLACE TEMP TABLE builds (partition_key VARCHAR, landed_rows BIGINT)")
    for key, rows in landed.items():
        con.execute("INSERT INTO builds VALUES (?, ?)", [key, rows])
    for name, counts in (("silver", silver), ("quarantined", quarantined)):
        con.execute(f"CREATE OR REPLACE TEMP TABLE {name} (partition_key VARCHAR)")
        for key, rows in counts.items():
            con.execute(f"INSERT INTO {name} SELECT ? FROM range(?)", [key, rows])
    return account_for_rows(con, builds="builds", silver="(SELECT * FROM silver)", quarantined="quarantined")


def test_landed_rows_are_in_silver_or_in_quarantine(con: duckdb.DuckDBPyConnection) -> None:
    landed = {"good": 3, "both": 3, "refused": 3, "none": 0}
    found = account(con, landed, {"good": 3, "both": 2}, {"both": 1, "refused": 3})
    assert found == Accounting(partitions=4, faults={})


def test_nothing_built_is_no_fault(con: duckdb.DuckDBPyConnection) -> None:
    assert account(con, {}, {}, {}) == Accounting(partitions=0, faults={})


@pytest.mark.parametrize(
    ("landed", "silver", "quarantined", "fault"),
    [
        pytest.param(3, 2, 0, "3 landed, 2 in Silver, 0 quarantined", id="a row is lost"),
        pytest.param(3, 0, 0, "3 landed, 0 in Silver, 0 quarantined", id="all are lost"),
        pytest.param(3, 3, 1, "3 landed, 3 in Silver, 1 quarantined", id="a row is in both"),
        pytest.param(None, 2, 1, "0 landed, 2 in Silver, 1 quarantined", id="a partition that was never built"),
        pytest.param(None, 0, 1, "0 landed, 0 in Silver, 1 quarantined", id="quarantine that was never built"),
    ],
)
def test_what_does_not_add_up_is_said_by_partition(
    con: duckdb.DuckDBPyConnection, landed: int | None, silver: int, quarantined: int, fault: str
) -> None:
    builds = {"fine": 1} | ({} if landed is None else {"odd": landed})
    found = account(con, builds, {"fine": 1, "odd": silver}, {"odd": quarantined})
    assert found == Accounting(partitions=2, faults={"odd": fault})


COUNTS = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3))


@settings(max_examples=cases(60, 250))
@given(landed=COUNTS, silver=COUNTS, quarantined=COUNTS)
def test_accounting_agrees_with_adding_by_hand(
    con: duckdb.DuckDBPyConnection, landed: Counts, silver: Counts, quarantined: Counts
) -> None:
    def parts(key: str) -> tuple[int, int, int]:
        return landed.get(key, 0), silver.get(key, 0), quarantined.get(key, 0)

    keys = sorted({*landed, *(key for counts in (silver, quarantined) for key, rows in counts.items() if rows)})
    faults = {
        key: "{} landed, {} in Silver, {} quarantined".format(*parts(key))
        for key in keys
        if parts(key)[0] != parts(key)[1] + parts(key)[2]
    }
    assert account(con, landed, silver, quarantined) == Accounting(partitions=len(keys), faults=faults)
