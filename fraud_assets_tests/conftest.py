"""Fixtures and settings that every suite shares."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import HealthCheck, settings

from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets_tests.platform import TestPlatform

# Two busy cores make any deadline a coin toss; what a test proves does not depend on its speed.
# The same cases on every machine: a failure is one that whoever changed the code can repeat.
settings.register_profile("fraud_assets", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fraud_assets")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own variables must not decide a test."""
    for name in (
        "FRAUD_SOURCE",
        "FRAUD_DATA_DIR",
        "FRAUD_ALERTS_PER_DAY",
        "FRAUD_RESCORE_DAYS",
        "FRAUD_MODEL_NAME",
        "MLFLOW_TRACKING_URI",
        "MLFLOW_REGISTRY_URI",
        "DAGSTER_HOME",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's schema, made once: an empty sqlite file costs seconds of migrations."""
    data_dir = tmp_path_factory.mktemp("migrated")
    database = data_dir / "mlflow" / "mlflow.db"
    registry = ModelRegistry(
        source_name="simulated", tracking_uri=f"sqlite:///{database}", data_dir=str(data_dir), model_name="none"
    )
    registry._client()
    return database


@pytest.fixture
def make_platform(tmp_path: Path, instance: dg.DagsterInstance, migrated_database: Path) -> Callable[..., TestPlatform]:
    """Make a platform on a temporary directory, in which there is nothing but MLflow's empty tables."""
    mlflow = tmp_path / "data" / "mlflow"
    mlflow.mkdir(parents=True)
    shutil.copy(migrated_database, mlflow)
    return lambda **options: TestPlatform(tmp_path / "data", instance, **options)


@pytest.fixture(scope="session")
def _scored_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six simulated days with dirt, built, modelled and scored once for all tests that only need to begin there."""
    data_dir = tmp_path_factory.mktemp("scored") / "data"
    with dg.DagsterInstance.ephemeral() as instance:
        platform = TestPlatform(data_dir, instance)
        platform.simulate(6, dirt=True)
        assert [step.problem for step in platform.run()] == ["", "", ""]
    return data_dir


@pytest.fixture
def scored_platform(_scored_data: Path, tmp_path: Path, instance: dg.DagsterInstance) -> TestPlatform:
    """A platform of its own whose six days are scored and where nothing is due."""
    shutil.copytree(_scored_data, tmp_path / "data")
    return TestPlatform(tmp_path / "data", instance)
