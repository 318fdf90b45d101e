"""Fixtures and settings that every suite shares."""

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import dagster as dg
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets_tests import depth
from fraud_assets_tests.platform import TestPlatform

# Two busy cores make any deadline a coin toss; what a test proves does not depend on its speed.
# The same cases on every machine: a failure is one that whoever changed the code can repeat.
settings.register_profile("fraud_assets", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fraud_assets")


def pytest_configure() -> None:
    """Forget a developer's own variables: they must not decide a test, nor what the processes of one do."""
    for name in list(os.environ):
        if name.startswith(("FRAUD_", "MLFLOW_", "DAGSTER_")) and not name.startswith(_KEPT):
            del os.environ[name]


_KEPT = ("FRAUD_TEST_", "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR")
# The last two are ours: whatever imports MLflow sets them.


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    if depth.DEEPER_ALONE:
        items[:] = [item for item in items if depth.has_more_at_full_depth(item)]
    # The longest files first: one of them at the end would keep a single worker busy.
    items.sort(key=lambda item: item.path.parent.name not in {"end_to_end", "spark"})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if depth.COMPLETE and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if not depth.is_left_out(reason):
            report.outcome, report.longrepr = "failed", f"{item.nodeid} would be skipped: {reason}"
    return report


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that `make` filled, once for all workers of this run; whoever uses it copies it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of the run; a worker's own lies in it
    made, is_made = folder / name, folder / f"{name}.made"
    with FileLock(folder / f"{name}.lock"):
        if not is_made.exists():
            shutil.rmtree(made, ignore_errors=True)  # of a worker that failed: the next one shall say why, too
            made.mkdir()
            make(made)
            is_made.touch()
    return made


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's schema, made once: an empty sqlite file costs seconds of migrations."""

    def make(folder: Path) -> None:
        ModelRegistry(
            source_name="simulated",
            tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
            data_dir=str(folder),
            model_name="none",
        )._client()

    return once(tmp_path_factory, "migrated", make) / "mlflow.db"


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

    def make(folder: Path) -> None:
        with dg.DagsterInstance.ephemeral() as instance:
            platform = TestPlatform(folder / "data", instance)
            platform.simulate(6, dirt=True)
            assert [step.problem for step in platform.run()] == ["", "", ""]

    return once(tmp_path_factory, "scored", make) / "data"


@pytest.fixture
def scored_platform(_scored_data: Path, tmp_path: Path, instance: dg.DagsterInstance) -> TestPlatform:
    """A platform of its own whose six days are scored and where nothing is due."""
    shutil.copytree(_scored_data, tmp_path / "data")
    return TestPlatform(tmp_path / "data", instance)
