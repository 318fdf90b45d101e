"""The columns of `gold.fraud_report`: what stands on a page in a line, and what the page was made of."""

from typing import Final

import pyarrow as pa

from fraud_assets.alerts.schemas import LISTS_SCHEMA, RANKED_BY
from fraud_assets.columns import UTC_MICROSECONDS, column

REPORTS_SCHEMA: Final = pa.schema(
    [
        column("file", pa.string(), "Name of the page's file in reports/."),
        column("bytes", pa.int64(), "Size of the file."),
        *(
            LISTS_SCHEMA.field(name)
            for name in ("scored_rows", "anomalies", "alerts", "alerted_cards", "amount_at_risk", "alerts_per_day")
        ),
        LISTS_SCHEMA.field("model_version"),
        LISTS_SCHEMA.field("silver_version"),
        column(
            "evaluation_version",
            pa.string(),
            "The labels and rows that the model version shown was evaluated on; empty where it was not.",
        ),
        column("reviews_version", pa.string(), "The review files whose decisions are shown; empty for none."),
        column("rendered_at", UTC_MICROSECONDS, "When the page's tables were read (UTC)."),
        LISTS_SCHEMA.field("partition_key"),
        *RANKED_BY,
    ]
)
