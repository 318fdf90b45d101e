"""Measure scores against labels: which metrics there are, and what may be measured.

Does not belong here: how a metric is computed (`model.ranking`), how far it could be off (`model.bootstrap`), which
scores are compared (`model.comparison`), the promotion decision. What cannot be measured is None with a reason, never
0. This module needs pandas: import it late.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
import pandas as pd

from fraud_assets.model import bootstrap, ranking
from fraud_assets.model.estimates import ROWS, TRAINING_ALERT_RATE, Estimate, Evaluation
from fraud_assets.model.scorer import is_anomaly
from fraud_assets.partition_keys import day_of

MINIMUM_FRAUD_ROWS: Final = 10
"""With fewer, a single fraud moves the average precision by up to a tenth."""

REVIEW_SHARES: Final = {"top_0_5pct": 0.005, "top_1pct": 0.01, "top_3_5pct": 0.035}
"""Shares of the labelled rows that could be reviewed: two tight ones, and the contamination."""

_Measure = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""Weights of the cards, (k, n_cards), to metrics by name, each (k,); NaN where one cannot be measured."""


@dataclass(frozen=True)
class Scores:
    """One scorer's scores of the rows, (n_rows,), all finite, higher is more suspicious; or why it has none."""

    values: np.ndarray | None
    threshold: float | None = None
    """A row whose score lies above it is an alert; None where there is none."""
    training_alert_rate: float | None = None
    """Share of the rows it was trained on that lies above the threshold, where that is known."""
    not_measurable: str | None = None


@dataclass(frozen=True)
class LabelledRows:
    """What metrics need of the rows that have a label; codes count from 0."""

    known: np.ndarray
    """Which of all rows these are, (n_rows,)."""
    is_fraud: np.ndarray
    amount: np.ndarray
    day: np.ndarray
    card: np.ndarray
    card_of_all: np.ndarray
    """Codes of the cards of all rows, (n_rows,)."""


def labelled_rows(rows: pd.DataFrame) -> LabelledRows:
    """Return the labelled ones of the rows; see `evaluate` for their columns."""
    known = rows["isFraud"].notna().to_numpy()
    key, keys = pd.factorize(rows["partition_key"][known])
    # Sorted codes: the draws of a seed then mean the same cards, whatever the order of the rows.
    card = pd.factorize(rows["card_id"], sort=True)[0]
    return LabelledRows(
        known,
        is_fraud=np.asarray(rows["isFraud"][known], bool),
        amount=rows["TransactionAmt"].to_numpy(np.float64)[known],
        day=np.unique([day_of(one) for one in keys], return_inverse=True)[1][key],
        card=card[known],
        card_of_all=card,
    )


def metric_names(alerts_per_day: int) -> list[str]:
    """Return the names of a ranking's metrics, in the order in which they are shown."""
    capacities = (*REVIEW_SHARES, f"{alerts_per_day}_a_day")
    parts = ("precision", "recall", "fraud_amount_share")
    at_capacity = [f"{part}_at_{capacity}" for capacity in capacities for part in parts]
    return ["roc_auc", "pr_auc", "average_precision", *at_capacity, f"card_precision_at_{capacities[-1]}"]


def evaluate(
    rows: pd.DataFrame,
    scorers: Mapping[str, Scores],
    *,
    alerts_per_day: int,
    differences: Mapping[str, tuple[str, str]] | None = None,
    replicates: int = bootstrap.REPLICATES,
    seed: int = 0,
) -> Evaluation:
    """Return the quality of each score on the rows that have a label, with 95 % intervals.

    The metrics: `roc_auc`, `pr_auc`, `average_precision`; at the top 0.5, 1 and 3.5 % of the labelled rows and at the
    first `alerts_per_day` of each day: precision, recall and share of the fraud amount; `card_precision` for as many
    cards a day, the mean over days; and, over all rows, the `alert_rate` of a scorer that has a threshold. The
    intervals draw cards again, the same for all scorers, so that a difference is one of pairs. Nothing depends on the
    order of the rows, of which `isFraud` (1, 0, missing where unknown), `TransactionAmt`, `card_id` and `partition_key`
    are needed. `differences` are further scorers, by name: the metrics of the first one less those of the second.
    """
    labelled = labelled_rows(rows)
    counts = {"rows": len(rows), "labelled_rows": len(labelled.is_fraud), "fraud_rows": int(labelled.is_fraud.sum())}
    why = _why_not_measurable(**counts)
    measures = _measures(labelled, scorers, alerts_per_day=alerts_per_day, rank=why is None)
    values = _replicated(measures, labelled.card_of_all, times=replicates, seed=seed)
    for name, (one, other) in (differences or {}).items():
        minuend, subtrahend = values.get(one, {}), values.get(other, {})
        values[name] = {metric: minuend[metric] - subtrahend[metric] for metric in minuend if metric in subtrahend}

    cards = len(np.unique(labelled.card_of_all))
    fraud_cards = len(np.unique(labelled.card[labelled.is_fraud]))

    def estimates(name: str, metrics: list[str], reason: str | None) -> dict[str, Estimate]:
        found = values.get(name, {})
        return {
            metric: _estimate(found.get(metric), cards=cards if metric == "alert_rate" else fraud_cards, why=reason)
            for metric in metrics
        }

    ranked_by = metric_names(alerts_per_day)
    reviewed = float(np.minimum(np.bincount(labelled.day), alerts_per_day).sum())
    share = Estimate(reviewed / len(labelled.day)) if len(labelled.day) else Estimate(None, not_measurable=why)
    found = {
        ROWS: {name: Estimate(float(n)) for name, n in counts.items()}
        | {f"reviewed_share_at_{alerts_per_day}_a_day": share}
        | estimates(ROWS, ["base_rate"], why)
    }
    for name, scores in scorers.items():
        metrics = ranked_by if scores.threshold is None else ["alert_rate", *ranked_by]
        found[name] = estimates(name, metrics, why or scores.not_measurable)
        if scores.training_alert_rate is not None:
            found[name][TRAINING_ALERT_RATE] = Estimate(scores.training_alert_rate)
    return Evaluation(found | {name: estimates(name, ["alert_rate", *ranked_by], why) for name in differences or {}})


