"""What a Silver row is: its columns, the eight features with their rules and words, and the check of all that.

Here belong the names, types, meanings and rules that Delta schemas, checks, the MLflow signature, Dagster's
column metadata and the documentation are made from. How a feature is computed is `features.sql`; where rows
come from is `source`. Nothing heavy is imported: whoever needs the contract needs only pyarrow and DuckDB.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

import duckdb
import pyarrow as pa

from fraud_assets.columns import UTC_MICROSECONDS, column
from fraud_assets.errors import FraudAssetsError
from fraud_assets.sql import duckdb_type

if TYPE_CHECKING:
    import pandas as pd

CONTRACT_DIGEST: Final = "9c54cf586cd9befc"
"""Digest of what the code makes of landed rows; part of every input digest, so that another one makes all partitions
due. A test computes it from the definitions below and from the values that hostile rows become, and says what to write
here when they change."""

WINDOW: Final = timedelta(minutes=5)
"""A card's window at time t is the closed interval [t - WINDOW, t]."""

_IN_WINDOW: Final = f"the card's transactions in the trailing {WINDOW // timedelta(minutes=1)} minutes"

FeatureType = Literal["double", "int", "long"]

_ARROW_TYPES: Final[Mapping[FeatureType, pa.DataType]] = {"double": pa.float64(), "int": pa.int32(), "long": pa.int64()}


@dataclass(frozen=True)
class Feature:
    """One model input: its name, type, meaning in words, and the SQL rule that every stored row keeps."""

    name: str
    type: FeatureType
    meaning: str
    rule: str


FEATURES: Final = (
    Feature(
        "TransactionAmt", "double", "Amount, rounded once to thousandths (half even).",
        "isfinite(TransactionAmt) AND TransactionAmt >= 0",
    ),
    Feature(
        "log_transaction_amount", "double", "ln(1 + amount).",
        "log_transaction_amount = ln(1 + TransactionAmt)",
    ),
    Feature(
        "is_high_value_txn", "int", "1 where the amount is at or above the source's high-value limit, else 0.",
        "is_high_value_txn IN (0, 1)",
    ),
    Feature(
        "is_international_txn", "int", "1 where the transaction's place is not the card's home, else 0.",
        "is_international_txn IN (0, 1)",
    ),
    Feature(
        "txn_count_5min", "long", f"Number of {_IN_WINDOW}, this one included.",
        "txn_count_5min >= 1",
    ),
    Feature(
        "avg_amount_5min", "double", f"Mean amount of {_IN_WINDOW}.",
        "isfinite(avg_amount_5min) AND avg_amount_5min >= 0"
        " AND (txn_count_5min > 1 OR avg_amount_5min = TransactionAmt)",
    ),
    Feature(
        "stddev_amount_5min", "double", "Sample standard deviation of those amounts, 0.0 when there is one.",
        "isfinite(stddev_amount_5min) AND stddev_amount_5min >= 0"
        " AND (txn_count_5min > 1 OR stddev_amount_5min = 0)",
    ),
    Feature(
        "product_diversity_5min", "long", f"Distinct ProductCD among {_IN_WINDOW}.",
        "product_diversity_5min BETWEEN 1 AND txn_count_5min",
    ),
)  # fmt: skip

FEATURE_NAMES: Final = tuple(feature.name for feature in FEATURES)

_TEXT: Final = pa.string()

_INPUT: Final = column(
    "input_version", _TEXT, "The landed files, the source file and the contract that the partition was built from."
)
_PARTITION: Final = column("partition_key", _TEXT, "The day or hour the row belongs to.")

VERSIONS: Final = (
    _INPUT,
    column("lookback_version", _TEXT, "Digest of the previous partition's last window, as looked back on."),
    column("tail_version", _TEXT, "Digest of this partition's last window, for the next one to look back on."),
    column("silver_version", _TEXT, "Digest of what is scored in the partition; the label is no part of it."),
)
"""Constant within a partition, and NULL in rows that something else wrote and does not know them."""


def silver_schema() -> pa.Schema:
    """Return the schema of `silver.silver_transactions_base`: one row per transaction, with comments."""
    return pa.schema(
        [
            column("TransactionID", _TEXT, "The source's id of the transaction, as text; unique within its partition."),
            column("event_timestamp", UTC_MICROSECONDS, "When the transaction happened, in UTC."),
            column("card_id", _TEXT, "The card, as the source identifies it."),
            column("ProductCD", _TEXT, "The product or category that was bought."),
            *(column(feature.name, _ARROW_TYPES[feature.type], feature.meaning) for feature in FEATURES),
            column(
                "isFraud", pa.int32(), "The label: 1 fraud, 0 not, null where it is not known (yet).", nullable=True
            ),
            *(field.with_nullable(True) for field in VERSIONS),
            _PARTITION,
        ]
    )


def quarantine_schema() -> pa.Schema:
    """Return the schema of `silver.quarantined_transactions`: one row per refused row."""
    return pa.schema(
        [
            column("file", _TEXT, "The landed file that the row came in."),
            column("line", pa.int64(), "Its line in a CSV file, its row number in a Parquet file, counted from 1."),
            column("reasons", pa.list_(_TEXT), "Every reason why the row is not in Silver."),
            column("raw_row", _TEXT, "The raw row as JSON, or the raw text where the record could not be delimited."),
            _INPUT,
            _PARTITION,
        ]
    )


def as_features(df: "pd.DataFrame") -> "pd.DataFrame":
    """Return the eight feature columns, in contract order and types, and nothing else.

    Raises ValueError where a column is missing, or a value does not survive the cast to its contract type.
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
class ContractCheck:
    """What a check found: the rows it saw, and per broken rule how many of them break it."""

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


class ContractViolationError(FraudAssetsError):
    """Features that break the contract; nothing of the partition was written, or nothing of it is scored."""

    def __init__(self, check: ContractCheck) -> None:
        super().__init__(check.summary())
        self.violations = check.violations


def check_features(con: duckdb.DuckDBPyConnection, relation: str) -> ContractCheck:
    """Say which rules of the contract the rows of a relation break, and how often.

    The schema must be Silver's (names, order, types), every rule must hold (NULL does not), no column but the
    label and the versions may be NULL, and (partition_key, TransactionID) must be unique. A wrong schema is reported
    alone, since no rule can be checked on it. The relation is a table, a view, or a SELECT in parentheses.
    """
    schema = silver_schema()
    expected = [(field.name, duckdb_type(field.type)) for field in schema]
    actual = [(row[0], row[1]) for row in con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()]
    if actual != expected:
        [(rows,)] = con.execute(f"SELECT count(*) FROM {relation}").fetchall()
        return ContractCheck(rows=rows, violations={_schema_difference(actual, expected): max(rows, 1)})
    rules = {feature.rule: feature.rule for feature in FEATURES} | {
        f"{field.name} is present": f"{field.name} IS NOT NULL"
        for field in schema
        if not field.nullable and field.name not in FEATURE_NAMES
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
    return ContractCheck(rows=rows, violations={rule: n for rule, n in violations.items() if n})


def _schema_difference(actual: list[tuple[str, str]], expected: list[tuple[str, str]]) -> str:
    """Name the first difference between two schemas that is worth telling."""
    found, wanted = dict(actual), dict(expected)
    for name, type_ in expected:
        if (has := found.get(name)) != type_:
            return f"column {name} is {f'{has}, not {type_}' if has else 'missing'}"
    surplus = ", ".join(found.keys() - wanted.keys())
    return f"columns {surplus} are surplus" if surplus else "columns are not in contract order"
