"""Landed files become tables of text: one row per record, every raw column as it was written.

Here belong the file formats: CSV (also gzipped), record by record, and Parquet. What a column means and
whether a row is good is `cleaning`. A record that the format cannot delimit costs that record; a file that
cannot be read as a table of the expected columns is broken, and its partition cannot be built.
"""

import csv
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from fraud_assets.silver.source import CsvFormat, Source, quoted

_LINES_AT_ONCE: Final = 16_384
# Enough for Arrow and the csv module to work at their own speed, few enough to stay in tens of megabytes.

MAX_JOINED_LINES: Final = 100
# A quoted field may span lines; one that spans more has more likely lost its closing quote.

_OTHER_DELIMITERS: Final = ",;|\t"
# What a header of one column is searched for, to say which delimiter the file seems to use.

_NOT_TEXT: Final = re.compile("[\0\ud800-\udfff]")
# A null character, or a byte that the encoding does not know (kept as a lone surrogate by `surrogateescape`).

_OTHER_BYTES: Final = "characters that are not text in this encoding"

_TEXT_OF_CELL: Final = """
    CASE
        WHEN {cell}::VARCHAR > '!' AND {cell}::VARCHAR < '~' THEN {cell}::VARCHAR
        WHEN trim({cell}::VARCHAR, ' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13) || chr(160)) <> ''
        THEN {cell}::VARCHAR
    END
"""
# A cell of white space alone is empty: exports pad their blanks. Trimming takes most of the time of reading, so cells
# that begin with a printable character of ASCII, which are nearly all, go without.


@dataclass(frozen=True)
class RawFile:
    """A landed file: where it lies, and the name that people know it by."""

    path: Path
    name: str

    @property
    def is_parquet(self) -> bool:
        """Whether the file is Parquet; every other file is CSV."""
        return self.path.suffix.lower() == ".parquet"


class BrokenFileError(Exception):
    """A landed file cannot be read as a table of the expected columns; the message names the file."""

    def __init__(self, file: str, problem: str, expected: str) -> None:
        super().__init__(f"{file}: {problem} Expected {expected}")
        self.file, self.problem, self.expected = file, problem, expected


class Record(NamedTuple):
    """One CSV record: the line it begins on (from 1), its text as it came, and its fields or why it has none.

    Bytes that the encoding does not know stand in the text as lone surrogates: written with the same encoding
    and `errors="surrogateescape"` they are the same bytes again.
    """

    line: int
    text: str
    fields: list[str] | None
    problem: str = ""


class CsvRecords:
    """An open CSV file: its header as text, its column names, and its records, to be read once and in order.

    Blank lines are no records. A record is delimited when it has exactly as many fields as there are
    columns; a line that begins no such record stands alone, without fields, and the next line begins a
    record again.
    """

    def __init__(self, stream: TextIO, name: str, csv_format: CsvFormat) -> None:
        self._dialect: dict[str, Any] = {"delimiter": csv_format.delimiter, "strict": True}
        self._dialect |= {"quotechar": csv_format.quote} if csv_format.quote else {"quoting": csv.QUOTE_NONE}
        self._quote = csv_format.quote
        self._stream = stream
        self._line = 1
        self._ahead = list(islice(stream, MAX_JOINED_LINES))
        while self._ahead and not self._ahead[0].strip():
            self._skip(1)
        if not self._ahead:
            raise BrokenFileError(name, "the file is empty.", "at least a header line.")
        first, used = self._delimit(self._ahead, width=None)
        if first.fields is None:
            raise BrokenFileError(name, f"line {self._line} cannot be read: {first.problem}.", "a header line.")
        self.header = first.text if csv_format.header else ""
        self.names = [f"c{i}" for i, _ in enumerate(first.fields, start=1)]
        if csv_format.header:
            self.names = [field.strip() or c for field, c in zip(first.fields, self.names, strict=True)]
            self._skip(used)

    def batches(self) -> Iterator[list[Record]]:
        """Yield the records, some thousand at a time."""
        lines, ended = self._ahead, False
        while not ended:
            more = list(islice(self._stream, _LINES_AT_ONCE))
            ended = not more
            lines += more
            records, used = self._records(lines, is_end=ended)
            self._line += used
            lines = lines[used:]
            yield records

    def _skip(self, lines: int) -> None:
        self._line += lines
        self._ahead = [*self._ahead[lines:], *islice(self._stream, lines)]

    def _records(self, lines: list[str], *, is_end: bool) -> tuple[list[Record], int]:
        """Return the records that surely end within the lines, and how many lines they take."""
        width = len(self.names)
        text = "".join(lines)
        if not (self._quote and self._quote in text) and not _NOT_TEXT.search(text):
            try:
                rows = list(csv.reader(lines, **self._dialect))
            except csv.Error:
                pass  # One field is too long: take the lines one by one, to lose only that one.
            else:
                return [
                    Record(line, text, fields) if len(fields) == width else _undelimited(line, text, fields, width)
                    for line, text, fields in zip(count(self._line), lines, rows, strict=False)
                    if text.strip()
                ], len(lines)
        records, used = [], 0
        while used < len(lines) - (0 if is_end else MAX_JOINED_LINES - 1):
            record, taken = self._delimit(lines[used : used + MAX_JOINED_LINES], width=width, at=used)
            if record.text.strip():
                records.append(record)
            used += taken
        return records, used

    def _delimit(self, lines: list[str], *, width: int | None, at: int = 0) -> tuple[Record, int]:
        """Return the record that begins on the first line, and how many lines it takes."""
        line = self._line + at
        reader = csv.reader(lines, **self._dialect)
        try:
            fields = next(reader)
        except csv.Error as error:
            return Record(line, lines[0], None, str(error)), 1
        if width is not None and len(fields) != width:
            return _undelimited(line, lines[0], fields, width), 1
        text = "".join(lines[: reader.line_num])
        if _NOT_TEXT.search(text):
            return Record(line, text, None, _OTHER_BYTES), reader.line_num
        return Record(line, text, fields), reader.line_num


