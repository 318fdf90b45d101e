"""Somebody follows the usual recipe, under our model's name: every face says the same, and nothing is scored by it."""

import json
from collections.abc import Callable
from datetime import date

import pytest
from click.testing import CliRunner, Result
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fraud_assets.cli import main
from fraud_assets.resources.models.promotions import decisions
from fraud_assets_tests.model.test_training import made_features
from fraud_assets_tests.platform import TestPlatform

Run = Callable[..., Result]


@pytest.fixture
def run(scored_platform: TestPlatform, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("FRAUD_DATA_DIR", str(scored_platform.data_dir))
    monkeypatch.chdir(scored_platform.data_dir.parent)
    return lambda *arguments: CliRunner().invoke(main, list(arguments))


def register_by_the_usual_recipe(platform: TestPlatform) -> str:
    registry, features = platform.model_registry, made_features(rows=300, seed=1)
    with registry.as_mlflow_default():
        import mlflow.sklearn

        mlflow.set_experiment("somebody's own")
        with mlflow.start_run():
            logged = mlflow.sklearn.log_model(
                make_pipeline(StandardScaler(), IsolationForest(n_estimators=5)).fit(features),
                name="model",
                registered_model_name=registry.model_name,
                skops_trusted_types=["sklearn.tree._tree.Tree"],
                pip_requirements=[],
            )
    return str(logged.registered_model_version)


def test_a_plain_pipeline_behind_prod_is_called_foreign_by_status_run_and_promote_and_rolled_back(
    scored_platform: TestPlatform, run: Run
) -> None:
    registry = scored_platform.model_registry
    version = register_by_the_usual_recipe(scored_platform)
    words = f"Version {version} of {registry.model_name} was not registered by fraud_assets"
    before = decisions(scored_platform.lake)

    refused = run("promote", version)
    assert refused.exit_code == 1
    assert words in refused.output
    assert "`fraud-assets rollback`" in refused.output
    assert registry.prod_version() == "1"
    assert decisions(scored_platform.lake) == before

    registry.set_prod(version)
    scored_platform.simulate(1, start=date(2026, 1, 7))
    assert f"Note: {words}" in run("status").output
    assert any(note.startswith(words) for note in json.loads(run("status", "--json").output)["notes"])
    problems = [step.problem for step in scored_platform.run()]
    assert [words in problem for problem in problems] == [False, True], problems  # Silver is built

    assert run("rollback").exit_code == 0
    assert words not in run("status").output
    assert [step.problem for step in scored_platform.run()] == [""]
    assert scored_platform.state().gold["2026-01-07"].of["model_version"] == "1"
