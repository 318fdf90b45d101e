"""The records of a CSV file: where each begins and ends, and its fields.

Here belongs the one rule of what a record is, Python's csv module's, and the fast way to the same answer. What becomes
of records is `reading` and `splitting`.
"""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import compress, islice
from typing import Any, Final, NamedTuple, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from fraud_assets.columns import text_array
from fraud_assets.silver.raw_files import (
    NOT_TEXT,
    OTHER_BYTES,
    BrokenFileError,
    RawFile,
    RawRows,
    open_text,
    other_encoding,
    printable,
)
from fraud_assets.silver.source import CsvFormat

LINES_AT_ONCE: Final = 131_072
"""Enough for Arrow and DuckDB to work at their own speed, few enough to stay in tens of megabytes."""

CELLS_AT_ONCE: Final = 4_000_000
"""A file of hundreds of columns has fewer lines at once, and stays in some hundred megabytes."""

MAX_JOINED_LINES: Final = 100
"""A quoted field may span lines; one that spans more has more likely lost its closing quote."""

_BYTE_ORDER_MARK: Final = "\ufeff"


class Record(NamedTuple):
    """One CSV record: the line it begins on (from 1), its text as it came, and its fields or why it has none."""

    line: int
    text: str
    fields: list[str] | None
    problem: str = ""


@dataclass(frozen=True)
class CsvChunk:
    """Some records of a CSV file: `lines` that are a record each with their numbers, and `others`, found one by one."""

    numbers: Sequence[int]
    lines: list[str]
    text: bytes | None  # of the lines, where it is known
    others: list[Record]
    dialect: dict[str, Any]
    width: int

    def __len__(self) -> int:
        return len(self.lines) + len(self.others)

    def texts(self) -> list[tuple[int, str, bool]]:
        """Return each record in order: its first line, its text as it came, whether it may have an open quote."""
        quote = self.dialect.get("quotechar", "\n\n")
        singles = ((number, text, False) for number, text in zip(self.numbers, self.lines, strict=True))
        others = ((one.line, one.text, one.fields is None and quote in one.text) for one in self.others)
        return sorted([*singles, *others])

    def rows(self, kept: Sequence[int]) -> RawRows:
        """Return the fields of all records, of the columns at these places only."""
        numbers, lines, others = self.numbers, self.lines, self.others
        columns = self._split(lines, kept, self.text)
        if columns is None:
            widths = list(map(len, csv.reader(lines, **self.dialect)))
            found = zip(numbers, lines, widths, strict=True)
            others = others + [_of_other_width(*one, self.width) for one in found if one[-1] != self.width]
            is_whole = [width == self.width for width in widths]
            numbers, lines = list(compress(numbers, is_whole)), list(compress(lines, is_whole))
            columns = self._split(lines, kept) or []
        delimited = [(one.line, one.fields) for one in others if one.fields is not None]
        if delimited:
            numbers = [*numbers, *(line for line, _ in delimited)]
            columns = [
                pa.chunked_array([*column.chunks, text_array(fields[at] for _, fields in delimited)])
                for at, column in zip(kept, columns, strict=True)
            ]
        return RawRows(
            numbers, columns, [(one.line, printable(one.text), one.problem) for one in others if one.fields is None]
        )

    def _split(self, lines: list[str], kept: Sequence[int], text: bytes | None = None) -> list[pa.ChunkedArray] | None:
        """Return the columns of lines that are a record each, or None where one has more fields or fewer.

        Arrow splits such lines as the csv module does, and many times faster.
        """
        if not lines:
            return [pa.chunked_array([], pa.string()) for _ in kept]
        names = [f"c{i}" for i in range(self.width)]
        try:
            return pa_csv.read_csv(
                BytesIO("".join(lines).encode() if text is None else text),
                pa_csv.ReadOptions(column_names=names),
                pa_csv.ParseOptions(
                    delimiter=self.dialect["delimiter"], quote_char=self.dialect.get("quotechar", False)
                ),
                pa_csv.ConvertOptions(
                    check_utf8=False,
                    column_types=dict.fromkeys(names, pa.string()),
                    include_columns=[names[at] for at in kept],
                ),
            ).columns
        except pa.ArrowInvalid:
            return None