def _undelimited(line: int, text: str, fields: list[str], width: int) -> Record:
    return Record(line, text, None, f"{len(fields)} fields instead of {width}")


@contextmanager
def open_csv(file: RawFile, csv_format: CsvFormat) -> Iterator[CsvRecords]:
    """Open a CSV file, gzipped or not, for reading its records.

    Raises:
        BrokenFileError: The file has no header, cannot be read to its end, or has another encoding.
    """
    encoding = "utf-8-sig" if csv_format.encoding == "utf-8" else csv_format.encoding
    try:
        with file.path.open("rb") as raw:
            is_gzip = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with TextIOWrapper(
                gzip.GzipFile(fileobj=raw) if is_gzip else raw,
                encoding=encoding,
                errors="surrogateescape",
                newline="",
            ) as stream:
                yield CsvRecords(stream, file.name, csv_format)
    except (OSError, EOFError, zlib.error) as error:
        raise BrokenFileError(file.name, f"it cannot be read to its end ({error}).", "a whole file.") from error
    except UnicodeError as error:
        raise BrokenFileError(file.name, f"the text is not {encoding} ({error}).", "[csv] encoding.") from error


def iter_records(file: RawFile, csv_format: CsvFormat) -> Iterator[Record]:
    """Yield every record of a CSV file after its header, delimited or not, with its text as it came.

    Raises:
        BrokenFileError: See `open_csv`.
    """
    with open_csv(file, csv_format) as records:
        yield from chain.from_iterable(records.batches())


def read_raw(con: duckdb.DuckDBPyConnection, source: Source, file: RawFile, table: str) -> int:
    """Read a file into two temporary tables, and return how many records it holds.

    `table` has the raw columns as text, a cell of white space alone being NULL, and `_line`: the line a
    record begins on (CSV) or the row number (Parquet), from 1. `<table>_unreadable` has `line, text, reason`
    of the records that could not be delimited. Columns are found by name; order, case and surplus columns do
    not matter.

    Raises:
        BrokenFileError: The file is empty or damaged, or lacks columns that the source's expressions need.
        SourceError: The source's expressions are not valid.
    """
    return read_columns(con, source.csv, file, table, source.raw_columns(con))


def read_columns(
    con: duckdb.DuckDBPyConnection, csv_format: CsvFormat, file: RawFile, table: str, needed: frozenset[str]
) -> int:
    """Read a file as `read_raw` does, whatever it is about: of its columns, only the needed ones must be there.

    Raises:
        BrokenFileError: The file is empty or damaged, or lacks a needed column.
    """
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE {quoted(table + '_unreadable')} (line BIGINT, text VARCHAR, reason VARCHAR)"
    )
    return (_read_parquet if file.is_parquet else _read_csv)(con, csv_format, file, table, needed)


def _read_csv(
    con: duckdb.DuckDBPyConnection, csv_format: CsvFormat, file: RawFile, table: str, needed: frozenset[str]
) -> int:
    landed = 0
    with open_csv(file, csv_format) as records:
        _create_raw_table(con, file, table, records.names, needed)
        for batch in records.batches():
            landed += len(batch)
            good = [record for record in batch if record.fields is not None]
            columns = zip(*(record.fields or () for record in good), strict=True)
            _insert(
                con,
                table,
                lines=[record.line for record in good],
                columns=[pa.array(column, pa.string()) for column in columns],
            )
            unreadable = [
                (record.line, _printable(record.text), record.problem) for record in batch if record.fields is None
            ]
            _insert_unreadable(con, table, unreadable)
    return landed


