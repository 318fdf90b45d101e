"""Measure scores against labels: the forest's always beside a plain rule, a supervised reference and the base rate.

Belongs here: which figures there are, what may be measured, and the rule. Does not belong here: how a figure is
computed (`fraud_assets.model.ranking`), training, the promotion decision, where labels or scores come from. What
cannot be measured is None with a reason, never 0. This module needs pandas: import it late.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
import pandas as pd

from fraud_assets.model import bootstrap
from fraud_assets.model.ranking import (
    capacity_figures,
    cards_of_a_day,
    precision_by_part,
    ranking_figures,
    review_queue,
    weighted,
)
from fraud_assets.model.records import ROWS, TRAINING_ALERT_RATE, Evaluation, Figure

MINIMUM_FRAUD_ROWS: Final = 10
"""With fewer, a single fraud moves the average precision by up to a tenth."""

REVIEW_SHARES: Final = {"top_0_5pct": 0.005, "top_1pct": 0.01, "top_3_5pct": 0.035}
"""Shares of the labelled rows that could be reviewed: two tight ones, and the contamination."""

_Measure = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""Weights of the cards, (k, n_cards), to figures by name, each (k,); NaN where one cannot be measured."""


@dataclass(frozen=True)
class Scores:
    """One scorer's scores of the rows, (n_rows,), higher is more suspicious; or why it has none."""

    values: np.ndarray | None
    threshold: float | None = None
    """A row whose score lies above it is an alert; None where there is none."""
    training_alert_rate: float | None = None
    """Share of the rows it was trained on that lies above the threshold, where that is known."""
    not_measurable: str | None = None


def rule_score(features: pd.DataFrame) -> np.ndarray:
    """Return the score of a plain rule, shape (n_rows,): higher is more suspicious.

    The share of the given rows whose log amount is at most this row's (ties share their mean rank),
    plus 2 for an international transaction, plus 0.4 for each transaction of the card in five minutes.
    """
    rank = np.asarray(features["log_transaction_amount"].rank(pct=True), np.float64)
    abroad = features["is_international_txn"].to_numpy(np.float64)
    count = features["txn_count_5min"].to_numpy(np.float64)
    return rank + 2.0 * abroad + 0.4 * count


