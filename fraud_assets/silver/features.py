"""Good transactions become features, and digests say which rows the features were made of.

Here belong the call of `windows` and `features.sql`, the look-back over the partition boundary, and the three
digests that tell whether a partition's scores and its successor's windows are still right. Which rows are good is
`cleaning`; what a feature may be is `contract`.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from hashlib import md5
from pathlib import Path
from typing import Final, Self

import duckdb
import numpy as np
import pyarrow as pa

from fraud_assets.partition_keys import bounds
from fraud_assets.silver.contract import FEATURE_NAMES, WINDOW
from fraud_assets.silver.source import Source
from fraud_assets.silver.windows import aggregate_windows

EMPTY_TAIL: Final = "a4a03e336e7c2d5955bd36a03077729c"
"""The digest of no rows: what a partition without transactions in its last window hands on."""

_TEXT_IN_CODES: Final = pa.dictionary(pa.int32(), pa.string())

_TRANSACTIONS: Final = pa.schema(
    [
        ("TransactionID", pa.string()),
        ("event_timestamp", pa.timestamp("us", tz="UTC")),
        ("card_id", _TEXT_IN_CODES),
        ("ProductCD", _TEXT_IN_CODES),
        ("amount_thousandths", pa.int64()),
        ("is_international_txn", pa.int32()),
        ("isFraud", pa.int32()),
    ]
)
"""Good transactions as they are held while features are made of them: some 50 bytes each."""

_NO_LOOKBACK: Final = """(
    SELECT
        '' AS TransactionID, NULL::TIMESTAMPTZ AS event_timestamp, '' AS card_id, '' AS ProductCD,
        0 AS TransactionAmt, 0 AS is_international_txn, NULL::INTEGER AS isFraud
)"""
"""The time that is missing is in no window."""

_BATCH_ROWS: Final = 262_144
"""Rows that are fetched at a time."""

_BATCHES_IN_TURN: Final = 3
"""Batches that wait to be coded, at most, while the next ones are fetched."""

_HELD_ROWS: Final = 10_000
"""So few rows are made once and held: to make them for each query that reads them takes longer than to read them."""

_FEATURES_SQL: Final = Path(__file__).with_name("features.sql").read_text(encoding="utf-8")

_SCORED: Final = (
    "epoch_us(event_timestamp), amount_thousandths, is_high_value_txn, is_international_txn, txn_count_5min,"
    " sum_thousandths, sum_squares, product_diversity_5min, length(TransactionID), TransactionID, card_id"
)
"""What a score can depend on, exactly. With numbers and the id's length first, no two rows are written alike."""

_STORED: Final = f"epoch_us(event_timestamp), {', '.join(FEATURE_NAMES)}, length(TransactionID), TransactionID, card_id"
"""The same of stored rows, which lack the exact sums."""

_LOOKED_BACK_ON: Final = "epoch_us(event_timestamp), amount_thousandths, length(card_id), card_id, ProductCD"
"""What the next partition's windows see of a row."""


@dataclass(frozen=True)
class FeatureDigests:
    """Digests of a partition's rows as scored, of its last window, and of what it looked back on."""

    silver_digest: str
    tail_digest: str
    lookback_digest: str


def row_sums(row_digest: str) -> str:
    """Return the SQL of the parts of `RowSums`, of rows of which an expression gives the md5, or NULL: not counted."""
    return f"""count({row_digest}),
        coalesce(sum(('0x' || left({row_digest}, 16))::UBIGINT), 0),
        coalesce(sum(('0x' || right({row_digest}, 16))::UBIGINT), 0)"""