class CsvRecords:
    """An open CSV file: its header as text, with what stands before, its column names, and its records, in order.

    Blank lines are no records. A record is delimited when it has exactly as many fields as there are
    columns; a line that begins no such record stands alone, without fields, and the next line begins a
    record again.
    """

    def __init__(self, stream: TextIO, file: RawFile, csv_format: CsvFormat) -> None:
        self._dialect: dict[str, Any] = {"delimiter": csv_format.delimiter, "strict": True}
        self._dialect |= {"quotechar": csv_format.quote} if csv_format.quote else {"quoting": csv.QUOTE_NONE}
        self._stream = stream
        self.encoding = csv_format.encoding
        self._line = 1 + csv_format.skip
        skipped = "".join(islice(stream, csv_format.skip))
        self._ahead = list(islice(stream, MAX_JOINED_LINES))
        while self._ahead and not self._ahead[0].strip():
            self._skip(1)
        if not self._ahead:
            raise BrokenFileError(file.name, "the file is empty.", "at least a header line.")
        first, used = self._delimit(self._ahead, width=None)
        if first.fields is None:
            problem = f"line {self._line} cannot be read: {first.problem}.{other_encoding(file, self.encoding)}"
            raise BrokenFileError(file.name, problem, "a header line.")
        self.header = skipped + (first.text if csv_format.header else "")
        self.names = [f"c{i}" for i, _ in enumerate(first.fields, start=1)]
        if csv_format.header:
            self.names = [field.strip() or c for field, c in zip(first.fields, self.names, strict=True)]
            self._skip(used)

    def rows(self, names: Sequence[str]) -> Iterator[RawRows]:
        """Yield the records, some thousand at a time, of these columns only."""
        kept = [self.names.index(name) for name in names]
        return (chunk.rows(kept) for chunk in self.chunks())

    def chunks(self) -> Iterator[CsvChunk]:
        """Yield the records, some thousand at a time."""
        lines, ended = self._ahead, False
        at_once = max(min(LINES_AT_ONCE, CELLS_AT_ONCE // len(self.names)), 1)
        while not ended:
            more = list(islice(self._stream, at_once))
            ended = not more
            lines += more
            chunk, used = self._chunk(lines, ended)
            self._line += used
            lines = lines[used:]
            yield chunk

    def _skip(self, lines: int) -> None:
        self._line += lines
        self._ahead = [*self._ahead[lines:], *islice(self._stream, lines)]

    def _chunk(self, lines: list[str], is_end: bool) -> tuple[CsvChunk, int]:
        """Return the records that surely end within the lines, and how many lines they take."""
        width = len(self.names)
        is_single, text = _single_lines(lines, self._dialect)
        is_blank = np.zeros(len(lines), bool)
        if not all(map(str.strip, lines)):
            is_blank[:] = [not line.strip() for line in lines]
        others, end, taken = [], len(lines), 0
        for at in np.flatnonzero(~is_single & ~is_blank).tolist():
            if at < taken:
                continue
            if not is_end and at + MAX_JOINED_LINES > len(lines):
                end = at
                break
            record, used = self._delimit(lines[at : at + MAX_JOINED_LINES], width=width, at=at)
            others.append(record)
            taken = at + used
            is_single[at:taken] = False
        is_single &= ~is_blank
        numbers: Sequence[int] = range(self._line, self._line + end)
        if not is_single[:end].all() or end < len(lines):
            text = None
            numbers, lines = list(compress(numbers, is_single)), list(compress(lines[:end], is_single))
        return CsvChunk(numbers, lines, text, others, self._dialect, width), end

    def _delimit(self, lines: list[str], *, width: int | None, at: int = 0) -> tuple[Record, int]:
        """Return the record that begins on the first line, and how many lines it takes."""
        line = self._line + at
        reader = csv.reader(lines, **self._dialect)
        try:
            fields = next(reader)
        except csv.Error as error:
            return Record(line, lines[0], None, str(error)), 1
        if width is not None and len(fields) != width:
            return _of_other_width(line, lines[0], len(fields), width), 1
        text = "".join(lines[: reader.line_num])
        if NOT_TEXT.search(text):
            return Record(line, text, None, OTHER_BYTES), reader.line_num
        return Record(line, text, fields), reader.line_num


def _single_lines(lines: list[str], dialect: dict[str, Any]) -> tuple[np.ndarray, bytes]:
    """Say of which lines it is plain that each is one record, and that Arrow and the csv module split it alike.

    No byte that is no text, no mark that Arrow would skip, no field beyond the module's limit; and every quote begins a
    field, ends one, or stands doubled within. The text of all lines comes with it, as bytes.
    """
    text, quote = "".join(lines), dialect.get("quotechar", "")
    data = text.encode("utf-8", "surrogatepass")
    if not (dialect["delimiter"] + quote).isascii():
        return np.zeros(len(lines), bool), data
    limit = csv.field_size_limit()
    is_single = np.ones(len(lines), bool)
    # As bytes: to search a long text for the pattern takes longer than to read it.
    if b"\0" in data or b"\xed" in data or _BYTE_ORDER_MARK.encode() in data or max(map(len, lines), default=0) > limit:
        is_single[:] = [not (NOT_TEXT.search(line) or _BYTE_ORDER_MARK in line or len(line) > limit) for line in lines]
    if quote and quote in text:
        found = np.frombuffer(data, np.uint8)
        sizes = map(len, lines) if text.isascii() else (len(line.encode("utf-8", "surrogatepass")) for line in lines)
        ends = np.cumsum(np.fromiter(sizes, np.int64, len(lines)))
        quotes = np.flatnonzero(found == ord(quote))
        before = np.searchsorted(quotes, ends)
        per_line = np.diff(before, prepend=0)
        is_single &= per_line % 2 == 0
        # Within a line quotes open and close in turn; a doubled one closes and opens at once.
        opens = (np.arange(len(quotes)) - np.repeat(before - per_line, per_line)) % 2 == 0
        is_edge = np.zeros(256, bool)
        is_edge[[ord(dialect["delimiter"]), ord(quote), *b"\r\n"]] = True
        outside = np.where(opens, quotes - 1, quotes + 1)
        is_fine = (outside < 0) | (outside >= len(data)) | is_edge[found[np.clip(outside, 0, len(data) - 1)]]
        is_single[np.searchsorted(ends, quotes[~is_fine], side="right")] = False
    return is_single, data


def _of_other_width(line: int, text: str, fields: int, width: int) -> Record:
    return Record(line, text, None, f"{fields} fields instead of {width}")


@contextmanager
def open_csv(file: RawFile, csv_format: CsvFormat) -> Iterator[CsvRecords]:
    """Open a CSV file, gzipped or not, for reading its records; BrokenFileError without header, or as `open_text`."""
    with open_text(file, csv_format.encoding) as stream:
        yield CsvRecords(stream, file, csv_format)
