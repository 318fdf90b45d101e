"""Gold predictions: Silver rows in, one score per row out. No tables are opened here, no model is looked up."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final, Protocol

import numpy as np
import pyarrow as pa

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
    "silver_version",
    "partition_key",
)
"""What scoring reads of a Silver row: never the label."""


def score_batches(
    batches: Iterator[pa.RecordBatch], *, scorer: RowScorer, model_version: str, scored_at: datetime
) -> Iterator[pa.RecordBatch]:
    """Yield one Gold batch per Silver batch: same rows, same order, bounded memory.

    Args:
        batches: Silver rows with the columns `SCORED_COLUMNS`.
        scorer: the model; its scores are taken as they are.
        model_version: the version that `scorer` is of.
        scored_at: when this scoring began (UTC).
    """
    gold = schema()
    for batch in batches:
        features = np.empty((batch.num_rows, len(FEATURE_NAMES)), dtype=np.float64)
        for position, name in enumerate(FEATURE_NAMES):
            features[:, position] = batch.column(name).to_numpy(zero_copy_only=False)
        scores = scorer.score(features)
        made: dict[str, pa.Array] = {
            "fraud_score": pa.array(scores),
            "is_anomaly": pa.array(scores > scorer.threshold),
            "score_percentile": pa.array(scorer.percentile(scores), from_pandas=True),
            "model_version": pa.repeat(model_version, batch.num_rows),
            "scored_at": pa.repeat(pa.scalar(scored_at, gold.field("scored_at").type), batch.num_rows),
        }
        yield pa.record_batch(
            [made[name] if name in made else batch.column(name).cast(gold.field(name).type) for name in gold.names],
            schema=gold,
        )
