"""Fit gradient boosting on labelled rows, and compile its trees. This module needs scikit-learn: import it late.

Does not belong here: which rows and labels (`known_labels`), how a ranker scores (`ranker`), whether it may rank
(`ranker_gate`).
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from fraud_assets.model.ranker import RANKER_FEATURES, Ranker

_SETTINGS: Final[dict[str, Any]] = {
    # Early stopping would hold labels back to validate on, and stop at random where frauds are few.
    "early_stopping": False,
    "max_leaf_nodes": 15,
    "max_iter": 100,
    "random_state": 0,
}


@dataclass(frozen=True)
class TrainedRanker:
    """A fitted classifier and the same trees compiled."""

    classifier: HistGradientBoostingClassifier
    ranker: Ranker

    def example(self) -> pd.DataFrame:
        """Return two rows of plausible features, none of which is a customer's: one card unknown, one known."""
        rows = {name: [0.0, 1.0] for name in RANKER_FEATURES}
        rows |= {"TransactionAmt": [10.0, 500.0], "fraud_score": [-0.1, 0.1], "hour_of_day": [12.0, 3.0]}
        of_mean = ("card_mean_log_amount_30d", "card_stddev_log_amount_30d", "days_since_last_txn")
        rows |= {name: [np.nan, 1.0] for name in (*of_mean, "log_amount_over_card_mean")}
        return pd.DataFrame(rows).astype("float64")


def train_ranker(rows: pd.DataFrame) -> TrainedRanker:
    """Return a ranker that learnt from rows with `RANKER_FEATURES` and `isFraud`, 0 or 1, of both kinds.

    Where rows have a `weight`, each counts as many times. The ranker depends on the rows, not on their order: they are
    put in one first.
    """
    columns = [*RANKER_FEATURES, "isFraud", "weight"]
    weighted = rows.assign(weight=rows.get("weight", 1.0))
    ordered = weighted.loc[:, columns].astype("float64").sort_values(columns, ignore_index=True)
    weights = ordered["weight"].to_numpy()
    # Where all count once no weights are given: scikit-learn bins weighted rows in another way.
    sample_weight = None if (weights == 1).all() else weights
    features = ordered[list(RANKER_FEATURES)]
    # Of a first day no card has a history. scikit-learn cannot bin a column without any value; of equal ones it learns
    # as little.
    features = features.fillna(dict.fromkeys(features.columns[features.isna().all()], 0.0))
    classifier = HistGradientBoostingClassifier(**_SETTINGS)
    # On one thread: several wait for each other by spinning, and sum in an order that is theirs.
    with threadpool_limits(1, user_api="openmp"):
        classifier.fit(features, ordered["isFraud"].to_numpy(bool), sample_weight)
    return TrainedRanker(classifier, compile_ranker(classifier))


def compile_ranker(classifier: HistGradientBoostingClassifier) -> Ranker:
    """Return the trees of a fitted classifier as arrays."""
    found: Any = classifier
    trees = [predictor.nodes for (predictor,) in found._predictors]  # noqa: SLF001 - scikit-learn shows them nowhere else
    nodes = np.concatenate(trees)
    is_leaf = nodes["is_leaf"].astype(bool)
    return Ranker(
        roots=np.cumsum([0, *map(len, trees[:-1])]).astype(np.int32),
        feature=nodes["feature_idx"].astype(np.int32),
        threshold=nodes["num_threshold"].astype(np.float64),
        left=np.where(is_leaf, 0, nodes["left"]).astype(np.int32),
        right=np.where(is_leaf, 0, nodes["right"]).astype(np.int32),
        missing_left=nodes["missing_go_to_left"].astype(bool),
        value=np.where(is_leaf, nodes["value"], 0.0),
        expected=np.concatenate([_expected(tree) for tree in trees]),
        baseline=float(found._baseline_prediction.ravel()[0]),  # noqa: SLF001
    )


def _expected(nodes: np.ndarray) -> np.ndarray:
    """Return of each node of a tree the mean of the leaves below it, by their training rows."""
    expected = nodes["value"].astype(np.float64)
    for at in range(len(nodes) - 1, -1, -1):  # children stand after their parent
        node = nodes[at]
        if not node["is_leaf"]:
            below = nodes[["count"]][[node["left"], node["right"]]]["count"].astype(np.float64)
            expected[at] = (expected[[node["left"], node["right"]]] * below).sum() / below.sum()
    return expected
