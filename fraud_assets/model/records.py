"""What is known of a version's quality, and the rows of the model's two tables: metrics and decisions.

Shapes and words only: nothing is measured, read or written here, so that a command which shows them need not load
scikit-learn.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

ROWS: Final = "rows"
"""Stands in `scored_by` for what holds of the evaluated rows, whoever scored them."""

FOREST: Final = "forest"
"""The version under evaluation."""

RULE: Final = "rule"
"""The plain rule."""

REFERENCE: Final = "reference"
"""The supervised reference."""

TRAINING_ALERT_RATE: Final = "training_alert_rate"
"""Metric: share of a version's training rows that lies above its threshold."""

_PREFIXES: Final = {ROWS: "", FOREST: "", RULE: "rule_", REFERENCE: "reference_"}

_PRODUCTION: Final = "version "
_DIFFERENCE: Final = f"{FOREST} minus {_PRODUCTION}"


def prod_scorer(version: str) -> str:
    """Return the name under which the `@prod` version of the time stands in `scored_by`."""
    return f"{_PRODUCTION}{version}"


def minus_prod(version: str) -> str:
    """Return the name under which the version's figures less those of `@prod` stand in `scored_by`."""
    return f"{_DIFFERENCE}{version}"


@dataclass(frozen=True)
class Figure:
    """One metric: its value with a 95 % interval, or why there is none.

    The bounds are None where no interval can be given, and where the figure is a count.
    """

    value: float | None
    lower: float | None = None
    upper: float | None = None
    not_measurable: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """What is known of several scores on the same rows: who scored, and per metric the figure.

    Each scorer has the same metrics, `alert_rate` only where it has a threshold. What holds of the rows, the base rate
    first of all, stands under `ROWS`.
    """

    figures: Mapping[str, Mapping[str, Figure]]

    def figure(self, scored_by: str, metric: str) -> Figure:
        """Return one figure; one without a value where nothing is known of it."""
        return self.figures.get(scored_by, {}).get(metric, Figure(None, not_measurable="it was not evaluated"))

    def as_metrics(self) -> dict[str, float]:
        """Return the values that are known, by flat name, and the bounds of the forest's.

        The names of the rule begin with `rule_`, of the reference with `reference_`, of the `@prod` version with
        `prod_`, of the difference to it with `minus_prod_`.
        """
        flat: dict[str, float | None] = {}
        for scored_by, figures in self.figures.items():
            other = "minus_prod_" if scored_by.startswith(_DIFFERENCE) else "prod_"
            for metric, figure in figures.items():
                name = "evaluation_rows" if metric == "rows" else _PREFIXES.get(scored_by, other) + metric
                flat[name] = figure.value
                if scored_by == FOREST:
                    flat |= {f"{name}_lower": figure.lower, f"{name}_upper": figure.upper}
        return {name: float(value) for name, value in flat.items() if value is not None}

    def headline(self) -> dict[str, float]:
        """Return what is said first: of the rows, and of the forest whatever is no bound and of no single share."""
        flat = self.as_metrics()
        told = {"evaluation_rows", *self.figures[ROWS], *self.figures[FOREST]}
        return {name: value for name, value in flat.items() if name in told and "_at_top_" not in name}


def metrics_table(
    evaluation: Evaluation,
    *,
    model_version: str,
    window: tuple[str, str] | None,
    evaluated_at: datetime,
    labels_version: str,
) -> pa.Table:
    """Return the rows of `model.evaluation_metrics` for one version: a row for each figure.

    Args:
        evaluation: of the version, and of what stands beside it.
        model_version: the version.
        window: first and last partition that was evaluated.
        evaluated_at: when (UTC).
        labels_version: of the labels that were seen, see `fraud_assets.silver.labels`.
    """
    start, end = window or (None, None)
    return pa.Table.from_pylist(
        [
            {
                "scored_by": scored_by,
                "metric": metric,
                **vars(figure),
                "evaluation_start": start,
                "evaluation_end": end,
                "evaluated_at": evaluated_at,
                "labels_version": labels_version,
                "model_version": model_version,
            }
            for scored_by, figures in evaluation.figures.items()
            for metric, figure in figures.items()
        ],
        schema=metrics_schema(),
    )


