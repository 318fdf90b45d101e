"""Every table of the lake: its address, what one row is, its columns and how it is partitioned.

Schemas come from the packages that make the rows; nothing is opened here (see `fraud_assets.resources.lake`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from fraud_assets.gold import predictions
from fraud_assets.model import records
from fraud_assets.silver import contract


@dataclass(frozen=True)
class Table:
    """One Delta table, called `<group>.<name>` by its users; a partition of it is replaced whole."""

    group: str
    name: str
    grain: str
    schema: pa.Schema
    partition_by: str = "partition_key"
    meanings: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """The name that users write in SQL."""
        return f"{self.group}.{self.name}"


def _comments(schema: pa.Schema) -> dict[str, str]:
    """Return what the schema's own fields say of themselves."""
    return {field.name: field.metadata[b"comment"].decode() for field in schema}


RAW_TRANSACTIONS: Final = Table(
    group="bronze",
    name="raw_transactions",
    grain="one landed file",
    schema=pa.schema(
        [
            pa.field("file", pa.string(), nullable=False),
            pa.field("bytes", pa.int64(), nullable=False),
            pa.field("landed_rows", pa.int64()),
            pa.field("problem", pa.string()),
            pa.field("content_digest", pa.string(), nullable=False),
            pa.field("observed_at", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("partition_key", pa.string(), nullable=False),
        ]
    ),
    meanings={
        "file": "Path of the file under landing/.",
        "bytes": "Size of the file.",
        "landed_rows": "Records in the file, good or bad, the header not counted; NULL where it cannot be read.",
        "problem": "Why the file cannot be read; NULL where it can.",
        "content_digest": "SHA-256 of the file's bytes, the first 16 hexadecimal digits.",
        "observed_at": "When the file was read (UTC).",
        "partition_key": "Partition that the file landed in.",
    },
)

SILVER_TRANSACTIONS: Final = Table(
    group="silver",
    name="silver_transactions_base",
    grain="one good transaction",
    schema=contract.silver_schema(),
    meanings=contract.COLUMN_MEANINGS,
)

QUARANTINED_TRANSACTIONS: Final = Table(
    group="silver",
    name="quarantined_transactions",
    grain="one refused raw row",
    schema=contract.quarantine_schema(),
    meanings=contract.COLUMN_MEANINGS,
)

PARTITION_BUILDS: Final = Table(
    group="silver",
    name="partition_builds",
    grain="one built partition",
    schema=pa.schema(
        [
            *(
                pa.field(name, pa.string(), nullable=False)
                for name in ("input_version", "lookback_version", "tail_version", "silver_version")
            ),
            *(
                pa.field(name, pa.int64(), nullable=False)
                for name in ("landed_rows", "silver_rows", "quarantined_rows")
            ),
            pa.field("built_at", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("partition_key", pa.string(), nullable=False),
        ]
    ),
    meanings={
        **contract.COLUMN_MEANINGS,
        "landed_rows": "Records in the partition's landed files.",
        "silver_rows": "Rows that became Silver.",
        "quarantined_rows": "Rows that were refused; landed_rows = silver_rows + quarantined_rows.",
        "built_at": "When the partition was built (UTC).",
    },
)

PREDICTIONS: Final = Table(
    group="gold",
    name="fraud_predictions",
    grain="one scored transaction",
    schema=predictions.schema(),
    meanings=predictions.COLUMN_MEANINGS,
)

EVALUATION_METRICS: Final = Table(
    group="model",
    name="evaluation_metrics",
    grain="one metric of one model version",
    schema=records.metrics_schema(),
    partition_by="model_version",
    meanings=_comments(records.metrics_schema()),
)

PROMOTIONS: Final = Table(
    group="model",
    name="promotions",
    grain="one promotion decision",
    schema=records.promotions_schema(),
    partition_by="model_version",
    meanings=_comments(records.promotions_schema()),
)

TABLES: Final = (
    RAW_TRANSACTIONS,
    SILVER_TRANSACTIONS,
    QUARANTINED_TRANSACTIONS,
    PARTITION_BUILDS,
    PREDICTIONS,
    EVALUATION_METRICS,
    PROMOTIONS,
)
