"""What is known of a card from its earlier partitions: the columns of `silver.card_history` and how they are made.

Here belong which partitions a row may look back on, the sums by which that is exact whatever the order of the rows,
and the digests that say whether a history is still right. The query is `history.sql`. Windows of minutes are
`features`; who reads and writes the tables is the caller's business. See docs/adr/0018-a-card-s-history.md.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple, Self

import pyarrow as pa
from duckdb import DuckDBPyConnection

from fraud_assets.columns import column
from fraud_assets.digests import digest_lines
from fraud_assets.partition_keys import LENGTHS, Grain, bounds, day_of, days_before
from fraud_assets.silver.contract import silver_schema
from fraud_assets.silver.features import RowSums, row_sums

HISTORY_DAYS: Final = 30
"""A row looks back on so many whole days before its own: a month has its salary, its rent and its weekends."""

_BEFORE: Final = (
    f"the card's transactions in the partitions before, of the {HISTORY_DAYS} days before the day and of it"
)

HISTORY_SCHEMA: Final = pa.schema(
    [
        silver_schema().field("TransactionID"),
        column("card_txn_count_30d", pa.int64(), f"Number of {_BEFORE}."),
        column(
            "card_mean_log_amount_30d",
            pa.float64(),
            "Mean of ln(1 + amount) of them, each rounded to millionths; NULL where there is none.",
            nullable=True,
        ),
        column(
            "card_stddev_log_amount_30d",
            pa.float64(),
            "Sample standard deviation of the same, 0.0 of one; NULL where there is none.",
            nullable=True,
        ),
        column(
            "days_since_last_txn",
            pa.float64(),
            "Days from the latest of them to this transaction; NULL where there is none.",
            nullable=True,
        ),
        column("is_new_product", pa.int32(), "1 where none of them is of this ProductCD, else 0."),
        column("history_version", pa.string(), "Digest of the partition as landed, and of what earlier ones tell it."),
        column("handed_on_version", pa.string(), "Digest of what this partition tells later ones."),
        silver_schema().field("partition_key"),
    ]
)
"""The columns of `silver.card_history`: one row per Silver row of the same key."""

HISTORY_FEATURES: Final = tuple(HISTORY_SCHEMA.names[1:6])
"""What a row says of its card."""

_SQL: Final = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")

_HANDED_ON: Final = (
    "transactions, log_sum, log_squares, epoch_us(last_at), length(card_id), card_id, length(ProductCD), ProductCD"
)
"""What later partitions see of a partition."""


class HistoryDigest(NamedTuple):
    """What the history of a partition is made of, part by part; as text it is the column `history_version`."""

    silver: str
    earlier: str

    def __str__(self) -> str:
        return "-".join(self)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the digest that was stored as this text."""
        return cls(*text.split("-"))


def seen_from(key: str, keys: Iterable[str]) -> list[str]:
    """Return those of the partitions, in order, that the rows of one may look back on."""
    first = _first_day(key)
    return sorted(other for other in keys if first <= other < key)


def _first_day(key: str) -> str:
    return days_before(day_of(key), HISTORY_DAYS)


def silver_digest(input_version: str | None) -> str:
    """Return the digest of a partition's own rows, as far as history looks at them, by its Silver `input_version`.

    Of a row only id, time, card, product and amount count. What landed decides them, and no five-minute window.
    """
    return digest_lines([str(input_version)])


def earlier_digests(handed_on: Mapping[str, str | None], keys: Iterable[str]) -> dict[str, str | None]:
    """Return for each of `keys` a digest of what the partitions that it looks back on hand on.

    None where one of them hands on nothing that is known yet (its value is None). Costs some 30 texts a key: what a
    day's hours hand on is digested once.
    """
    of_day: dict[str, list[str]] = {}
    unknown: set[str] = set()
    for key, version in sorted(handed_on.items()):
        of_day.setdefault(day_of(key), []).append(f"{key} {version}")
        if version is None:
            unknown.add(key)
    days = sorted(of_day)
    digests = [digest_lines(of_day[day]) for day in days]
    without = sorted(unknown)
    found: dict[str, str | None] = {}
    for key in keys:
        first, day = _first_day(key), day_of(key)
        waits_for = without[bisect_left(without, first) : bisect_left(without, key)]
        # A text of the same day that sorts before the key is of an earlier partition.
        same_day = [text for text in of_day.get(day, ()) if text < key]
        before = [*digests[bisect_left(days, first) : bisect_left(days, day)], *same_day]
        found[key] = None if waits_for else digest_lines(before)
    return found


