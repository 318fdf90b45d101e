"""Gold predictions: Silver rows in, one score per row out. No table is opened here, no model is looked up."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
from duckdb import DuckDBPyConnection

from fraud_assets.columns import UTC_MICROSECONDS, column
from fraud_assets.model.scorer import is_anomaly
from fraud_assets.silver.contract import FEATURE_NAMES


class RowScorer(Protocol):
    """What scoring needs of a model: higher scores are more suspicious."""

    @property
    def threshold(self) -> float:
        """A row whose score lies above it is an anomaly."""
        ...

    def score(self, X: np.ndarray) -> np.ndarray:  # noqa: N803 - scikit-learn's name for a feature matrix
        """Return one score per row of `(n, 8)` features in contract order."""
        ...

    def percentile(self, scores: np.ndarray) -> np.ndarray:
        """Return the share of training rows that scored lower, per score."""
        ...


GOLD_SCHEMA: Final = pa.schema(
    [
        column("TransactionID", pa.string(), "Identifier of the transaction; with partition_key the key of the row."),
        column("event_timestamp", UTC_MICROSECONDS, "Time of the transaction (UTC)."),
        column("TransactionAmt", pa.float64(), "Amount."),
        column(
            "fraud_score",
            pa.float64(),
            "Higher is more suspicious; 0 is the contamination boundary of the training data.",
        ),
        column("is_anomaly", pa.bool_(), "fraud_score > threshold of the model version."),
        column(
            "score_percentile",
            pa.float64(),
            "Share of training rows that scored lower, exact to 0.0001: 0.9975 reads 1 in 400.",
            nullable=True,
        ),
        column("card_id", pa.string(), "Card that paid."),
        column("model_version", pa.string(), "Registered version that made the score."),
        column("silver_version", pa.string(), "Digest of the Silver partition that was scored."),
        column("scored_at", UTC_MICROSECONDS, "When the partition was scored (UTC)."),
        column("partition_key", pa.string(), "Partition of the landed transaction."),
    ]
)
"""The columns of `gold.fraud_predictions`, in order."""

SCORED_COLUMNS: Final = ("TransactionID", "event_timestamp", "card_id", *FEATURE_NAMES)
"""What scoring reads of a Silver row: never the label, nor what all rows of a partition have in common."""


def score_partition(con: DuckDBPyConnection, silver: str, *, batch_rows: int, **scoring: Any) -> pa.RecordBatchReader:
    """Return the Gold rows of a relation of one partition's Silver rows, scored as they are taken."""
    rows = con.sql(f"SELECT {', '.join(SCORED_COLUMNS)} FROM {silver}").to_arrow_reader(batch_rows)
    return pa.RecordBatchReader.from_batches(GOLD_SCHEMA, score_batches(iter(rows), **scoring))


def score_batches(
    batches: Iterator[pa.RecordBatch], *, scorer: RowScorer, scored_at: datetime, **constants: str
) -> Iterator[pa.RecordBatch]:
    """Yield one Gold batch per Silver batch of a partition: same rows, same order, bounded memory.

    Of the Silver rows the `SCORED_COLUMNS` are needed; `constants` are model_version, silver_version and partition_key.
    """
    since_epoch = (scored_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

    @lru_cache(maxsize=1)  # All batches but the last have as many rows.
    def repeated(times: int) -> dict[str, pa.Array]:
        scored = _numbers(GOLD_SCHEMA.field("scored_at").type, np.full(times, since_epoch, dtype=np.int64))
        return {name: _repeated(text, times) for name, text in constants.items()} | {"scored_at": scored}

    for batch in batches:
        features = batch.select(list(FEATURE_NAMES)).to_tensor(row_major=True)
        scores = scorer.score(features.to_numpy())
        percentiles, is_above = scorer.percentile(scores), is_anomaly(scores, scorer.threshold)
        made = dict(zip(batch.schema.names, batch.columns, strict=True)) | repeated(batch.num_rows)
        made |= {
            "fraud_score": _numbers(pa.float64(), scores),
            "is_anomaly": pa.Array.from_buffers(pa.bool_(), len(scores), [None, _bits(is_above)]),
            "score_percentile": _numbers(pa.float64(), percentiles, valid=~np.isnan(percentiles)),
        }
        yield pa.record_batch([made[field.name].cast(field.type) for field in GOLD_SCHEMA], schema=GOLD_SCHEMA)


def count_anomalies(con: DuckDBPyConnection, gold: str) -> tuple[int, int]:
    """Return how many rows a relation of Gold rows has, and how many of them are anomalies."""
    [(rows, anomalies)] = con.execute(f"SELECT count(*), count(*) FILTER (is_anomaly) FROM {gold}").fetchall()
    return rows, anomalies


def most_suspicious(con: DuckDBPyConnection, gold: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return column names and the five rows with the highest scores of a relation of Gold rows, the highest first."""
    columns = ["TransactionID", "event_timestamp", "TransactionAmt", "card_id", "fraud_score", "score_percentile"]
    top = f"SELECT {', '.join(columns)} FROM {gold} ORDER BY fraud_score DESC, TransactionID LIMIT 5"
    return columns, con.execute(top).fetchall()


# Arrays and buffers are exchanged as they are: most of pyarrow's conversions from and to numpy and Python import pandas
# first, which a scoring run of few rows would spend a quarter of its time on.


def _numbers(arrow_type: pa.DataType, values: np.ndarray, *, valid: np.ndarray | None = None) -> pa.Array:
    mask = None if valid is None else _bits(valid)
    return pa.Array.from_buffers(arrow_type, len(values), [mask, pa.py_buffer(values)])


def _bits(values: np.ndarray) -> pa.Buffer:
    return pa.py_buffer(np.packbits(values, bitorder="little"))


def _repeated(text: str, times: int) -> pa.Array:
    content = text.encode()
    ends = np.arange(times + 1, dtype=np.int32) * np.int32(len(content))
    return pa.StringArray.from_buffers(times, pa.py_buffer(ends), pa.py_buffer(content * times))
