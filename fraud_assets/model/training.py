"""Fit the seed pipeline on the eight features, once and for all who score by it.

Belongs here: the fit, the threshold, what a version keeps of its training rows, and scoring by the pipeline itself.
Does not belong here: which partitions train (`training_facts`), how a scorer is compiled, evaluation, MLflow. This
module needs scikit-learn and pandas: import it late.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from fraud_assets.errors import FraudAssetsError
from fraud_assets.model.scorer import Scorer, fit_offset
from fraud_assets.model.scorer_compiler import ScorerMismatch, sklearn_scores
from fraud_assets.model.training_facts import TrainingParameters
from fraud_assets.silver.contract import FEATURE_NAMES, as_features

MINIMUM_TRAINING_ROWS: Final = 256
"""Each tree draws 256 rows: with fewer, all trees would see the same ones and isolate nothing."""

QUANTILES: Final = (0.0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)
"""The levels at which a version keeps the distribution of its training rows: close where drift and alerts show."""


class TooFewRowsError(FraudAssetsError):
    """The training window holds too few rows to fit a forest."""


class UnknownTrainingScoresError(FraudAssetsError):
    """A threshold was to be derived from training scores that the version does not carry."""


@dataclass(frozen=True)
class Trained:
    """A forest, what scores by it, and what is kept of the rows that trained it."""

    pipeline: Pipeline
    scorer: Scorer | None
    """None where the forest cannot be compiled; `not_compiled` says why."""
    threshold: float
    distribution: Mapping[str, Any]
    """As `describe_training` made it."""
    not_compiled: str | None = None

    def example(self) -> pd.DataFrame:
        """Return a few rows of plausible features, none of which is a customer's."""
        return as_features(pd.DataFrame({name: list(self.distribution["quantiles"][name]) for name in FEATURE_NAMES}))


def train(features: pd.DataFrame, parameters: TrainingParameters) -> Trained:
    """Return a forest that depends on the rows and the parameters, not on the rows' order; compiled where possible.

    Of `features` the eight contract columns count; below `MINIMUM_TRAINING_ROWS` rows it raises TooFewRowsError.
    """
    if len(features) < MINIMUM_TRAINING_ROWS:
        raise TooFewRowsError(
            f"{len(features)} rows are too few to train on, {MINIMUM_TRAINING_ROWS} are needed: land more transactions "
            "(`fraud-assets land FILE`), then `fraud-assets run`."
        )
    # The forest draws rows by position. Rows that tie in all eight features are the same to it, so sorting by
    # the features makes the fit independent of how the table is stored, without needing an id.
    ordered = as_features(features).sort_values(list(FEATURE_NAMES), ignore_index=True)
    X = ordered.to_numpy(np.float64)  # noqa: N806 - scikit-learn's name
    try:
        pipeline = _fit(ordered, parameters, contamination="auto")
        scorer, scores = fit_offset(pipeline, X, parameters.contamination)
        not_compiled, kept_scores = None, scorer.training_scores
    except ScorerMismatch as error:
        # scikit-learn's own way: the same offset, by scoring every training row itself.
        pipeline = _fit(ordered, parameters, contamination=parameters.contamination)
        scorer, scores, not_compiled = None, sklearn_scores(pipeline, X), str(error)
        kept_scores = scores
    # From the scores that the version keeps, so that the same share gives the same threshold when it is changed later.
    threshold = threshold_for(kept_scores, parameters.alert_share)
    return Trained(
        pipeline,
        None if scorer is None else replace(scorer, threshold=threshold),
        threshold,
        describe_training(ordered, scores),
        not_compiled,
    )


def _fit(ordered: pd.DataFrame, parameters: TrainingParameters, *, contamination: Any) -> Pipeline:
    forest = IsolationForest(
        n_estimators=parameters.n_estimators, contamination=contamination, random_state=parameters.random_state
    )
    return Pipeline([("scaler", StandardScaler()), ("forest", forest)]).fit(ordered)


def with_threshold(
    pipeline: Pipeline, scorer: Any, distribution: Mapping[str, Any], *, alert_share: float | None
) -> Trained:
    """Return the trees of a version that exists, with the threshold that was asked for; its scorer may be of any kind.

    Raises UnknownTrainingScoresError where a share was given, and the version keeps no training scores.
    """
    compiled = scorer if isinstance(scorer, Scorer) else None
    if alert_share is not None and (compiled is None or not len(compiled.training_scores)):
        raise UnknownTrainingScoresError(
            "That version has no compiled scorer which could be used here, so its training scores are not known. "
            "Train anew with alert_share instead of same_trees_as."
        )
    threshold = 0.0 if compiled is None else threshold_for(compiled.training_scores, alert_share)
    kept = None if compiled is None else replace(compiled, threshold=threshold)
    return Trained(pipeline, kept, threshold, distribution)


def threshold_for(training_scores: np.ndarray, alert_share: float | None) -> float:
    """Return the least training score above which at most `alert_share` of the training scores lie; 0.0 for None.

    Rows that tie with the threshold are no anomalies. A compiled scorer keeps up to 10,001 training scores, evenly
    spaced: of more rows, the share is met to 1e-4.
    """
    if alert_share is None:
        return 0.0
    ordered = np.sort(training_scores)
    allowed = int(alert_share * len(ordered) + 1e-9)  # 0.29 of 100 rows are 29, whatever floating point makes of it
    return float(ordered[len(ordered) - 1 - min(allowed, len(ordered) - 1)])


def describe_training(features: pd.DataFrame, scores: np.ndarray) -> dict[str, Any]:
    """Return the distribution of each feature and of the score over the training rows, as plain JSON values.

    Under `quantiles` each column has a value per level: the least that occurs with that share at or below it.
    """
    columns = {name: features[name].to_numpy() for name in FEATURE_NAMES} | {"fraud_score": scores}
    quantiles = {name: np.quantile(values, QUANTILES, method="inverted_cdf") for name, values in columns.items()}
    return {
        "rows": len(features),
        "levels": list(QUANTILES),
        "quantiles": {name: values.tolist() for name, values in quantiles.items()},
    }


@dataclass(frozen=True)
class PipelineScorer:
    """Scores by scikit-learn itself, for a version without a compiled scorer: the same bits, slower, no percentile."""

    pipeline: Pipeline
    threshold: float

    def score(self, X: np.ndarray) -> np.ndarray:  # noqa: N803 - scikit-learn's name for a feature matrix
        """Return one score per row of X, shape (n_rows, 8), in contract order."""
        return sklearn_scores(self.pipeline, X)

    def percentile(self, scores: np.ndarray) -> np.ndarray:
        """Return NaN for each score: the training scores are kept by the compiled scorer."""
        return np.full(scores.shape, np.nan)
