"""Every landed row is good or quarantined, and a quarantined row says all that is wrong with it.

Here belong the pass from raw text to canonical columns and the reasons for refusing a row; `cleaning.sql`
finds them. How files become text is `reading`, what the columns mean is the source's own file, what a good row
becomes is `features`. Nothing is dropped or repaired on the way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from fraud_assets.columns import number_array, text_array
from fraud_assets.partition_keys import bounds
from fraud_assets.silver.expressions import row_by_row
from fraud_assets.silver.json_records import texts_of
from fraud_assets.silver.raw_files import RawFile
from fraud_assets.silver.reading import open_raw, read_raw
from fraud_assets.silver.source import CANONICAL_TYPES, Source, label_of
from fraud_assets.sql import identifier, literal

VALUES: Final[Mapping[str, str]] = {
    "TransactionID": "transaction_id",
    "event_timestamp": "event_time",
    "card_id": "card",
    "ProductCD": "product",
    "TransactionAmt": "amount",
    "is_international_txn": "international",
}
"""What reasons call the columns that a row must have."""

REASONS: Final[Mapping[str, str]] = {
    "missing_<value>": "A cell of the transaction_id, event_time, card, product, amount or international is empty.",
    "<value>_not_understood": "The cells are there, but the source's expression makes nothing of them, "
    "or a time outside the years 1 to 9999.",
    "unreadable_<raw column>": "A cell that the source needs is there, but not of the type that the source declares.",
    "amount_not_finite": "The amount is NaN or infinite.",
    "amount_negative": "The amount is below zero, and the source does not say that refunds count.",
    "amount_too_large": "The amount is 100,000,000,000 or more.",
    "time_outside_partition": "The time belongs to another partition.",
    "label_not_0_or_1": "The label is neither 0 nor 1 nor blank.",
    "duplicate": "An equal copy of the row is in Silver.",
    "conflicting_id": "The partition holds different rows with this id, and nothing says which is right.",
    "superseded": "A later file holds another row with this id, and the source says that the last file wins.",
    "unreadable_line": "The record does not have the columns of its file, is no JSON object, or is not text.",
}


def reason_kind(reason: str) -> str:
    """Return the entry of REASONS that explains a reason."""
    if reason in REASONS:
        return reason
    if reason.startswith("unreadable_"):
        return "unreadable_<raw column>"
    return "missing_<value>" if reason.startswith("missing_") else "<value>_not_understood"


EVALUATED_ALONE_SQL: Final = Path(__file__).with_name("evaluated_alone.sql").read_text(encoding="utf-8")
"""What is wrong with a row by itself."""

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
    part = source.key_of_time if key is None else "''"
    landed = _read_candidates(con, source, dict(enumerate(files)), part, is_strict=key is None)
    con.execute(f"CREATE OR REPLACE TEMP TABLE evaluated_rows AS {EVALUATED_ALONE_SQL}", _alone(source, key))
    _evaluate_together(con, source)
    good = _keep_good(con)
    quarantined = _quarantine(con, dict(enumerate(files)), is_empty=good == landed)
    con.execute("DROP TABLE evaluated_rows")
    if landed != good + quarantined:
        raise RuntimeError(f"{landed} rows landed, but {good} are good and {quarantined} quarantined.")
    reasons = count_reasons(con, "quarantined_rows") if quarantined else {}
    return CleaningResult(landed=landed, good=good, quarantined=quarantined, reasons=reasons)


def count_reasons(con: duckdb.DuckDBPyConnection, rows: str) -> dict[str, int]:
    """Return how many of a relation's rows have which of their `reasons`; a row may have several."""
    counted = f"SELECT reason, count(*) FROM (SELECT unnest(reasons) AS reason FROM {rows}) GROUP BY ALL ORDER BY ALL"
    return dict(con.execute(counted).fetchall())


def clean_alone(con: duckdb.DuckDBPyConnection, source: Source, key: str, file: RawFile, number: int) -> int:
    """Do of `clean` what needs one row of one file at a time; return how many records landed.

    Makes the temporary tables `good_alone`, which `clean_together` takes, and `quarantined_rows`. The number is the
    file's among those of its partition. Raises what `clean` raises.
    """
    landed = _read_candidates(con, source, {number: file}, "''", is_strict=False)
    con.execute(f"CREATE OR REPLACE TEMP TABLE evaluated_rows AS {EVALUATED_ALONE_SQL}", _alone(source, key))
    con.execute(
        "CREATE OR REPLACE TEMP TABLE good_alone AS"
        " SELECT * EXCLUDE (reasons, part) FROM evaluated_rows WHERE reasons = []"
    )
    _quarantine(con, {number: file})
    con.execute("DROP TABLE evaluated_rows; DROP TABLE candidate_rows")
    return landed


