"""How good a version is: estimates by scorer and metric, the scorers' names, and the table that a person reads.

Values and words only: nothing is measured, stored or read here, so whoever shows them need not load scikit-learn.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

FOREST: Final = "forest"
RULE: Final = "rule"
AMOUNT: Final = "amount"
BEST_COLUMN: Final = "best column"
REFERENCE: Final = "reference"
ROWS: Final = "rows"
"""What made the scores, in `scored_by`: the version under evaluation, the plain rule, the amount alone, the best single
column (its name follows), the supervised reference; or `rows`, for what holds of the rows, whoever scored them."""

REVIEWED: Final = "reviewed alerts"
"""In `scored_by` for what analysts found of a version's own alerts: labels of another origin, which are kept apart."""

SCORER_WORDS: Final = {
    FOREST: "Isolation Forest",
    RULE: "plain rule",
    AMOUNT: "amount alone",
    REFERENCE: "supervised reference",
}
"""The scorers of every evaluation, in the words of tables and pictures."""

TRAINING_ALERT_RATE: Final = "training_alert_rate"
"""Metric: share of a version's training rows that lies above its threshold."""

_LARGE_SHARE: Final = 0.1
"""Reviewing so many of the rows finds much whatever the score: the table then says it."""

_VERSION: Final = "version "
_DIFFERENCE: Final = f"{FOREST} minus {_VERSION}"


def prod_scorer(version: str) -> str:
    """Return the name under which the `@prod` version of the time stands in `scored_by`."""
    return f"{_VERSION}{version}"


def minus_prod(version: str) -> str:
    """Return the name under which the metrics of the forest less those of `@prod` stand in `scored_by`."""
    return f"{_DIFFERENCE}{version}"


def column_scorer(column: str, *, ascending: bool) -> str:
    """Return the name under which the best single column stands in `scored_by`."""
    return f"{BEST_COLUMN}: {column}, {'lowest' if ascending else 'highest'} first"


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
        """Return the known values by `<scorer>/<metric>`, as MLflow groups them, and the bounds of the forest's.

        The scorers are `forest`, `rule`, `amount`, `best_column`, `reference`, `prod` for the `@prod` version,
        `minus_prod` for the difference to it, and `rows`.
        """
        grouped: dict[str, float | None] = {}
        for scored_by, estimates in self.estimates.items():
            group = "prod" if scored_by.startswith(_VERSION) else scored_by.partition(":")[0].replace(" ", "_")
            group = "minus_prod" if scored_by.startswith(_DIFFERENCE) else group
            for metric, estimate in estimates.items():
                name = f"{group}/{metric}"
                grouped[name] = estimate.value
                if scored_by == FOREST:
                    grouped |= {f"{name}_lower": estimate.lower, f"{name}_upper": estimate.upper}
        return {name: float(value) for name, value in grouped.items() if value is not None}

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
    which a blind guess reaches. Where a scorer has no value a last column says why.
    """
    at, capacity = _daily_capacity(evaluation)
    shown = ("roc_auc", "pr_auc", f"precision_at_{at}", f"recall_at_{at}")
    base_rate = _as_text(evaluation.estimate(ROWS, "base_rate"))
    blind_recall = _as_text(evaluation.estimate(ROWS, f"reviewed_share_at_{at}"))
    names = ["scored by", "ROC-AUC", "PR-AUC", f"precision, {capacity}", f"recall, {capacity}", "no value because"]
    rows = [
        [words, *(_as_text(estimates[name]) for name in shown), estimates["roc_auc"].not_measurable or ""]
        for words, estimates in _scorers(evaluation)
    ]
    rows.append(["base rate", "-" if base_rate == "-" else "0.500", base_rate, base_rate, blind_recall, ""])
    with_reasons = any(row[-1] for row in rows)
    return (names, rows) if with_reasons else (names[:-1], [row[:-1] for row in rows])


def summary(evaluation: Evaluation, version: str, window: tuple[str, str] | None) -> str:
    """Say in a sentence how good the version is on the evaluated partitions, first and last, or why nobody knows."""
    roc_auc = evaluation.estimate(FOREST, "roc_auc")
    if window is None or roc_auc.value is None:
        return f"Version {version} was evaluated, and its quality is not measurable: {roc_auc.not_measurable}."
    rows = int(evaluation.estimate(ROWS, "labelled_rows").value or 0)
    metrics = {"ROC-AUC": "roc_auc", "average precision": "average_precision"}
    values = ", ".join(f"{words} {_as_text(evaluation.estimate(FOREST, name))}" for words, name in metrics.items())
    base_rate = _as_text(evaluation.estimate(ROWS, "base_rate"))
    return f"On {rows:,} labelled rows of {window[0]} to {window[1]}: {values}, at a base rate of {base_rate}."


def quality_notes(evaluation: Evaluation) -> list[str]:
    """Return what a person should know of the table beside its numbers."""
    at, capacity = _daily_capacity(evaluation)
    notes, forest = [], evaluation.estimates[FOREST]
    if any(scored_by.startswith(f"{BEST_COLUMN}:") for scored_by in evaluation.estimates):
        notes.append("The best column was chosen on these very rows: nobody could have known it before.")
    precision, recall = forest[f"precision_at_{at}"].value, forest[f"recall_at_{at}"].value
    if precision is not None and recall is not None and f"{precision:.3f}" == f"{recall:.3f}":
        notes.append(f"Precision and recall agree by chance: {capacity} are about as many rows as hold fraud.")
    if (reviewed := evaluation.estimates.get(REVIEWED)) is not None and reviewed["precision"].value is not None:
        count = int(reviewed["reviewed_alerts"].value or 0)
        notes.append(
            f"Of {count:,} alerts of this version that analysts decided about, {_as_text(reviewed['precision'])} were "
            "fraud. Only alerts are reviewed: what was missed is not measurable by that."
        )
    return notes


def _daily_capacity(evaluation: Evaluation) -> tuple[str, str]:
    """Return what can be reviewed in a day, as metrics are called and in words; a large share of all rows is said."""
    daily = next(metric for metric in evaluation.estimates[FOREST] if metric.startswith("card_precision_at_"))
    at = daily.removeprefix("card_precision_at_")
    share = evaluation.estimate(ROWS, f"reviewed_share_at_{at}").value
    words = at.replace("_", " ")
    return at, words if share is None or share < _LARGE_SHARE else f"{words} ({share:.0%} of the rows)"


def _scorers(evaluation: Evaluation) -> list[tuple[str, Mapping[str, Estimate]]]:
    return [
        (SCORER_WORDS.get(scored_by, scored_by if ":" in scored_by else f"@prod then, {scored_by}"), estimates)
        for scored_by, estimates in evaluation.estimates.items()
        if scored_by not in (ROWS, REVIEWED) and not scored_by.startswith(_DIFFERENCE)
    ]


def _as_text(estimate: Estimate) -> str:
    if estimate.value is None:
        return "-"
    interval = "" if estimate.lower is None else f" ({estimate.lower:.3f}-{estimate.upper:.3f})"
    return f"{estimate.value:.3f}{interval}"
