"""Which rows go together to one task: buckets of about as many rows, whatever the days and the cards are.

Rows of an id, and of a card within a slice of time, are never parted. Pure arithmetic: what is done with a bucket is
`tasks`, and Spark moves the rows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final

from fraud_assets.silver.contract import WINDOW

BUCKET_ROWS: Final = 500_000
"""Rows of a bucket: a task holds them, some 200 MB with what it makes of them, and lives long beside its beginning."""

_SHORTEST_SLICE: Final = 12 * WINDOW
"""A slice looks back for one window: of an hour it reads a twelfth twice, of longer ones less."""


@dataclass(frozen=True)
class Spread:
    """The buckets of some partitions, by the number of each: the first one, and how many it has.

    A partition has `parts` buckets for each of its slices of time; small partitions share one.
    """

    first: tuple[int, ...]
    slices: tuple[int, ...]
    parts: tuple[int, ...]

    @property
    def buckets(self) -> int:
        """How many there are in all."""
        each = zip(self.first, self.slices, self.parts, strict=True)
        return max((first + slices * parts for first, slices, parts in each), default=0)


def spread(rows: Iterable[int], *, lasts: timedelta = timedelta(0), most: int = BUCKET_ROWS) -> Spread:
    """Return buckets of at most about `most` rows for partitions of so many rows that last so long.

    Time is sliced first, since a card that has a tenth of all rows has them all day long.
    """
    first, slices, parts = [], [], []
    following, shared = 0, most + 1  # so that the first one begins a bucket
    for count in rows:
        wanted = max(ceil(count / most), 1)
        cut = min(wanted, max(lasts // _SHORTEST_SLICE, 1))
        if wanted > 1 or shared + count > most:
            first.append(following)
            following += cut * ceil(wanted / cut)
            shared = count if wanted == 1 else most + 1
        else:
            first.append(following - 1)
            shared += count
        slices.append(cut)
        parts.append(ceil(wanted / cut))
    return Spread(tuple(first), tuple(slices), tuple(parts))


def slice_starts(start: datetime, lasts: timedelta, slices: int) -> list[datetime]:
    """Return when each slice of a partition begins."""
    return [start + number * slice_length(lasts, slices) for number in range(slices)]


def slice_length(lasts: timedelta, slices: int) -> timedelta:
    """Return how long each slice lasts but the last one, which may be shorter, in whole microseconds."""
    return -(-lasts // slices)


def packed(sizes: Sequence[int], *, most: int) -> list[list[int]]:
    """Cut the positions of some sizes, in their order, into groups of at most `most`; a larger one stands alone."""
    groups: list[list[int]] = []
    total = most
    for at, size in enumerate(sizes):
        if not groups or total + size > most:
            groups.append([])
            total = 0
        groups[-1].append(at)
        total += size
    return groups
