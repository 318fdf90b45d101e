"""JSON records become good transactions, or the reasons why they are none: what `cleaning` says of a row by itself.

Here belongs the way without files and tables, one prepared statement per source, for whoever waits for the answer. What
is wrong with a row is `evaluated_alone.sql`, and what its columns mean is the source's, as in every build.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import duckdb

from fraud_assets.silver.cleaning import EVALUATED_ALONE_SQL, select_candidates
from fraud_assets.silver.expressions import ExpressionError, find_columns
from fraud_assets.silver.json_records import cells_of
from fraud_assets.silver.reading import text_of_cell
from fraud_assets.silver.source import CANONICAL_TYPES, Source
from fraud_assets.sql import identifier, literal

_VALUES: Final = (
    "TransactionID, epoch_us(event_timestamp), card_id, ProductCD, amount_thousandths, is_international_txn = 1"
)


@dataclass(frozen=True)
class Evaluated:
    """A record: the id, time (microseconds since 1970), card, product, thousandths and whether it is international.

    With a reason, a value may be None.
    """

    reasons: Sequence[str]
    values: tuple[Any, ...] = ()


class RecordCleaner:
    """Evaluates records of one source; holds a connection of its own."""

    def __init__(self, source: Source) -> None:
        self._con = duckdb.connect()
        # A row that TRY cannot evaluate must not fail the query (see `row_by_row`).
        self._con.execute("SET TimeZone = 'UTC'; SET threads = 1; SET disabled_optimizers = 'common_subexpressions'")
        self._source = source
        self._entries = {text.strip().lower() for text in source.columns.values()}
        self._columns = self._named_by_no_expression()
        self._prepared: dict[frozenset[str], tuple[str, list[str]]] = {}
        self._prepare(self._columns)

    def close(self) -> None:
        """Close the connection."""
        self._con.close()

    def evaluate(self, records: Sequence[dict[str, Any]]) -> list[Evaluated]:
        """Return what each record, as `decode_record` gives it, is by itself; no partition is asked for."""
        evaluated: dict[int, Evaluated] = {}
        # Of all its keys only those count that an entry of [columns] may mean: there are few, whatever is sent.
        alike: dict[frozenset[str], list[int]] = {}
        for at, record in enumerate(records):
            alike.setdefault(self._columns | self._entries & {name.lower() for name in record}, []).append(at)
        for columns, places in alike.items():
            statement, names = self._prepare(columns)
            cells = [cells_of(records[at], names) for at in places]
            given = [f"[{', '.join(map(str, places))}]", *(_texts([row[name] for row in cells]) for name in names)]
            rows = self._con.execute(f"EXECUTE {statement}({', '.join(given)})").fetchall()
            evaluated |= {line: Evaluated(tuple(reasons), tuple(values)) for line, reasons, *values in rows}
        return [evaluated[at] for at in range(len(records))]

    @property
    def raw_columns(self) -> frozenset[str]:
        """The raw columns that the source needs, in lower case."""
        return frozenset(name.lower() for name in self._prepare(self._columns)[1])

    def _named_by_no_expression(self) -> frozenset[str]:
        """Return the entries that can only be a column's name, since they are no expression."""
        names = set()
        for column, text in self._source.columns.items():
            try:
                find_columns(self._con, {column: text}, self._source.types, CANONICAL_TYPES)
            except ExpressionError:
                names.add(text.strip().lower())
        return frozenset(names)

    def _prepare(self, columns: frozenset[str]) -> tuple[str, list[str]]:
        if columns not in self._prepared:
            source = self._source.of_file(sorted(columns))
            names = sorted(source.needed(self._con))
            cells = "".join(f", unnest(${n + 1}::VARCHAR[]) AS c{n}" for n in range(1, len(names) + 1))
            given = f"unnest($1::BIGINT[]) AS _line{cells}"
            texts = "".join(f", {text_of_cell(f'c{n}')} AS {identifier(name)}" for n, name in enumerate(names, start=1))
            raw = f"(SELECT _line{texts} FROM (SELECT {given}))"
            candidates = select_candidates(self._con, source, kind="jsonl", raw=raw, number=0, part="''")
            alone = EVALUATED_ALONE_SQL
            for parameter in ("$start_time", "$end_time"):
                alone = alone.replace(parameter, "NULL::TIMESTAMPTZ")
            alone = alone.replace("$is_absolute", str(source.rules.refunds == "absolute"))
            statement = f"evaluate_{len(self._prepared)}"
            found = f"SELECT line, reasons, {_VALUES} FROM ({alone})"
            self._con.execute(f"PREPARE {statement} AS WITH candidate_rows AS ({candidates}) {found}")
            self._prepared[columns] = statement, names
        return self._prepared[columns]


def _texts(cells: Sequence[str | None]) -> str:
    return f"[{', '.join('NULL' if cell is None else literal(cell) for cell in cells)}]"
