"""A data directory that moves, with its models: real MLflow on sqlite, our registry, and plain MLflow clients."""

import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from fraud_assets.model.scorer import Scorer
from fraud_assets.model.training_facts import TrainingParameters
from fraud_assets.resources.models.local_scorers import LocalScorers
from fraud_assets.resources.models.own_store import StoreError
from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets.silver.contract import as_features
from fraud_assets_tests.depth import full_only
from fraud_assets_tests.model.test_training import fit_pipeline, fraud_score, made_features
from fraud_assets_tests.resources.test_model_registry import NAME, artifacts_of, register, registry_in


@pytest.fixture(scope="module")
def features() -> pd.DataFrame:
    return as_features(made_features(rows=300, seed=1))


@pytest.fixture(scope="module")
def pipeline(features: pd.DataFrame) -> Pipeline:
    return fit_pipeline(features, TrainingParameters(n_estimators=10))


@pytest.fixture(scope="module")
def original(pipeline: Pipeline, features: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with one version behind @prod; tests copy it."""
    data_dir = tmp_path_factory.mktemp("original") / "my data"
    registry = registry_in(data_dir)
    registry.prepare()
    with registry.as_mlflow_default():
        import mlflow
        from mlflow.data.delta_dataset_source import DeltaDatasetSource
        from mlflow.data.meta_dataset import MetaDataset

        mlflow.set_experiment(registry.experiment_name)
        with mlflow.start_run():
            source = DeltaDatasetSource(path=f"{data_dir}/lake/silver/t", delta_table_version=1)
            mlflow.log_input(MetaDataset(source, name="t", digest="d"), context="training")
    register(registry, pipeline, features, scorer=Scorer.from_pipeline(pipeline))
    registry.set_prod("1")
    return data_dir


@pytest.fixture
def here(original: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A directory that has been used where it lay, before it is moved."""
    here = tmp_path / "here"
    shutil.copytree(original, here)
    assert registry_in(here).prod_version() == "1"
    return here


def texts_of(store: Path) -> str:
    with closing(sqlite3.connect(store)) as database:
        return "\n".join(database.iterdump())


def files_under(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def ask_plain_mlflow(store: Path, features: pd.DataFrame) -> subprocess.CompletedProcess[bytes]:
    """Score in a script that knows MLflow alone."""
    features.to_pickle(store.parent / "features.pkl")
    code = f"""
        import mlflow, pandas, sys
        model = mlflow.pyfunc.load_model("models:/{NAME}@prod")
        answer = model.predict(pandas.read_pickle("features.pkl"))
        sys.stdout.buffer.write(answer["fraud_score"].to_numpy().tobytes())
        """
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{store}", "MLFLOW_DISABLE_TELEMETRY": "true"},
        cwd=store.parent,
        capture_output=True,
        check=False,
    )


def scores_by_plain_mlflow(store: Path, features: pd.DataFrame) -> bytes:
    done = ask_plain_mlflow(store, features)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout


def use(registry: ModelRegistry, pipeline: Pipeline, features: pd.DataFrame, *, next_version: str) -> None:
    """Do all that is done with a registry: look, verify, score, load, train, move."""
    expected = fraud_score(pipeline, features).tobytes()
    assert registry.prod_version() == "1"
    registry.verify("1")
    assert registry.scorer("1").score(features.to_numpy(np.float64)).tobytes() == expected
    assert fraud_score(registry.load_pipeline("1"), features).tobytes() == expected
    assert register(registry, pipeline, features) == next_version
    assert artifacts_of(registry, next_version).is_relative_to(registry.data_dir)


def test_a_moved_directory_is_used_where_it_lies_and_nothing_is_written_where_it_lay(
    original, here, tmp_path, pipeline, features
):
    there = tmp_path / "another disk" / "there"
    there.parent.mkdir()
    here.rename(there)
    registry = registry_in(there)

    use(registry, pipeline, features, next_version="2")

    assert not here.exists()
    store = there / "mlflow" / "mlflow.db"
    assert not [
        place for place in (here, original) if str(place) in texts_of(store) or place.as_uri() in texts_of(store)
    ]
    assert scores_by_plain_mlflow(store, features) == fraud_score(pipeline, features).tobytes()
    client, experiment = registry._client(), registry._client().get_experiment_by_name("fraud_assets")
    assert experiment.artifact_location == (there / "mlflow" / "artifacts").as_uri()
    first, second = client.search_runs([experiment.experiment_id], filter_string="", order_by=["start_time"])[:2]
    assert {file.path for run in (first, second) for file in client.list_artifacts(run.info.run_id)}


@full_only("two trainings")
def test_a_copy_and_its_original_are_used_side_by_side_each_with_its_own_files(here, tmp_path, pipeline, features):
    copy = tmp_path / "copy"
    shutil.copytree(here, copy)
    too_early = ask_plain_mlflow(copy / "mlflow" / "mlflow.db", features).stderr.decode()
    assert f"`FRAUD_DATA_DIR={copy} fraud-assets status` lets it follow" in too_early
    assert "CopiedStoreError" in too_early
    before = files_under(here)

    use(registry_in(copy), pipeline, features, next_version="2")

    assert files_under(here) == before
    assert str(here) not in texts_of(copy / "mlflow" / "mlflow.db")
    use(registry_in(here), pipeline, features, next_version="2")
    shutil.rmtree(here)
    scored = scores_by_plain_mlflow(copy / "mlflow" / "mlflow.db", features)
    assert scored == fraud_score(pipeline, features).tobytes()
    use(registry_in(copy), pipeline, features, next_version="3")


def test_a_scorer_on_disk_moves_with_its_directory_and_needs_no_registry(here, tmp_path):
    here.rename(tmp_path / "there")
    (tmp_path / "there" / "mlflow").rename(tmp_path / "no store")
    assert LocalScorers(tmp_path / "there" / "models", "mlflow/mlflow.db", NAME).load("1") is not None


def test_only_what_lay_in_the_directory_follows_it(here, tmp_path):
    neighbour = f"file://{here}-too/mlflow/artifacts"  # begins with the same letters
    store = here / "mlflow" / "mlflow.db"
    with closing(sqlite3.connect(store)) as database:
        for name, location in (("neighbour", neighbour), ("bucket", "s3://bucket/x")):
            database.execute(
                "INSERT INTO experiments (name, artifact_location, lifecycle_stage) VALUES (?, ?, 'active')",
                [name, location],
            )
        database.commit()
    here.rename(tmp_path / "there")
    client = registry_in(tmp_path / "there")._client()
    found = {one.name: one.artifact_location for one in client.search_experiments()}
    assert (found["neighbour"], found["bucket"]) == (neighbour, "s3://bucket/x")
    assert found["fraud_assets"] == (tmp_path / "there" / "mlflow" / "artifacts").as_uri()


def test_another_name_of_the_same_place_rewrites_nothing(here, tmp_path):
    (tmp_path / "link").symlink_to(here)
    before = texts_of(here / "mlflow" / "mlflow.db")
    linked = registry_in(tmp_path / "link")
    by_its_real_name = linked.model_copy(update={"tracking_uri": f"sqlite:///{here}/mlflow/mlflow.db"})
    for registry in (linked, by_its_real_name):
        assert registry.prod_version() == "1"
        registry.prepare()
        registry.verify("1")
    assert texts_of(here / "mlflow" / "mlflow.db") == before


def test_a_store_of_another_place_is_refused_where_the_directory_has_its_own(here, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(here, copy)
    exported = f"sqlite:///{here}/mlflow/mlflow.db"
    before = files_under(here)
    for gone in (False, True):
        if gone:
            shutil.rmtree(here)
        registry = ModelRegistry(source_name="simulated", tracking_uri=exported, data_dir=str(copy), model_name=NAME)
        for ask in (registry.prod_version, registry.versions, registry.prepare):
            with pytest.raises(StoreError, match=r"names .*here.*`unset MLFLOW_TRACKING_URI`"):
                ask()
        assert gone or files_under(here) == before
    assert not here.exists()


def test_a_foreign_store_whose_files_moved_is_left_alone_and_says_what_helps(tmp_path, pipeline, features):
    store, data_dir = tmp_path / "shared.db", tmp_path / "here"
    foreign = {"source_name": "simulated", "tracking_uri": f"sqlite:///{store}", "model_name": NAME}
    register(ModelRegistry(data_dir=str(data_dir), **foreign), pipeline, features)
    data_dir.rename(tmp_path / "there")
    before = store.read_bytes()
    registry = ModelRegistry(data_dir=str(tmp_path / "there"), **foreign)

    for ask in (registry.prepare, lambda: registry.verify("1"), lambda: registry.scorer("1")):
        with pytest.raises(StoreError, match=r"not there\. Put them back; where they were moved, `ln -s PLACE"):
            ask()

    assert store.read_bytes() == before
    assert not data_dir.exists()
    (data_dir / "mlflow").mkdir(parents=True)
    (data_dir / "mlflow" / "artifacts").symlink_to(tmp_path / "there" / "mlflow" / "artifacts")
    registry.prepare()
    registry.verify("1")


def test_a_store_that_cannot_be_written_says_so_before_anything_else(here, tmp_path, monkeypatch):
    here.rename(tmp_path / "there")
    store = tmp_path / "there" / "mlflow" / "mlflow.db"
    with closing(sqlite3.connect(store, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        # Root may write what is read-only, so the database itself refuses.
        other.execute("CREATE TRIGGER no BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'read-only'); END")
    before = texts_of(store)
    with pytest.raises(StoreError, match=r"was moved from .*here, .*read-only.*`fraud-assets status`"):
        registry_in(tmp_path / "there").prod_version()
    assert texts_of(store) == before
