"""The usual notebook recipe, step by step as in the table of docs/questions.md: what it becomes here, and the trap."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from fraud_assets.errors import FraudAssetsError
from fraud_assets.model.scorer import Scorer
from fraud_assets.silver.contract import as_features
from fraud_assets_tests.platform import TestPlatform

if TYPE_CHECKING:
    from mlflow.models.model import ModelInfo

NAME: Final = "fraud_isolation_forest"
ODD: Final = 40
"""The first rows are odd: large amounts, abroad, in bursts."""


@dataclass(frozen=True)
class Recipe:
    """What the notebook holds after its last cell, and the store that it registered the model in."""

    rows: pd.DataFrame
    pipeline: Pipeline
    logged: "ModelInfo"
    data_dir: Path
    tracking_uri: str


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Two thousand rows of the eight features, in the types that pandas makes of them."""
    random = np.random.default_rng(7)
    odd = np.arange(2000) < ODD
    amount = np.exp(random.normal(4 + 3 * odd, 1)).round(3)
    return pd.DataFrame(
        {
            "TransactionAmt": amount,
            "log_transaction_amount": np.log1p(amount),
            "is_high_value_txn": (amount >= 500).astype(int),
            "is_international_txn": (odd | (random.random(2000) < 0.05)).astype(int),
            "txn_count_5min": 1 + 4 * odd + random.poisson(0.1, 2000),
            "avg_amount_5min": amount,
            "stddev_amount_5min": amount * odd,
            "product_diversity_5min": 1 + odd,
        }
    )


@pytest.fixture(scope="module")
def recipe(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recipe]:
    """The recipe as notebooks have it, under the name of our model, with its files where our store would have them."""
    data_dir = tmp_path_factory.mktemp("recipe")
    features = as_features(rows)
    pipeline = Pipeline(
        [
            ("scaler", StandardScaler()),
            ("forest", IsolationForest(n_estimators=50, contamination=0.035, random_state=42)),
        ]
    ).fit(features)
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as environment:
        warnings.simplefilter("ignore")  # what MLflow says to everybody who follows the recipe
        environment.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        (data_dir / "mlflow").mkdir()
        tracking_uri = f"sqlite:///{data_dir}/mlflow/mlflow.db"
        mlflow.set_tracking_uri(tracking_uri)
        mlflow.create_experiment("notebook", artifact_location=(data_dir / "mlflow" / "artifacts").as_uri())
        mlflow.set_experiment("notebook")
        with mlflow.start_run():
            logged = mlflow.sklearn.log_model(
                pipeline,
                name="model",
                signature=infer_signature(features, pipeline.predict(features)),
                input_example=features.head(3),
                skops_trusted_types=["sklearn.tree._tree.Tree"],
                pip_requirements=[],
            )
        mlflow.register_model(logged.model_uri, NAME)
        yield Recipe(rows, pipeline, logged, data_dir, tracking_uri)
        mlflow.set_tracking_uri(None)  # pyright: ignore[reportArgumentType] None unsets it
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def platform(recipe: Recipe, instance: dg.DagsterInstance) -> TestPlatform:
    return TestPlatform(recipe.data_dir, instance, tracking_uri=recipe.tracking_uri)


def test_the_score_is_the_pipeline_s_own_and_the_forest_alone_is_not(recipe: Recipe) -> None:
    features = as_features(recipe.rows)
    score = Scorer.from_pipeline(recipe.pipeline).score(features.to_numpy(np.float64))

    np.testing.assert_array_equal(score, -recipe.pipeline.decision_function(features))
    assert (score > 0).mean() == pytest.approx(0.035)
    forest_alone: Any = recipe.pipeline["forest"]
    assert (-forest_alone.decision_function(features.to_numpy()) > 0).mean() > 0.94


def test_the_sign_is_flipped_once_and_a_second_time_turns_the_ranking_upside_down(recipe: Recipe) -> None:
    is_odd = np.arange(len(recipe.rows)) < ODD
    score = -recipe.pipeline.decision_function(as_features(recipe.rows))

    assert roc_auc_score(is_odd, score) > 0.95
    assert roc_auc_score(is_odd, -score) < 0.05


def test_a_threshold_of_0_6_flags_nothing_and_on_predictions_it_is_our_0(recipe: Recipe) -> None:
    features = as_features(recipe.rows)
    score = -recipe.pipeline.decision_function(features)

    assert (score > 0.6).sum() == 0
    np.testing.assert_array_equal(-recipe.pipeline.predict(features) > 0.6, score > 0)


def test_a_forest_is_not_logged_before_its_trees_are_trusted(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(MlflowException, match="set the 'skops_trusted_types' parameter"):
        mlflow.sklearn.save_model(recipe.pipeline, str(tmp_path / "model"), pip_requirements=[])


def test_a_logged_forest_answers_with_predictions_and_wants_the_types_of_its_signature(recipe: Recipe) -> None:
    loaded = mlflow.pyfunc.load_model(recipe.logged.model_uri)

    assert set(loaded.predict(as_features(recipe.rows))) == {-1, 1}
    with pytest.raises(MlflowException, match="is_high_value_txn"):
        loaded.predict(recipe.rows)


def test_a_stage_moves_nothing_and_the_alias_of_a_version_registered_by_hand_scores_nothing(
    platform: TestPlatform,
) -> None:
    with pytest.warns(FutureWarning, match="stages will be removed"):
        MlflowClient().transition_model_version_stage(NAME, "1", "Production")
    assert platform.model_registry.prod_version() is None

    MlflowClient().set_registered_model_alias(NAME, "prod", "1")
    assert platform.model_registry.prod_version() == "1"
    with pytest.raises(FraudAssetsError, match=r"training_job`.*`fraud-assets promote"):
        platform.model_registry.scorer("1")
