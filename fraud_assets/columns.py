"""Columns of our tables: name, type, and the words that Delta, Dagster, the views and the documentation show."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from io import BytesIO
from typing import Any, Final

import numpy as np
import pyarrow as pa

_WHOLE: Final = pa.int64()

UTC_MICROSECONDS: Final = pa.timestamp("us", tz="UTC")
"""Delta keeps microseconds, and a UTC timestamp keeps the table readable by the oldest protocol."""


def column(name: str, type_: pa.DataType, meaning: str, *, nullable: bool = False) -> pa.Field:
    """Return a column that says what it means, in the metadata that Delta and its readers show as its comment."""
    return pa.field(name, type_, nullable=nullable, metadata={"comment": meaning})


def table_of(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return rows of texts, whole numbers and times as a table of exactly this schema; what is missing is NULL.

    By way of JSON: whatever pyarrow makes of Python's values, it imports pandas first, half a second of a run's time.
    """
    from pyarrow import json as pa_json

    lines = "".join(f"{json.dumps(dict(row), default=datetime.isoformat)}\n" for row in rows)
    if not lines:
        return pa.Table.from_batches([], schema)
    options = pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    parsed = pa_json.read_json(BytesIO(lines.encode()), parse_options=options)
    return pa.Table.from_arrays([parsed[name] for name in schema.names], schema=schema)


def text_array(values: Iterable[str | None]) -> pa.Array:
    """Return what `pa.array(values, pa.string())` does, without pandas; UnicodeEncodeError for what is no text."""
    cells = [None if value is None else value.encode() for value in values]
    ends = np.cumsum([0, *(len(cell or b"") for cell in cells)], dtype=np.int64)
    is_there = np.packbits(np.array([cell is not None for cell in cells], dtype=bool), bitorder="little")
    content = b"".join(cell for cell in cells if cell)
    buffers = [pa.py_buffer(is_there), pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(content)]
    return pa.Array.from_buffers(pa.string(), len(cells), buffers)


def line_array(lines: Sequence[str]) -> pa.Array:
    """Return what `text_array` does where nothing is missing, some times as fast."""
    content = "".join(lines).encode()
    sizes = map(len, lines if content.isascii() else map(str.encode, lines))
    ends = np.zeros(len(lines) + 1, np.int32)
    np.cumsum(np.fromiter(sizes, np.int32, len(lines)), out=ends[1:])
    return pa.Array.from_buffers(pa.string(), len(lines), [None, pa.py_buffer(ends), pa.py_buffer(content)])


def number_array(values: Sequence[float], type_: pa.DataType = _WHOLE) -> pa.Array:
    """Return what `pa.array(values, type_)` does for whole numbers of 64 bits, or doubles, without pandas."""
    numbers = np.asarray(values, dtype=np.int64 if type_ == _WHOLE else np.float64)
    return pa.Array.from_buffers(type_, len(numbers), [None, pa.py_buffer(numbers)])


def meanings(schema: pa.Schema) -> dict[str, str]:
    """Return what each column of a schema means."""
    return {field.name: field.metadata[b"comment"].decode() for field in schema}
