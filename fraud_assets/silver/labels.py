"""Labels that land on their own, later than their transactions: which label each transaction has, and what is wrong.

Here belong the rules of landing/labels and the digest of what an evaluation sees. Labels never change Silver: whoever
measures a model joins them to its rows. How a file is read is `reading`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import duckdb

from fraud_assets.digests import digest_lines
from fraud_assets.silver.raw_files import BrokenFileError, RawFile
from fraud_assets.silver.reading import open_raw, read_raw
from fraud_assets.silver.source import Source, label_of

LABEL_COLUMNS: Final = ("TransactionID", "isFraud")
"""What a file of labels must have, whatever the feed calls its own columns; other columns do not matter."""


class LabelsDigest(NamedTuple):
    """What an evaluation sees of labels: the late ones, the partitions that were evaluated, and analysts' reviews.

    A difference in one of them says why an evaluation is due. As text it is the column `labels_version`.
    """

    files: str
    partitions: str
    reviews: str = ""
    """Empty where there is none: an evaluation of an earlier release has seen none either."""

    def __str__(self) -> str:
        return "-".join(filter(None, self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the digest that was stored as this text."""
        return cls(*text.split("-"))


@dataclass(frozen=True)
class LateLabels:
    """What the files of late labels hold.

    So many `files`, read or not, and `records` in those that were read, good or bad; transactions with a label by
    them (`labels`), of which some are of no Silver row (yet) (`unknown`); records that give no label, by reason
    (`ignored`); and the messages of files that cannot be read and were left out whole, by name (`broken`).
    """

    files: int
    records: int
    labels: int
    unknown: int
    ignored: Mapping[str, int]
    broken: Mapping[str, str]

    def summary(self) -> str:
        """Say in one line what was found."""
        aside = [*self.ignored.items(), *([("of no Silver row", self.unknown)] if self.unknown else [])]
        return (
            f"{self.files:,} file{'s' * (self.files != 1)} of late labels: {self.records:,} records, "
            f"{self.labels:,} transactions labelled"
            + "".join(f"; {count:,} {why}" for why, count in aside)
            + (f"; not read: {', '.join(self.broken)}" if self.broken else "")
        )


def labels_digest(files: Sequence[str], partitions: Sequence[str], reviews: str = "") -> LabelsDigest:
    """Return the digest of what an evaluation sees of labels.

    `files` are the content digests of the label files in their order, which counts, since the last label wins;
    `partitions` says of each evaluated partition what it was built from, and `reviews` is the digest of the reviews.
    """
    return LabelsDigest(files=digest_lines(files), partitions=digest_lines(partitions), reviews=reviews)


def read_labels(con: duckdb.DuckDBPyConnection, source: Source, files: Sequence[RawFile], *, silver: str) -> LateLabels:
    """Make the temporary table `late_labels (TransactionID, isFraud)`, one row per labelled transaction.

    The last label that is 0 or 1 wins, by the order of the files and within them. Ids are compared as text, exactly as
    Silver has them. A record without an id, with another label or that is unreadable is counted and costs nothing else.
    Neither does a file that cannot be read or lacks a column: none of its labels count, and it is named. The source's
    CSV format is the format of the labels, which always have a header. `silver` is a relation with all Silver rows.
    """
    records, unreadable, broken = _read_files(con, source, files)
    con.execute(
        """
        CREATE OR REPLACE TEMP TABLE late_labels AS
        SELECT id AS TransactionID, arg_max(label, place) AS isFraud
        FROM raw_labels
        WHERE id IS NOT NULL AND label IS NOT NULL
        GROUP BY id
        """
    )
    [(labels, known, missing, blank, bad)] = con.execute(
        f"""
        SELECT
            (SELECT count(*) FROM late_labels),
            (SELECT count(DISTINCT TransactionID) FROM {silver} SEMI JOIN late_labels USING (TransactionID)),
            count(*) FILTER (id IS NULL),
            count(*) FILTER (text IS NULL),
            count(*) FILTER (text IS NOT NULL AND label IS NULL)
        FROM raw_labels
        """
    ).fetchall()
    ignored = {"missing_transaction_id": missing, "blank": blank, "label_not_0_or_1": bad}
    ignored["unreadable_line"] = unreadable
    return LateLabels(
        files=len(files),
        records=records,
        labels=labels,
        unknown=labels - known,
        ignored={why: count for why, count in ignored.items() if count},
        broken=broken,
    )


def _read_files(
    con: duckdb.DuckDBPyConnection, source: Source, files: Sequence[RawFile]
) -> tuple[int, int, dict[str, str]]:
    """Make the table `raw_labels` of all delimited records; return all records, the others, and the broken files."""
    con.execute("CREATE OR REPLACE TEMP TABLE raw_labels (place BIGINT, id VARCHAR, text VARCHAR, label INTEGER)")
    csv_format = source.csv.model_copy(update={"header": True})
    records = unreadable = 0
    broken: dict[str, str] = {}
    for number, file in enumerate(files):
        try:
            with open_raw(file, csv_format) as opened:
                records += read_raw(con, file, opened, "label_file", frozenset(LABEL_COLUMNS), is_strict=True)
        except BrokenFileError as error:
            broken[file.name] = str(error)
            continue
        con.execute(
            f"""
            INSERT INTO raw_labels
            -- A place among all files; no file has as many lines.
            SELECT $number * 1_000_000_000_000 + _line, TransactionID, isFraud, {label_of("isFraud")} FROM label_file
            """,
            {"number": number},
        )
        unreadable += con.execute("SELECT count(*) FROM label_file_unreadable").fetchall()[0][0]
    return records, unreadable, broken


def with_late_labels(silver: str) -> str:
    """Return a relation of the Silver rows with the labels of `late_labels`, which win: they came later."""
    return (
        f"(SELECT silver.* REPLACE (coalesce(late.isFraud, silver.isFraud) AS isFraud) FROM {silver} AS silver "
        "LEFT JOIN late_labels AS late ON silver.TransactionID = late.TransactionID)"
    )
