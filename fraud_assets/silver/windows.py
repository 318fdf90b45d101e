"""The trailing window of each transaction: how many, how much, how many products.

Here belongs the one definition of the trailing window, as one sort and one pass over four columns of numbers. What is
made of the counts and sums is `features.sql`; which rows are seen is `features`.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import pyarrow as pa

from fraud_assets.silver.contract import WINDOW

_WINDOW_US: Final = WINDOW // timedelta(microseconds=1)

_ROWS_AT_A_TIME: Final = 50_000
"""Cards are taken together until about so many rows: what a sort needs then, some 6 MB, stays near the processor."""

_THREADS: Final = 4
"""So many sorts at a time; numpy lets go of the interpreter while it sorts."""


@dataclass(frozen=True)
class WindowAggregates:
    """What each transaction's window holds, exact; all arrays of shape (n_transactions,), in the order given."""

    count: np.ndarray  # int32, the transaction itself included
    sum: np.ndarray  # uint64, of the amounts in thousandths
    sum_squares_high: np.ndarray  # int64, of their squares: this times 2**64 ...
    sum_squares_low: np.ndarray  # uint64, ... plus this
    products: np.ndarray  # int32, distinct products

    def as_arrays(self) -> dict[str, pa.Array]:
        """Return the same numbers, where they lie, as Arrow arrays by name."""
        # From the buffers themselves: pyarrow would load pandas to look at an array.
        return {
            name: pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])
            for name, values in vars(self).items()
        }


def aggregate_windows(
    card: np.ndarray, product: np.ndarray, time_us: np.ndarray, amount: np.ndarray
) -> WindowAggregates:
    """Return what the window up to and including each transaction holds; ties at t see each other.

    Nothing sees a later transaction. Every sum is of integers: neither the order of the rows nor what else is in
    the partition changes a bit. Cards (at most 10**8) and products are codes from 0, times are microseconds within
    25 hours, amounts are thousandths from 0 to 10**14.
    """
    n = len(card)
    made = WindowAggregates(
        count=np.empty(n, np.int32),
        sum=np.empty(n, np.uint64),
        sum_squares_high=np.zeros(n, np.int64),  # and mostly stays so: zeros that nobody writes take no memory
        sum_squares_low=np.empty(n, np.uint64),
        products=np.empty(n, np.int32),
    )
    parts = n // _ROWS_AT_A_TIME + 1
    part_of = (card % parts).astype(np.uint16)
    in_parts = np.argsort(part_of, kind="stable")
    ends = np.cumsum(np.bincount(part_of, minlength=parts))

    def aggregate(part: int) -> None:
        rows = in_parts[ends[part - 1] if part else 0 : ends[part]]
        if len(rows):
            order, found = _aggregate(*(column[rows].astype(np.int64) for column in (card, product, time_us, amount)))
            rows = rows[order]
            for name, values in vars(found).items():
                if name != "sum_squares_high" or values.any():
                    getattr(made, name)[rows] = values

    with ThreadPoolExecutor(min(parts, _THREADS)) as pool:
        list(pool.map(aggregate, range(parts)))
    return made


def _aggregate(
    card: np.ndarray, product: np.ndarray, time_us: np.ndarray, amount: np.ndarray
) -> tuple[np.ndarray, WindowAggregates]:
    """Return the order of card and time, and what the windows hold in that order."""
    # One number orders by card, then time, with room for a window between two cards.
    time = time_us - time_us.min()
    key = card * (time.max() + _WINDOW_US + 1) + time
    order = np.argsort(key)
    key = key[order]
    # A window is the places from `start` to, not including, `end`; transactions of one card and time share both.
    start = np.searchsorted(key, key - _WINDOW_US)
    is_first = np.append(True, key[1:] != key[:-1])
    firsts = np.append(np.flatnonzero(is_first), len(key))
    tie = np.cumsum(is_first)
    end = firsts[tie]
    count = end - start
    card, product, amount = card[order], product[order], amount[order]
    # A running sum that passes 2**64 begins again at 0: differences stay right.
    running = np.append(np.uint64(0), np.cumsum(amount.astype(np.uint64)))
    high, low = _windowed_sum(*_squares(amount), start, end)
    return order, WindowAggregates(
        count=count,
        sum=running[end] - running[start],
        sum_squares_high=high,
        sum_squares_low=low,
        products=count - _repeated_products(card, product, start, firsts[tie - 1]),
    )


def _windowed_sum(
    high: np.ndarray, low: np.ndarray, start: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums over [start, end) of 128-bit numbers, by differences of their running sums."""
    running_low = np.append(np.uint64(0), np.cumsum(low))
    carried = running_low[1:] < low  # a sum that passed 2**64 is below what was added last
    running_high = np.append(0, np.cumsum(high + carried))
    borrowed = running_low[end] < running_low[start]
    return running_high[end] - running_high[start] - borrowed, running_low[end] - running_low[start]


def _squares(amount: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the squares of numbers below 2**47 as 128-bit numbers, high and low half."""
    upper, lower = amount >> 24, amount & 0xFFFFFF
    above_48 = upper * upper + ((upper * lower + (lower * lower >> 25)) >> 23)
    unsigned = amount.astype(np.uint64)
    return above_48 >> 16, unsigned * unsigned


def _repeated_products(card: np.ndarray, product: np.ndarray, start: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return how many transactions of each window repeat the product of an earlier one in it.

    `start` never falls from one transaction to the next, so a transaction and the one of its product before it are
    both in the windows of a run of transactions: from the first that sees the later one (`first`: the first
    of its time) to the last that still sees the earlier one.
    """
    kind = card * (product.max() + 1) + product
    order = np.argsort(kind, kind="stable")
    is_repeat = kind[order[1:]] == kind[order[:-1]]
    later, earlier = order[1:][is_repeat], order[:-1][is_repeat]
    are_close = start[later] <= earlier
    later, earlier = later[are_close], earlier[are_close]
    begins, ends = first[later], np.searchsorted(start, earlier, side="right")
    changes = np.bincount(begins, minlength=len(card) + 1) - np.bincount(ends, minlength=len(card) + 1)
    return np.cumsum(changes[:-1])
