"""Good transactions become features, and digests say which rows the features were made of.

Here belong the call of `windows` and `features.sql`, the look-back over the partition boundary, and the three
digests that tell whether a partition's scores and its successor's windows are still right. Which rows are good is
`cleaning`; what a feature may be is `contract`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa

from fraud_assets.silver.source import Source
from fraud_assets.silver.windows import WINDOW, aggregate_windows

EMPTY_TAIL: Final = "a4a03e336e7c2d5955bd36a03077729c"
# The digest of no rows: what a partition without transactions in its last five minutes hands on.

_NO_LOOKBACK: Final = (
    "(SELECT NULL::TIMESTAMPTZ AS event_timestamp, '' AS card_id, '' AS ProductCD, 0 AS TransactionAmt)"
)
# The time that is missing is in no window.

_BATCH_ROWS: Final = 500_000
# Rows of one column that are fetched at a time.

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


def compute_features(con: duckdb.DuckDBPyConnection, source: Source, key: str, lookback: str | None) -> None:
    """Make the temporary tables `featured_transactions` and `lookback_transactions` from `good_transactions`.

    The features are the same bits whatever the order of the rows.

    Args:
        con: A connection whose TimeZone is UTC.
        source: The feed, for its grain and its high-value limit.
        key: The partition of the good transactions.
        lookback: A relation with the previous partition's Silver rows, at least of its last five minutes.
    """
    start, _ = source.bounds(key)
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
    con.register("window_aggregates", _aggregate_windows(con))
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE featured_transactions AS {_FEATURES_SQL}",
        {"high_value_amount": source.features.high_value_amount},
    )
    con.unregister("window_aggregates")


def digest_features(con: duckdb.DuckDBPyConnection, source: Source, key: str) -> FeatureVersions:
    """Return the digests of the two tables that `compute_features` made of a partition."""
    _, end = source.bounds(key)
    return FeatureVersions(
        silver_version=_digest(con, "featured_transactions", _SCORED),
        tail_version=_digest(con, "featured_transactions", _LOOKED_BACK_ON, since=end - WINDOW),
        lookback_version=_digest(con, "lookback_transactions", _LOOKED_BACK_ON),
    )


def _aggregate_windows(con: duckdb.DuckDBPyConnection) -> pa.Table:
    """Return what each good transaction's window holds, in the order of `good_transactions`."""
    [(looked_back_on,)] = con.execute("SELECT count(*) FROM lookback_transactions").fetchall()
    aggregates = aggregate_windows(
        card=_codes(_column(con, "card_id")),
        product=_codes(_column(con, "ProductCD")),
        time_us=_numbers(_column(con, "epoch_us(event_timestamp)")),
        amount=_numbers(_column(con, "amount_thousandths")),
    )
    return aggregates.as_table(first=looked_back_on)


def _column(con: duckdb.DuckDBPyConnection, expression: str) -> Iterator[pa.Array]:
    """Yield a column of what is looked back on, then of what is good, some rows at a time."""
    for table in ("lookback_transactions", "good_transactions"):
        for batch in con.sql(f"SELECT {expression} FROM {table}").to_arrow_reader(_BATCH_ROWS):
            yield batch.column(0)


def _numbers(chunks: Iterable[pa.Array]) -> np.ndarray:
    # Not by `to_numpy`, which imports pandas.
    return np.concatenate([np.empty(0, np.int64), *map(np.from_dlpack, chunks)])


def _codes(chunks: Iterable[pa.Array]) -> np.ndarray:
    """Return one number per text, equal ones for equal texts; the texts themselves are let go of as they come."""
    codes: list[np.ndarray] = [np.empty(0, np.int32)]
    known = pa.nulls(0, pa.string())  # not `pa.array([])`, which imports pandas
    for chunk in chunks:
        before = pa.DictionaryArray.from_arrays(pa.nulls(0, pa.int32()), known)
        # Unifying keeps the numbers of the texts that are known, and gives the next ones to those that are new.
        _, unified = pa.chunked_array([before, chunk.dictionary_encode()]).unify_dictionaries().chunks
        known = unified.dictionary
        codes.append(np.from_dlpack(unified.indices))
    return np.concatenate(codes)


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