def _read_parquet(
    con: duckdb.DuckDBPyConnection, csv_format: CsvFormat, file: RawFile, table: str, needed: frozenset[str]
) -> int:
    del csv_format  # A Parquet file says itself how it is written.
    try:
        with pq.ParquetFile(file.path) as parquet:
            names = parquet.schema_arrow.names
            _create_raw_table(con, file, table, names, needed)
            line = 1
            for batch in parquet.iter_batches(batch_size=_LINES_AT_ONCE):
                rows, not_text = _as_text(batch)
                _insert(con, table, lines=range(line, line + len(rows)), columns=rows.columns)
                if not_text:
                    con.execute(
                        f"DELETE FROM {quoted(table)} WHERE list_contains($lines, _line)",
                        {"lines": [line + i for i in not_text]},
                    )
                    _insert_unreadable(
                        con,
                        table,
                        [
                            (line + i, json.dumps(row, default=str), _OTHER_BYTES)
                            for i, row in zip(not_text, rows.take(not_text).to_pylist(), strict=True)
                        ],
                    )
                line += len(rows)
            return parquet.metadata.num_rows
    except (pa.ArrowException, OSError, duckdb.Error, UnicodeError) as error:
        problem = f"it cannot be read as Parquet ({str(error).splitlines()[0]})."
        raise BrokenFileError(file.name, problem, "a whole Parquet file.") from error


def _as_text(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[int]]:
    """Return a batch whose text is UTF-8, other bytes written out, and the positions of the rows that had them.

    Arrow takes a file's word for it, and DuckDB would not survive such text: every later query of its process fails.
    """
    columns, not_text = list(batch.columns), set[int]()
    for number, column in enumerate(columns):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            plain = column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column
            cells = plain.cast(pa.binary()).to_pylist()
            texts = [None if cell is None else cell.decode("utf-8", "backslashreplace") for cell in cells]
            not_text |= {i for i, text in enumerate(texts) if text is not None and text.encode() != cells[i]}
            columns[number] = pa.array(texts, pa.string())
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names), sorted(not_text)


def _create_raw_table(
    con: duckdb.DuckDBPyConnection, file: RawFile, table: str, names: Sequence[str], needed: frozenset[str]
) -> None:
    """Create the table of a file's raw columns, once they are known to be the ones that are needed."""
    spelled = Counter(["_line", *(name.lower() for name in names)])
    twice = [name for name in names if spelled[name.lower()] > 1]
    if twice:
        problem = f"column names {', '.join(twice)} are not unique."
        raise BrokenFileError(file.name, problem, "names that differ, case aside; _line is taken.")
    missing = sorted(name for name in needed if name.lower() not in spelled)
    if missing:
        problem = f"column {', '.join(missing)} is missing; it has {', '.join(names)[:200]}."
        used = [d for d in _OTHER_DELIMITERS if len(names) == 1 and d in names[0]]
        hint = f" The file seems to use [csv] delimiter = {used[0]!r}." if used else ""
        raise BrokenFileError(file.name, problem + hint, f"the columns {', '.join(sorted(needed))}.")
    columns = ", ".join(f"{quoted(name)} VARCHAR" for name in names)
    con.execute(f"CREATE OR REPLACE TEMP TABLE {quoted(table)} (_line BIGINT, {columns})")


def _insert(
    con: duckdb.DuckDBPyConnection,
    table: str,
    *,
    lines: Sequence[int],
    columns: Sequence[pa.Array],
) -> None:
    """Append rows to a raw table as text, blanks as NULL."""
    if not lines:
        return
    positions = [f"c{i}" for i in range(len(columns))]
    texts = ", ".join(_TEXT_OF_CELL.format(cell=position) for position in positions)
    con.register("_batch", pa.table([pa.array(lines, pa.int64()), *columns], names=["_line", *positions]))
    try:
        con.execute(f"INSERT INTO {quoted(table)} SELECT _line, {texts} FROM _batch")
    finally:
        con.unregister("_batch")


def _insert_unreadable(con: duckdb.DuckDBPyConnection, table: str, records: list[tuple[int, str, str]]) -> None:
    if records:
        con.executemany(f"INSERT INTO {quoted(table + '_unreadable')} VALUES (?, ?, ?)", records)


def _printable(text: str) -> str:
    """Return a record's text without its line end, and with bytes that are no text written out."""
    return text.rstrip("\r\n").encode("utf-8", "backslashreplace").decode("utf-8")
