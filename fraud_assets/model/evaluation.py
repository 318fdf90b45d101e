"""Measure a score against labels, always beside a plain rule and the base rate.

Belongs here: metrics of ready scores, and the rule they are compared with. Does not belong here: training,
the promotion decision, where labels or scores come from. What cannot be measured is None with a reason,
never 0. This module needs scikit-learn and pandas: import it late.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from fraud_assets.model.records import Evaluation, RankingQuality

MINIMUM_FRAUD_ROWS: Final = 10
"""With fewer, a single fraud moves the average precision by up to a tenth."""


def rule_score(features: pd.DataFrame) -> np.ndarray:
    """Return the score of a plain rule, shape (n_rows,): higher is more suspicious.

    The share of the given rows whose log amount is at most this row's (ties share their mean rank),
    plus 2 for an international transaction, plus 0.4 for each transaction of the card in five minutes.
    """
    rank = np.asarray(features["log_transaction_amount"].rank(pct=True), np.float64)
    abroad = features["is_international_txn"].to_numpy(np.float64)
    count = features["txn_count_5min"].to_numpy(np.float64)
    return rank + 2.0 * abroad + 0.4 * count


def evaluate(
    labels: ArrayLike | Sequence[int | None], scores: np.ndarray, rule_scores: np.ndarray, *, threshold: float
) -> Evaluation:
    """Return the quality of the scores, and of the rule's, on the rows that have a label.

    Args:
        labels: 1 or True for fraud, 0 or False for none, missing (None, NaN, NA) where unknown; shape (n_rows,).
        scores: Fraud scores, higher is more suspicious; shape (n_rows,).
        rule_scores: The plain rule's scores of the same rows.
        threshold: A row whose score lies above it is an alert.

    Raises:
        ValueError: When the lengths differ or a score is not finite.
    """
    truth = pd.Series(labels)
    if not len(truth) == len(scores) == len(rule_scores):
        raise ValueError(
            f"{len(truth)} labels, {len(scores)} scores and {len(rule_scores)} rule scores are not the same rows."
        )
    if not (np.isfinite(scores).all() and np.isfinite(rule_scores).all()):
        raise ValueError("A score that is NaN or infinite cannot be ranked.")
    known = truth.notna().to_numpy()
    is_fraud = np.asarray(truth[known], bool)
    rows, labelled, fraud = len(truth), len(is_fraud), int(is_fraud.sum())
    not_measurable = _why_not_measurable(rows=rows, labelled=labelled, fraud=fraud)
    return Evaluation(
        rows=rows,
        labelled_rows=labelled,
        fraud_rows=fraud,
        alert_rate=float((scores > threshold).mean()) if rows else None,
        base_rate=fraud / labelled if labelled else None,
        forest=None if not_measurable else _ranking_quality(is_fraud, scores[known]),
        rule=None if not_measurable else _ranking_quality(is_fraud, rule_scores[known]),
        not_measurable=not_measurable,
    )


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


def _ranking_quality(is_fraud: np.ndarray, scores: np.ndarray) -> RankingQuality:
    precision, recall, _ = precision_recall_curve(is_fraud, scores)
    return RankingQuality(
        roc_auc=float(roc_auc_score(is_fraud, scores)),
        pr_auc=float(auc(recall, precision)),
        average_precision=float(average_precision_score(is_fraud, scores)),
    )