def _measures(
    labelled: LabelledRows, scorers: Mapping[str, Scores], *, alerts_per_day: int, rank: bool
) -> list[tuple[str, _Measure]]:
    """Return what is measured, by the scorer: the base rate under `ROWS`, alert rates, and rankings if asked for."""
    measures: list[tuple[str, _Measure]] = []
    if len(labelled.is_fraud):
        measures.append((ROWS, _share_of_rows("base_rate", labelled.card, labelled.is_fraud)))
    for name, scores in scorers.items():
        if scores.values is None or not len(scores.values):
            continue
        if rank:
            measures.append((name, _ranking(scores.values[labelled.known], labelled, alerts_per_day=alerts_per_day)))
        if scores.threshold is not None:
            is_alert = is_anomaly(scores.values, scores.threshold)
            measures.append((name, _share_of_rows("alert_rate", labelled.card_of_all, is_alert)))
    return measures


def _estimate(replicated: np.ndarray | None, *, cards: int, why: str | None) -> Estimate:
    """Return a metric's value on the rows with the interval of its replicates; `cards` hold what it counts."""
    if replicated is None or not np.isfinite(replicated[0]):
        return Estimate(None, not_measurable=why or "the fraud rows have no amount")
    bounds = bootstrap.percentile_interval(replicated[1:]) if cards >= bootstrap.MINIMUM_CARDS else None
    return Estimate(float(replicated[0]), *(bounds or (None, None)))


def _why_not_measurable(*, rows: int, labelled_rows: int, fraud_rows: int) -> str | None:
    if not rows:
        return "there are no rows after the training window"
    if not labelled_rows:
        return "no row has a label"
    if fraud_rows in (0, labelled_rows):
        return f"all {labelled_rows} labels are the same"
    if fraud_rows < MINIMUM_FRAUD_ROWS:
        return f"{fraud_rows} fraud rows are too few, {MINIMUM_FRAUD_ROWS} are needed"
    return None


def _share_of_rows(name: str, card: np.ndarray, holds: np.ndarray) -> _Measure:
    """Measure the share of rows, (n_rows,), of which something holds."""

    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        cards = weights.shape[1]
        held, rows = (
            weights @ np.bincount(card, weights=what, minlength=cards) for what in (holds, np.ones(len(card)))
        )
        return {name: np.divide(held, rows, out=np.full(len(rows), np.nan), where=rows > 0)}

    return measure


def _ranking(score: np.ndarray, rows: LabelledRows, *, alerts_per_day: int) -> _Measure:
    """Measure how a score ranks the labelled rows: all at once, day by day, and the cards of each day."""
    of_all = ranking.review_queue(score, rows.is_fraud, rows.amount, rows.card)
    of_days = ranking.review_queue(score, rows.is_fraud, rows.amount, rows.card, rows.day)
    score, is_fraud, card, day = ranking.cards_of_a_day(score, rows.is_fraud, rows.card, rows.day)
    of_cards = ranking.review_queue(score, is_fraud, np.zeros(len(day)), card, day)
    daily = f"{alerts_per_day}_a_day"

    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        rows, days, cards = (ranking.weighted(queue, weights) for queue in (of_all, of_days, of_cards))
        found = ranking.ranking_metrics(rows)
        for name, share in REVIEW_SHARES.items():
            found |= ranking.capacity_metrics(rows, share * rows.size, at=name)
        found |= ranking.capacity_metrics(days, np.full_like(days.size, alerts_per_day), at=daily)
        by_card = ranking.precision_by_part(cards, np.full_like(cards.size, alerts_per_day))
        return {**found, f"card_precision_at_{daily}": by_card}

    return measure


def _replicated(
    measures: list[tuple[str, _Measure]], card: np.ndarray, *, times: int, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Return each metric's value on the rows as they are, followed by its replicates: (1 + times,)."""
    blocks: dict[str, dict[str, list[np.ndarray]]] = {}
    cards = int(card.max(initial=-1)) + 1
    drawn = bootstrap.card_weights(cards, rows=len(card), replicates=times, seed=seed) if cards else ()
    for weights in chain([np.ones((1, cards))], drawn):
        for name, measure in measures:
            for metric, values in measure(weights).items():
                blocks.setdefault(name, {}).setdefault(metric, []).append(values)
    return {
        name: {metric: np.concatenate(values) for metric, values in metrics.items()} for name, metrics in blocks.items()
    }
