"""Spreadsheets: a list of alerts goes out as CSV or XLSX, and comes back with decisions.

What belongs here: the two formats, and that no text of the feed becomes a formula in them. What does not: what a
decision is (`reviews`). openpyxl is imported late.

In CSV a text that a spreadsheet would take for a formula gets an apostrophe before it, which reading takes away again;
in XLSX texts are typed as texts.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any, Final

from fraud_assets.errors import FraudAssetsError

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "'")
"""What makes a spreadsheet take a text for a formula, and the apostrophe itself, so that reading is unambiguous."""

_CELL: Final = 32_767
"""Characters that a cell of a workbook holds."""


class SpreadsheetError(FraudAssetsError):
    """A file is no spreadsheet of decisions; the message says what is missing."""


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as CSV in UTF-8, with a mark by which spreadsheets know it."""
    path.write_text(as_csv(names, rows), encoding="utf-8-sig", newline="")


def as_csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV text, harmless to a spreadsheet."""
    text = StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows([_harmless(value) for value in row] for row in rows)
    return text.getvalue()


def write_xlsx(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as a workbook with one sheet, its head fixed; texts are texts, whatever they begin with."""
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Font
    from openpyxl.utils.escape import escape

    workbook = Workbook(write_only=True)
    sheet = workbook.create_sheet("alerts")
    sheet.freeze_panes = "A2"

    def cell(value: Any, *, bold: bool = False) -> Any:
        if isinstance(value, datetime):
            value = value.replace(tzinfo=None)  # A workbook knows no zones: times are UTC.
        if not isinstance(value, str):
            return value
        made = WriteOnlyCell(sheet)
        made.value = escape(value[:_CELL])
        made.data_type = "s"
        if bold:
            made.font = Font(bold=True)
        return made

    sheet.append([cell(name, bold=True) for name in names])
    for row in rows:
        sheet.append([cell(value) for value in row])
    workbook.save(path)


def read_rows(path: Path, needed: Iterable[str]) -> list[dict[str, Any]]:
    """Return the rows of a CSV or XLSX file by the names of its head.

    Raises:
        SpreadsheetError: it cannot be read, or lacks a needed column.
    """
    try:
        lines = _xlsx_lines(path) if path.suffix.lower() == ".xlsx" else _csv_lines(path)
        head = [str(name or "").strip() for name in next(lines, [])]
        missing = [name for name in needed if name not in head]
        if missing:
            raise SpreadsheetError(
                f"{path.name} has no column {', '.join(missing)}; it has {', '.join(head) or 'none'}."
            )
        return [dict(zip(head, line, strict=False)) for line in lines if any(value not in (None, "") for value in line)]
    except SpreadsheetError:
        raise
    except Exception as error:  # Damaged files make openpyxl and csv raise whatever they come across.
        kind = path.suffix[1:].upper() or "a spreadsheet"
        raise SpreadsheetError(f"{path.name} cannot be read as {kind}: {error}") from error


def _csv_lines(path: Path) -> Iterator[list[Any]]:
    with path.open(encoding="utf-8-sig", newline="") as opened:  # as it stands: a text may hold any line end
        return _lines_of(opened.read())


def _lines_of(text: str) -> Iterator[list[Any]]:
    head = text.partition("\n")[0]
    # Where the comma parts decimals, spreadsheets write semicolons.
    delimiter = max(",;\t", key=head.count)
    for line in csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True):
        yield [value[1:] if value[:1] == "'" and value[1:2] in _FORMULA else value for value in line]


def _xlsx_lines(path: Path) -> Iterator[list[Any]]:
    from openpyxl import load_workbook
    from openpyxl.utils.escape import unescape

    workbook = load_workbook(path, read_only=True, data_only=True)
    try:
        for line in workbook.worksheets[0].iter_rows(values_only=True):
            yield [_whole(unescape(value)) if isinstance(value, str) else value for value in line]
    finally:
        workbook.close()


def _whole(text: str) -> str:
    """Return a text with its pairs of surrogates as the characters that they are, and a mark for each lone one.

    A workbook may spell any code unit, as `_xD800_`; nothing else takes a lone one for text.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def by_names(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    """Return mappings as rows in the order of the names; what is missing is empty."""
    return [[row.get(name, "") for name in names] for row in rows]
