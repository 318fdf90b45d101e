"""The records of a JSON Lines file: one object on each line, its keys the columns.

Here belongs how lines become columns of text: a number stands as it was written, a nested value as JSON. Python's json
module says what a record is; DuckDB finds the same, faster, wherever the two cannot differ. What becomes of records is
`reading` and `splitting`.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import compress, islice
from typing import Any, Final, TextIO

import duckdb
import numpy as np
import pyarrow as pa

from fraud_assets.columns import line_array, number_array, text_array
from fraud_assets.silver.raw_files import NOT_TEXT, OTHER_BYTES, ROWS_IN_TURN, RawFile, RawRows, open_text, printable
from fraud_assets.sql import literal

LINES_AT_ONCE: Final = 65_536
"""Enough for DuckDB to work at its own speed."""

_MAY_DIFFER: Final = (
    # A number that DuckDB would write otherwise: with an exponent, a last zero, a minus before nothing, many digits.
    r"[:,\[]\s*(?:-?(?:\d+(?:\.\d+)?[eE]|\d*\.\d*0\s*[,}\]]|0\.0{5}|\d[\d.]{16})|-0\s*[,}\]])"
    # Infinity and its like, a comma at an end, a null character.
    r"|[:,\[]\s*-?(?:[NiI]|n[^u])|,\s*[}\]]|\\u0000"
)
"""Where it is found, in a text too, the line takes the slow way."""


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


@dataclass(frozen=True)
class JsonChunk:
    """Some records: the lines that are not blank, and their numbers."""

    numbers: Sequence[int]
    lines: list[str]

    def __len__(self) -> int:
        return len(self.lines)

    def texts(self) -> list[tuple[int, str, bool]]:
        """Return each record: its line, its text as it came, and that no quote of it is open."""
        return [(number, text, False) for number, text in zip(self.numbers, self.lines, strict=True)]

    @cached_property
    def _table(self) -> pa.Table:
        """What DuckDB is asked of: `number, line`, without the lines that are not text."""
        numbers = self.numbers
        try:
            lines = line_array(self.lines)
        except UnicodeEncodeError:
            is_text = [not NOT_TEXT.search(line) for line in self.lines]
            numbers, lines = list(compress(numbers, is_text)), line_array(list(compress(self.lines, is_text)))
        table = pa.table({"number": number_array(numbers), "line": lines})
        return pa.Table.from_batches(table.to_batches(ROWS_IN_TURN), table.schema)

    def query(self, con: duckdb.DuckDBPyConnection, select: str) -> pa.Table:
        """Return what a query finds in `lines (number, line)`, without those that are not text."""
        con.register("lines", self._table)
        try:
            return con.sql(select).to_arrow_table()
        finally:
            con.unregister("lines")

    def rows(self, con: duckdb.DuckDBPyConnection, names: Sequence[str]) -> RawRows:
        """Return the values of these keys, NULL where a record has none."""
        keys = ", ".join(literal("/" + name.replace("~", "~0").replace("/", "~1")) for name in names)
        values = "".join(f", found[{at}] AS c{at}" for at, _ in enumerate(names, start=1))
        found = self.query(
            con,
            f"""
            SELECT found IS NOT NULL AS is_found, number {values}
            FROM (
                SELECT number, CASE
                    WHEN starts_with(line, '{{') AND NOT regexp_matches(line, {literal(_MAY_DIFFER)})
                    THEN TRY(json_extract_string(line, [{keys}]::VARCHAR[]))
                END AS found
                FROM lines
            )
            """,
        )
        numbers, *columns = found.filter(found["is_found"]).columns[1:]
        if len(numbers) == len(self):
            return RawRows(self.numbers, columns, [])
        is_other = np.isin(np.asarray(self.numbers), numbers.to_numpy(), assume_unique=True, invert=True)
        known, unreadable, objects = numbers.to_pylist(), [], []
        for number, line in compress(zip(self.numbers, self.lines, strict=True), is_other):
            value = _decoded(line)
            if isinstance(value, str):
                unreadable.append((number, printable(line), value))
            else:
                known.append(number)
                objects.append(value)
        more = (text_array(_text(one.get(name)) for one in objects) for name in names)
        columns = [pa.chunked_array([*column.chunks, cells]) for column, cells in zip(columns, more, strict=True)]
        return RawRows(known, columns, unreadable)


def _decoded(line: str) -> dict[str, Any] | str:
    """Return the object of a line, or what is wrong with it."""
    try:
        value = json.loads(
            line.strip(),
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_Number,
            object_pairs_hook=lambda pairs: dict(reversed(pairs)),  # of a key that is there twice the first counts
        )
    except (ValueError, RecursionError) as error:
        return f"no JSON: {error}"
    if not isinstance(value, dict):
        return "no JSON object"
    texts = (*value, *map(_text, value.values()))
    return OTHER_BYTES if any(text and NOT_TEXT.search(text) for text in texts) else value


def decode_record(line: str) -> dict[str, Any] | None:
    """Return the object of a line, numbers as they were written; None where it is no record."""
    decoded = _decoded(line)
    return None if isinstance(decoded, str) else decoded


def cells_of(record: dict[str, Any], names: Iterable[str]) -> dict[str, str | None]:
    """Return a record's values of these keys as text, whatever their case; blanks stand as they came."""
    spelled = {name.lower(): name for name in sorted(record, reverse=True)}
    return {name: _text(record.get(spelled.get(name.lower(), name))) for name in names}


