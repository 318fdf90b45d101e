"""What a Silver row is: its columns, the eight features with their rules and words, and their evaluation.

Here belong the names, types, meanings and rules that Delta schemas, checks, the MLflow signature, Dagster's
column metadata and the documentation are made from. How a feature is computed is `features.sql`; where rows
come from is `source`. Nothing heavy is imported: whoever needs the contract needs only pyarrow and DuckDB.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import duckdb
import pyarrow as pa

from fraud_assets.columns import column

if TYPE_CHECKING:
    import pandas as pd

FeatureType = Literal["double", "int", "long"]

_ARROW_TYPES: Final[Mapping[FeatureType, pa.DataType]] = {
    "double": pa.float64(),
    "int": pa.int32(),
    "long": pa.int64(),
}

_UTC_MICROSECONDS: Final = pa.timestamp("us", tz="UTC")
# Delta keeps microseconds, and a UTC timestamp keeps the table readable by the oldest protocol.

_DUCKDB_TYPES: Final[Mapping[pa.DataType, str]] = {
    pa.float64(): "DOUBLE",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.string(): "VARCHAR",
    _UTC_MICROSECONDS: "TIMESTAMP WITH TIME ZONE",
}


@dataclass(frozen=True)
class Feature:
    """One model input: its name, type, meaning in words, and the SQL rule that every stored row keeps."""

    name: str
    type: FeatureType
    meaning: str
    rule: str


FEATURES: Final = (
    Feature(
        name="TransactionAmt",
        type="double",
        meaning="Amount, rounded once to thousandths (half even).",
        rule="isfinite(TransactionAmt) AND TransactionAmt >= 0",
    ),
    Feature(
        name="log_transaction_amount",
        type="double",
        meaning="ln(1 + amount).",
        rule="log_transaction_amount = ln(1 + TransactionAmt)",
    ),
    Feature(
        name="is_high_value_txn",
        type="int",
        meaning="1 where the amount is at or above the source's high-value limit, else 0.",
        rule="is_high_value_txn IN (0, 1)",
    ),
    Feature(
        name="is_international_txn",
        type="int",
        meaning="1 where the transaction's place is not the card's home, else 0.",
        rule="is_international_txn IN (0, 1)",
    ),
    Feature(
        name="txn_count_5min",
        type="long",
        meaning="The card's transactions in the trailing five minutes, this one included.",
        rule="txn_count_5min >= 1",
    ),
    Feature(
        name="avg_amount_5min",
        type="double",
        meaning="Mean amount of the card's transactions in the trailing five minutes.",
        rule="isfinite(avg_amount_5min) AND avg_amount_5min >= 0"
        " AND (txn_count_5min > 1 OR avg_amount_5min = TransactionAmt)",
    ),
    Feature(
        name="stddev_amount_5min",
        type="double",
        meaning="Sample standard deviation of those amounts, 0.0 when there is one.",
        rule="isfinite(stddev_amount_5min) AND stddev_amount_5min >= 0"
        " AND (txn_count_5min > 1 OR stddev_amount_5min = 0)",
    ),
    Feature(
        name="product_diversity_5min",
        type="long",
        meaning="Distinct ProductCD among the card's transactions in the trailing five minutes.",
        rule="product_diversity_5min BETWEEN 1 AND txn_count_5min",
    ),
)

FEATURE_NAMES: Final = tuple(feature.name for feature in FEATURES)

COLUMN_MEANINGS: Final[Mapping[str, str]] = {
    "TransactionID": "The source's id of the transaction, as text; unique within its partition.",
    "event_timestamp": "When the transaction happened, in UTC.",
    "card_id": "The card, as the source identifies it.",
    "ProductCD": "The product or category that was bought.",
    **{feature.name: feature.meaning for feature in FEATURES},
    "isFraud": "The label: 1 fraud, 0 not, null where it is not known (yet).",
    "input_version": "The landed files, the source file and the contract that the partition was built from.",
    "lookback_version": "Digest of the previous partition's last five minutes, as looked back on.",
    "tail_version": "Digest of this partition's last five minutes, for the next partition to look back on.",
    "silver_version": "Digest of everything that is scored in the partition; the label is no part of it.",
    "partition_key": "The day or hour the row belongs to.",
    "file": "The landed file that the row came in.",
    "line": "Its line in a CSV file, its row number in a Parquet file, counted from 1.",
    "reasons": "Every reason why the row is not in Silver.",
    "raw_row": "The raw row as JSON, or the raw text where the record could not be delimited.",
}


def _fields(*names: str, type_: pa.DataType, nullable: bool = False) -> list[pa.Field]:
    return [column(name, type_, COLUMN_MEANINGS[name], nullable=nullable) for name in names]


def silver_schema() -> pa.Schema:
    """Return the schema of `silver.silver_transactions_base`: one row per transaction."""
    return pa.schema(
        [
            *_fields("TransactionID", type_=pa.string()),
            *_fields("event_timestamp", type_=_UTC_MICROSECONDS),
            *_fields("card_id", "ProductCD", type_=pa.string()),
            *(field for f in FEATURES for field in _fields(f.name, type_=_ARROW_TYPES[f.type])),
            *_fields("isFraud", type_=pa.int32(), nullable=True),
            *_fields("input_version", "lookback_version", "tail_version", type_=pa.string()),
            *_fields("silver_version", "partition_key", type_=pa.string()),
        ]
    )


def quarantine_schema() -> pa.Schema:
    """Return the schema of `silver.quarantined_transactions`: one row per refused row."""
    return pa.schema(
        [
            *_fields("file", type_=pa.string()),
            *_fields("line", type_=pa.int64()),
            *_fields("reasons", type_=pa.list_(pa.string())),
            *_fields("raw_row", "input_version", "partition_key", type_=pa.string()),
        ]
    )


DEFINED_BY: Final = (
    "reading.py",
    "source.py",
    "cleaning.py",
    "cleaning.sql",
    "windows.py",
    "features.py",
    "features.sql",
)
# The files that say what a landed row becomes. A change of any, be it of a comment, builds all partitions anew: rather
# once too often than a Silver that the code would not make. What is built equal is not scored again.


def _contract_version() -> str:
    """Digest what decides the stored values: feature names, types and rules, and the code of `DEFINED_BY`."""
    digest = hashlib.sha256()
    for feature in FEATURES:
        digest.update(f"{feature.name}\x1f{feature.type}\x1f{feature.rule}\x1e".encode())
    for name in DEFINED_BY:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()[:16]


CONTRACT_VERSION: Final = _contract_version()
# Part of every input_version: a changed rule, query or step from raw to Silver makes all partitions due.


def as_features(df: "pd.DataFrame") -> "pd.DataFrame":
    """Return the eight feature columns, in contract order and types, and nothing else.

    Raises:
        ValueError: A column is missing, or a value does not survive the cast to its contract type.
    """
    missing = [name for name in FEATURE_NAMES if name not in df.columns]
    if missing:
        raise ValueError(f"Missing feature columns: {', '.join(missing)}. Expected: {', '.join(FEATURE_NAMES)}.")
    types = {feature.name: _ARROW_TYPES[feature.type].to_pandas_dtype() for feature in FEATURES}
    features = df.loc[:, list(FEATURE_NAMES)].astype(types)
    for feature in FEATURES:
        if feature.type != "double" and (features[feature.name] != df[feature.name]).any():
            raise ValueError(f"{feature.name} must hold whole numbers that fit the type {feature.type}.")
    return features


@dataclass(frozen=True)
class FeatureEvaluation:
    """What an evaluation found: the rows it saw, and per broken rule how many of them break it."""

    rows: int
    violations: Mapping[str, int]

    @property
    def passed(self) -> bool:
        """Whether no rule is broken."""
        return not self.violations

    def summary(self) -> str:
        """Say in one line what was found."""
        if self.passed:
            return f"{self.rows} rows keep the feature contract."
        broken = "; ".join(f"{rule}: {rows}" for rule, rows in self.violations.items())
        return f"Of {self.rows} rows, some break the feature contract. {broken}."


def evaluate_features(con: duckdb.DuckDBPyConnection, relation: str) -> FeatureEvaluation:
    """Say which rules of the contract the rows of a relation break, and how often.

    The schema must be Silver's (names, order, types), every rule must hold (NULL does not), no column but the
    label may be NULL, and (partition_key, TransactionID) must be unique. A wrong schema is reported alone,
    since no rule can be evaluated on it.

    Args:
        con: An open connection.
        relation: The name of a table or view, or a SELECT in parentheses.
    """
    expected = [(field.name, _DUCKDB_TYPES[field.type]) for field in silver_schema()]
    actual = [(row[0], row[1]) for row in con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()]
    if actual != expected:
        [(rows,)] = con.execute(f"SELECT count(*) FROM {relation}").fetchall()
        return FeatureEvaluation(rows=rows, violations={_schema_difference(actual, expected): max(rows, 1)})
    rules = {feature.rule: feature.rule for feature in FEATURES} | {
        f"{name} is present": f"{name} IS NOT NULL" for name, _ in expected if name not in (*FEATURE_NAMES, "isFraud")
    }
    rules["isFraud is 0, 1 or null"] = "isFraud IS NULL OR isFraud IN (0, 1)"
    counts = ", ".join(f"count(*) FILTER (WHERE ({rule}) IS NOT TRUE)" for rule in rules.values())
    # Hashes that all differ are of keys that all differ, and take a third of the keys' memory.
    [(rows, distinct, *broken)] = con.execute(
        f"SELECT count(*), count(DISTINCT hash(partition_key, TransactionID)), {counts} FROM {relation}"
    ).fetchall()
    if distinct < rows:
        [(distinct,)] = con.execute(f"SELECT count(DISTINCT (partition_key, TransactionID)) FROM {relation}").fetchall()
    violations = dict(zip(rules, broken, strict=True))
    violations["(partition_key, TransactionID) is unique"] = rows - distinct
    return FeatureEvaluation(rows=rows, violations={rule: n for rule, n in violations.items() if n})


def _schema_difference(actual: list[tuple[str, str]], expected: list[tuple[str, str]]) -> str:
    """Name the first difference between two schemas that is worth telling."""
    found = dict(actual)
    for name, type_ in expected:
        if name not in found:
            return f"column {name} is missing"
        if found[name] != type_:
            return f"column {name} is {found[name]}, not {type_}"
    surplus = [name for name, _ in actual if name not in dict(expected)]
    return f"columns {', '.join(surplus)} are surplus" if surplus else "columns are not in contract order"
