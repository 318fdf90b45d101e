"""Every landed row is good or quarantined, and a quarantined row says all that is wrong with it.

Here belong the pass from raw text to canonical columns and the reasons for refusing a row; `cleaning.sql`
finds them. How files become text is `reading`, what the columns mean is the source's own file, what a good row
becomes is `features`. Nothing is dropped or repaired on the way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from fraud_assets.partition_keys import bounds
from fraud_assets.silver.raw_files import RawFile
from fraud_assets.silver.reading import read_raw
from fraud_assets.silver.source import CANONICAL_TYPES, Source, label_of
from fraud_assets.sql import identifier

_MISSING: Final[Mapping[str, str]] = {
    "TransactionID": "missing_transaction_id",
    "event_timestamp": "missing_event_time",
    "card_id": "missing_card",
    "ProductCD": "missing_product",
    "TransactionAmt": "missing_amount",
    "is_international_txn": "missing_international",
}

REASONS: Final[Mapping[str, str]] = {
    "missing_transaction_id": "The row has no transaction id.",
    "missing_event_time": "The source's expression gives no time between the years 1 and 9999.",
    "missing_card": "The row does not say which card it is.",
    "missing_product": "The row has no product.",
    "missing_amount": "The source's expression gives no amount for the row.",
    "missing_international": "The source's expression does not say whether the row is international.",
    "unreadable_<raw column>": "A cell that the source needs is not of the type that the source declares.",
    "amount_not_finite": "The amount is NaN or infinite.",
    "amount_negative": "The amount is below zero, and the source does not say that refunds count.",
    "amount_too_large": "The amount is 100,000,000,000 or more.",
    "time_outside_partition": "The time belongs to another partition.",
    "label_not_0_or_1": "The label is neither 0 nor 1 nor blank.",
    "duplicate": "An equal copy of the row is in Silver.",
    "conflicting_id": "The partition holds different rows with this id, and nothing says which is right.",
    "superseded": "A later file holds another row with this id, and the source says that the last file wins.",
    "unreadable_line": "The record does not have the columns of its file, or is not text.",
}

_CLEANING_SQL: Final = Path(__file__).with_name("cleaning.sql").read_text(encoding="utf-8")


@dataclass(frozen=True)
class CleaningResult:
    """The rows that landed, how many are good and quarantined, and how many have each reason."""

    landed: int
    good: int
    quarantined: int
    reasons: Mapping[str, int]


def clean(con: duckdb.DuckDBPyConnection, source: Source, key: str | None, files: Sequence[RawFile]) -> CleaningResult:
    """Split the rows of a partition's files into the temporary tables good_transactions and quarantined_rows.

    `good_transactions` has the canonical columns, the amount in thousandths; `quarantined_rows` has
    `file, line, reasons, raw_row`. Without a key the rows are of many partitions, each evaluated within its
    own. Files count in the given order where a later one wins; Silver does not depend on their order otherwise.

    Raises:
        BrokenFileError: A file cannot be read.
        SourceError: The source's expressions are not valid.
        RuntimeError: Rows were lost or made, which is a defect.
    """
    landed = _read_candidates(con, source, files, part=source.key_of_time if key is None else "''")
    start, end = (None, None) if key is None else bounds(key, source.partitions.grain)
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE evaluated_rows AS {_CLEANING_SQL}",
        {
            "start_time": start,
            "end_time": end,
            "is_absolute": source.rules.refunds == "absolute",
            "is_last_file": source.rules.on_conflict == "last_file",
        },
    )
    _split(con, files)
    [(good,)] = con.execute("SELECT count(*) FROM good_transactions").fetchall()
    [(quarantined,)] = con.execute("SELECT count(*) FROM quarantined_rows").fetchall()
    if landed != good + quarantined:
        raise RuntimeError(f"{landed} rows landed, but {good} are good and {quarantined} quarantined.")
    reasons = con.execute(
        "SELECT reason, count(*) FROM (SELECT unnest(reasons) AS reason FROM quarantined_rows)"
        " GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    return CleaningResult(landed=landed, good=good, quarantined=quarantined, reasons=dict(reasons))


def _read_candidates(con: duckdb.DuckDBPyConnection, source: Source, files: Sequence[RawFile], part: str) -> int:
    """Make raw_<n> of each file and candidate_rows of all records; return how many records landed."""
    columns = "".join(f"{name} {type_}, " for name, type_ in {**CANONICAL_TYPES, "isFraud": "INTEGER"}.items())
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE candidate_rows (file_no INTEGER, line BIGINT, {columns}"
        "has_label BOOLEAN, faults VARCHAR[], part VARCHAR)"
    )
    landed = 0
    for number, file in enumerate(files):
        landed += read_raw(con, source.csv, file, _raw(number), source.needed(con))
        _evaluate_cells(con, source, number, part)
    return landed


def _raw(number: int) -> str:
    return f"raw_{number}"


def _evaluate_cells(con: duckdb.DuckDBPyConnection, source: Source, number: int, part: str) -> None:
    """Append one file's rows to candidate_rows: canonical columns, and the faults of their cells."""
    references = source.references(con)
    needed = sorted(source.needed(con))
    typed = [name for name in needed if name in source.types]
    cells = ", ".join(f"{source.cell(name)} AS {identifier(name)}" for name in needed)
    is_unreadable = ", ".join(f"{identifier(name)} IS NOT NULL AND {source.cell(name)} IS NULL" for name in typed)
    # A value that is not there because its cell could not be read is not missing as well.
    is_missing = ", ".join(
        " AND NOT ".join([f"{name} IS NULL", *(f"_unreadable[{typed.index(c) + 1}]" for c in typed if c in used)])
        for name, used in references.items()
        if name in _MISSING
    )
    of_label = f"REPLACE ({label_of('isFraud')} AS isFraud), isFraud IS NOT NULL AS has_label"
    con.execute(
        f"""
        INSERT INTO candidate_rows BY NAME
        SELECT
            * EXCLUDE (_unreadable) {of_label if "isFraud" in references else ""}, {part} AS part,
            list_concat(list_where($unreadable, _unreadable), list_where($missing, [{is_missing}])) AS faults
        FROM (
            SELECT
                $file_no AS file_no, _line AS line, _unreadable,
                {", ".join(f"{source.expression(name)} AS {name}" for name in references)}
            FROM (SELECT _line, [{is_unreadable}]::BOOLEAN[] AS _unreadable, {cells} FROM {_raw(number)})
        )
        """,
        {
            "file_no": number,
            "unreadable": [f"unreadable_{name}" for name in typed],
            "missing": [_MISSING[name] for name in references if name in _MISSING],
        },
    )