@dataclass(frozen=True)
class RowSums:
    """What a digest of rows is made of: it adds up, so that rows may be taken in any parts and any order."""

    rows: int = 0
    high: int = 0
    low: int = 0

    def __add__(self, other: "RowSums") -> Self:
        """Return the sums of the rows of both."""
        return type(self)(self.rows + other.rows, self.high + other.high, self.low + other.low)

    @property
    def digest(self) -> str:
        """The digest of the rows, 32 hex digits."""
        return md5(f"{self.rows}-{self.high}-{self.low}".encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class FeatureSums:
    """What the digests of a partition, or of a part of one, are made of."""

    silver: RowSums = RowSums()
    tail: RowSums = RowSums()
    lookback: RowSums = RowSums()

    def __add__(self, other: "FeatureSums") -> Self:
        """Return the sums of both parts."""
        return type(self)(self.silver + other.silver, self.tail + other.tail, self.lookback + other.lookback)

    @property
    def digests(self) -> FeatureDigests:
        """The three digests."""
        return FeatureDigests(self.silver.digest, self.tail.digest, self.lookback.digest)


def read_transactions(
    con: duckdb.DuckDBPyConnection, source: Source, key: str, lookback: str | None, *, start: datetime | None = None
) -> pa.Table:
    """Return the rows that a partition's windows see: what is looked back on, then `good_transactions`, in its order.

    `lookback` is a relation with the previous partition's Silver rows, at least those of its last window. They become
    the temporary table `lookback_transactions` as well. Nothing else is read afterwards. Where the good transactions
    are those of a later part of the partition only, that part begins at `start` and looks back from there.
    """
    _look_back(con, lookback or _NO_LOOKBACK, start or bounds(key, source.partitions.grain)[0])
    transactions = pa.Table.from_batches(_batches(con), schema=_TRANSACTIONS)
    for name in ("event_timestamp", "amount_thousandths"):
        # In one piece, numpy reads a column where it lies.
        in_one_piece = transactions.column(name).combine_chunks()
        transactions = transactions.set_column(_TRANSACTIONS.get_field_index(name), name, in_one_piece)
    return transactions


def compute_features(con: duckdb.DuckDBPyConnection, source: Source, transactions: pa.Table) -> None:
    """Make the view `featured_transactions` of what `read_transactions` returned, without what is looked back on.

    The features are the same bits whatever the order of the rows. Many are computed as the view is read, from rows and
    windows that the connection, the one that the transactions were read with, holds until the next call.
    """
    con.unregister("windowed_transactions")  # those of the partition before, or both would be held
    aggregates = aggregate_windows(
        card=_codes(transactions.column("card_id")),
        product=_codes(transactions.column("ProductCD")),
        time_us=_numbers(transactions.column("event_timestamp")),
        amount=_numbers(transactions.column("amount_thousandths")),
    ).as_arrays()
    windowed = pa.Table.from_arrays(
        [*transactions.columns, *aggregates.values()], names=[*transactions.column_names, *aggregates]
    )
    [(looked_back_on,)] = con.execute("SELECT count(*) FROM lookback_transactions").fetchall()
    con.register("windowed_transactions", windowed.slice(looked_back_on))
    con.execute("SET VARIABLE high_value_amount = $limit", {"limit": source.features.high_value_amount})
    featured = _FEATURES_SQL
    if len(windowed) <= _HELD_ROWS:
        con.execute(f"CREATE OR REPLACE TEMP TABLE held_features AS {_FEATURES_SQL}")
        featured = "FROM held_features"
    con.execute(f"CREATE OR REPLACE TEMP VIEW featured_transactions AS {featured}")


def sum_features(con: duckdb.DuckDBPyConnection, source: Source, key: str) -> FeatureSums:
    """Return what the digests of what `compute_features` made of a partition, or of a part of it, are made of."""
    _, end = bounds(key, source.partitions.grain)
    silver, tail = _sum_rows(con, "featured_transactions", _SCORED, last=_LOOKED_BACK_ON, since=end - WINDOW)
    lookback, _ = _sum_rows(con, "lookback_transactions", _LOOKED_BACK_ON)
    return FeatureSums(silver, tail, lookback)


def digest_stored_rows(con: duckdb.DuckDBPyConnection, rows: str, source: Source, key: str) -> tuple[str, str]:
    """Return the digests of a relation of a partition's stored rows: as scored, and as the next one looks back on them.

    Whoever stored them may have computed them otherwise, so the first is of the features as they are.
    """
    _, end = bounds(key, source.partitions.grain)
    _look_back(con, rows, end)
    (silver, _), (tail, _) = _sum_rows(con, rows, _STORED), _sum_rows(con, "lookback_transactions", _LOOKED_BACK_ON)
    return silver.digest, tail.digest


def _look_back(con: duckdb.DuckDBPyConnection, rows: str, until: datetime) -> None:
    """Make the temporary table `lookback_transactions`: what of some rows a window sees that begins at a time."""
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE lookback_transactions AS
        SELECT
            TransactionID, event_timestamp, card_id, ProductCD,
            round_even(TransactionAmt * 1000, 0)::BIGINT AS amount_thousandths,
            is_international_txn, isFraud
        FROM {rows}
        WHERE event_timestamp >= $since AND event_timestamp < $until
        """,
        {"since": until - WINDOW, "until": until},
    )


def _batches(con: duckdb.DuckDBPyConnection) -> Iterator[pa.RecordBatch]:
    """Yield what is looked back on, then what is good; another thread codes the texts of what was fetched."""
    waiting: deque[Future[pa.RecordBatch]] = deque()
    with ThreadPoolExecutor(1) as coder:
        for table in ("lookback_transactions", "good_transactions"):
            for batch in con.sql(f"SELECT {', '.join(_TRANSACTIONS.names)} FROM {table}").to_arrow_reader(_BATCH_ROWS):
                waiting.append(coder.submit(_coded, batch))
                if len(waiting) == _BATCHES_IN_TURN:
                    yield waiting.popleft().result()
        for coded in waiting:
            yield coded.result()


def _coded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the same rows, each text that may repeat as a number of its own batch, and nothing else kept in memory.

    A batch's columns live as long as any of them: without copies, the texts of cards would stay.
    """
    columns = (
        column.dictionary_encode() if type_ == _TEXT_IN_CODES else pa.concat_arrays([column])
        for column, type_ in zip(batch.columns, _TRANSACTIONS.types, strict=True)
    )
    return pa.RecordBatch.from_arrays(list(columns), schema=_TRANSACTIONS)


def _codes(texts: pa.ChunkedArray) -> np.ndarray:
    """Return one number per text, equal ones for equal texts of all batches."""
    numbers = (chunk.indices for chunk in texts.unify_dictionaries().chunks)
    return np.concatenate([np.empty(0, np.int32), *map(np.from_dlpack, numbers)])


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    # Not by `to_numpy`, which imports pandas.
    return np.from_dlpack(column.chunk(0).cast(pa.int64()))


def _sum_rows(
    con: duckdb.DuckDBPyConnection, table: str, columns: str, *, last: str = "''", since: datetime | None = None
) -> tuple[RowSums, RowSums]:
    """Return what a digest of a table's rows is made of, and one of the rows `since` a time by the columns `last`.

    Neither depends on their order: each row is written as text, and md5 makes it two 64-bit numbers, of which the sums
    over all rows are taken.
    """
    [sums] = con.execute(
        f"""
        SELECT {row_sums("row_digest")}, {row_sums("last_digest")}
        FROM (
            SELECT
                md5(concat_ws(chr(31), {columns})) AS row_digest,
                CASE WHEN event_timestamp >= $since THEN md5(concat_ws(chr(31), {last})) END AS last_digest
            FROM {table}
        )
        """,
        {"since": since},
    ).fetchall()
    return RowSums(*sums[:3]), RowSums(*sums[3:])
