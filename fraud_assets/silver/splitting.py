"""Which partition each record of a raw file belongs to, by its event time. Reads one file, writes none."""

from collections.abc import Mapping

import duckdb

from fraud_assets.silver.cleaning import clean
from fraud_assets.silver.reading import RawFile
from fraud_assets.silver.source import Source


def partition_keys(con: duckdb.DuckDBPyConnection, source: Source, file: RawFile) -> Mapping[int, str]:
    """Return the partition key of each record that has a readable event time, by its line (CSV) or row (Parquet).

    Raises:
        BrokenFileError: the file cannot be read, or lacks a column.
        SourceError: an expression of the source is not valid.
    """
    clean(con, source, None, [file])
    return dict(
        con.execute(
            "SELECT line, strftime(event_timestamp AT TIME ZONE 'UTC', $key_format) FROM candidate_rows "
            "WHERE event_timestamp IS NOT NULL",
            {"key_format": source.key_format},
        ).fetchall()
    )
