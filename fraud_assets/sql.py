"""What DuckDB's SQL is put together from: names, texts, and the types of our columns."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import pyarrow as pa

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_TYPES: Final[Mapping[pa.DataType, str]] = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP WITH TIME ZONE",
}
"""DuckDB's names of the types that tables use."""


def duckdb_type(type_: pa.DataType) -> str:
    """Return DuckDB's name of a column's type, of lists and structures of such types, too."""
    if pa.types.is_list(type_):
        return f"{duckdb_type(type_.value_type)}[]"
    if pa.types.is_struct(type_):
        fields = (type_.field(at) for at in range(type_.num_fields))
        return f"STRUCT({', '.join(f'{identifier(field.name)} {duckdb_type(field.type)}' for field in fields)})"
    return _TYPES[type_]


def identifier(name: str) -> str:
    """Return a column's or table's name as SQL text, whatever characters it holds."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as an SQL literal, for the places that take no bound parameter (file lists, views)."""
    return "'" + text.replace("'", "''") + "'"


def rows_as(con: "DuckDBPyConnection", query: str, schema: pa.Schema) -> pa.Table:
    """Return the answer of a query, which has `{}` where its columns belong, in exactly the columns of a schema."""
    columns = (f"{identifier(field.name)}::{duckdb_type(field.type)} AS {identifier(field.name)}" for field in schema)
    rows = con.sql(query.format(", ".join(columns))).to_arrow_reader().read_all()
    return pa.Table.from_arrays([rows[field.name].cast(field.type) for field in schema], schema=schema)