def evaluation_of(rows: Iterable[Mapping[str, Any]]) -> Evaluation | None:
    """Return the evaluation that `metrics_table` wrote these rows of, or None where there is no row."""
    figures: dict[str, dict[str, Figure]] = {}
    for row in rows:
        figures.setdefault(row["scored_by"], {})[row["metric"]] = Figure(
            row["value"], row["lower"], row["upper"], row["not_measurable"]
        )
    return Evaluation(figures) if figures else None


def quality_table(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Return column names and a row per scorer, for a person: values with their intervals, `-` where none is.

    Precision and recall are of the first rows of each day, as many as can be reviewed. The base rate comes last: what
    a blind guess reaches.
    """
    daily = next(metric for metric in evaluation.figures[FOREST] if metric.startswith("card_precision_at_"))
    at = daily.removeprefix("card_precision_at_")
    shown = ("roc_auc", "pr_auc", f"precision_at_{at}", f"recall_at_{at}")
    capacity = at.replace("_", " ")
    base_rate = _in_words(evaluation.figure(ROWS, "base_rate"))
    return ["scored by", "ROC-AUC", "PR-AUC", f"precision, {capacity}", f"recall, {capacity}"], [
        *(
            [_scorer_in_words(scored_by), *(_in_words(figures[metric]) for metric in shown)]
            for scored_by, figures in evaluation.figures.items()
            if scored_by != ROWS and not scored_by.startswith(_DIFFERENCE)
        ),
        ["base rate", "-" if base_rate == "-" else "0.500", base_rate, base_rate, "-"],
    ]


def _in_words(figure: Figure) -> str:
    if figure.value is None:
        return "-"
    interval = "" if figure.lower is None else f" ({figure.lower:.3f}-{figure.upper:.3f})"
    return f"{figure.value:.3f}{interval}"


def _scorer_in_words(scored_by: str) -> str:
    names = {FOREST: "Isolation Forest", RULE: "plain rule", REFERENCE: "supervised reference"}
    return names.get(scored_by, f"@prod then, {scored_by}")


def metrics_schema() -> pa.Schema:
    """Return the columns of `model.evaluation_metrics`: a metric of a version; NULL where not measurable."""
    return pa.schema(
        [
            pa.field("scored_by", pa.string(), nullable=False),
            pa.field("metric", pa.string(), nullable=False),
            pa.field("value", pa.float64()),
            pa.field("lower", pa.float64()),
            pa.field("upper", pa.float64()),
            pa.field("not_measurable", pa.string()),
            pa.field("evaluation_start", pa.string()),
            pa.field("evaluation_end", pa.string()),
            pa.field("evaluated_at", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("labels_version", pa.string(), nullable=False),
            pa.field("model_version", pa.string(), nullable=False),
        ]
    )


METRICS_MEANINGS: Final[Mapping[str, str]] = {
    "scored_by": "What made the scores: forest, version N (then @prod, same rows), rule, reference (supervised); "
    "forest minus version N, for the difference; rows, for what holds of the rows.",
    "metric": "Name of the metric.",
    "value": "Its value; NULL where it is not measurable.",
    "lower": "Lower bound of its 95 % interval, cards drawn again; NULL where there is none.",
    "upper": "Upper bound of it.",
    "not_measurable": "Why there is no value; NULL where there is one.",
    "evaluation_start": "First partition that was evaluated.",
    "evaluation_end": "Last partition that was evaluated.",
    "evaluated_at": "When it was measured (UTC).",
    "labels_version": "The late labels, and the evaluated partitions as built, that it was measured on.",
    "model_version": "Registered version that was evaluated.",
}


def promotions_schema() -> pa.Schema:
    """Return the columns of `model.promotions`: one decision about one version."""
    return pa.schema(
        [
            pa.field("decided_at", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("decision", pa.string(), nullable=False),
            pa.field("previous_version", pa.string()),
            pa.field("decided_by", pa.string(), nullable=False),
            pa.field("reason", pa.string(), nullable=False),
            pa.field("silver_data_version", pa.string()),
            pa.field("model_version", pa.string(), nullable=False),
        ]
    )


PROMOTIONS_MEANINGS: Final[Mapping[str, str]] = {
    "decided_at": "When it was decided (UTC).",
    "decision": "promoted, refused, rolled back, or withdrawn: taken away in MLflow itself.",
    "previous_version": "Version behind @prod before the decision; NULL where there was none.",
    "decided_by": "The gate, or the person's name.",
    "reason": "Why, in words.",
    "silver_data_version": "Digest of all Silver partitions at the time of the decision.",
    "model_version": "Version that the decision is about.",
}
