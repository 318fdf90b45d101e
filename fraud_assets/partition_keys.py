"""Partition keys: the name of a day or an hour of a feed, and the times that it stands for, in UTC.

A key is a folder name and sorts in time order, as text.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal

Grain = Literal["daily", "hourly"]

KEY_FORMATS: Final[Mapping[Grain, str]] = {"daily": "%Y-%m-%d", "hourly": "%Y-%m-%d-%H"}
"""No colon, since a key is also a folder name. DuckDB's strftime reads the same formats."""

LENGTHS: Final[Mapping[Grain, timedelta]] = {"daily": timedelta(days=1), "hourly": timedelta(hours=1)}
"""How long a partition lasts."""


def day_of(key: str) -> str:
    """Return the day that a key lies in: a daily key is its day, and an hourly one begins with it."""
    return key[: len("2026-01-05")]


def days_before(day: str, days: int) -> str:
    """Return the day so many days before."""
    return (date.fromisoformat(day) - timedelta(days=days)).isoformat()


def days_between(day: str, later: str) -> int:
    """Return how many days lie between two."""
    return (date.fromisoformat(later) - date.fromisoformat(day)).days


def key_of(time: datetime, grain: Grain) -> str:
    """Return the key of the partition that an aware time belongs to."""
    return time.astimezone(UTC).strftime(KEY_FORMATS[grain])


@lru_cache(2**15)  # a tick asks several times for each of thousands, and strptime takes ten microseconds
def bounds(key: str, grain: Grain) -> tuple[datetime, datetime]:
    """Return the first instant of a partition and the first one after it; raises ValueError for no key of the grain."""
    start = datetime.strptime(key, KEY_FORMATS[grain]).replace(tzinfo=UTC)
    if key_of(start, grain) != key:
        raise ValueError(f"{key!r} is not a partition key; expected the form {KEY_FORMATS[grain]}.")
    return start, start + LENGTHS[grain]


def previous_key(key: str, grain: Grain) -> str:
    """Return the key of the partition just before."""
    return key_of(bounds(key, grain)[0] - timedelta(microseconds=1), grain)
