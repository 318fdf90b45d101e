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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from itertools import count, islice
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO, TypeVar

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from fraud_assets.errors import FraudAssetsError
from fraud_assets.silver.source import CsvFormat, Source, quoted

_LINES_AT_ONCE: Final = 131_072
# Enough for Arrow and DuckDB to work at their own speed, few enough to stay in tens of megabytes.
_CELLS_AT_ONCE: Final = 4_000_000
# A file of hundreds of columns has fewer lines at once, and stays in some hundred.
_ROWS_IN_TURN: Final = 16_384
# Of the rows handed to DuckDB, what one thread takes at a time.

MAX_JOINED_LINES: Final = 100
# A quoted field may span lines; one that spans more has more likely lost its closing quote.

_OTHER_DELIMITERS: Final = ",;|\t"
# What a header of one column is searched for, to say which delimiter the file seems to use.

_NOT_TEXT: Final = re.compile("[\0\ud800-\udfff]")
# A null character, or a byte that the encoding does not know (kept as a lone surrogate by `surrogateescape`).

_BYTE_ORDER_MARK: Final = "\ufeff"

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


class BrokenFileError(FraudAssetsError):
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


@dataclass(frozen=True)
class CsvTable:
    """Some records of a CSV file: those with fields as columns of text and the lines they begin on, and the others."""

    lines: Sequence[int]
    columns: Sequence[pa.ChunkedArray]
    unreadable: Sequence[Record]

    def __len__(self) -> int:
        return len(self.lines) + len(self.unreadable)


_Made = TypeVar("_Made")


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
        return self._of_lines(self._records)

    def tables(self) -> Iterator[CsvTable]:
        """Yield the same records column by column."""
        return self._of_lines(self._table)

    def _of_lines(self, made_of: Callable[[list[str], bool], tuple[_Made, int]]) -> Iterator[_Made]:
        lines, ended = self._ahead, False
        at_once = max(min(_LINES_AT_ONCE, _CELLS_AT_ONCE // len(self.names)), 1)
        while not ended:
            more = list(islice(self._stream, at_once))
            ended = not more
            lines += more
            made, used = made_of(lines, ended)
            self._line += used
            lines = lines[used:]
            yield made

    def _skip(self, lines: int) -> None:
        self._line += lines
        self._ahead = [*self._ahead[lines:], *islice(self._stream, lines)]

    def _table(self, lines: list[str], is_end: bool) -> tuple[CsvTable, int]:
        """Return the columns of the records that surely end within the lines, and how many lines they take."""
        columns = self._plain_columns(lines)
        if columns is not None:
            return CsvTable(range(self._line, self._line + len(lines)), columns, []), len(lines)
        records, used = self._records(lines, is_end)
        fields = [record.fields for record in records if record.fields is not None]
        return CsvTable(
            lines=[record.line for record in records if record.fields is not None],
            columns=[pa.chunked_array([pa.array(cells, pa.string())]) for cells in zip(*fields, strict=True)],
            unreadable=[record for record in records if record.fields is None],
        ), used

    def _plain_columns(self, lines: list[str]) -> list[pa.ChunkedArray] | None:
        """Return the columns of lines that are a record each, or None if any of them may be something else.

        Arrow splits such lines as the csv module does, and many times faster. It is asked only where the two cannot
        differ: no quotes, no blank lines, no field beyond the module's limit, no mark that Arrow would skip.
        """
        text, delimiter = "".join(lines), self._dialect["delimiter"]
        if (
            (self._quote and self._quote in text)
            or "\0" in text
            or text.startswith(_BYTE_ORDER_MARK)
            or not (delimiter.isascii() and all(map(str.strip, lines)))
            or max(map(len, lines), default=0) > csv.field_size_limit()
        ):
            return None
        names = [f"c{i}" for i in range(len(self.names))]
        try:
            table = pa_csv.read_csv(
                BytesIO(text.encode()),
                pa_csv.ReadOptions(column_names=names),
                pa_csv.ParseOptions(delimiter=delimiter, quote_char=False),
                pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), check_utf8=False),
            )
        except (UnicodeEncodeError, pa.ArrowInvalid):  # bytes that are no text; a line with more fields, or fewer
            return None
        return table.columns if len(table) == len(lines) else None

    def _records(self, lines: list[str], is_end: bool) -> tuple[list[Record], int]:
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
        for rows in records.tables():
            landed += len(rows)
            _insert(con, table, lines=rows.lines, columns=rows.columns)
            _insert_unreadable(con, table, [(one.line, _printable(one.text), one.problem) for one in rows.unreadable])
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
            at_once = max(min(_LINES_AT_ONCE, _CELLS_AT_ONCE // max(len(names), 1)), 1)
            for batch in parquet.iter_batches(batch_size=at_once):
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
    columns: Sequence[pa.Array | pa.ChunkedArray],
) -> None:
    """Append rows to a raw table as text, blanks as NULL."""
    if not lines:
        return
    positions = [f"c{i}" for i in range(len(columns))]
    texts = ", ".join(_TEXT_OF_CELL.format(cell=position) for position in positions)
    # From a buffer: pyarrow would load pandas to look at a sequence.
    numbers = pa.Array.from_buffers(pa.int64(), len(lines), [None, pa.py_buffer(np.array(lines, np.int64))])
    rows = pa.Table.from_arrays([numbers, *columns], names=["_line", *positions])
    con.register("_batch", pa.Table.from_batches(rows.to_batches(_ROWS_IN_TURN)))
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
