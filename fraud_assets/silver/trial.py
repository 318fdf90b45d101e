"""What a source makes of files, in figures, examples and advice, from the same pass that builds Silver."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from duckdb import DuckDBPyConnection

from fraud_assets.silver.advice import advise
from fraud_assets.silver.cleaning import VALUES, CleaningResult, clean
from fraud_assets.silver.raw_files import RawFile, other_encoding
from fraud_assets.silver.reading import open_raw
from fraud_assets.silver.source import Source
from fraud_assets.sql import identifier, literal

PERCENTILES: Final = (0.5, 0.9, 0.95, 0.99, 0.999)
"""Of amounts, to choose the high-value limit by."""


@dataclass(frozen=True)
class Trial:
    """How many rows are good and refused, figures of the good ones, a few of them, and a refused row of each reason.

    `timed` rows have a usable time, good or not; `first` and `last` are times (UTC), None where no row is good;
    `amounts` are the PERCENTILES; `refused` has reason, file, line and raw row; `advice` are sentences.
    """

    result: CleaningResult
    timed: int
    first: datetime | None
    last: datetime | None
    partitions: int
    labelled: int
    frauds: int
    amounts: Sequence[float] | None
    columns: Sequence[str]
    good: Sequence[tuple[Any, ...]]
    refused: Sequence[tuple[str, str, int, str]]
    advice: Sequence[str]


def try_files(con: DuckDBPyConnection, source: Source, files: Sequence[RawFile]) -> Trial:
    """Clean files, whatever partitions their rows belong to; raises what `clean` raises, and writes nothing."""
    result = clean(con, source, None, files)
    [(timed,)] = con.execute("SELECT count(event_timestamp) FROM candidate_rows").fetchall()
    [(keys, *figures)] = con.execute(
        f"SELECT list(DISTINCT {source.key_of_time}), min(event_timestamp), max(event_timestamp), "
        f"count(DISTINCT {source.key_of_time}), count(isFraud), coalesce(sum(isFraud), 0)::BIGINT, "
        f"quantile_disc(amount_thousandths / 1e3, {list(PERCENTILES)}) FROM good_transactions"
    ).fetchall()
    good = con.sql(
        "SELECT TransactionID, event_timestamp, card_id, ProductCD, "
        "format('{:.3f}', amount_thousandths / 1e3) AS TransactionAmt, is_international_txn, isFraud "
        "FROM good_transactions ORDER BY event_timestamp, TransactionID LIMIT 5"
    )
    refused = con.execute(
        "SELECT reasons[1], any_value(file), any_value(line), any_value(raw_row)"
        " FROM quarantined_rows GROUP BY 1 ORDER BY 1 LIMIT 5"
    ).fetchall()
    outside = source.outside_advice(keys or ())
    return Trial(
        result,
        timed,
        *figures,
        columns=good.columns,
        good=good.fetchall(),
        refused=refused,
        advice=[*_advice(con, source, files, result), *([f"{outside}."] if outside else [])],
    )


def _advice(con: DuckDBPyConnection, source: Source, files: Sequence[RawFile], result: CleaningResult) -> list[str]:
    """Say what would read the times and amounts that were not understood."""
    with open_raw(files[0], source.csv) as records:
        source = source.of_file(records.names)
    said = [
        f"{file.name} is not text in {source.csv.encoding}.{other}"
        for file in files
        if file.kind == "csv" and (other := other_encoding(file, source.csv.encoding))
    ]
    for column in ("event_timestamp", "TransactionAmt"):
        used = sorted(source.references(con)[column])
        reasons = [f"{VALUES[column]}_not_understood", *(f"unreadable_{name}" for name in used)]
        if count := sum(result.reasons.get(reason, 0) for reason in reasons):
            cells = ", ".join(f"json_extract_string(raw_row, {literal('/' + n)}) AS {identifier(n)}" for n in used)
            rows = f"(SELECT {cells} FROM quarantined_rows WHERE list_has_any(reasons, {reasons}))"
            said.append(f"{count:,} rows have no {VALUES[column]} by it: {advise(con, source, column, rows)}")
    return said
