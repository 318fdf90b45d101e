"""Which partition each record of a raw file belongs to, by its event time, and a file for each of them.

Here belongs how a file is taken apart without changing a record. Where the parts land is the landing zone's.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraud_assets.errors import FraudAssetsError
from fraud_assets.silver.advice import advise
from fraud_assets.silver.csv_records import MAX_JOINED_LINES
from fraud_assets.silver.expressions import row_by_row
from fraud_assets.silver.raw_files import RawFile, other_encoding
from fraud_assets.silver.reading import ParquetRows, open_raw, read_raw
from fraud_assets.silver.source import Source
from fraud_assets.sql import identifier

_FEW: Final = 0.01
"""So many records of a file may lack a time before a person is told: single bad rows are what quarantine is for."""

_QUOTE_STOP: Final = "\n" * MAX_JOINED_LINES
"""So many blank lines, which are no records, that a record with an open quote before them does not go on after them."""


class NoUsableTimeError(FraudAssetsError):
    """No record of a file has a time: it belongs nowhere. The message shows a cell, and what would read it."""


def partition_keys(
    con: duckdb.DuckDBPyConnection, source: Source, file: RawFile
) -> tuple[Mapping[int, str], Sequence[str]]:
    """Return the partition key of each record that has a usable event time, by its line (CSV, JSON) or row (Parquet).

    With it comes what a person should know: that many records have none. Raises NoUsableTimeError where there are
    records and none has a time, and what reading the file and the source's expressions raises.
    """
    with open_raw(file, source.csv) as records:
        source = source.of(file, records.names)
        of_time = source.references(con)["event_timestamp"]
        kept = frozenset(name.lower() for name in of_time)
        needed, by = source.needed(con), source.name
        landed = read_raw(con, file, records, "timed_rows", needed, by=by, kept=kept, is_strict=True)
    cells = ", ".join(["_line", *(f"{source.cell(name, file.kind)} AS {identifier(name)}" for name in of_time)])
    with row_by_row(con):
        con.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE times AS
            SELECT _line, {source.key_of_time} AS key
            FROM (
                SELECT _line, {source.expression("event_timestamp")} AS event_timestamp
                FROM (SELECT {cells} FROM timed_rows)
            )
            """
        )
    keys = dict(con.execute("SELECT _line, key FROM times WHERE key IS NOT NULL").fetchall())
    missing = landed - len(keys)
    if missing <= landed * _FEW:
        return keys, []
    rows = "(SELECT * FROM timed_rows WHERE _line IN (SELECT _line FROM times WHERE key IS NULL))"
    [(unreadable,)] = con.execute("SELECT count(*) FROM timed_rows_unreadable").fetchall()
    advice = other_encoding(file, source.csv.encoding).strip() if unreadable and file.kind == "csv" else ""
    if missing > unreadable or not advice:
        advice = f"{advice} {advise(con, source, 'event_timestamp', rows)}".strip()
    if not keys:
        raise NoUsableTimeError(f"{file.name}: none of {landed:,} records has a usable time. {advice} Nothing landed.")
    return keys, [f"{missing:,} of {landed:,} records of {file.name} have no usable time. {advice}"]


def split(source: Source, file: RawFile, folder: Path, key_of: Callable[[int], str]) -> Mapping[str, tuple[Path, int]]:
    """Write the records of each partition to a file of its own, as the source wrote them, in their order.

    Returns by partition key the file, and how many records it holds.
    """
    if file.kind == "parquet":
        return _split_parquet(file, folder, key_of)
    counts: Counter[str] = Counter()
    with open_raw(file, source.csv) as records:
        assert not isinstance(records, ParquetRows)
        for chunk in records.chunks():
            texts: dict[str, list[str]] = {}
            for line, text, is_open in chunk.texts():
                # Other lines follow here than in the raw file, and none of them may close its quote.
                texts.setdefault(key_of(line), []).append(_ended(text) + is_open * _QUOTE_STOP)
            # Opened anew for each chunk: a file may hold more partitions than a process may open files.
            for key, part in texts.items():
                with (folder / f"{key}.{file.kind}").open(
                    "a", encoding=records.encoding, errors="surrogateescape", newline=""
                ) as opened:
                    opened.writelines(part if counts[key] else [_ended(records.header), *part])
                counts[key] += len(part)
    return {key: (folder / f"{key}.{file.kind}", count) for key, count in counts.items()}


def _ended(text: str) -> str:
    """The last line of a file may lack its end; another record may follow it here."""
    return text if not text or text.endswith(("\n", "\r")) else f"{text}\n"


def _split_parquet(file: RawFile, folder: Path, key_of: Callable[[int], str]) -> Mapping[str, tuple[Path, int]]:
    """Write the rows to files of the same columns and types."""
    with pq.ParquetFile(file.path) as parquet:
        rows = parquet.read()
    keys = pa.array([key_of(row) for row in range(1, rows.num_rows + 1)], pa.string())
    parts: dict[str, tuple[Path, int]] = {}
    for key in keys.unique().to_pylist():
        path = folder / f"{key}.parquet"
        part = rows.filter(pc.equal(keys, key))  # pyright: ignore[reportAttributeAccessIssue] made at import
        pq.write_table(part, path)
        parts[key] = (path, part.num_rows)
    return parts
