"""Every table of the lake: its address, what one row is, its columns and how it is partitioned.

Schemas come from the packages that make the rows; nothing is opened here (see `fraud_assets.resources.lake`).
"""

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from fraud_assets.alerts import reviews, schemas
from fraud_assets.columns import UTC_MICROSECONDS, column, meanings
from fraud_assets.gold import predictions
from fraud_assets.model import records
from fraud_assets.report import records as reports
from fraud_assets.silver import contract, history


@dataclass(frozen=True)
class Table:
    """One Delta table, called `<group>.<name>` by its users; a partition of it is replaced whole."""

    group: str
    name: str
    grain: str
    schema: pa.Schema
    partition_by: str = "partition_key"
    added: tuple[str, ...] = ()
    """Columns that came after the first release that made the table: NULL in rows of before, so they are nullable."""
    shared: bool = False
    """Whether others may write to it, too, who do not know all our columns."""

    @property
    def address(self) -> str:
        """The name that users write in SQL."""
        return f"{self.group}.{self.name}"

    @property
    def description(self) -> str:
        """What a row of it is, as a sentence."""
        return f"One row is {self.grain}."

    @property
    def meanings(self) -> dict[str, str]:
        """What each column means, in words."""
        return meanings(self.schema)


RAW_TRANSACTIONS: Final = Table(
    "bronze",
    "raw_transactions",
    "one landed file",
    pa.schema(
        [
            column("file", pa.string(), "Path of the file under landing/."),
            column("bytes", pa.int64(), "Size of the file."),
            column(
                "landed_rows",
                pa.int64(),
                "Records in the file, good or bad, the header not counted; NULL where it cannot be read.",
                nullable=True,
            ),
            column("problem", pa.string(), "Why the file cannot be read; NULL where it can.", nullable=True),
            column("content_digest", pa.string(), "SHA-256 of the file's bytes, the first 16 hexadecimal digits."),
            column("observed_at", UTC_MICROSECONDS, "When the file was read (UTC)."),
            column("partition_key", pa.string(), "Partition that the file landed in."),
        ]
    ),
)

SILVER_TRANSACTIONS: Final = Table(
    "silver", "silver_transactions_base", "one good transaction", contract.silver_schema(), shared=True
)

QUARANTINED_TRANSACTIONS: Final = Table(
    "silver", "quarantined_transactions", "one refused raw row", contract.quarantine_schema()
)

PARTITION_BUILDS: Final = Table(
    "silver",
    "partition_builds",
    "one partition that was built, or adopted from something else that wrote it",
    pa.schema(
        [
            *contract.VERSIONS,
            column("landed_rows", pa.int64(), "Records in the partition's landed files; of an adopted one, its rows."),
            column("silver_rows", pa.int64(), "Rows that became Silver."),
            column(
                "quarantined_rows", pa.int64(), "Rows that were refused; landed_rows = silver_rows + quarantined_rows."
            ),
            column("built_at", UTC_MICROSECONDS, "When the partition was built (UTC)."),
            SILVER_TRANSACTIONS.schema.field("partition_key"),
        ]
    ),
)

CARD_HISTORY: Final = Table("silver", "card_history", "one good transaction", history.HISTORY_SCHEMA)

PREDICTIONS: Final = Table("gold", "fraud_predictions", "one scored transaction", predictions.GOLD_SCHEMA)

_RANKED_BY: Final = tuple(field.name for field in schemas.RANKED_BY)

ALERTS: Final = Table(
    "gold",
    "fraud_alerts",
    "one transaction that is put before an analyst",
    schemas.ALERTS_SCHEMA,
    added=schemas.RANKED_COLUMNS,
)

ALERT_LISTS: Final = Table(
    "gold",
    "alert_lists",
    "the list of one scored partition",
    schemas.LISTS_SCHEMA,
    added=(*_RANKED_BY, "sampled_rows"),
)

WITHDRAWN_ALERTS: Final = Table(
    "gold", "withdrawn_alerts", "one alert that was shown and is none any more", schemas.WITHDRAWN_SCHEMA
)

REVIEW_SAMPLES: Final = Table(
    "gold",
    "review_samples",
    "one transaction that is no alert and was drawn at random for review",
    schemas.SAMPLES_SCHEMA,
)

ALERT_REVIEWS: Final = Table(
    "gold",
    "alert_reviews",
    "one reviewed transaction",
    reviews.REVIEWS_SCHEMA,
    partition_by="feed",
    added=("was_sampled",),
)

REVIEW_FILES: Final = Table(
    "gold", "review_files", "one file of reviews", reviews.REVIEW_FILES_SCHEMA, partition_by="feed"
)

REPORTS: Final = Table("gold", "fraud_report", "the page of one partition", reports.REPORTS_SCHEMA, added=_RANKED_BY)

EVALUATION_METRICS: Final = Table(
    "model",
    "evaluation_metrics",
    "one metric of one model version",
    records.METRICS_SCHEMA,
    partition_by="model_version",
)

PROMOTIONS: Final = Table(
    "model", "promotions", "one promotion decision", records.PROMOTIONS_SCHEMA, partition_by="model_version"
)

RANKER_METRICS: Final = Table(
    "model",
    "ranker_metrics",
    "one metric of the lists that one version of the ranker was compared by",
    records.RANKER_METRICS_SCHEMA,
    partition_by="model_version",
)

RANKER_PROMOTIONS: Final = Table(
    "model",
    "ranker_promotions",
    "one promotion decision about a version of the ranker",
    records.PROMOTIONS_SCHEMA,
    partition_by="model_version",
)

RANKER_TRAININGS: Final = Table(
    "model",
    "ranker_trainings",
    "one attempt to learn from labels",
    records.TRAININGS_SCHEMA,
    partition_by="learned_from",
)

TABLES: Final = (
    RAW_TRANSACTIONS,
    SILVER_TRANSACTIONS,
    QUARANTINED_TRANSACTIONS,
    PARTITION_BUILDS,
    CARD_HISTORY,
    PREDICTIONS,
    ALERTS,
    ALERT_LISTS,
    WITHDRAWN_ALERTS,
    REVIEW_SAMPLES,
    ALERT_REVIEWS,
    REVIEW_FILES,
    REPORTS,
    EVALUATION_METRICS,
    PROMOTIONS,
    RANKER_METRICS,
    RANKER_PROMOTIONS,
    RANKER_TRAININGS,
)