def _split(con: duckdb.DuckDBPyConnection, files: Sequence[RawFile]) -> None:
    """Part evaluated_rows into good and quarantined ones, and give each quarantined row its raw content."""
    con.execute(
        """
        CREATE OR REPLACE TEMP TABLE good_transactions AS
        SELECT
            TransactionID, event_timestamp, card_id, ProductCD,
            amount_thousandths, is_international_txn, isFraud
        FROM evaluated_rows
        WHERE reasons = []
        """
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE quarantined_rows (file VARCHAR, line BIGINT, reasons VARCHAR[], raw_row VARCHAR)"
    )
    for number, file in enumerate(files):
        con.execute(
            f"""
            INSERT INTO quarantined_rows
            SELECT $file, line, reasons, to_json(struct_pack(*COLUMNS(raw.* EXCLUDE (_line))))::VARCHAR
            FROM {_raw(number)} AS raw
            JOIN evaluated_rows ON raw._line = evaluated_rows.line
            WHERE evaluated_rows.file_no = $file_no AND evaluated_rows.reasons <> []
            UNION ALL
            SELECT $file, line, ['unreadable_line'], text
            FROM {_raw(number)}_unreadable
            ORDER BY line
            """,
            {"file": file.name, "file_no": number},
        )
        con.execute(f"DROP TABLE {_raw(number)}")
    con.execute("DROP TABLE evaluated_rows")