def clean_together(con: duckdb.DuckDBPyConnection, source: Source, rows: str) -> None:
    """Do of `clean` what needs all rows of an id: which copy is good, and the label that came last.

    `rows` is a relation of the columns of `good_alone`, of whole ids of one partition. Makes the temporary tables
    `good_transactions` and `refused_rows` (file_no, line, reasons), of which `quarantine_lines` makes quarantined rows.
    """
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE evaluated_rows AS SELECT *, []::VARCHAR[] AS reasons, '' AS part FROM {rows}"
    )
    _evaluate_together(con, source)
    _keep_good(con)
    con.execute(
        "CREATE OR REPLACE TEMP TABLE refused_rows AS"
        " SELECT file_no, line, reasons FROM evaluated_rows WHERE reasons <> []"
    )
    con.execute("DROP TABLE evaluated_rows")


def quarantine_lines(con: duckdb.DuckDBPyConnection, source: Source, file: RawFile, number: int, refused: str) -> None:
    """Make `quarantined_rows` of those rows of a file that `refused`, a relation of `refused_rows`, names."""
    with open_raw(file, source.csv) as records:
        needed = source.of(file, records.names).needed(con)
        read_raw(con, file, records, _raw(number), needed, by=source.name)
    con.execute(f"TRUNCATE {_raw(number)}_unreadable")  # They are quarantined already.
    con.execute(f"CREATE OR REPLACE TEMP TABLE evaluated_rows AS SELECT file_no, line, reasons FROM {refused}")
    _quarantine(con, {number: file})
    con.execute("DROP TABLE evaluated_rows")


def _alone(source: Source, key: str | None) -> dict[str, Any]:
    """Return the parameters of EVALUATED_ALONE_SQL."""
    start, end = (None, None) if key is None else bounds(key, source.partitions.grain)
    return {"start_time": start, "end_time": end, "is_absolute": source.rules.refunds == "absolute"}


def _evaluate_together(con: duckdb.DuckDBPyConnection, source: Source) -> None:
    """Decide among the rows of evaluated_rows that have an id in common; without such, nothing changes."""
    # Hashes that all differ are of ids that all differ, and take a third of the ids' memory.
    [(rows, hashes)] = con.execute(
        "SELECT count(*), count(DISTINCT hash(TransactionID, part)) FROM evaluated_rows WHERE reasons = []"
    ).fetchall()
    if hashes < rows:
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE evaluated_rows AS {_CLEANING_SQL}",
            {"is_last_file": source.rules.on_conflict == "last_file"},
        )


def _read_candidates(
    con: duckdb.DuckDBPyConnection, source: Source, files: Mapping[int, RawFile], part: str, *, is_strict: bool
) -> int:
    """Make raw_<n> of each file and candidate_rows of all records; return how many records landed."""
    columns = "".join(f"{name} {type_}, " for name, type_ in {**CANONICAL_TYPES, "isFraud": "INTEGER"}.items())
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE candidate_rows (file_no INTEGER, line BIGINT, {columns}"
        "has_label BOOLEAN, faults VARCHAR[], part VARCHAR)"
    )
    landed = 0
    for number, file in files.items():
        with open_raw(file, source.csv) as records:
            of_file = source.of(file, records.names)
            needed, by = of_file.needed(con), source.name
            landed += read_raw(con, file, records, _raw(number), needed, by=by, is_strict=is_strict)
        candidates = select_candidates(con, of_file, kind=file.kind, raw=_raw(number), number=number, part=part)
        with row_by_row(con):
            con.execute(f"INSERT INTO candidate_rows BY NAME {candidates}")
    return landed


def _raw(number: int) -> str:
    return f"raw_{number}"


