"""The ranker of alerts as it scores: what it looks at, its trees as arrays, probabilities and contributions.

Needs neither scikit-learn nor MLflow. Does not belong here: how it is trained (`ranker_training`), which labels it may
learn from (`known_labels`), whether it may rank (`ranker_gate`). See docs/adr/0019-a-ranker-of-alerts.md.
"""

import json
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import numpy as np

from fraud_assets.digests import digest_file
from fraud_assets.errors import FraudAssetsError
from fraud_assets.silver.contract import FEATURE_NAMES
from fraud_assets.silver.history import HISTORY_FEATURES

RANKER_FEATURES: Final = (
    *FEATURE_NAMES,
    "fraud_score",
    *HISTORY_FEATURES,
    "log_amount_over_card_mean",
    "hour_of_day",
)
"""All that a ranker may look at, in this order; each a double, NaN where a card has no history. The label is none."""

_COLUMNS: Final = {
    **{name: f"silver.{name}" for name in FEATURE_NAMES},
    "fraud_score": "gold.fraud_score",
    **{name: f"history.{name}" for name in HISTORY_FEATURES},
    "log_amount_over_card_mean": "silver.log_transaction_amount - history.card_mean_log_amount_30d",
    "hour_of_day": "hour(silver.event_timestamp)",
}


class RankerArtifactError(FraudAssetsError):
    """A folder holds no whole compiled ranker of this release."""


def ranked_rows(*, silver: str, gold: str, history: str, more: str, labels: str = "") -> str:
    """Return a query for what a ranker looks at of each row that stands in all relations, after its key and `more`.

    `more` are further columns, of silver, gold, history, or of `labels`, a table `known` that is joined where named.
    """
    features = ", ".join(f"({expression})::DOUBLE AS {name}" for name, expression in _COLUMNS.items())
    return f"""(
        SELECT silver.partition_key, silver.TransactionID, {more}, {features}
        FROM {silver} AS silver
        JOIN {gold} AS gold USING (partition_key, TransactionID)
        JOIN {history} AS history USING (partition_key, TransactionID)
        {f"JOIN {labels} AS known USING (partition_key, TransactionID)" if labels else ""}
    )"""


@dataclass(frozen=True)
class Ranker:
    """Boosted trees as arrays: nodes of all trees, one tree after the other; children count from their tree's root."""

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    missing_left: np.ndarray
    value: np.ndarray
    """Of leaves: what they add to the logarithm of the odds."""
    expected: np.ndarray
    """Of nodes: the mean of the leaves below, by how many training rows fell into each."""
    baseline: float

    @cached_property
    def _paths(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return (self.roots, self.feature, self.threshold, self.left, self.right, self.missing_left)

    def log_odds(self, X: np.ndarray) -> np.ndarray:  # noqa: N803 - scikit-learn's name for a feature matrix
        """Return the logarithm of the odds of fraud per row of X, shape (n_rows, n_features), as scikit-learn does."""
        from fraud_assets.model.ranker_kernels import add_leaves

        out = np.full(len(X), self.baseline)
        add_leaves(np.ascontiguousarray(X, np.float64), *self._paths, self.value, out)
        return out

    def probability(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Return the probability of fraud per row; higher is more suspicious."""
        return 1.0 / (1.0 + np.exp(-self.log_odds(X)))

    def contributions(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Return what each feature adds to a row's log odds, (n_rows, n_features); above 0 is more suspicious.

        Along a row's path through each tree every step moves the mean of the leaves that are still possible; the step
        is the contribution of the feature that decides it. With the mean over all rows they add up to the log odds.
        """
        from fraud_assets.model.ranker_kernels import add_steps

        out = np.zeros((len(X), len(RANKER_FEATURES)))
        add_steps(np.ascontiguousarray(X, np.float64), *self._paths, self.expected, out)
        return out

    def save(self, folder: Path) -> None:
        """Write the ranker to a folder, made where it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {one.name: getattr(self, one.name) for one in fields(self)}
        np.savez(folder / _ARRAYS, **arrays)
        said = {"features": list(RANKER_FEATURES), "digest": digest_file(folder / _ARRAYS)}
        (folder / "manifest.json").write_text(json.dumps(said, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the ranker of a folder that `save` wrote; raises RankerArtifactError for any other."""
        try:
            said = json.loads((folder / "manifest.json").read_text())
            if said != {"features": list(RANKER_FEATURES), "digest": digest_file(folder / _ARRAYS)}:
                raise RankerArtifactError(f"{folder} holds a ranker of other features, or a damaged one.")
            with np.load(folder / _ARRAYS) as arrays:
                found = {name: arrays[name] for name in arrays.files}
            return cls(**{**found, "baseline": float(found["baseline"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RankerArtifactError(f"{folder} holds no ranker: {error}") from error


_ARRAYS: Final = "trees.npz"
