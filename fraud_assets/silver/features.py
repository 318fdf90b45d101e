"""Good transactions become features, and digests say which rows the features were made of.

Here belong the call of `features.sql`, the look-back over the partition boundary, and the three digests that
tell whether a partition's scores and its successor's windows are still right. Which rows are good is
`cleaning`; what a feature may be is `contract`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import duckdb

from fraud_assets.silver.source import Source

WINDOW: Final = timedelta(minutes=5)
# The trailing window of every windowed feature; `features.sql` spells it in microseconds.

EMPTY_TAIL: Final = "a4a03e336e7c2d5955bd36a03077729c"
# The digest of no rows: what a partition without transactions in its last five minutes hands on.

_NO_LOOKBACK: Final = (
    "(SELECT NULL::TIMESTAMPTZ AS event_timestamp, '' AS card_id, '' AS ProductCD, 0 AS TransactionAmt)"
)
# The time that is missing is in no window.

_FEATURES_SQL: Final = Path(__file__).with_name("features.sql").read_text(encoding="utf-8")

_SCORED: Final = (
    "epoch_us(event_timestamp), amount_thousandths, is_high_value_txn, is_international_txn, txn_count_5min,"
    " sum_thousandths, sum_squares, product_diversity_5min, length(TransactionID), TransactionID, card_id"
)
# What a score can depend on, exactly. With numbers and the id's length first, no two rows are written alike.

_LOOKED_BACK_ON: Final = "epoch_us(event_timestamp), amount_thousandths, length(card_id), card_id, ProductCD"
# What the next partition's windows see of a row.


@dataclass(frozen=True)
class FeatureVersions:
    """Digests of a partition's rows as scored, of its last five minutes, and of what it looked back on."""

    silver_version: str
    tail_version: str
    lookback_version: str


def compute_features(con: duckdb.DuckDBPyConnection, source: Source, key: str, lookback: str | None) -> FeatureVersions:
    """Make the temporary table `featured_transactions`: the same bits whatever the order of the rows.

    Args:
        con: A connection whose TimeZone is UTC.
        source: The feed, for its grain and its high-value limit.
        key: The partition of the good transactions.
        lookback: A relation with the previous partition's Silver rows, at least of its last five minutes.
    """
    start, end = source.bounds(key)
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE lookback_transactions AS
        SELECT
            event_timestamp, card_id, ProductCD,
            round_even(TransactionAmt * 1000, 0)::BIGINT AS amount_thousandths
        FROM {lookback or _NO_LOOKBACK}
        WHERE event_timestamp >= $since AND event_timestamp < $until
        """,
        {"since": start - WINDOW, "until": start},
    )
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE featured_transactions AS {_FEATURES_SQL}",
        {"high_value_amount": source.features.high_value_amount},
    )
    return FeatureVersions(
        silver_version=_digest(con, "featured_transactions", _SCORED),
        tail_version=_digest(con, "featured_transactions", _LOOKED_BACK_ON, since=end - WINDOW),
        lookback_version=_digest(con, "lookback_transactions", _LOOKED_BACK_ON),
    )


def _digest(con: duckdb.DuckDBPyConnection, table: str, columns: str, since: datetime | None = None) -> str:
    """Return a digest of a table's rows, 32 hex digits, that does not depend on their order.

    Each row is written as text, md5 makes it two 64-bit numbers, and their sums over all rows are digested
    with the number of rows: Spark computes the same from the same functions.
    """
    [(digest,)] = con.execute(
        f"""
        SELECT md5(concat_ws('-',
            count(*),
            coalesce(sum(('0x' || left(row_digest, 16))::UBIGINT), 0),
            coalesce(sum(('0x' || right(row_digest, 16))::UBIGINT), 0)
        ))
        FROM (
            SELECT md5(concat_ws(chr(31), {columns})) AS row_digest
            FROM {table}
            WHERE $since IS NULL OR event_timestamp >= $since
        )
        """,
        {"since": since},
    ).fetchall()
    return digest