def select_candidates(
    con: duckdb.DuckDBPyConnection, source: Source, *, kind: str, raw: str, number: int, part: str
) -> str:
    """Return a query for the rows of candidate_rows: of a relation of texts canonical columns, and faults of cells.

    Run it under `row_by_row`. `part` is the SQL of a row's partition, the number is its file's.
    """
    references = source.references(con)
    needed = sorted(source.needed(con))
    typed = [name for name in needed if name in source.types]
    cells = ", ".join(f"{source.cell(name, kind)} AS {identifier(name)}" for name in needed)
    is_empty = ", ".join(f"{identifier(name)} IS NULL" for name in needed)
    is_unreadable = ", ".join(f"{identifier(name)} IS NOT NULL AND {source.cell(name, kind)} IS NULL" for name in typed)
    nothing, faults = [], {f"unreadable_{name}": f"_unreadable[{at}]" for at, name in enumerate(typed, start=1)}
    for column, used in references.items():
        if value := VALUES.get(column):
            # A value that is not there because its cell could not be read is not missing as well.
            unread = [f"NOT _unreadable[{at}]" for at, name in enumerate(typed, start=1) if name in used]
            empty = " OR ".join(f"_empty[{at}]" for at, name in enumerate(needed, start=1) if name in used) or "true"
            nothing.append(f"{column} IS NULL")
            faults[f"missing_{value}"] = " AND ".join([f"{column} IS NULL", *unread, f"({empty})"])
            faults[f"{value}_not_understood"] = " AND ".join([f"{column} IS NULL", *unread, f"NOT ({empty})"])
    of_label = ", NULL::INTEGER AS isFraud, NULL::BOOLEAN AS has_label"
    if "isFraud" in references:
        of_label = f"REPLACE ({label_of('isFraud')} AS isFraud), isFraud IS NOT NULL AS has_label"
    return f"""
        SELECT
            * EXCLUDE (_unreadable, _empty) {of_label}, {part} AS part,
            CASE
                WHEN list_bool_or(_unreadable) OR {" OR ".join(nothing)}
                THEN list_where([{", ".join(map(literal, faults))}], [{", ".join(faults.values())}])
                ELSE []
            END AS faults
        FROM (
            SELECT
                {number} AS file_no, _line AS line, _unreadable, _empty,
                {", ".join(f"{source.expression(name)} AS {name}" for name in references)}
            FROM (
                SELECT _line, {cells}, [{is_empty}]::BOOLEAN[] AS _empty, [{is_unreadable}]::BOOLEAN[] AS _unreadable
                FROM {raw} AS raw
            )
        )
        """


def _keep_good(con: duckdb.DuckDBPyConnection) -> int:
    """Make good_transactions of evaluated_rows; return how many they are."""
    [(good,)] = con.execute(
        """
        CREATE OR REPLACE TEMP TABLE good_transactions AS
        SELECT
            TransactionID, event_timestamp, card_id, ProductCD,
            amount_thousandths, is_international_txn, isFraud
        FROM evaluated_rows
        WHERE reasons = []
        """
    ).fetchall()
    return good


def _quarantine(con: duckdb.DuckDBPyConnection, files: Mapping[int, RawFile], *, is_empty: bool = False) -> int:
    """Make quarantined_rows of the refused ones among evaluated_rows, each with its raw content; return how many.

    Drops raw_<n>.
    """
    con.execute(
        "CREATE OR REPLACE TEMP TABLE quarantined_rows (file VARCHAR, line BIGINT, reasons VARCHAR[], raw_row VARCHAR)"
    )
    if is_empty:
        con.execute("".join(f"DROP TABLE raw_{number};" for number in files))
        return 0
    quarantined = 0
    for number, file in files.items():
        raw, raw_row = f"raw_{number}", "to_json(struct_pack(*COLUMNS(raw.* EXCLUDE (_line))))::VARCHAR"
        if file.kind == "jsonl":
            _refused_lines(con, file, number)
            raw, raw_row = "refused_lines", "text"
        [(count,)] = con.execute(
            f"""
            INSERT INTO quarantined_rows
            SELECT $file, line, reasons, {raw_row}
            FROM {raw} AS raw
            JOIN evaluated_rows ON raw._line = evaluated_rows.line
            WHERE evaluated_rows.file_no = $file_no AND evaluated_rows.reasons <> []
            UNION ALL
            SELECT $file, line, ['unreadable_line'], text
            FROM raw_{number}_unreadable
            ORDER BY line
            """,
            {"file": file.name, "file_no": number},
        ).fetchall()
        quarantined += count
        con.execute(f"DROP TABLE raw_{number}")
    return quarantined


def _refused_lines(con: duckdb.DuckDBPyConnection, file: RawFile, number: int) -> None:
    """Make the table `refused_lines` of the lines of a JSON file whose rows are refused, read once more."""
    refused = con.execute("SELECT line FROM evaluated_rows WHERE file_no = ? AND reasons <> []", [number]).fetchall()
    texts = texts_of(file, {line for (line,) in refused}) if refused else []
    numbers, lines = number_array([at for at, _ in texts]), text_array(text for _, text in texts)
    con.register("_refused", pa.table({"_line": numbers, "text": lines}))
    con.execute("CREATE OR REPLACE TEMP TABLE refused_lines AS FROM _refused")
    con.unregister("_refused")
