"""The columns of the model's two tables, metrics and promotion decisions, and an evaluation as rows of the first.

Each column's words stand in its field, as the metadata `comment`. What an evaluation is: `model.estimates`.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from fraud_assets.model.estimates import Estimate, Evaluation

_TEXT: Final = pa.string()
_NUMBER: Final = pa.float64()
_TIME: Final = pa.timestamp("us", tz="UTC")


def metrics_schema() -> pa.Schema:
    """Return the columns of `model.evaluation_metrics`: a metric of a version; NULL where not measurable."""
    scored_by = (
        "What made the scores: forest, version N (then @prod, same rows), rule, reference (supervised); "
        "forest minus version N, for the difference; rows, for what holds of the rows."
    )
    interval = "of its 95 % interval, cards drawn again; NULL where there is none."
    labels = "The late labels, and the evaluated partitions as built, that it was measured on."
    return pa.schema(
        [
            _column("scored_by", _TEXT, scored_by),
            _column("metric", _TEXT, "Name of the metric."),
            _column("value", _NUMBER, "Its value; NULL where it is not measurable.", nullable=True),
            _column("lower", _NUMBER, f"Lower bound {interval}", nullable=True),
            _column("upper", _NUMBER, f"Upper bound {interval}", nullable=True),
            _column("not_measurable", _TEXT, "Why there is no value; NULL where there is one.", nullable=True),
            _column("evaluation_start", _TEXT, "First partition that was evaluated.", nullable=True),
            _column("evaluation_end", _TEXT, "Last partition that was evaluated.", nullable=True),
            _column("evaluated_at", _TIME, "When it was measured (UTC)."),
            _column("labels_version", _TEXT, labels),
            _column("model_version", _TEXT, "Registered version that was evaluated."),
        ]
    )


def promotions_schema() -> pa.Schema:
    """Return the columns of `model.promotions`: one decision about one version."""
    before = "Version behind @prod before the decision; NULL where there was none."
    silver = "Digest of all Silver partitions at the time of the decision."
    return pa.schema(
        [
            _column("decided_at", _TIME, "When it was decided (UTC)."),
            _column("decision", _TEXT, "promoted, refused, rolled back, or withdrawn: taken away in MLflow itself."),
            _column("previous_version", _TEXT, before, nullable=True),
            _column("decided_by", _TEXT, "The gate, or the person's name."),
            _column("reason", _TEXT, "Why, in words."),
            _column("silver_data_version", _TEXT, silver, nullable=True),
            _column("model_version", _TEXT, "Version that the decision is about."),
        ]
    )


def _column(name: str, type_: pa.DataType, meaning: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, type_, nullable=nullable, metadata={"comment": meaning})


def metrics_table(
    evaluation: Evaluation,
    *,
    model_version: str,
    window: tuple[str, str] | None,
    evaluated_at: datetime,
    labels_version: str,
) -> pa.Table:
    """Return the rows of `model.evaluation_metrics` for one version, a row for each estimate; `window` is inclusive."""
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
            }
            for scored_by, estimates in evaluation.estimates.items()
            for metric, estimate in estimates.items()
        ],
        schema=metrics_schema(),
    )


def evaluation_of(rows: Iterable[Mapping[str, Any]]) -> Evaluation | None:
    """Return the evaluation that `metrics_table` wrote these rows of, or None where there is no row."""
    estimates: dict[str, dict[str, Estimate]] = {}
    for row in rows:
        estimate = Estimate(row["value"], row["lower"], row["upper"], row["not_measurable"])
        estimates.setdefault(row["scored_by"], {})[row["metric"]] = estimate
    return Evaluation(estimates) if estimates else None
