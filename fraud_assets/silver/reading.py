"""Landed files become tables of text: one row per record, every raw column as it was written.

Here belong Parquet files and the way into DuckDB; the records of texts are `csv_records` and `json_records`. What a
column means and whether a row is good is `cleaning`. A record that the format cannot delimit costs that record; a file
that cannot be read as a table of the expected columns is broken, and its partition cannot be built.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from difflib import get_close_matches
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fraud_assets.columns import number_array, text_array
from fraud_assets.silver.csv_records import CELLS_AT_ONCE, LINES_AT_ONCE, CsvRecords, open_csv
from fraud_assets.silver.json_records import JsonRecords, open_json
from fraud_assets.silver.raw_files import OTHER_BYTES, ROWS_IN_TURN, BrokenFileError, RawFile, RawRows
from fraud_assets.silver.source import CsvFormat
from fraud_assets.sql import identifier

_OTHER_DELIMITERS: Final = ",;|\t"
"""What a header of one column is searched for, to say which delimiter the file seems to use."""

_TEXT_OF_CELL: Final = """
    CASE
        WHEN {cell}::VARCHAR > '!' AND {cell}::VARCHAR < '~' THEN {cell}::VARCHAR
        WHEN trim({cell}::VARCHAR, ' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13) || chr(160)) <> ''
        THEN {cell}::VARCHAR
    END
"""
"""A cell of white space alone is empty: exports pad their blanks. Trimming takes most of the time of reading, so cells
that begin with a printable character of ASCII, which are nearly all, go without."""


def text_of_cell(cell: str) -> str:
    """Return the SQL of a cell as text, NULL where it is blank."""
    return _TEXT_OF_CELL.format(cell=cell)


class ParquetRows:
    """An open Parquet file: its column names and its rows, to be read once and in order."""

    def __init__(self, parquet: pq.ParquetFile) -> None:
        self._parquet = parquet
        self.names: list[str] = parquet.schema_arrow.names

    def rows(self, names: Sequence[str]) -> Iterator[RawRows]:
        """Yield the rows, some thousand at a time, of these columns only.

        A row with text that is not UTF-8 is no record: Arrow takes a file's word for it, and DuckDB would not survive
        such text, every later query of its process fails.
        """
        first = 1
        at_once = max(min(LINES_AT_ONCE, CELLS_AT_ONCE // max(len(self.names), 1)), 1)
        for batch in self._parquet.iter_batches(batch_size=at_once):
            lines: Sequence[int] = range(first, first + len(batch))
            rows, not_text = _as_text(batch)
            unreadable = [
                (lines[at], json.dumps(row, default=str), OTHER_BYTES)
                for at, row in zip(not_text, rows.take(not_text).to_pylist() if not_text else [], strict=True)
            ]
            if not_text:
                whole = np.setdiff1d(np.arange(len(rows)), not_text)
                lines, rows = (first + whole).tolist(), rows.take(number_array(whole.tolist()))
            yield RawRows(lines, [rows.column(name) for name in names], unreadable)
            first += len(batch)

    def chunks(self) -> Iterator[range]:
        """Yield the row numbers."""
        yield range(self._parquet.metadata.num_rows)


Records = CsvRecords | JsonRecords | ParquetRows
"""An open file: the `names` of its columns, the `rows` of some of them, and `chunks` of records."""


@contextmanager
def open_parquet(file: RawFile) -> Iterator[ParquetRows]:
    """Open a Parquet file for reading its rows; raises BrokenFileError where it cannot be read as Parquet."""
    try:
        with pq.ParquetFile(file.path) as parquet:
            yield ParquetRows(parquet)
    except (pa.ArrowException, OSError, duckdb.Error, UnicodeError) as error:
        problem = f"it cannot be read as Parquet ({str(error).splitlines()[0]})."
        raise BrokenFileError(file.name, problem, "a whole Parquet file.") from error


def open_raw(file: RawFile, csv_format: CsvFormat) -> AbstractContextManager[Records]:
    """Open a file of any kind for reading its records; a damaged one raises BrokenFileError, within the block too."""
    match file.kind:
        case "parquet":
            return open_parquet(file)
        case "jsonl":
            return open_json(file)
        case "csv":
            return open_csv(file, csv_format)


def count_records(file: RawFile, csv_format: CsvFormat) -> int:
    """Return the records of a file, good or bad, without splitting those of one line; raises what `open_raw` raises."""
    with open_raw(file, csv_format) as records:
        return sum(map(len, records.chunks()))


def read_raw(
    con: duckdb.DuckDBPyConnection,
    file: RawFile,
    records: Records,
    table: str,
    needed: frozenset[str],
    *,
    by: str = "",
    kept: frozenset[str] | None = None,
    is_strict: bool = False,
) -> int:
    """Read an open file into two temporary tables, and return how many records it holds.

    `table` has the raw columns as text, a cell of white space alone being NULL, and `_line`: the line a
    record begins on (CSV, JSON) or the row number (Parquet), from 1. `<table>_unreadable`
    has `line, text, reason` of the records that could not be delimited. Columns are found by name: those that are
    `needed` must be there, of all only the `kept` ones (in lower case) are read; order, case and surplus columns do not
    matter. A JSON record without a key has no value there, so that a key may be in no record, unless `is_strict`.
    Raises BrokenFileError where the file is damaged, or lacks a needed column.
    """
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE {identifier(table + '_unreadable')} (line BIGINT, text VARCHAR, reason VARCHAR)"
    )
    names = list(records.names)
    if isinstance(records, JsonRecords):
        # Of its keys only those that are needed, since any record may have odd ones beside; the line is kept as it is.
        spelled = {name.lower(): name for name in reversed(names)}
        if is_strict:
            _require_columns(file, sorted(spelled.values()), needed, by)
        names = [spelled.get(name.lower(), name) for name in sorted(needed)]
    _require_columns(file, names, needed, by)
    names = [name for name in names if kept is None or name.lower() in kept]
    columns = "".join(f", {identifier(name)} VARCHAR" for name in names)
    con.execute(f"CREATE OR REPLACE TEMP TABLE {identifier(table)} (_line BIGINT{columns})")
    landed = 0
    for rows in records.rows(names):
        _insert(con, table, rows)
        landed += len(rows.lines) + len(rows.unreadable)
    return landed


def _as_text(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[int]]:
    """Return a batch whose text is UTF-8, other bytes written out, and the positions of the rows that had them."""
    columns, not_text = list(batch.columns), set[int]()
    for number, column in enumerate(columns):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            plain = column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column
            cells = plain.cast(pa.binary()).to_pylist()
            texts = [None if cell is None else cell.decode("utf-8", "backslashreplace") for cell in cells]
            not_text |= {i for i, text in enumerate(texts) if text is not None and text.encode() != cells[i]}
            columns[number] = text_array(texts)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names), sorted(not_text)


def _require_columns(file: RawFile, names: Sequence[str], needed: frozenset[str], by: str) -> None:
    spelled = Counter(["_line", *(name.lower() for name in names)])
    twice = [name for name in names if spelled[name.lower()] > 1]
    if twice:
        problem = f"column names {', '.join(twice)} are not unique."
        raise BrokenFileError(file.name, problem, "names that differ, case aside; _line is taken.")
    missing = sorted(name for name in needed if name.lower() not in spelled)
    if missing:
        problem = f"column {', '.join(missing)} is missing; it has {', '.join(names)[:200]}."
        used = [d for d in _OTHER_DELIMITERS if len(names) == 1 and d in names[0]]
        meant = [like for name in missing for like in get_close_matches(name, names, 1) if len(missing) < len(needed)]
        hint = f" The file seems to use [csv] delimiter = {used[0]!r}." if used else ""
        hint = hint or (f" Did you mean {', '.join(meant)}?" if meant else "")
        if names and names[0].startswith("{"):
            hint = " It seems to be JSON Lines: call it .jsonl."
        source = f", by source {by}: mend its [columns], or name another one by FRAUD_SOURCE" if by else ""
        raise BrokenFileError(file.name, problem + hint, f"the columns {', '.join(sorted(needed))}{source}.")


def _insert(con: duckdb.DuckDBPyConnection, table: str, rows: RawRows) -> None:
    """Append rows to a raw table as text, blanks as NULL, and the others to its table of unreadable ones."""
    if rows.unreadable:
        con.executemany(f"INSERT INTO {identifier(table + '_unreadable')} VALUES (?, ?, ?)", rows.unreadable)
    if not len(rows.lines):
        return
    cells = [f"c{i}" for i in range(len(rows.columns))]
    texts = "".join("," + text_of_cell(cell) for cell in cells)
    batches = pa.Table.from_arrays([number_array(rows.lines), *rows.columns], names=["_line", *cells]).to_batches(
        ROWS_IN_TURN
    )
    con.register("_batch", pa.Table.from_batches(batches))
    try:
        con.execute(f"INSERT INTO {identifier(table)} SELECT _line {texts} FROM _batch")
    finally:
        con.unregister("_batch")
