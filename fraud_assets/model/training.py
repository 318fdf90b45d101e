"""Fit the seed pipeline on the eight features, and say which partitions train it and which evaluate it.

Belongs here: the time window, the fit, and where scikit-learn's sign is flipped.
Does not belong here: evaluation, promotion, MLflow, the compiled scorer. This module needs scikit-learn and
pandas, so nothing that `fraud_assets.definitions` reaches may import it at the top.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from fraud_assets.model.scorer import ScorerMismatch, fit_offset
from fraud_assets.silver.contract import FEATURE_NAMES, as_features

MINIMUM_TRAINING_ROWS: Final = 256
"""Each tree draws 256 rows: with fewer, all trees would see the same ones and isolate nothing."""


class TooFewRowsError(ValueError):
    """The training window holds too few rows to fit a forest."""


class UnusableFeaturesError(ValueError):
    """A feature holds NaN or an infinite value, which a Silver table never does."""


class NoTrainingWindowError(ValueError):
    """The partitions at hand cannot be split into a training and a later evaluation window."""


@dataclass(frozen=True)
class TrainingParameters:
    """What shapes a forest, beside its rows."""

    n_estimators: int = 200
    contamination: float = 0.035
    random_state: int = 42
    max_samples: int | float | Literal["auto"] = "auto"


@dataclass(frozen=True)
class Window:
    """The partitions that train and the later ones that evaluate, both ends included.

    The evaluation bounds are None where there is one partition only: quality cannot be measured then.
    """

    train_start: str
    train_end: str
    evaluation_start: str | None
    evaluation_end: str | None


def split_window(keys: Sequence[str], *, evaluation_share: float = 0.3, gap: int = 0) -> Window:
    """Return a training window that ends before the evaluation window begins.

    Args:
        keys: Partition keys, in any order; their text order is their time order.
        evaluation_share: Share of the partitions that evaluate, rounded down, one at least.
        gap: Partitions left out between the two windows, for labels that arrive late.

    Raises:
        NoTrainingWindowError: When there is no partition, or the gap leaves none to train on.
    """
    if not 0 < evaluation_share < 1 or gap < 0:
        raise ValueError(
            f"evaluation_share must lie between 0 and 1 and gap be 0 or more: {evaluation_share=}, {gap=}."
        )
    ordered = sorted(set(keys))
    if not ordered:
        raise NoTrainingWindowError(
            "There is no Silver partition to train on: land transactions, then `fraud-assets run`."
        )
    if len(ordered) == 1:
        return Window(ordered[0], ordered[0], None, None)
    evaluating = max(1, int(len(ordered) * evaluation_share))
    training = len(ordered) - evaluating - gap
    if training < 1:
        raise NoTrainingWindowError(
            f"{len(ordered)} partitions leave none to train on when {evaluating} evaluate and {gap} lie between: "
            "land more partitions, or choose a smaller gap or evaluation share."
        )
    return Window(ordered[0], ordered[training - 1], ordered[-evaluating], ordered[-1])


def fit_pipeline(features: pd.DataFrame, parameters: TrainingParameters) -> Pipeline:
    """Return a pipeline (scaler, forest) that depends on the rows and the parameters, not on the rows' order.

    Args:
        features: The eight contract columns, shape (n_rows, 8); other columns are ignored.
        parameters: What shapes the forest.

    Raises:
        TooFewRowsError: Below `MINIMUM_TRAINING_ROWS` rows.
        UnusableFeaturesError: When a feature is NaN or infinite.
    """
    if len(features) < MINIMUM_TRAINING_ROWS:
        raise TooFewRowsError(
            f"{len(features)} rows are too few to train on, {MINIMUM_TRAINING_ROWS} are needed: "
            "land more transactions (`fraud-assets land FILE`), then `fraud-assets run`."
        )
    unusable = [
        name
        for name in FEATURE_NAMES
        if name in features and not np.isfinite(features[name].to_numpy(np.float64)).all()
    ]
    if unusable:
        raise UnusableFeaturesError(
            f"NaN or an infinite value in {', '.join(unusable)}: Silver never holds one. "
            "Build the partitions again with `fraud-assets run`."
        )
    # The forest draws rows by position. Rows that tie in all eight features are the same to it, so sorting by
    # the features makes the fit independent of how the table is stored, without needing an id.
    ordered = as_features(features).sort_values(list(FEATURE_NAMES), ignore_index=True)
    forest = IsolationForest(**vars(parameters)).set_params(contamination="auto")
    pipeline = Pipeline([("scaler", StandardScaler()), ("forest", forest)]).fit(ordered)
    try:
        fit_offset(pipeline, ordered.to_numpy(np.float64), parameters.contamination)
    except ScorerMismatch:
        # scikit-learn's own way: the same offset, by scoring every training row itself.
        pipeline.set_params(forest__contamination=parameters.contamination).fit(ordered)
    return pipeline


@dataclass(frozen=True)
class PipelineScorer:
    """Scores by scikit-learn itself, for a version without a compiled scorer: the same bits, slower, no percentile."""

    pipeline: Pipeline
    threshold: float

    def score(self, X: np.ndarray) -> np.ndarray:  # noqa: N803 - scikit-learn's name for a feature matrix
        """Return one score per row of X, shape (n_rows, 8), in contract order."""
        return fraud_score(self.pipeline, pd.DataFrame(X, columns=pd.Index(FEATURE_NAMES)))

    def percentile(self, scores: np.ndarray) -> np.ndarray:
        """Return NaN for each score: the training scores are kept by the compiled scorer."""
        return np.full(scores.shape, np.nan)


def fraud_score(pipeline: Pipeline, features: pd.DataFrame) -> np.ndarray:
    """Return one score per row, shape (n_rows,): higher is more suspicious, 0 is the contamination boundary.

    The whole pipeline decides, scaler included. scikit-learn's sign is flipped here; what scores without this function
    is checked against it.
    """
    return -pipeline.decision_function(as_features(features))
