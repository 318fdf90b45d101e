"""What executors do to make Silver: our own reading, cleaning, windows and features, each over one bucket of rows.

By file rows are read and evaluated by themselves, by id it is decided which copy is good, by card and slice of time
windows are made. In which order, and what becomes of the reports, is `silver`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from duckdb import DuckDBPyConnection

from fraud_assets.errors import FraudAssetsError
from fraud_assets.partition_keys import LENGTHS, bounds
from fraud_assets.resources.data_files import write_data_file
from fraud_assets.resources.row_batches import BATCH_ROWS
from fraud_assets.silver.build import stamp_rows
from fraud_assets.silver.cleaning import clean_alone, clean_together, count_reasons, quarantine_lines
from fraud_assets.silver.contract import WINDOW, check_features, quarantine_schema, silver_schema
from fraud_assets.silver.features import compute_features, read_transactions, sum_features
from fraud_assets.silver.raw_files import BrokenFileError, RawFile
from fraud_assets.silver.reading import count_records
from fraud_assets.silver.source import Source
from fraud_assets.spark.executor import Batches, connected, numbers, over_parquet, register, report, scratch
from fraud_assets.spark.spread import Spread, slice_length, slice_starts

_PLACE: Final = (("key_no", pa.int32()), ("slice", pa.int32()), ("spread_hash", pa.int64()))
"""What decides a row's bucket: its partition, its slice of time, and the hash of what keeps rows together."""

_TRANSACTION: Final = (
    ("TransactionID", pa.string()),
    ("event_timestamp", pa.timestamp("us", tz="UTC")),
    ("card_id", pa.string()),
    ("ProductCD", pa.string()),
    ("amount_thousandths", pa.int64()),
    ("is_international_txn", pa.int32()),
    ("isFraud", pa.int32()),
)

ALONE: Final = pa.schema([*_PLACE, ("file_no", pa.int32()), ("line", pa.int64()), *_TRANSACTION])
"""Rows that are good by themselves."""

PLACED: Final = pa.schema([*_PLACE, ("is_lookback", pa.bool_()), *_TRANSACTION])
"""Good rows, once where they are made features of and once more where a later window looks back on them."""

_REFUSED: Final = pa.schema(
    [("key_no", pa.int32()), ("file_no", pa.int32()), ("line", pa.int64()), ("reasons", pa.list_(pa.string()))]
)

_FEATURED: Final = pa.schema([field for field in silver_schema() if not field.name.endswith(("_version", "_key"))])

_QUARANTINED: Final = pa.schema(
    [field for field in quarantine_schema() if not field.name.endswith(("_version", "_key"))]
)

Constants = Mapping[int, Mapping[str, str]]
"""What all rows of a partition have in common, by the partition's number."""


@dataclass(frozen=True)
class Feed:
    """What every task of a Silver build knows: the partitions, by whose numbers rows are marked, and where to write."""

    source_text: str
    """The source as JSON: a worker makes one source of it, and knows its expressions for all its tasks."""
    keys: tuple[str, ...]
    scratch: str
    memory: str
    """What DuckDB may use in a task."""

    @property
    def source(self) -> Source:
        """The feed's source."""
        return _source(self.source_text)

    @property
    def lasts(self) -> timedelta:
        """How long a partition lasts."""
        return LENGTHS[self.source.partitions.grain]

    def start(self, key_no: int) -> datetime:
        """The first instant of a partition."""
        return bounds(self.keys[key_no], self.source.partitions.grain)[0]


@lru_cache(maxsize=4)
def _source(text: str) -> Source:
    return Source.model_validate_json(text)


@dataclass(frozen=True)
class Raw:
    """A landed file of a partition: its number among them, where it lies, and its name."""

    key_no: int
    file_no: int
    path: str
    name: str

    @property
    def file(self) -> RawFile:
        """The file as the Silver build wants it."""
        return RawFile(Path(self.path), self.name)


@dataclass(frozen=True)
class Quarantine:
    """Of which the quarantined rows of a partition are made: rows that are, and lines that files are searched for."""

    key_no: int
    rows: tuple[str, ...]
    files: tuple[Raw, ...]
    refused: tuple[str, ...]


def read_files(batches: Batches, feed: Feed, groups: Sequence[Sequence[Raw]]) -> Batches:
    """Read landed files, and evaluate each of their rows by itself."""
    for number in numbers(batches):
        for raw in groups[number]:
            with connected(feed.memory) as con:
                try:
                    yield report(**_read_file(con, feed, raw))
                except FraudAssetsError as error:
                    counted = _count(feed, raw)
                    yield report(key_no=raw.key_no, file_no=raw.file_no, problem=str(error), **counted)


