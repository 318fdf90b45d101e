"""The service's windows against the batch's own build of the same rows, bit for bit."""

from datetime import timedelta

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.serve import window
from fraud_assets.serve.window import ConflictingIdError, Features, Transaction, Windows
from fraud_assets.silver import features
from fraud_assets.silver.contract import FEATURE_NAMES
from fraud_assets_tests.depth import cases
from fraud_assets_tests.silver.feed import make_source
from fraud_assets_tests.silver.oracle import FIVE_MINUTES_US

SOURCE = make_source()
LIMIT = SOURCE.features.high_value_amount
NOON = 1_767_614_400_000_000

AMOUNTS = st.one_of(
    st.integers(0, 3),
    st.integers(0, 5_000_000_000),
    st.sampled_from([499_999, 500_000, 2**24, 2**46, 10**14 - 1]),
)
ROWS = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        # Around one window's length from each other, where an off-by-one would show; ties among them.
        st.builds(lambda n, offset: NOON + n * FIVE_MINUTES_US + offset, st.integers(0, 2), st.integers(-1, 1)),
        AMOUNTS,
        st.sampled_from(["W", "H", "C"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
).map(
    lambda rows: [
        Transaction(f"T{at}", time, card, product, amount, abroad)
        for at, (card, time, amount, product, abroad) in enumerate(rows)
    ]
)


@pytest.fixture(scope="module")
def con():
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def of_batch(con: duckdb.DuckDBPyConnection, rows: list[Transaction]) -> dict[str, Features]:
    """What a build of Silver makes of these rows."""
    table = pa.table(
        [
            [row.id for row in rows],
            pa.array([row.time_us for row in rows], pa.timestamp("us", tz="UTC")),
            pa.array([row.card for row in rows]).dictionary_encode(),
            pa.array([row.product for row in rows]).dictionary_encode(),
            [row.thousandths for row in rows],
            pa.array([int(row.is_international) for row in rows], pa.int32()),
            pa.nulls(len(rows), pa.int32()),
        ],
        schema=features._TRANSACTIONS,
    )
    con.execute("CREATE OR REPLACE TEMP TABLE lookback_transactions (one INTEGER)")
    features.compute_features(con, SOURCE, table)
    found = con.execute(f"SELECT TransactionID, {', '.join(FEATURE_NAMES)} FROM featured_transactions").fetchall()
    return {transaction_id: tuple(values) for transaction_id, *values in found}


def windows(lateness: timedelta = timedelta(hours=1)) -> Windows:
    return Windows(lateness=lateness, partition=timedelta(days=1))


@given(rows=ROWS, known=st.integers(1, 25))
@settings(max_examples=cases(60, 150))
def test_features_are_the_bits_that_the_batch_gives_for_what_is_known(
    con: duckdb.DuckDBPyConnection, rows: list[Transaction], known: int
):
    held = windows()
    for row in rows[:known]:
        held.add(row)
    at_arrival = {row.id: held.features(row, LIMIT) for row in rows[:known]}
    assert at_arrival == of_batch(con, rows[:known])
    for row in rows[known:]:
        held.add(row)
    assert {row.id: held.features(row, LIMIT) for row in rows} == of_batch(con, rows)


@given(amounts=st.lists(AMOUNTS, min_size=90, max_size=330))
@settings(max_examples=cases(15, 30))
def test_a_crowded_window_has_the_bits_of_the_batch(con: duckdb.DuckDBPyConnection, amounts: list[int]):
    rows = [Transaction(f"T{at}", NOON + at, "a", "WHC"[at % 3], amount, False) for at, amount in enumerate(amounts)]
    held = windows()
    for row in rows:
        held.add(row)
    assert {row.id: held.features(row, LIMIT) for row in rows} == of_batch(con, rows)


def test_sums_beyond_a_chunk_of_exact_products_are_exact():
    held = windows()
    rows = [Transaction(f"T{at}", NOON + at, "a", "W", 10**14 - 1 - at, False) for at in range(40_000)]
    for row in rows:
        held.add(row)
    amounts = [row.thousandths for row in rows]
    assert held._aggregate(rows[-1]) == (len(rows), sum(amounts), sum(a * a for a in amounts), 1)


@given(rows=ROWS)
@settings(max_examples=cases(60, 120))
def test_what_is_forgotten_is_in_no_window_that_may_still_be_asked_for(
    con: duckdb.DuckDBPyConnection, rows: list[Transaction]
):
    """Each transaction that is not too late has the features of a memory that forgets nothing."""
    held, everything = windows(timedelta(minutes=3)), []
    for row in rows:
        if held.accepted_since is not None and row.time_us < held.accepted_since:
            continue
        everything.append(row)
        held.add(row)
        assert held.features(row, LIMIT) == of_batch(con, everything)[row.id]
        held.forget([row.card])
    assert held.rows == sum(len(card.times) for card in held._cards.values())


def test_memory_holds_the_lateness_and_a_window_and_no_idle_card():
    held = windows(timedelta(minutes=1))
    for second in range(3_600):
        for card in (f"idle {second}", "busy"):
            row = Transaction(f"{card} {second}", NOON + second * 1_000_000, card, "W", 1, False)
            held.add(row)
            held.forget([card])
    assert held.cards <= 6 * 60 + 2
    # A busy card is moved together by the quarter.
    assert held.rows <= (6 * 60 + 2) * (1 + 4 / 3)


def test_an_id_is_found_again_in_its_partition_only():
    held = windows()
    row = Transaction("T", NOON, "a", "W", 1, False)
    held.add(row, answer=7)
    assert held.find(row) == 7
    assert held.find(Transaction("T", NOON + 86_400_000_000, "a", "W", 1, False)) is None
    assert held.find(Transaction("T", NOON, "b", "W", 1, False)) is None
    with pytest.raises(ConflictingIdError):
        held.find(Transaction("T", NOON, "a", "W", 2, False))


def test_every_id_of_a_busy_card_is_found_until_it_is_forgotten():
    held = windows(timedelta(0))
    rows = [Transaction(f"T{at}", NOON + at * 1_000_000, "a", "W", 1, False) for at in range(600)]
    for at, row in enumerate(rows):
        assert held.find(row) is None
        held.add(row, answer=at)
        held.forget(["a"])
        first = at + 1 - held.rows
        assert [held.find(rows[known]) for known in (first, (first + at) // 2, at)] == [first, (first + at) // 2, at]
    assert held.find(rows[0]) is None


@given(
    steps=st.lists(
        st.tuples(
            # A window is ten long and one may be ten late; each transaction asks for its own, and some take one back.
            st.integers(-10, 3), st.sampled_from([0, 1, 5, 10**14 - 1]), st.sampled_from("WHC"),
            st.one_of(st.none(), st.none(), st.integers(0, 200)),
        ),
        min_size=8, max_size=120,
    ),
    few=st.integers(1, 4),
)  # fmt: skip
@settings(max_examples=cases(200, 1_000))
def test_the_sums_of_a_large_window_move_with_it_exactly(steps: list[tuple[int, int, str, int | None]], few: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window, "_FEW", few)
        patch.setattr(window, "WINDOW_US", 10)
        held, known, now = windows(timedelta(microseconds=10)), list[Transaction](), NOON
        for number, (ahead, amount, product, taken) in enumerate(steps):
            row = Transaction(f"T{number}", now + ahead, "a", product, amount, False)
            now = max(now, row.time_us)
            held.add(row)
            known.append(row)
            if taken is not None and len(known) > 1 and (gone := known[taken % len(known)]).time_us >= now - 10:
                held.remove(gone)
                known.remove(gone)
            for asked in {known[-1], row} & {*known}:
                seen = [other for other in known if asked.time_us - 10 <= other.time_us <= asked.time_us]
                amounts = [other.thousandths for other in seen]
                products = {other.product for other in seen}
                assert held._aggregate(asked) == (len(seen), sum(amounts), sum(a * a for a in amounts), len(products))
            held.forget(["a"])


@given(rows=ROWS, taken=st.integers(0, 24))
@settings(max_examples=cases(40, 80))
def test_a_transaction_that_is_taken_back_was_never_there(
    con: duckdb.DuckDBPyConnection, rows: list[Transaction], taken: int
):
    held = windows()
    for row in rows:
        held.add(row)
    held.remove(rows[taken % len(rows)])
    left = [row for at, row in enumerate(rows) if at != taken % len(rows)]
    assert {row.id: held.features(row, LIMIT) for row in left} == (of_batch(con, left) if left else {})
    assert held.rows == len(left)
