import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.silver import windows
from fraud_assets.silver.windows import aggregate_windows
from fraud_assets_tests.depth import cases
from fraud_assets_tests.silver.oracle import FIVE_MINUTES_US

Row = tuple[int, int, int, int]

ROWS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 3),
        # Around one window's length from each other, where an off-by-one would show.
        st.builds(lambda n, offset: n * FIVE_MINUTES_US + offset, st.integers(0, 3), st.integers(-1, 1)),
        st.one_of(st.integers(0, 3), st.sampled_from([2**24 - 1, 2**24, 2**32, 2**46, 10**14 - 1])),
    ),
    max_size=30,
)


def aggregated(rows: list[Row]) -> list[tuple[int, int, int, int]]:
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    made = aggregate_windows(*columns)
    squares = [
        int(high) * 2**64 + int(low) for high, low in zip(made.sum_squares_high, made.sum_squares_low, strict=True)
    ]
    return list(zip(made.count.tolist(), made.sum.tolist(), squares, made.products.tolist(), strict=True))


def counted(rows: list[Row]) -> list[tuple[int, int, int, int]]:
    """The same, transaction by transaction, in Python's unbounded integers."""
    expected = []
    for card, _, now, _ in rows:
        seen = [row for row in rows if row[0] == card and now - FIVE_MINUTES_US <= row[2] <= now]
        amounts = [row[3] for row in seen]
        expected.append((len(seen), sum(amounts), sum(a * a for a in amounts), len({row[1] for row in seen})))
    return expected


@given(rows=ROWS)
@settings(max_examples=cases(200, 1_000))
def test_windows_hold_what_counting_one_by_one_finds(rows: list[Row]):
    assert aggregated(rows) == counted(rows)


@given(rows=ROWS)
@settings(max_examples=cases(50, 200))
def test_cards_taken_in_parts_give_the_same_windows(rows: list[Row]):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "_ROWS_AT_A_TIME", 7)
        assert aggregated(rows) == counted(rows)


def test_sums_of_squares_carry_beyond_64_bits():
    # More windows than one, so that sums are taken out again as well.
    rows = [(0, 0, i * FIVE_MINUTES_US // 100, 10**14 - 1 - i) for i in range(300)]
    assert aggregated(rows) == counted(rows)


def test_a_crowded_window_is_exact():
    n = 100_000
    made = aggregate_windows(np.zeros(n), np.zeros(n), np.arange(n), np.full(n, 10**6))
    assert (made.count == np.arange(1, n + 1)).all()
    assert (made.sum == made.count.astype(np.uint64) * 10**6).all()
    assert (made.products == 1).all()
