"""A supervised reference: gradient boosting on the eight features, which may learn from labels.

It never scores anything in production; beside the forest it shows how much a model without labels leaves on the table.
This module needs scikit-learn and pandas: import it late.
"""

from typing import Any, Final

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from fraud_assets.model.evaluation import Scores
from fraud_assets.silver.contract import as_features

MINIMUM_FRAUD_ROWS: Final = 50
"""A leaf holds 20 rows at least: fewer frauds make hardly two leaves. On the synthetic feed, five samples with 31 to 41
training frauds differed by a tenth in average precision, with 46 to 58 by 3 %."""


def supervised_scores(training_rows: pd.DataFrame, rows: pd.DataFrame) -> Scores:
    """Return the fraud probability of each row, by gradient boosting on labelled rows of the training window.

    Args:
        training_rows: The eight features and `isFraud`, never missing.
        rows: The rows to score; the eight features.

    Returns:
        Scores without a threshold; without values, and with the reason, where there is too little to learn from.
    """
    is_fraud = np.asarray(training_rows["isFraud"], bool)
    fraud = int(is_fraud.sum())
    if fraud < MINIMUM_FRAUD_ROWS or fraud == len(is_fraud):
        return Scores(
            None,
            not_measurable=f"{fraud} fraud rows of {len(is_fraud)} labelled ones in the training window are not enough "
            f"to learn from, {MINIMUM_FRAUD_ROWS} and others are needed",
        )
    # Early stopping would hold labels back to validate on, and stop at random where frauds are few.
    early_stopping: Any = False
    model = HistGradientBoostingClassifier(max_leaf_nodes=15, early_stopping=early_stopping, random_state=0)
    # On one thread: several wait for each other by spinning, and on a busy machine that took 60 times as long.
    with threadpool_limits(1, user_api="openmp"):
        model.fit(as_features(training_rows), is_fraud)
    return Scores(model.predict_proba(as_features(rows))[:, 1] if len(rows) else np.empty(0))
