"""What the forest is compared with on the same rows: a plain rule, a supervised reference, and the `@prod` version.

Belongs here: which scorers stand beside the forest, and the rule. Does not belong here: how scores are measured
(`model.evaluation`), where rows and versions come from. This module needs scikit-learn and pandas: import it late.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from fraud_assets.model.estimates import FOREST, REFERENCE, RULE, Evaluation, minus_prod, prod_scorer
from fraud_assets.model.evaluation import Scores, evaluate
from fraud_assets.model.reference import supervised_scores


def compare(
    rows: pd.DataFrame,
    training_rows: pd.DataFrame,
    *,
    candidate: Scores,
    production: Mapping[str, Scores],
    alerts_per_day: int,
) -> tuple[Evaluation, dict[str, Scores]]:
    """Return the evaluation of a version beside all that it is compared with, and the scores of each.

    Args:
        rows: To evaluate on; see `evaluation.evaluate`, and the eight features.
        training_rows: Labelled rows of the training window, for the supervised reference.
        candidate: The version's scores of the rows.
        production: The scores of the `@prod` version by its number; empty where there is none, or where it is this one.
        alerts_per_day: How many rows can be reviewed on a day.
    """
    scorers = {
        FOREST: candidate,
        **{prod_scorer(version): scores for version, scores in production.items()},
        RULE: Scores(rule_score(rows)),
        REFERENCE: supervised_scores(training_rows, rows),
    }
    differences = {minus_prod(version): (FOREST, prod_scorer(version)) for version in production}
    return evaluate(rows, scorers, alerts_per_day=alerts_per_day, differences=differences), scorers


def rule_score(features: pd.DataFrame) -> np.ndarray:
    """Return the score of a plain rule, shape (n_rows,): higher is more suspicious.

    The share of the given rows whose log amount is at most this row's (ties share their mean rank),
    plus 2 for an international transaction, plus 0.4 for each transaction of the card in five minutes.
    """
    rank = np.asarray(features["log_transaction_amount"].rank(pct=True), np.float64)
    abroad = features["is_international_txn"].to_numpy(np.float64)
    count = features["txn_count_5min"].to_numpy(np.float64)
    return rank + 2.0 * abroad + 0.4 * count