def _text(value: Any) -> str | None:
    """Return a value as DuckDB writes it: texts and numbers as they are, everything else as JSON."""
    return value if value is None or isinstance(value, str) else _as_json(value)


def _as_json(value: Any) -> str:
    match value:
        case _Number():
            return value
        case dict():
            return "{" + ",".join(f"{_as_json(key)}:{_as_json(one)}" for key, one in reversed(value.items())) + "}"
        case list():
            return "[" + ",".join(map(_as_json, value)) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)


class JsonRecords:
    """An open JSON Lines file: its column names, as the first some thousand records have them, and its records."""

    header: Final = ""
    encoding: Final = "utf-8"

    def __init__(self, stream: TextIO, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con
        self._chunks = _chunks(stream)
        self._first = next(self._chunks, JsonChunk([], []))
        keys = "SELECT number, unnest(TRY(json_keys(line))) AS key FROM lines"
        found = self._first.query(con, f"SELECT key FROM ({keys}) GROUP BY key ORDER BY min(number), key")
        self.names: list[str] = found["key"].to_pylist()

    def chunks(self) -> Iterator[JsonChunk]:
        """Yield the records, some thousand at a time."""
        yield self._first
        yield from self._chunks

    def rows(self, names: Sequence[str]) -> Iterator[RawRows]:
        """Yield the records, some thousand at a time, with the values of these keys."""
        return (chunk.rows(self._con, names) for chunk in self.chunks())


def _chunks(stream: TextIO) -> Iterator[JsonChunk]:
    first = 1
    while lines := list(islice(stream, LINES_AT_ONCE)):
        numbers = range(first, first := first + len(lines))
        if any(map(str.isspace, lines)):
            numbers = [number for number, line in zip(numbers, lines, strict=True) if not line.isspace()]
            lines = [line for line in lines if not line.isspace()]
        yield JsonChunk(numbers, lines)


@cache
def _database() -> duckdb.DuckDBPyConnection:
    """One for the process, without tables: to open it takes as long as to read some ten thousand lines."""
    return duckdb.connect()


@contextmanager
def open_json(file: RawFile) -> Iterator[JsonRecords]:
    """Open a JSON Lines file, gzipped or not, for reading its records; raises what `open_text` raises."""
    with open_text(file, JsonRecords.encoding) as stream, _database().cursor() as con:
        yield JsonRecords(stream, con)


def texts_of(file: RawFile, numbers: Collection[int]) -> list[tuple[int, str]]:
    """Return the lines of these numbers, with them; raises what `open_text` raises."""
    with open_text(file, JsonRecords.encoding) as stream:
        return [(number, printable(line)) for number, line in enumerate(stream, start=1) if number in numbers]
