"""A small feed of the tests' own: seven raw columns, and rows of them spelled as text."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from fraud_assets.silver.csv_records import Record, open_csv
from fraud_assets.silver.raw_files import RawFile
from fraud_assets.silver.reading import open_raw, read_raw
from fraud_assets.silver.source import CsvFormat, Source

HEADER = "id,time,card,product,amount,abroad,fraud"

# A good row of 2026-01-05.
GOOD = "T1,2026-01-05 12:00:00,card-1,W,10.50,0,0"

EXPECTED_COLUMNS = "abroad, amount, card, fraud, id, product, time"


def row(**changes: str) -> str:
    """Return the good row with some cells changed."""
    return ",".join((dict(zip(HEADER.split(","), GOOD.split(","), strict=True)) | changes).values())


_SOURCES: dict[str, Source] = {}


def make_source(**changes: Any) -> Source:
    """Return the feed's source; a keyword replaces that section of the file.

    Each is made once: a source looks at its expressions once, and that takes longer than most tests.
    """
    sections = {
        "name": "small",
        "partitions": {"grain": "daily", "start": "2026-01-01"},
        "types": {"time": "TIMESTAMPTZ", "amount": "DOUBLE", "abroad": "BOOLEAN"},
        "columns": {
            "TransactionID": "id",
            "event_timestamp": "time",
            "card_id": "card",
            "TransactionAmt": "amount",
            "ProductCD": "product",
            "is_international_txn": "abroad",
            "isFraud": "fraud",
        },
        "features": {"high_value_amount": 500.0},
    }
    text = repr(sections | changes)
    if text not in _SOURCES:
        _SOURCES[text] = Source.model_validate(sections | changes)
    return _SOURCES[text]


def write_bytes(folder: Path, content: bytes, name: str = "feed.csv") -> RawFile:
    path = folder / name
    path.write_bytes(content)
    return RawFile(path=path, name=name)


def write_csv(folder: Path, *rows: str, name: str = "feed.csv", header: str = HEADER) -> RawFile:
    return write_bytes(folder, "".join(f"{line}\n" for line in (header, *rows)).encode(), name)


def write_parquet(folder: Path, rows: list[dict[str, Any]], name: str = "feed.parquet") -> RawFile:
    pq.write_table(pa.Table.from_pylist(rows), folder / name)
    return RawFile(path=folder / name, name=name)


def read(con: duckdb.DuckDBPyConnection, source: Source, file: RawFile) -> int:
    """Read a file of a source's columns into the table `raw`."""
    with open_raw(file, source.csv) as records:
        return read_raw(con, file, records, "raw", source.needed(con))


def iter_records(file: RawFile, csv_format: CsvFormat) -> Iterator[Record]:
    """Yield every record of a CSV file after its header, delimited or not, with its text as it came."""
    with open_csv(file, csv_format) as records:
        for chunk in records.chunks():
            rows = chunk.rows(range(len(records.names)))
            fields = dict(
                zip(rows.lines, map(list, zip(*(c.to_pylist() for c in rows.columns), strict=True)), strict=True)
            )
            problems = {line: problem for line, _, problem in rows.unreadable}
            for line, text, _ in chunk.texts():
                yield Record(line, text, fields.get(line), problems.get(line, ""))
