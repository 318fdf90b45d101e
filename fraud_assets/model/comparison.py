"""What the forest is compared with on the same rows: a plain rule, single columns, a supervised reference, `@prod`.

Does not belong here: how scores are measured (`model.evaluation`), where rows and versions come from. This module needs
scikit-learn and pandas: import it late.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from fraud_assets.model.estimates import (
    AMOUNT,
    BEST_COLUMN,
    FOREST,
    REFERENCE,
    RULE,
    Evaluation,
    column_scorer,
    minus_prod,
    prod_scorer,
)
from fraud_assets.model.evaluation import Scores, evaluate, labelled_rows
from fraud_assets.model.ranking import average_precision
from fraud_assets.silver.contract import FEATURE_NAMES, as_features

MINIMUM_LEARNT_FRAUD_ROWS: Final = 50
"""A leaf holds 20 rows at least: fewer frauds make hardly two leaves. On the synthetic feed, five samples with 31 to 41
training frauds differed by a tenth in average precision, with 46 to 58 by 3 %."""


def compare(
    rows: pd.DataFrame,
    training_rows: pd.DataFrame,
    *,
    candidate: Scores,
    production: Mapping[str, Scores],
    alerts_per_day: int,
) -> tuple[Evaluation, dict[str, Scores]]:
    """Return the evaluation of a version beside all that it is compared with, and the scores of each.

    The supervised reference learns from `training_rows`; `production` is the scores of the `@prod` version by its
    number, empty where there is none or it is the candidate itself.
    """
    scorers = {
        FOREST: candidate,
        **{prod_scorer(version): scores for version, scores in production.items()},
        RULE: Scores(rule_score(rows)),
        AMOUNT: Scores(rows["TransactionAmt"].to_numpy(np.float64)),
        **best_column(rows),
        REFERENCE: supervised_scores(training_rows, rows),
    }
    differences = {minus_prod(version): (FOREST, prod_scorer(version)) for version in production}
    return evaluate(rows, scorers, alerts_per_day=alerts_per_day, differences=differences), scorers


def best_column(rows: pd.DataFrame) -> dict[str, Scores]:
    """Return the feature which by itself ranks the labelled rows best, by average precision, with its name.

    It may be sorted in either direction. It is chosen on the rows on which it is then measured, which flatters it.
    Without values where labels are of one kind only.
    """
    labelled = labelled_rows(rows)
    if labelled.is_fraud.all() or not labelled.is_fraud.any():
        return {BEST_COLUMN: Scores(None, not_measurable="no column can be chosen without fraud and other rows")}

    def scores(name: str, sign: float) -> np.ndarray:
        return sign * rows[name].to_numpy(np.float64)

    ways = [(name, sign) for sign in (1.0, -1.0) for name in FEATURE_NAMES]
    best = max(ways, key=lambda way: average_precision(scores(*way)[labelled.known], labelled.is_fraud))
    return {column_scorer(best[0], ascending=best[1] < 0): Scores(scores(*best))}


def rule_score(features: pd.DataFrame) -> np.ndarray:
    """Return the score of a plain rule, shape (n_rows,): higher is more suspicious.

    The share of the given rows whose log amount is at most this row's (ties share their mean rank),
    plus 2 for an international transaction, plus 0.4 for each transaction of the card in five minutes.
    """
    rank = np.asarray(features["log_transaction_amount"].rank(pct=True), np.float64)
    abroad = features["is_international_txn"].to_numpy(np.float64)
    count = features["txn_count_5min"].to_numpy(np.float64)
    return rank + 2.0 * abroad + 0.4 * count


def supervised_scores(training_rows: pd.DataFrame, rows: pd.DataFrame) -> Scores:
    """Return each row's fraud probability by gradient boosting, which learnt from labelled rows of the training window.

    Without values, and with the reason, where there is too little to learn from.
    """
    is_fraud = np.asarray(training_rows["isFraud"], bool)
    fraud = int(is_fraud.sum())
    if fraud < MINIMUM_LEARNT_FRAUD_ROWS or fraud == len(is_fraud):
        reason = f"{fraud} of {len(is_fraud)} labelled training rows are fraud, {MINIMUM_LEARNT_FRAUD_ROWS} are needed"
        return Scores(None, not_measurable=f"{reason}, and others, to learn from")
    # Early stopping would hold labels back to validate on, and stop at random where frauds are few.
    early_stopping: Any = False
    model = HistGradientBoostingClassifier(max_leaf_nodes=15, early_stopping=early_stopping, random_state=0)
    # On one thread: several wait for each other by spinning, and on a busy machine that took 60 times as long.
    with threadpool_limits(1, user_api="openmp"):
        model.fit(as_features(training_rows), is_fraud)
    return Scores(model.predict_proba(as_features(rows))[:, 1] if len(rows) else np.empty(0))
