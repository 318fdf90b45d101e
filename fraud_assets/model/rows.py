"""Which Silver rows a model is trained on, measured on and compared by: their columns, order and sampling.

Belongs here: the queries. Does not belong here: which partitions they cover, and the labels that landed late.
"""

from typing import TYPE_CHECKING, Final

from fraud_assets.silver.contract import FEATURE_NAMES, as_features
from fraud_assets.sql import identifier

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyConnection

REFERENCE_ROWS: Final = 200_000
"""The most rows that the supervised reference learns from: more take longer and hardly rank better."""

_SAMPLE: Final = "ORDER BY md5(TransactionID), partition_key LIMIT $max_rows"
"""The same rows however the table is stored, on every machine and in every release, since md5 is a standard; an id that
occurs in several partitions is told apart by its partition."""


def read_training_rows(connection: "DuckDBPyConnection", silver: str, *, max_rows: int) -> "pd.DataFrame":
    """Return the eight features of all rows of a query of Silver, or of a sample of `max_rows`; in no order."""
    [(found,)] = connection.execute(f"SELECT count(*) FROM {silver}").fetchall()
    features = f"SELECT {_columns(*FEATURE_NAMES)} FROM {silver}"
    if found <= max_rows:
        return as_features(connection.execute(features).df())
    return as_features(connection.execute(f"{features} {_SAMPLE}", {"max_rows": max_rows}).df())


def read_reference_rows(connection: "DuckDBPyConnection", silver: str) -> "pd.DataFrame":
    """Return features and `isFraud` of the labelled rows of a query of Silver, or of a sample, in one order always."""
    columns = _columns(*FEATURE_NAMES, "isFraud")
    query = f"SELECT {columns} FROM {silver} WHERE isFraud IS NOT NULL {_SAMPLE}"
    return connection.execute(query, {"max_rows": REFERENCE_ROWS}).df()


def read_evaluation_rows(connection: "DuckDBPyConnection", silver: str) -> "pd.DataFrame":
    """Return features, `isFraud`, `card_id` and `partition_key` of all rows of a query of Silver, in order of time."""
    columns = _columns(*FEATURE_NAMES, "isFraud", "card_id", "partition_key")
    return connection.execute(f"SELECT {columns} FROM {silver} ORDER BY event_timestamp, TransactionID").df()


def _columns(*names: str) -> str:
    return ", ".join(map(identifier, names))
