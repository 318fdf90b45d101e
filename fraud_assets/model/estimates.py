"""How good a version is: estimates by scorer and metric, the scorers' names, and the table that a person reads.

Values and words only: nothing is measured, stored or read here, so whoever shows them need not load scikit-learn.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

FOREST: Final = "forest"
RULE: Final = "rule"
REFERENCE: Final = "reference"
ROWS: Final = "rows"
"""What made the scores, in `scored_by`: the version under evaluation, the plain rule, the supervised reference; or
`rows`, for what holds of the evaluated rows, whoever scored them."""

SCORER_WORDS: Final = {FOREST: "Isolation Forest", RULE: "plain rule", REFERENCE: "supervised reference"}
"""The scorers of every evaluation, in the words of tables and pictures."""

TRAINING_ALERT_RATE: Final = "training_alert_rate"
"""Metric: share of a version's training rows that lies above its threshold."""

_PREFIXES: Final = {ROWS: "", FOREST: "", RULE: "rule_", REFERENCE: "reference_"}
_VERSION: Final = "version "
_DIFFERENCE: Final = f"{FOREST} minus {_VERSION}"


def prod_scorer(version: str) -> str:
    """Return the name under which the `@prod` version of the time stands in `scored_by`."""
    return f"{_VERSION}{version}"


def minus_prod(version: str) -> str:
    """Return the name under which the metrics of the forest less those of `@prod` stand in `scored_by`."""
    return f"{_DIFFERENCE}{version}"


@dataclass(frozen=True)
class Estimate:
    """One metric's value with a 95 % interval, where one can be given, or the reason why there is no value."""

    value: float | None
    lower: float | None = None
    upper: float | None = None
    not_measurable: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """Estimates of several scorers on the same rows, by `scored_by` and metric; `alert_rate` only with a threshold."""

    estimates: Mapping[str, Mapping[str, Estimate]]

    def estimate(self, scored_by: str, metric: str) -> Estimate:
        """Return one estimate; one without a value where the metric was not evaluated."""
        return self.estimates.get(scored_by, {}).get(metric, Estimate(None, not_measurable="it was not evaluated"))

    def as_metrics(self) -> dict[str, float]:
        """Return the known values by flat name, and the bounds of the forest's.

        Names begin with `rule_`, `reference_`, `prod_` for the `@prod` version, `minus_prod_` for the difference to it.
        """
        flat: dict[str, float | None] = {}
        for scored_by, estimates in self.estimates.items():
            of_prod = "minus_prod_" if scored_by.startswith(_DIFFERENCE) else "prod_"
            for metric, estimate in estimates.items():
                name = "evaluation_rows" if metric == "rows" else _PREFIXES.get(scored_by, of_prod) + metric
                flat[name] = estimate.value
                if scored_by == FOREST:
                    flat |= {f"{name}_lower": estimate.lower, f"{name}_upper": estimate.upper}
        return {name: float(value) for name, value in flat.items() if value is not None}

    def headline(self) -> dict[str, float]:
        """Return what the asset's page shows first: values of the rows and of the forest, at the daily capacity."""
        first = {**self.estimates[ROWS], **self.estimates[FOREST]}
        known = {metric: one.value for metric, one in first.items() if one.value is not None}
        return {
            "evaluation_rows" if metric == "rows" else metric: value
            for metric, value in known.items()
            if "_at_top_" not in metric
        }


def quality_table(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Return column names and a row per scorer, for a person: values with their intervals, `-` where none is.

    Precision and recall are of the first rows of each day, as many as can be reviewed. The last row is the base rate,
    which a blind guess reaches.
    """
    daily = next(metric for metric in evaluation.estimates[FOREST] if metric.startswith("card_precision_at_"))
    at = daily.removeprefix("card_precision_at_")
    shown = ("roc_auc", "pr_auc", f"precision_at_{at}", f"recall_at_{at}")
    capacity = at.replace("_", " ")
    base_rate = _as_text(evaluation.estimate(ROWS, "base_rate"))
    return ["scored by", "ROC-AUC", "PR-AUC", f"precision, {capacity}", f"recall, {capacity}"], [
        *(
            [SCORER_WORDS.get(scored_by, f"@prod then, {scored_by}"), *(_as_text(estimates[name]) for name in shown)]
            for scored_by, estimates in evaluation.estimates.items()
            if scored_by != ROWS and not scored_by.startswith(_DIFFERENCE)
        ),
        ["base rate", "-" if base_rate == "-" else "0.500", base_rate, base_rate, "-"],
    ]


def _as_text(estimate: Estimate) -> str:
    if estimate.value is None:
        return "-"
    interval = "" if estimate.lower is None else f" ({estimate.lower:.3f}-{estimate.upper:.3f})"
    return f"{estimate.value:.3f}{interval}"