def create_card_sums(con: DuckDBPyConnection) -> None:
    """Make the empty temporary table `card_sums`: by card, product and partition, how many and how much."""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE card_sums (partition_key VARCHAR, card_id VARCHAR, ProductCD VARCHAR,"
        " transactions BIGINT, log_sum HUGEINT, log_squares HUGEINT, last_at TIMESTAMPTZ)"
    )


def add_card_sums(con: DuckDBPyConnection, silver: str) -> dict[str, str]:
    """Add the sums of a relation of Silver rows, of partitions that are not summed yet.

    Returns of each partition the digest of what it hands on. Log amounts are summed in millionths, as integers: a sum
    is the same whatever the order of the rows.
    """
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE added_sums AS
        SELECT
            partition_key, card_id, ProductCD,
            count(*) AS transactions,
            sum(log_millionths) AS log_sum,
            sum(log_millionths::HUGEINT * log_millionths) AS log_squares,
            max(event_timestamp) AS last_at
        FROM (SELECT *, round_even(log_transaction_amount * 1e6, 0)::BIGINT AS log_millionths FROM {silver})
        GROUP BY ALL
        """
    )
    con.execute("INSERT INTO card_sums FROM added_sums")
    sums = con.execute(
        f"""
        SELECT partition_key, {row_sums("row_digest")}
        FROM (SELECT partition_key, md5(concat_ws(chr(31), {_HANDED_ON})) AS row_digest FROM added_sums)
        GROUP BY partition_key
        """
    ).fetchall()
    con.execute("DROP TABLE added_sums")
    return {key: RowSums(*own).digest for key, *own in sums}


def keep_card_sums(con: DuckDBPyConnection, key: str) -> None:
    """Drop the sums of all partitions but those that `key` looks back on."""
    # Not DELETE, which leaves the rows in memory.
    con.execute(
        "CREATE TEMP TABLE kept_sums AS FROM card_sums WHERE partition_key >= $first AND partition_key < $key",
        {"first": _first_day(key), "key": key},
    )
    con.execute("DROP TABLE card_sums")
    con.execute("ALTER TABLE kept_sums RENAME TO card_sums")


def make_history(
    con: DuckDBPyConnection,
    grain: Grain,
    silver: str,
    versions: Mapping[str, HistoryDigest | None],
    handed_on: Mapping[str, str],
) -> None:
    """Make the temporary view `card_history` of the partitions of `silver`, in `HISTORY_SCHEMA`.

    Args:
        con: with the sums of these partitions and of all that they look back on.
        grain: what partitions are.
        silver: relation of their Silver rows.
        versions: by partition of which there are sums what its history is made of; None where none is made.
        handed_on: by partition the digest of what it hands on.
    """
    length, a_day = LENGTHS[grain] // timedelta(seconds=1), timedelta(days=1) // LENGTHS[grain]
    places = [int(bounds(key, grain)[0].timestamp()) // length for key in versions]
    con.execute(
        "CREATE OR REPLACE TEMP TABLE history_partitions AS SELECT unnest($keys::VARCHAR[]) AS partition_key,"
        " unnest($places::BIGINT[]) AS place, unnest($reaches::BIGINT[]) AS reach,"
        " unnest($versions::VARCHAR[]) AS history_version, unnest($handed_on::VARCHAR[]) AS handed_on_version",
        {
            "keys": [*versions],
            "places": places,
            "reaches": [HISTORY_DAYS * a_day + place % a_day for place in places],
            "versions": [version and str(version) for version in versions.values()],
            "handed_on": [handed_on[key] for key in versions],
        },
    )
    con.execute(f"CREATE OR REPLACE TEMP VIEW history_rows AS FROM {silver}")
    con.execute(f"CREATE OR REPLACE TEMP VIEW card_history AS {_SQL}")
