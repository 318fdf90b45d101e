"""What a source makes of a file, in figures and examples, from the same pass that builds Silver."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from duckdb import DuckDBPyConnection

from fraud_assets.silver.cleaning import CleaningResult, clean
from fraud_assets.silver.raw_files import RawFile
from fraud_assets.silver.source import Source


@dataclass(frozen=True)
class Trial:
    """How many rows are good and refused, figures of the good ones, a few of them, and a refused row of each reason.

    `first` and `last` are times (UTC), None where no row is good; `refused` has reason, line and raw row.
    """

    result: CleaningResult
    first: datetime | None
    last: datetime | None
    partitions: int
    labelled: int
    frauds: int
    columns: Sequence[str]
    good: Sequence[tuple[Any, ...]]
    refused: Sequence[tuple[str, int, str]]


def try_file(con: DuckDBPyConnection, source: Source, file: RawFile) -> Trial:
    """Clean one file, whatever partitions its rows belong to; raises what `clean` raises, and writes nothing."""
    result = clean(con, source, None, [file])
    [figures] = con.execute(
        "SELECT min(event_timestamp), max(event_timestamp), "
        f"count(DISTINCT {source.key_of_time}), "
        "count(isFraud), coalesce(sum(isFraud), 0)::BIGINT FROM good_transactions"
    ).fetchall()
    good = con.sql(
        "SELECT TransactionID, event_timestamp, card_id, ProductCD, "
        "format('{:.3f}', amount_thousandths / 1e3) AS TransactionAmt, is_international_txn, isFraud "
        "FROM good_transactions ORDER BY event_timestamp, TransactionID LIMIT 5"
    )
    refused = con.execute(
        "SELECT reasons[1], any_value(line), any_value(raw_row) FROM quarantined_rows GROUP BY 1 ORDER BY 1 LIMIT 5"
    ).fetchall()
    return Trial(result, *figures, columns=good.columns, good=good.fetchall(), refused=refused)
