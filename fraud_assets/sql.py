"""What DuckDB's SQL is put together from: names, texts, and the types of our columns."""

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

DUCKDB_TYPES: Final[Mapping[pa.DataType, str]] = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP WITH TIME ZONE",
    pa.list_(pa.string()): "VARCHAR[]",
}
"""DuckDB's names of the types that tables use."""


def identifier(name: str) -> str:
    """Return a column's or table's name as SQL text, whatever characters it holds."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as an SQL literal, for the places that take no bound parameter (file lists, views)."""
    return "'" + text.replace("'", "''") + "'"
