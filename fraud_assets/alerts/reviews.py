"""Analysts' decisions: what a review file says, and which decision of a transaction counts.

What belongs here: the columns, the rules and the tables of reviews. What does not: what can be known from them
(`review_findings`), spreadsheets (`spreadsheets`) and where files lie (`landing_zone`).

The decision made last counts: by `reviewed_at`, and where that is not given by the time when its file landed; among
equal times the file that landed later, and in a file the row further down.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, get_args

import pyarrow as pa
from duckdb import DuckDBPyConnection

from fraud_assets.columns import UTC_MICROSECONDS, column
from fraud_assets.sql import rows_as

Outcome = Literal["fraud", "genuine", "unsure"]

OUTCOMES: Final = get_args(Outcome)

REVIEW_COLUMNS: Final = ("outcome", "reviewer", "reviewed_at", "note")
"""What an analyst fills in; only the outcome is needed."""

_FEED: Final = column("feed", pa.string(), "Name of the source whose transactions were reviewed.")
_FILES_DIGEST: Final = column("reviews_version", pa.string(), "Digest of the review files that were read.")

REVIEWS_SCHEMA: Final = pa.schema(
    [
        column("TransactionID", pa.string(), "Identifier of the reviewed transaction, as the review file has it."),
        column(
            "partition_key",
            pa.string(),
            "Partition of the transaction; NULL where Silver does not know it (yet).",
            nullable=True,
        ),
        column("was_alert", pa.bool_(), "Whether it is, or was before it was withdrawn, on a list of alerts."),
        column("outcome", pa.string(), f"What was decided: {', '.join(OUTCOMES)}."),
        column("reviewer", pa.string(), "Who decided; NULL where the file does not say.", nullable=True),
        column("reviewed_at", UTC_MICROSECONDS, "When: as the file says, else when the file landed (UTC)."),
        column("note", pa.string(), "What the analyst noted; NULL where nothing.", nullable=True),
        column("review_file", pa.string(), "The file of the decision, under landing/."),
        column(
            "model_version",
            pa.string(),
            "Version whose alert was reviewed, or that scored what was drawn for review; NULL for others.",
            nullable=True,
        ),
        column("card_id", pa.string(), "Its card; NULL where the model version is.", nullable=True),
        _FEED,
        column(
            "was_sampled",
            pa.bool_(),
            "Whether it was no alert and was drawn at random for review; NULL in reviews of before that.",
            nullable=True,
        ),
    ]
)
"""The columns of `gold.alert_reviews`, in order."""

REVIEW_FILES_SCHEMA: Final = pa.schema(
    [
        column("review_file", pa.string(), "Path of the file under landing/."),
        column("decisions", pa.int64(), "Rows with a valid outcome."),
        column("undecided", pa.int64(), "Rows whose outcome is empty."),
        column("refused", pa.list_(pa.string()), "Rows that do not count, each with the reason."),
        column("unknown_ids", pa.list_(pa.string()), "Reviewed ids that are in no Silver partition (yet)."),
        column("problem", pa.string(), "Why the file cannot be read; NULL where it can.", nullable=True),
        column("read_at", UTC_MICROSECONDS, "When it was read (UTC)."),
        _FILES_DIGEST,
        _FEED,
    ]
)
"""The columns of `gold.review_files`, in order."""


@dataclass(frozen=True)
class Decision:
    """One decision about one transaction."""

    transaction: str
    outcome: str
    reviewer: str | None
    reviewed_at: datetime | None
    note: str | None


@dataclass(frozen=True)
class Reviewed:
    """What one file says: its decisions in order, how many rows have no outcome yet, what does not count and why."""

    decisions: tuple[Decision, ...]
    undecided: int
    refused: tuple[str, ...]


def read_decisions(rows: Iterable[Mapping[str, Any]]) -> Reviewed:
    """Return the decisions of a file's rows; a row that does not count is named by its id and costs nothing else.

    An outcome is read whatever its case and the blanks around it. A time without a zone is in UTC.
    """
    decisions, refused, undecided = [], [], 0
    for row in rows:
        transaction, outcome = str(row.get("TransactionID") or ""), _text(row.get("outcome"))
        if outcome is None:
            undecided += 1
        elif not transaction:
            refused.append(f"{outcome!r} without a TransactionID")
        elif outcome.lower() not in OUTCOMES:
            refused.append(f"{transaction}: {outcome!r} is none of {', '.join(OUTCOMES)}")
        else:
            try:
                at = _time(row.get("reviewed_at"))
            except (ValueError, OverflowError):
                refused.append(f"{transaction}: reviewed_at {str(row['reviewed_at'])!r} is no time")
                continue
            decisions.append(
                Decision(transaction, outcome.lower(), _text(row.get("reviewer")), at, _text(row.get("note")))
            )
    return Reviewed(tuple(decisions), undecided, tuple(refused))


def latest_decisions(files: Sequence[tuple[str, datetime, Sequence[Decision]]]) -> list[dict[str, Any]]:
    """Return the decision that counts of each transaction, as rows with TransactionID and the columns of a review.

    Args:
        files: name, time of landing and decisions, in the order in which they landed.
    """
    found: dict[str, tuple[datetime, dict[str, Any]]] = {}
    for name, landed_at, decisions in files:
        for decision in decisions:
            at = decision.reviewed_at or landed_at
            before = found.get(decision.transaction)
            if before is None or at >= before[0]:
                row = {
                    "TransactionID": decision.transaction,
                    "outcome": decision.outcome,
                    "reviewer": decision.reviewer,
                    "reviewed_at": at,
                    "note": decision.note,
                    "review_file": name,
                }
                found[decision.transaction] = (at, row)
    return [row for _, row in found.values()]


def _text(value: Any) -> str | None:
    text = "" if value is None else str(value).strip()
    return text or None


def _time(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    text = _text(value)
    if text is None:
        return None
    time = datetime.fromisoformat(text)
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


_SQL: Final = Path(__file__).with_name("reviews.sql").read_text(encoding="utf-8")


def join_reviews(
    con: DuckDBPyConnection,
    decisions: Sequence[Mapping[str, Any]],
    *,
    alerts: str,
    withdrawn: str,
    drawn: str,
    silver: str,
    feed: str,
) -> pa.Table:
    """Return the rows of `gold.alert_reviews` of what `latest_decisions` returned, in order of time.

    `alerts` and `withdrawn` are relations of all lists, `drawn` of what was drawn for review, `silver` of all Silver
    rows.
    """
    columns = "TransactionID, partition_key, model_version, card_id, alerted_at"
    con.execute(f"CREATE OR REPLACE TEMP VIEW silver_rows AS FROM {silver}")
    shown = ((alerts, True), (withdrawn, True), (drawn, False))
    con.execute(
        "CREATE OR REPLACE TEMP VIEW shown AS "
        + " UNION ALL ".join(f"SELECT {columns}, {is_alert} AS is_alert FROM {rows}" for rows, is_alert in shown)
    )
    texts = [{**row, "reviewed_at": row["reviewed_at"].isoformat()} for row in decisions]
    names = ("TransactionID", "outcome", "reviewer", "reviewed_at", "note", "review_file")
    con.execute(
        "CREATE OR REPLACE TEMP TABLE decided AS FROM (SELECT unnest(json_transform($rows, $shape), max_depth := 2))",
        {"rows": json.dumps(texts), "shape": json.dumps([dict.fromkeys(names, "VARCHAR")])},
    )
    con.execute(f"CREATE OR REPLACE TEMP TABLE reviews AS {_SQL}", {"feed": feed})
    return rows_as(con, "SELECT {} FROM reviews ORDER BY reviewed_at, TransactionID", REVIEWS_SCHEMA)
