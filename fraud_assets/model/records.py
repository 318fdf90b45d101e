"""The columns of the model's two tables, metrics and promotion decisions, and an evaluation as rows of the first.

What an evaluation is: `model.estimates`.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from fraud_assets.columns import UTC_MICROSECONDS, column
from fraud_assets.model.estimates import Estimate, Evaluation

_SCORED_BY: Final = (
    "What made the scores: forest, version N (then @prod, same rows), rule, amount, best column: NAME, highest or "
    "lowest first (of the eight, chosen on these very rows), reference (supervised); forest minus version N, for the "
    "difference; rows, for what holds of the rows; reviewed alerts, for what analysts found of the version's alerts."
)
_LABELS: Final = "The late labels, the evaluated partitions as built, and the reviews, that it was measured on."
_INTERVAL: Final = "bound of its 95 % interval, cards drawn again; NULL where there is none."

METRICS_SCHEMA: Final = pa.schema(
    [
        column("scored_by", pa.string(), _SCORED_BY),
        column("metric", pa.string(), "Name of the metric."),
        column("value", pa.float64(), "Its value; NULL where it is not measurable.", nullable=True),
        column("lower", pa.float64(), f"Lower {_INTERVAL}", nullable=True),
        column("upper", pa.float64(), f"Upper {_INTERVAL}", nullable=True),
        column("not_measurable", pa.string(), "Why there is no value; NULL where there is one.", nullable=True),
        column("evaluation_start", pa.string(), "First partition that was evaluated.", nullable=True),
        column("evaluation_end", pa.string(), "Last partition that was evaluated.", nullable=True),
        column("evaluated_at", UTC_MICROSECONDS, "When it was measured (UTC)."),
        column("labels_version", pa.string(), _LABELS),
        column("model_version", pa.string(), "Registered version that was evaluated."),
    ]
)
"""The columns of `model.evaluation_metrics`: a metric of a version."""

RANKER_METRICS_SCHEMA: Final = METRICS_SCHEMA.append(
    column("is_calibrated", pa.bool_(), "Whether the version's probability came true on these days.")
)
"""The columns of `model.ranker_metrics`: a metric of a list, beside which a version of the ranker was compared."""

_BEFORE: Final = "Version behind @prod before the decision; NULL where there was none."
_SILVER: Final = "Digest of all Silver partitions as the version's training read them."
_DECISION: Final = (
    "promoted, refused, rolled back, withdrawn (taken away by a gate or in MLflow), or lost: MLflow had no version any "
    "more, and gives the numbers of those of before anew."
)

PROMOTIONS_SCHEMA: Final = pa.schema(
    [
        column("decided_at", UTC_MICROSECONDS, "When it was decided (UTC)."),
        column("decision", pa.string(), _DECISION),
        column("previous_version", pa.string(), _BEFORE, nullable=True),
        column("decided_by", pa.string(), "The gate, or the person's name."),
        column("reason", pa.string(), "Why, in words."),
        column("silver_data_version", pa.string(), _SILVER, nullable=True),
        column("model_version", pa.string(), "Version that the decision is about."),
    ]
)
"""The columns of `model.promotions`: one decision about one version."""


TRAININGS_SCHEMA: Final = pa.schema(
    [
        column("outcome", pa.string(), "promoted, kept, refused, withdrawn, or nothing: too little to learn from."),
        column("said", pa.string(), "What came of it, in words."),
        column("last_day", pa.string(), "The latest day of Silver at the time."),
        column("labelled_until", pa.string(), "The latest day with a label that counts; NULL without.", nullable=True),
        column("version", pa.string(), "The version that was trained; NULL where none was.", nullable=True),
        column("tried_at", UTC_MICROSECONDS, "When (UTC)."),
        column("learned_from", pa.string(), "Digest of the labels that were known then, and of the days they are of."),
    ]
)
"""The columns of `model.ranker_trainings`: one attempt to learn from labels."""


def metrics_table(
    evaluation: Evaluation,
    *,
    model_version: str,
    window: tuple[str, str] | None,
    evaluated_at: datetime,
    labels_version: str,
    schema: pa.Schema = METRICS_SCHEMA,
    **constants: Any,
) -> pa.Table:
    """Return the rows of `model.evaluation_metrics` for one version, a row for each estimate; `window` is inclusive.

    Or those of another schema of metrics; `constants` are the columns that it has beside.
    """
    start, end = window or (None, None)
    return pa.Table.from_pylist(
        [
            {
                "scored_by": scored_by,
                "metric": metric,
                **vars(estimate),
                "evaluation_start": start,
                "evaluation_end": end,
                "evaluated_at": evaluated_at,
                "labels_version": labels_version,
                "model_version": model_version,
                **constants,
            }
            for scored_by, estimates in evaluation.estimates.items()
            for metric, estimate in estimates.items()
        ],
        schema=schema,
    )


def evaluation_of(rows: Iterable[Mapping[str, Any]]) -> Evaluation | None:
    """Return the evaluation that `metrics_table` wrote these rows of, or None where there is no row."""
    estimates: dict[str, dict[str, Estimate]] = {}
    for row in rows:
        estimate = Estimate(row["value"], row["lower"], row["upper"], row["not_measurable"])
        estimates.setdefault(row["scored_by"], {})[row["metric"]] = estimate
    return Evaluation(estimates) if estimates else None
