"""What is known of a version's quality, and the rows of the model's two tables: metrics and decisions.

Shapes only: nothing is measured, read or written here, so that a command which shows them need not load scikit-learn.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

_ROW_FIGURES: Final = ("rows", "labelled_rows", "fraud_rows", "base_rate")
"""What holds of the evaluated rows, whoever scored them."""

RANKING_FIGURES: Final = ("roc_auc", "pr_auc", "average_precision")
"""What holds of a ranking of them."""


@dataclass(frozen=True)
class RankingQuality:
    """How well a score ranks fraud above the rest, each from 0 to 1, higher is better.

    A score that knows nothing has a `roc_auc` of 0.5 and an `average_precision` near the base rate.
    `pr_auc` is the trapezoid `auc(recall, precision)`, which interpolates and so flatters a little.
    """

    roc_auc: float
    pr_auc: float
    average_precision: float


@dataclass(frozen=True)
class Evaluation:
    """What is known of a score's quality on one set of rows.

    `alert_rate` is the share of all rows above the threshold, `base_rate` the share of fraud among labelled
    rows. `forest` and `rule` are None exactly where `not_measurable` says why.
    """

    rows: int
    labelled_rows: int
    fraud_rows: int
    alert_rate: float | None
    base_rate: float | None
    forest: RankingQuality | None
    rule: RankingQuality | None
    not_measurable: str | None

    def as_metrics(self) -> dict[str, float]:
        """Return the figures that are known, by flat name; the rule's begin with `rule_`."""
        figures: dict[str, float | None] = {
            "evaluation_rows": self.rows,
            "labelled_rows": self.labelled_rows,
            "fraud_rows": self.fraud_rows,
            "alert_rate": self.alert_rate,
            "base_rate": self.base_rate,
        }
        for prefix, quality in (("", self.forest), ("rule_", self.rule)):
            if quality is not None:
                figures |= {prefix + name: value for name, value in vars(quality).items()}
        return {name: float(value) for name, value in figures.items() if value is not None}


def prod_scorer(version: str) -> str:
    """Return the name under which the `@prod` version of the time stands in `scored_by`."""
    return f"version {version}"


def metrics_table(
    evaluation: Evaluation,
    *,
    production: tuple[str, Evaluation] | None,
    model_version: str,
    window: tuple[str, str] | None,
    evaluated_at: datetime,
) -> pa.Table:
    """Return the rows of `model.evaluation_metrics` for one version: of the rows, the model, the rule and `@prod`.

    Args:
        evaluation: of the version.
        production: the `@prod` version and its evaluation on the same rows, where that is another one.
        model_version: the version.
        window: first and last partition that was evaluated.
        evaluated_at: when (UTC).
    """
    figures: list[tuple[str, str, float | None]] = [("rows", name, getattr(evaluation, name)) for name in _ROW_FIGURES]
    beside = [] if production is None else [(prod_scorer(production[0]), production[1])]
    for scored_by, made in [("forest", evaluation), *beside]:
        figures.append((scored_by, "alert_rate", made.alert_rate))
        figures.extend((scored_by, name, getattr(made.forest, name, None)) for name in RANKING_FIGURES)
    figures.extend(("rule", name, getattr(evaluation.rule, name, None)) for name in RANKING_FIGURES)
    start, end = window or (None, None)
    return pa.Table.from_pylist(
        [
            {
                "scored_by": scored_by,
                "metric": metric,
                "value": value,
                "not_measurable": evaluation.not_measurable if value is None else None,
                "evaluation_start": start,
                "evaluation_end": end,
                "evaluated_at": evaluated_at,
                "model_version": model_version,
            }
            for scored_by, metric, value in figures
        ],
        schema=metrics_schema(),
    )


def evaluation_of(rows: Iterable[Mapping[str, Any]], scored_by: str) -> Evaluation | None:
    """Return the evaluation that `metrics_table` wrote for `scored_by` (forest or a `prod_scorer`), or None."""
    known = {(row["scored_by"], row["metric"]): row for row in rows}
    if (scored_by, "alert_rate") not in known:
        return None

    def ranking(of: str) -> RankingQuality | None:
        values = {name: known[of, name]["value"] for name in RANKING_FIGURES}
        return None if None in values.values() else RankingQuality(**values)

    return Evaluation(
        **{name: int(known["rows", name]["value"]) for name in ("rows", "labelled_rows", "fraud_rows")},
        base_rate=known["rows", "base_rate"]["value"],
        alert_rate=known[scored_by, "alert_rate"]["value"],
        forest=ranking(scored_by),
        rule=ranking("rule"),
        not_measurable=known[scored_by, "roc_auc"]["not_measurable"],
    )


def quality_rows(rows: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    """Return how well each scorer ranks, for a person: name and `RANKING_FIGURES`, None where not measurable."""
    known = {(row["scored_by"], row["metric"]): row["value"] for row in rows}
    beside = {name: f"@prod then, {name}" for name, _ in known if name.startswith("version ")}
    names = {"forest": "Isolation Forest", **beside, "rule": "plain rule"}
    base_rate = known["rows", "base_rate"]
    return [
        *(
            [name, *(known[scored_by, figure] for figure in RANKING_FIGURES)]
            for scored_by, name in names.items()
            if (scored_by, "roc_auc") in known
        ),
        ["base rate", None if base_rate is None else 0.5, base_rate, base_rate],
    ]


def metrics_schema() -> pa.Schema:
    """Return the columns of `model.evaluation_metrics`: a metric of a version; NULL where not measurable."""
    return pa.schema(
        [
            pa.field("scored_by", pa.string(), nullable=False),
            pa.field("metric", pa.string(), nullable=False),
            pa.field("value", pa.float64()),
            pa.field("not_measurable", pa.string()),
            pa.field("evaluation_start", pa.string()),
            pa.field("evaluation_end", pa.string()),
            pa.field("evaluated_at", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("model_version", pa.string(), nullable=False),
        ]
    )


METRICS_MEANINGS: Final[Mapping[str, str]] = {
    "scored_by": "What made the scores: forest, version N (then @prod, same rows), rule; "
    "or rows, for what holds of the rows.",
    "metric": "Name of the metric.",
    "value": "Its value; NULL where it is not measurable.",
    "not_measurable": "Why there is no value; NULL where there is one.",
    "evaluation_start": "First partition that was evaluated.",
    "evaluation_end": "Last partition that was evaluated.",
    "evaluated_at": "When it was measured (UTC).",
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
    "decision": "promoted, refused or rolled back.",
    "previous_version": "Version behind @prod before the decision; NULL where there was none.",
    "decided_by": "The gate, or the person's name.",
    "reason": "Why, in words.",
    "silver_data_version": "Digest of all Silver partitions at the time of the decision.",
    "model_version": "Version that the decision is about.",
}
