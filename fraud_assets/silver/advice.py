"""What would read the cells that a source's expressions make nothing of: a cell, the error, and another expression.

Here belong the habits of writing times and amounts that are tried. Nothing is read otherwise than the source says.
"""

from typing import Final

import duckdb

from fraud_assets.silver.expressions import row_by_row, typed
from fraud_assets.silver.numbers import number
from fraud_assets.silver.source import CANONICAL_TYPES, Source
from fraud_assets.sql import identifier

_DATES: Final = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%Y%m%d")

_CLOCKS: Final = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", "%H%M%S")

_TIMES: Final = (
    "{0}::TIMESTAMPTZ",
    "to_timestamp({0}::DOUBLE)",
    "to_timestamp({0}::DOUBLE / 1000)",
    "TIMESTAMP '1899-12-30' + to_seconds(round({0}::DOUBLE * 86400))",
    *(f"strptime({{0}}, '{date}{clock}')" for date in _DATES for clock in _CLOCKS),
)
"""Expressions of a time: ISO 8601, seconds and milliseconds since 1970, days of a spreadsheet, as people write."""

_AMOUNTS: Final = ((".", ","), (",", "."), (".", "'"), (",", " "), (",", ""))
"""Decimal mark and thousands that are tried."""

_SHOWN: Final = 2
"""Expressions that read as many cells: whether the day or the month comes first is for a person to say."""


def advise(con: duckdb.DuckDBPyConnection, source: Source, column: str, rows: str) -> str:
    """Say of rows that have no time or amount what stands there, why it is none, and what would read most of it.

    `rows` is a relation with the raw columns that the expression of event_timestamp or TransactionAmt needs, as text.
    """
    used = sorted(source.references(con)[column])
    names = ", ".join(map(identifier, used)) or "NULL"
    [row] = con.execute(f"SELECT {names} FROM {rows} LIMIT 1").fetchall() or [[None] * len(used)]
    cells = (f"{name} = {'nothing' if cell is None else repr(cell)}" for name, cell in zip(used, row, strict=False))
    written = source.columns[column].strip('"')
    said = ", ".join([*cells, f'by {column} = "{written}"'])
    if error := _error(con, source, column, used, rows):
        said += f" ({error})"
    if len(used) == 1 and (found := _instead(con, source, column, used[0], rows)):
        said += f". What reads such cells: {' or '.join(found)}"
    return f"{said}."


def _error(con: duckdb.DuckDBPyConnection, source: Source, column: str, used: list[str], rows: str) -> str:
    cells = ", ".join(f"{identifier(name)}::{source.types.get(name, 'VARCHAR')} AS {identifier(name)}" for name in used)
    try:
        con.execute(
            f"SELECT CAST(({source.columns[column]}\n) AS {CANONICAL_TYPES[column]})"
            f" FROM (SELECT {cells or 'NULL'} FROM {rows} LIMIT 1)"
        ).fetchall()
    except duckdb.Error as error:
        return str(error).splitlines()[0]
    return ""


def _instead(con: duckdb.DuckDBPyConnection, source: Source, column: str, name: str, rows: str) -> list[str]:
    """Return what reads most of the cells of a column, as a line of the source file."""
    cell, counted = identifier(name), {}
    if column == "event_timestamp":
        untyped = f", and no {name} in [types]" if name in source.types else ""
        text = name if name.isidentifier() else cell.replace('"', '\\"')
        for form in _TIMES:
            time = typed(form.format(cell), "TIMESTAMPTZ")
            counted[f'{column} = "{form.format(text)}"{untyped}'] = f"year({time}) BETWEEN 1990 AND 2100"
    else:
        for decimal, thousands in _AMOUNTS:
            marks = [f'decimal = "{decimal}"'] * (decimal != ".") + [f'thousands = "{thousands}"'] * bool(thousands)
            counted[f'[csv] {", ".join(marks)}, and [types] {name} = "DOUBLE"'] = (
                f"{number(cell, 'DOUBLE', decimal=decimal, thousands=thousands)} IS NOT NULL"
            )
    counts = ", ".join(f"count(*) FILTER ({condition})" for condition in counted.values())
    with row_by_row(con):
        [found] = con.execute(f"SELECT {counts} FROM (FROM {rows} LIMIT 1000)").fetchall()
    best = max(found)
    return [line for line, count in zip(counted, found, strict=True) if best and count == best][:_SHOWN]