def _read_file(con: DuckDBPyConnection, feed: Feed, raw: Raw) -> dict[str, Any]:
    key_no = raw.key_no
    landed = clean_alone(con, feed.source, feed.keys[key_no], raw.file, raw.file_no)
    place = f"{key_no} AS key_no, 0 AS slice, (hash(TransactionID) // 2)::BIGINT AS spread_hash"
    good, rows = scratch(con, feed.scratch, f"SELECT {place}, * FROM good_alone", ALONE)
    quarantined, refused = scratch(con, feed.scratch, "FROM quarantined_rows", _QUARANTINED)
    return {
        "key_no": key_no,
        "file_no": raw.file_no,
        "landed": landed,
        "unreadable": None,
        "rows": rows,
        "good": good,
        "refused": refused,
        "quarantined": quarantined,
        "reasons": count_reasons(con, "quarantined_rows"),
    }


def _count(feed: Feed, raw: Raw) -> dict[str, Any]:
    """Return what bronze says of a file that Silver cannot use: its records, where they can be told apart."""
    try:
        return {"landed": count_records(raw.file, feed.source.csv), "unreadable": None}
    except BrokenFileError as error:
        return {"landed": None, "unreadable": str(error)}


def clean_ids(batches: Batches, feed: Feed, windows: Spread, following: Sequence[int | None]) -> Batches:
    """Decide which copies of an id are good, and place each good row where windows see it.

    `following` has the number of the next partition of those that are built, for each of them.
    """
    with connected(feed.memory) as con:
        for key_no in register(con, batches, "key_no"):
            columns = ", ".join(name for name in ALONE.names if name not in ("key_no", "slice", "spread_hash"))
            clean_together(con, feed.source, f"(SELECT {columns} FROM bucket WHERE key_no = {key_no})")
            counted = "SELECT count(*), count(DISTINCT TransactionID) FROM good_transactions"
            [(rows, ids)] = con.execute(counted).fetchall()
            good, _ = scratch(con, feed.scratch, *_placed(feed, key_no, windows, following[key_no]))
            refused, _ = scratch(con, feed.scratch, f"SELECT {key_no} AS key_no, * FROM refused_rows", _REFUSED)
            yield report(
                key_no=key_no,
                rows=rows,
                repeated_ids=rows - ids,
                good=good,
                refused=refused,
                files=con.execute("SELECT DISTINCT file_no FROM refused_rows ORDER BY ALL").fetchall(),
                reasons=count_reasons(con, "refused_rows"),
            )


def _placed(feed: Feed, key_no: int, windows: Spread, following: int | None) -> tuple[str, pa.Schema, dict[str, Any]]:
    """Return the query of good transactions where windows see them."""
    columns = ", ".join(name for name, _ in _TRANSACTION)
    card = "(hash(card_id) // 2)::BIGINT AS spread_hash"
    query = f"""
        WITH sliced AS (
            SELECT *, least((event_timestamp - $start) // $length, $slices - 1)::INTEGER AS slice
            FROM (SELECT * REPLACE (epoch_us(event_timestamp) AS event_timestamp) FROM good_transactions)
        ),
        seen AS (
            SELECT $key_no AS key_no, slice, false AS is_lookback, * EXCLUDE slice FROM sliced
            UNION ALL BY NAME
            SELECT $key_no AS key_no, slice + 1 AS slice, true AS is_lookback, * EXCLUDE slice FROM sliced
            WHERE slice + 1 < $slices AND event_timestamp >= $start + (slice + 1) * $length - $window
            UNION ALL BY NAME
            SELECT $following AS key_no, 0 AS slice, true AS is_lookback, * EXCLUDE slice FROM sliced
            WHERE $following IS NOT NULL AND event_timestamp >= $start + $lasts - $window
        )
        SELECT key_no::INTEGER AS key_no, slice, {card}, is_lookback, {columns}
        FROM (SELECT * REPLACE (make_timestamptz(event_timestamp) AS event_timestamp) FROM seen)
        """
    slices = windows.slices[key_no]
    epoch, microsecond = datetime.fromtimestamp(0, feed.start(key_no).tzinfo), timedelta(microseconds=1)
    return query, PLACED, {
        "key_no": key_no,
        "following": following,
        "slices": slices,
        "start": (feed.start(key_no) - epoch) // microsecond,
        "length": slice_length(feed.lasts, slices) // microsecond,
        "lasts": feed.lasts // microsecond,
        "window": WINDOW // microsecond,
    }  # fmt: skip


