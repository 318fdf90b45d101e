"""Columns of our tables: name, type, and the words that Delta, Dagster, the views and the documentation show."""

from typing import Final

import pyarrow as pa

UTC_MICROSECONDS: Final = pa.timestamp("us", tz="UTC")
"""Delta keeps microseconds, and a UTC timestamp keeps the table readable by the oldest protocol."""


def column(name: str, type_: pa.DataType, meaning: str, *, nullable: bool = False) -> pa.Field:
    """Return a column that says what it means, in the metadata that Delta and its readers show as its comment."""
    return pa.field(name, type_, nullable=nullable, metadata={"comment": meaning})


def meanings(schema: pa.Schema) -> dict[str, str]:
    """Return what each column of a schema means."""
    return {field.name: field.metadata[b"comment"].decode() for field in schema}
