"""Gold predictions: Silver rows in, one score per row out. No tables are opened here, no model is looked up."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Protocol

import numpy as np
import pyarrow as pa

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


def schema() -> pa.Schema:
    """Return the columns of `gold.fraud_predictions`, in order."""
    return pa.schema(
        [
            pa.field("TransactionID", pa.string(), nullable=False),
            pa.field("event_timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("TransactionAmt", pa.float64(), nullable=False),
            pa.field("fraud_score", pa.float64(), nullable=False),
            pa.field("is_anomaly", pa.bool_(), nullable=False),
            pa.field("score_percentile", pa.float64()),
            pa.field("card_id", pa.string(), nullable=False),
            pa.field("model_version", pa.string(), nullable=False),
            pa.field("silver_version", pa.string(), nullable=False),
            pa.field("scored_at", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("partition_key", pa.string(), nullable=False),
        ]
    )


COLUMN_MEANINGS: Final[Mapping[str, str]] = {
    "TransactionID": "Identifier of the transaction; with partition_key the key of the row.",
    "event_timestamp": "Time of the transaction (UTC).",
    "TransactionAmt": "Amount.",
    "fraud_score": "Higher is more suspicious; 0 is the contamination boundary of the training data.",
    "is_anomaly": "fraud_score > threshold of the model version.",
    "score_percentile": "Share of training rows that scored lower: 0.9975 reads 1 in 400.",
    "card_id": "Card that paid.",
    "model_version": "Registered version that made the score.",
    "silver_version": "Version of the Silver partition that was scored.",
    "scored_at": "When the partition was scored (UTC).",
    "partition_key": "Partition of the landed transaction.",
}

SCORED_COLUMNS: Final = (
    "TransactionID",
    "event_timestamp",
    "card_id",
    *FEATURE_NAMES,
)
"""What scoring reads of a Silver row: never the label, nor what all rows of a partition have in common."""


def score_batches(
    batches: Iterator[pa.RecordBatch],
    *,
    scorer: RowScorer,
    model_version: str,
    silver_version: str,
    partition_key: str,
    scored_at: datetime,
) -> Iterator[pa.RecordBatch]:
    """Yield one Gold batch per Silver batch of a partition: same rows, same order, bounded memory.

    Args:
        batches: Silver rows with the columns `SCORED_COLUMNS`.
        scorer: the model; its scores are taken as they are.
        model_version: the version that `scorer` is of.
        silver_version: the version that the rows are of.
        partition_key: the partition that the rows are of.
        scored_at: when this scoring began (UTC).
    """
    gold = schema()
    since_epoch = (scored_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    common = {"model_version": model_version, "silver_version": silver_version, "partition_key": partition_key}

    @lru_cache(maxsize=1)  # All batches but the last have as many rows.
    def repeated(times: int) -> dict[str, pa.Array]:
        scored = _numbers(gold.field("scored_at").type, np.full(times, since_epoch, dtype=np.int64))
        return {name: _repeated(text, times) for name, text in common.items()} | {"scored_at": scored}

    for batch in batches:
        scores = scorer.score(_matrix(batch))
        percentiles = scorer.percentile(scores)
        made = repeated(batch.num_rows) | {
            "fraud_score": _numbers(pa.float64(), scores),
            "is_anomaly": _flags(is_anomaly(scores, scorer.threshold)),
            "score_percentile": _numbers(pa.float64(), percentiles, valid=~np.isnan(percentiles)),
        }
        yield pa.record_batch(
            [made[name] if name in made else batch.column(name).cast(gold.field(name).type) for name in gold.names],
            schema=gold,
        )


def _matrix(batch: pa.RecordBatch) -> np.ndarray:
    """Return the features of a batch, row by row: float64 `(n, 8)` in contract order."""
    return batch.select(list(FEATURE_NAMES)).to_tensor(row_major=True).to_numpy()


# Arrays and buffers are exchanged as they are: most of pyarrow's conversions from and to numpy and Python import pandas
# first, which a scoring run of few rows would spend a quarter of its time on.


def _numbers(arrow_type: pa.DataType, values: np.ndarray, *, valid: np.ndarray | None = None) -> pa.Array:
    mask = None if valid is None else _bits(valid)
    return pa.Array.from_buffers(arrow_type, len(values), [mask, pa.py_buffer(values)])


def _flags(values: np.ndarray) -> pa.Array:
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, _bits(values)])


def _bits(values: np.ndarray) -> pa.Buffer:
    return pa.py_buffer(np.packbits(values, bitorder="little"))


def _repeated(text: str, times: int) -> pa.Array:
    content = text.encode()
    ends = np.arange(times + 1, dtype=np.int32) * np.int32(len(content))
    return pa.StringArray.from_buffers(times, pa.py_buffer(ends), pa.py_buffer(content * times))