def look_back(batches: Batches, feed: Feed, groups: Sequence[Sequence[tuple[int, str]]]) -> Batches:
    """Place the rows of stored Silver partitions that the first windows of a partition look back on.

    Each of a group is the number of the partition that looks back, and a relation of rows of the one before.
    """
    columns = ", ".join(name for name, _ in _TRANSACTION).replace(
        "amount_thousandths", "round_even(TransactionAmt * 1000, 0)::BIGINT AS amount_thousandths"
    )
    for number in numbers(batches):
        for key_no, stored in groups[number]:
            start = feed.start(key_no)
            with connected(feed.memory) as con:
                query = f"""
                    SELECT {key_no} AS key_no, 0 AS slice, (hash(card_id) // 2)::BIGINT AS spread_hash,
                        true AS is_lookback, {columns}
                    FROM {stored} WHERE event_timestamp >= $since AND event_timestamp < $until
                    """
                good, rows = scratch(con, feed.scratch, query, PLACED, {"since": start - WINDOW, "until": start})
                yield report(key_no=key_no, rows=rows, good=good)


def make_windows(batches: Batches, feed: Feed, windows: Spread) -> Batches:
    """Make features of the rows of a bucket, and the sums of which the digests are made."""
    with connected(feed.memory) as con:
        columns = ", ".join(name for name, _ in _TRANSACTION)
        for key_no, part in register(con, batches, "key_no, slice"):
            cell = f"(SELECT {columns} FROM bucket WHERE key_no = {key_no} AND slice = {part} AND is_lookback = {{}})"
            lookback = f"(SELECT *, amount_thousandths / 1e3 AS TransactionAmt FROM {cell.format(True)})"
            con.execute(f"CREATE OR REPLACE TEMP TABLE good_transactions AS FROM {cell.format(False)}")
            key, start = feed.keys[key_no], slice_starts(feed.start(key_no), feed.lasts, windows.slices[key_no])[part]
            transactions = read_transactions(con, feed.source, key, lookback, start=start)
            compute_features(con, feed.source, transactions)
            sums = sum_features(con, feed.source, key)
            made, rows = scratch(
                con, feed.scratch, f"SELECT {', '.join(_FEATURED.names)} FROM featured_transactions", _FEATURED
            )
            yield report(key_no=key_no, slice=part, rows=rows, made=made, sums=asdict(sums))


def write_silver(
    batches: Batches,
    feed: Feed,
    groups: Sequence[Sequence[tuple[int, Sequence[str]]]],
    constants: Constants,
    folder: str,
) -> Batches:
    """Write features with what all rows of their partition have in common, and check them against the contract.

    Each of a group is a partition's number and files of features of it. What breaks the contract is not written.
    """
    for number in numbers(batches):
        for key_no, made in groups[number]:
            with connected(feed.memory) as con:
                stamp_rows(con, "silver_rows", over_parquet(made), silver_schema(), constants[key_no])
                check = check_features(con, "silver_rows")
                written = _written(con, feed, key_no, "silver_rows", silver_schema(), folder) if check.passed else None
                yield report(key_no=key_no, rows=check.rows, violations=dict(check.violations), written=written)


def write_quarantine(
    batches: Batches, feed: Feed, groups: Sequence[Sequence[Quarantine]], constants: Constants, folder: str
) -> Batches:
    """Write the quarantined rows of some landed files, each with its raw content."""
    columns = "file VARCHAR, line BIGINT, reasons VARCHAR[], raw_row VARCHAR"
    for number in numbers(batches):
        for part in groups[number]:
            with connected(feed.memory) as con:
                con.execute(f"CREATE TEMP TABLE all_quarantined ({columns})")
                if part.rows:
                    con.execute(f"INSERT INTO all_quarantined FROM {over_parquet(part.rows)}")
                for raw in part.files:
                    of_file = f"WHERE key_no = {part.key_no} AND file_no = {raw.file_no}"
                    refused = f"(SELECT * EXCLUDE key_no FROM {over_parquet(part.refused)} {of_file})"
                    quarantine_lines(con, feed.source, raw.file, raw.file_no, refused)
                    con.execute("INSERT INTO all_quarantined FROM quarantined_rows")
                schema = quarantine_schema()
                stamp_rows(con, "quarantine_rows", "all_quarantined", schema, constants[part.key_no])
                written = _written(con, feed, part.key_no, "quarantine_rows", schema, folder)
                yield report(key_no=part.key_no, rows=written["rows"] if written else 0, written=written)


def _written(
    con: DuckDBPyConnection, feed: Feed, key_no: int, relation: str, schema: pa.Schema, folder: str
) -> dict[str, Any] | None:
    """Write a relation of a table's rows to a data file of the table, and return what its log has to know of it."""
    rows = con.sql(f"SELECT * EXCLUDE partition_key FROM {relation}").to_arrow_reader(BATCH_ROWS)
    written = write_data_file(Path(folder), schema, "partition_key", feed.keys[key_no], rows)
    return None if written is None else asdict(written)
