"""Which partition each record of a raw file belongs to, by its event time, and a file for each of them.

Here belongs how a file is taken apart without changing a record. Where the parts land is the landing zone's.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraud_assets.silver.csv_records import MAX_JOINED_LINES
from fraud_assets.silver.raw_files import RawFile
from fraud_assets.silver.reading import ParquetRows, open_raw, read_raw
from fraud_assets.silver.source import Source
from fraud_assets.sql import identifier

_QUOTE_STOP: Final = "\n" * MAX_JOINED_LINES
"""So many blank lines, which are no records, that a record with an open quote before them does not go on after them."""


def partition_keys(con: duckdb.DuckDBPyConnection, source: Source, file: RawFile) -> Mapping[int, str]:
    """Return the partition key of each record that has a readable event time, by its line (CSV) or row (Parquet).

    Raises:
        BrokenFileError: the file cannot be read, or lacks a column.
        SourceError: an expression of the source is not valid.
    """
    with open_raw(file, source.csv) as records:
        source = source.of_file(records.names)
        of_time = source.references(con)["event_timestamp"]
        kept = frozenset(name.lower() for name in of_time)
        read_raw(con, file, records, "timed_rows", source.needed(con), kept=kept, is_strict=True)
    cells = ", ".join(["_line", *(f"{source.cell(name, file.kind)} AS {identifier(name)}" for name in of_time)])
    return dict(
        con.execute(
            f"""
            SELECT _line, {source.key_of_time}
            FROM (
                SELECT _line, {source.expression("event_timestamp")} AS event_timestamp
                FROM (SELECT {cells} FROM timed_rows)
            )
            WHERE event_timestamp IS NOT NULL
            """
        ).fetchall()
    )


def split(source: Source, file: RawFile, folder: Path, key_of: Callable[[int], str]) -> Mapping[str, tuple[Path, int]]:
    """Write the records of each partition to a file of its own, as the source wrote them, in their order.

    Returns:
        By partition key the file, and how many records it holds.

    Raises:
        BrokenFileError: the file cannot be read.
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
