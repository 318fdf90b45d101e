"""Fit the seed pipeline on the eight features, and say which partitions train it and which evaluate it.

Belongs here: the time window, the rows, the fit, the threshold, what a version keeps of its training data, and where
scikit-learn's sign is flipped. Does not belong here: evaluation, promotion, MLflow, how a scorer is compiled. This
module needs scikit-learn and pandas, so nothing that `fraud_assets.definitions` reaches may import it at the top.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from duckdb import DuckDBPyConnection
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from fraud_assets.model.scorer import Scorer, ScorerMismatch, fit_offset
from fraud_assets.silver.contract import FEATURE_NAMES, as_features

MINIMUM_TRAINING_ROWS: Final = 256
"""Each tree draws 256 rows: with fewer, all trees would see the same ones and isolate nothing."""

QUANTILES: Final = (0.0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)
"""The levels at which a version keeps the distribution of its training rows: close where drift and alerts show."""


class TooFewRowsError(ValueError):
    """The training window holds too few rows to fit a forest."""


class UnusableFeaturesError(ValueError):
    """A feature holds NaN or an infinite value, which a Silver table never does."""


class NoTrainingWindowError(ValueError):
    """The partitions at hand cannot be split into a training and a later evaluation window."""


class UnknownTrainingScoresError(ValueError):
    """A threshold was to be derived from training scores that the version does not carry."""


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

    def trains_on(self, key: str) -> bool:
        """Whether the partition lies in the training window."""
        return self.train_start <= key <= self.train_end


def split_window(
    keys: Sequence[str],
    *,
    evaluation_share: float = 0.3,
    gap: int = 0,
    first: str | None = None,
    last: str | None = None,
) -> Window:
    """Return a training window that ends before the evaluation window begins.

    Args:
        keys: Partition keys, in any order; their text order is their time order.
        evaluation_share: Share of the partitions that evaluate, rounded down, one at least.
        gap: Partitions left out between the two windows, for labels that arrive late.
        first: First partition to use; None for the first there is.
        last: Last partition to use; None for the last there is.

    Raises:
        NoTrainingWindowError: When there is no partition, or the gap leaves none to train on.
    """
    if not 0 < evaluation_share < 1 or gap < 0:
        raise ValueError(
            f"evaluation_share must lie between 0 and 1 and gap be 0 or more: {evaluation_share=}, {gap=}."
        )
    ordered = sorted(key for key in set(keys) if (first is None or key >= first) and (last is None or key <= last))
    if not ordered and keys:
        raise NoTrainingWindowError(
            f"No Silver partition lies between {first or 'the first'} and {last or 'the last'}: "
            f"there are {min(keys)} to {max(keys)}. Choose another first_partition or last_partition."
        )
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


def read_training_rows(connection: DuckDBPyConnection, silver: str, *, max_rows: int) -> pd.DataFrame:
    """Return the features of all rows of `silver`, or of `max_rows` of them chosen by a hash of the id.

    The same rows are chosen however the table is stored, on every machine and in every release: md5 is a standard, and
    an id that occurs in several partitions is told apart by its partition. They come in no particular order.

    Args:
        connection: Where `silver` can be read.
        silver: A parenthesised query of Silver rows.
        max_rows: The most rows to return.

    Returns:
        The eight contract columns, shape (n_rows, 8).
    """
    columns = ", ".join(f'"{name}"' for name in FEATURE_NAMES)
    found = connection.execute(f"SELECT count(*) FROM {silver}").fetchall()[0][0]
    sampled = "" if found <= max_rows else "ORDER BY md5(TransactionID), partition_key LIMIT $max_rows"
    rows = connection.execute(
        f"SELECT {columns} FROM {silver} {sampled}", {"max_rows": max_rows} if sampled else None
    ).df()
    return as_features(rows)


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


def train(features: pd.DataFrame, parameters: TrainingParameters, *, alert_share: float | None = None) -> Trained:
    """Return a forest fitted on the rows, compiled where that is possible, with the threshold that was asked for.

    Args:
        features: The eight contract columns, shape (n_rows, 8).
        parameters: What shapes the forest.
        alert_share: See `threshold_for`.

    Raises:
        TooFewRowsError: As `fit_pipeline`.
        UnusableFeaturesError: As `fit_pipeline`.
    """
    pipeline = fit_pipeline(features, parameters)
    X = features[list(FEATURE_NAMES)].to_numpy(np.float64)  # noqa: N806 - scikit-learn's name
    try:
        scorer, not_compiled = Scorer.from_pipeline(pipeline, training_rows=X), None
    except ScorerMismatch as error:
        scorer, not_compiled = None, str(error)
    scores = fraud_score(pipeline, features) if scorer is None else scorer.score(X)
    # From the scores that the version keeps, so that the same share gives the same threshold when it is changed later.
    threshold = threshold_for(scores if scorer is None else scorer.training_scores, alert_share)
    return Trained(
        pipeline,
        None if scorer is None else replace(scorer, threshold=threshold),
        threshold,
        describe_training(features, scores),
        not_compiled,
    )


def with_threshold(
    pipeline: Pipeline, scorer: Any, distribution: Mapping[str, Any], *, alert_share: float | None
) -> Trained:
    """Return the trees of a version that exists, with the threshold that was asked for.

    Args:
        pipeline: The version's pipeline.
        scorer: The version's scorer, compiled or not.
        distribution: The version's training distribution.
        alert_share: See `threshold_for`.

    Raises:
        UnknownTrainingScoresError: A share was given, and the version keeps no training scores.
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

    Rows that tie with the threshold are no anomalies, so a budget is never exceeded on the training scores. A compiled
    scorer keeps up to 10,001 of them, evenly spaced: of more rows, the share is met to 1e-4.
    """
    if alert_share is None:
        return 0.0
    ordered = np.sort(training_scores)
    allowed = int(alert_share * len(ordered) + 1e-9)  # 0.29 of 100 rows are 29, whatever floating point makes of it
    return float(ordered[len(ordered) - 1 - min(allowed, len(ordered) - 1)])


def describe_training(features: pd.DataFrame, scores: np.ndarray) -> dict[str, Any]:
    """Return the distribution of each feature and of the score over the training rows, as plain JSON values.

    Each quantile is a value that occurs: the least one with at least that share of the rows at or below it.

    Returns:
        `rows`, `levels`, and under `quantiles` per column one value per level.
    """
    columns = {name: features[name].to_numpy() for name in FEATURE_NAMES} | {"fraud_score": scores}
    return {
        "rows": len(features),
        "levels": list(QUANTILES),
        "quantiles": {
            name: np.quantile(values, QUANTILES, method="inverted_cdf").tolist() for name, values in columns.items()
        },
    }


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