def metric_names(alerts_per_day: int) -> list[str]:
    """Return the names of the figures of a ranking, in the order in which they are shown."""
    daily = f"{alerts_per_day}_a_day"
    return [
        "roc_auc",
        "pr_auc",
        "average_precision",
        *(
            f"{figure}_at_{capacity}"
            for capacity in (*REVIEW_SHARES, daily)
            for figure in ("precision", "recall", "fraud_amount_share")
        ),
        f"card_precision_at_{daily}",
    ]


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

    The figures: `roc_auc`, `pr_auc`, `average_precision`; at the top 0.5, 1 and 3.5 % of the labelled rows and at the
    first `alerts_per_day` of each day: precision, recall and share of the fraud amount; `card_precision` for as many
    cards a day, the mean over days; and, over all rows, the `alert_rate` of a scorer that has a threshold. The
    intervals draw cards again, the same for all scorers, so that a difference is one of pairs. Nothing depends on the
    order of the rows.

    Args:
        rows: `isFraud` (1 or True for fraud, 0 or False, missing where unknown), `TransactionAmt`, `card_id`, and
            `partition_key`, which begins with the day.
        scorers: Scores of these rows, by the name of what made them.
        alerts_per_day: How many rows, or cards, can be reviewed on a day.
        differences: Further figures, by name: the first scorer's less the second's.
        replicates: How often the cards are drawn, at most; see `bootstrap.MAXIMUM_ROW_DRAWS`.
        seed: Of the draws.

    Raises:
        ValueError: When a scorer has not one finite score per row.
    """
    for name, scores in scorers.items():
        _refuse_unusable(name, scores, rows=len(rows))
    known = rows["isFraud"].notna().to_numpy()
    is_fraud = np.asarray(rows["isFraud"][known], bool)
    # Sorted codes: the draws of a seed then mean the same cards, whatever the order of the rows.
    card = pd.factorize(rows["card_id"], sort=True)[0]
    fraud_cards = len(np.unique(card[known][is_fraud]))
    reason = _why_not_measurable(rows=len(rows), labelled=len(is_fraud), fraud=int(is_fraud.sum()))

    measures: list[tuple[str, _Measure]] = []
    if len(is_fraud):
        measures.append((ROWS, _share_of_rows("base_rate", card[known], is_fraud)))
    day = pd.factorize(rows["partition_key"].str[:10][known], sort=True)[0]
    amount = rows["TransactionAmt"].to_numpy(np.float64)[known]
    for name, scores in scorers.items():
        if scores.values is not None and reason is None:
            ranked = scores.values[known]
            measures.append((name, _ranking(ranked, is_fraud, amount, card[known], day, alerts_per_day=alerts_per_day)))
        if scores.values is not None and scores.threshold is not None and len(rows):
            measures.append((name, _share_of_rows("alert_rate", card, scores.values > scores.threshold)))
    replicated = _replicated(measures, cards=int(card.max(initial=-1)) + 1, rows=len(rows), times=replicates, seed=seed)
    for name, (one, other) in (differences or {}).items():
        minuend, subtrahend = replicated.get(one, {}), replicated.get(other, {})
        replicated[name] = {metric: minuend[metric] - subtrahend[metric] for metric in minuend if metric in subtrahend}

    def figure(name: str, metric: str, why: str | None) -> Figure:
        found = replicated.get(name, {}).get(metric)
        if found is None or not np.isfinite(found[0]):
            return Figure(None, not_measurable=why or "the fraud rows have no amount")
        cards = len(np.unique(card)) if metric == "alert_rate" else fraud_cards
        bounds = bootstrap.percentile_interval(found[1:]) if cards >= bootstrap.MINIMUM_CARDS else None
        return Figure(float(found[0]), *(bounds or (None, None)))

    metrics = metric_names(alerts_per_day)
    counts = {"rows": len(rows), "labelled_rows": len(is_fraud), "fraud_rows": int(is_fraud.sum())}
    return Evaluation(
        {
            ROWS: {name: Figure(float(count)) for name, count in counts.items()}
            | {"base_rate": figure(ROWS, "base_rate", reason)},
            **{
                name: {
                    metric: figure(name, metric, reason or scores.not_measurable)
                    for metric in (metrics if scores.threshold is None else ["alert_rate", *metrics])
                }
                | (
                    {}
                    if scores.training_alert_rate is None
                    else {TRAINING_ALERT_RATE: Figure(scores.training_alert_rate)}
                )
                for name, scores in scorers.items()
            },
            **{
                name: {metric: figure(name, metric, reason) for metric in ("alert_rate", *metrics)}
                for name in differences or {}
            },
        }
    )


def _refuse_unusable(name: str, scores: Scores, *, rows: int) -> None:
    if scores.values is None:
        return
    if scores.values.shape != (rows,):
        raise ValueError(f"{name}: scores of shape {scores.values.shape} for {rows} rows are not of the same rows.")
    if not np.isfinite(scores.values).all():
        raise ValueError(f"{name}: a score that is NaN or infinite cannot be ranked.")


def _why_not_measurable(*, rows: int, labelled: int, fraud: int) -> str | None:
    if not rows:
        return "there are no rows after the training window"
    if not labelled:
        return "no row has a label"
    if fraud in (0, labelled):
        return f"all {labelled} labels are the same"
    if fraud < MINIMUM_FRAUD_ROWS:
        return f"{fraud} fraud rows are too few, {MINIMUM_FRAUD_ROWS} are needed"
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


def _ranking(
    score: np.ndarray,
    is_fraud: np.ndarray,
    amount: np.ndarray,
    card: np.ndarray,
    day: np.ndarray,
    *,
    alerts_per_day: int,
) -> _Measure:
    """Measure how a score ranks labelled rows: all at once, day by day, and the cards of each day."""
    of_all = review_queue(score, is_fraud, amount, card)
    of_days = review_queue(score, is_fraud, amount, card, day)
    card_score, card_is_fraud, day_card, card_day = cards_of_a_day(score, is_fraud, card, day)
    of_cards = review_queue(card_score, card_is_fraud, np.zeros(len(card_day)), day_card, card_day)
    daily = f"{alerts_per_day}_a_day"

    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        everything, days, cards = (weighted(queue, weights) for queue in (of_all, of_days, of_cards))
        found = ranking_figures(everything)
        for name, share in REVIEW_SHARES.items():
            found |= capacity_figures(everything, share * everything.size, at=name)
        found |= capacity_figures(days, np.full_like(days.size, alerts_per_day), at=daily)
        return found | {
            f"card_precision_at_{daily}": precision_by_part(cards, np.full_like(cards.size, alerts_per_day))
        }

    return measure


def _replicated(
    measures: list[tuple[str, _Measure]], *, cards: int, rows: int, times: int, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Return each figure on the rows as they are, followed by its replicates: (1 + times,)."""
    blocks: dict[str, dict[str, list[np.ndarray]]] = {}
    drawn = bootstrap.card_weights(cards, rows=rows, replicates=times, seed=seed) if cards else ()
    for weights in chain([np.ones((1, cards))], drawn):
        for name, measure in measures:
            for metric, values in measure(weights).items():
                blocks.setdefault(name, {}).setdefault(metric, []).append(values)
    return {
        name: {metric: np.concatenate(values) for metric, values in figures.items()} for name, figures in blocks.items()
    }
