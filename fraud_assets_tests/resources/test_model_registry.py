"""The registry against a real MLflow on sqlite, and the tracked run inside real Dagster runs."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterator
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import dagster as dg
import mlflow
import numpy as np
import pandas as pd
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import create_execution_plan
from dagster._core.execution.context_creation_job import scoped_job_context
from mlflow.exceptions import MlflowException
from sklearn.pipeline import Pipeline

from fraud_assets.model.scorer import Scorer
from fraud_assets.model.training import PipelineScorer, Trained, describe_training
from fraud_assets.model.training_facts import TrainingParameters
from fraud_assets.resources.models import registration
from fraud_assets.resources.models.local_scorers import LocalScorers
from fraud_assets.resources.models.registration import RegistrationError
from fraud_assets.resources.models.registry import ForeignVersionError, ModelRegistry, NoModelError
from fraud_assets.resources.models.tracked_run import mark_mlflow_run_failed, tracked_run
from fraud_assets.resources.models.version_files import TamperedVersionError
from fraud_assets.silver.contract import as_features
from fraud_assets_tests.depth import FULL, full_only
from fraud_assets_tests.model.test_training import fit_pipeline, fraud_score, made_features

NAME = "fraud_isolation_forest"


@pytest.fixture
def registry(tmp_path: Path, migrated_database: Path) -> ModelRegistry:
    data_dir = tmp_path / "a lake"  # a space, since a user's path may hold one
    (data_dir / "mlflow").mkdir(parents=True)
    shutil.copy(migrated_database, data_dir / "mlflow" / "mlflow.db")
    return registry_in(data_dir)


@pytest.fixture(scope="module")
def features() -> pd.DataFrame:
    return as_features(made_features(rows=600, seed=1))


@pytest.fixture(scope="module")
def pipeline(features: pd.DataFrame) -> Pipeline:
    return fit_pipeline(features, TrainingParameters(n_estimators=10))


@pytest.fixture(scope="module")
def other_pipeline() -> Pipeline:
    return fit_pipeline(made_features(rows=600, seed=2), TrainingParameters(n_estimators=10))


@pytest.fixture(scope="module")
def scorer(pipeline: Pipeline) -> Scorer:
    return Scorer.from_pipeline(pipeline)


def registry_in(data_dir: Path, **settings: Any) -> ModelRegistry:
    return ModelRegistry(
        source_name="simulated",
        tracking_uri=f"sqlite:///{data_dir}/mlflow/mlflow.db",
        data_dir=str(data_dir),
        **{"model_name": NAME, **settings},
    )


def trained_by(
    pipeline: Pipeline, features: pd.DataFrame, *, scorer: Scorer | None = None, threshold: float = 0.0
) -> Trained:
    return Trained(pipeline, scorer, threshold, describe_training(features, fraud_score(pipeline, features)))


def register(
    registry: ModelRegistry,
    pipeline: Pipeline,
    features: pd.DataFrame,
    *,
    tags: dict[str, str] | None = None,
    **trained: Any,
) -> str:
    """Register inside an MLflow run, as the tracked run does it."""
    registry.prepare()
    with registry.as_mlflow_default():
        mlflow.set_experiment(registry.experiment_name)
        mlflow.start_run()
        try:
            return registry.register(trained_by(pipeline, features, **trained), tags=tags or {})
        finally:
            mlflow.end_run()


def load_pyfunc(registry: ModelRegistry, version: str) -> Any:
    with registry.as_mlflow_default():
        from mlflow.pyfunc import load_model

        return load_model(f"models:/{registry.model_name}/{version}")


# --- before there is anything ---


def test_asking_a_registry_that_does_not_exist_creates_nothing(tmp_path):
    registry = registry_in(tmp_path / "nowhere")
    assert registry.prod_version() is None
    assert registry.latest_version() is None
    assert registry.versions() == {}
    assert not (tmp_path / "nowhere").exists()


def test_asking_a_registry_that_does_not_exist_does_not_import_mlflow(tmp_path):
    in_a_new_process(
        f"""
        import sys
        from fraud_assets.resources.models.registry import ModelRegistry
        from fraud_assets.resources.models.tracked_run import tracked_run

        registry = ModelRegistry(
            source_name="simulated", tracking_uri="sqlite:///{tmp_path}/no.db", model_name="m", data_dir="{tmp_path}"
        )
        assert registry.prod_version() is None
        loaded = {{"mlflow", "dagster_mlflow", "sklearn", "pandas", "numba"}} & set(sys.modules)
        assert not loaded, loaded
        """
    )


def test_an_empty_registry_has_no_prod_version_and_says_how_to_get_one(registry):
    assert registry.prod_version() is None
    assert registry.latest_version() is None
    for ask in (registry.load_pipeline, registry.scorer, registry.version_tags, registry.set_prod):
        with pytest.raises(NoModelError, match="fraud-assets run"):
            ask("1")


def test_the_experiment_keeps_its_artifacts_in_the_data_directory(registry):
    registry.prepare()
    registry.prepare()
    experiment = registry._client().get_experiment_by_name("fraud_assets")
    assert experiment.artifact_location == (Path(registry.data_dir) / "mlflow" / "artifacts").as_uri()


@full_only("three migrations of a database at once")
def test_three_processes_prepare_one_empty_database_at_once(tmp_path):
    code = f"""
        from fraud_assets.resources.models.registry import ModelRegistry

        ModelRegistry(
            source_name="simulated",
            tracking_uri="sqlite:///{tmp_path}/mlflow/mlflow.db",
            model_name="m",
            data_dir="{tmp_path}",
        ).prepare()
        """
    started = [start_python(code) for _ in range(3 if FULL else 2)]
    assert [process.wait(timeout=120) for process in started] == [0] * len(started)


# --- a registered version ---


def test_one_version_answers_in_each_flavour_with_the_same_bits(registry, pipeline, features, scorer):
    version = register(registry, pipeline, features, scorer=scorer)
    expected = fraud_score(pipeline, features)

    answer = load_pyfunc(registry, version).predict(features)
    assert list(answer.columns) == ["fraud_score", "is_anomaly"]
    assert answer["fraud_score"].to_numpy().tobytes() == expected.tobytes()
    assert answer["is_anomaly"].tolist() == (expected > 0.0).tolist()
    assert fraud_score(registry.load_pipeline(version), features).tobytes() == expected.tobytes()
    assert registry.scorer(version).score(features.to_numpy(np.float64)).tobytes() == expected.tobytes()


def test_without_a_compiled_scorer_the_pipeline_scores_with_the_same_bits(registry, pipeline, features):
    version = register(registry, pipeline, features)
    answer = load_pyfunc(registry, version).predict(features)
    assert answer["fraud_score"].to_numpy().tobytes() == fraud_score(pipeline, features).tobytes()
    scorer = registry.scorer(version)
    assert isinstance(scorer, PipelineScorer)
    assert scorer.score(features.to_numpy(np.float64)).tobytes() == fraud_score(pipeline, features).tobytes()
    assert np.isnan(scorer.percentile(np.zeros(2))).all()
    assert scorer.threshold == 0.0


def test_the_signature_is_the_contracts_and_enforced(registry, pipeline, features):
    version = register(registry, pipeline, features)
    loaded = load_pyfunc(registry, version)
    assert registry.signature_matches(version)
    signature = loaded.metadata.signature
    assert [(column.name, column.type.name) for column in signature.inputs] == [
        ("TransactionAmt", "double"),
        ("log_transaction_amount", "double"),
        ("is_high_value_txn", "integer"),
        ("is_international_txn", "integer"),
        ("txn_count_5min", "long"),
        ("avg_amount_5min", "double"),
        ("stddev_amount_5min", "double"),
        ("product_diversity_5min", "long"),
    ]
    assert [(column.name, column.type.name) for column in signature.outputs] == [
        ("fraud_score", "double"),
        ("is_anomaly", "boolean"),
    ]
    with pytest.raises(MlflowException, match="is_high_value_txn"):
        loaded.predict(features.astype({"is_high_value_txn": np.int64}))
    with pytest.raises(MlflowException, match="TransactionAmt"):
        loaded.predict(features.astype({"TransactionAmt": np.int64}))


def test_columns_in_another_order_and_further_columns_score_the_same(registry, pipeline, features, scorer):
    version = register(registry, pipeline, features, scorer=scorer)
    wider = features[features.columns[::-1]].assign(card_id="a")
    answer = load_pyfunc(registry, version).predict(wider)
    assert answer["fraud_score"].to_numpy().tobytes() == fraud_score(pipeline, features).tobytes()


def test_the_threshold_belongs_to_the_version(registry, pipeline, features):
    expected = fraud_score(pipeline, features)
    threshold = float(np.sort(expected)[540])  # a row that lies on it is no anomaly
    version = register(registry, pipeline, features, threshold=threshold)
    answer = load_pyfunc(registry, version).predict(features)
    assert answer["is_anomaly"].tolist() == (expected > threshold).tolist()


def test_two_versions_in_one_process_score_each_with_its_own_data(registry, pipeline, other_pipeline, features):
    versions = [
        register(registry, one, features, scorer=Scorer.from_pipeline(one)) for one in (pipeline, other_pipeline)
    ]
    loaded = [load_pyfunc(registry, version) for version in versions]
    for one, model, version in zip([pipeline, other_pipeline], loaded, versions, strict=True):
        expected = fraud_score(one, features).tobytes()
        assert model.predict(features)["fraud_score"].to_numpy().tobytes() == expected
        assert registry.scorer(version).score(features.to_numpy(np.float64)).tobytes() == expected


def test_two_versions_in_one_process_run_each_its_own_code(registry, pipeline, features, tmp_path, monkeypatch):
    own = register(registry, pipeline, features)
    later_release = tmp_path / "pyfunc_loader.py"
    later_release.write_text(registration._LOADER.read_text() + "\nFraudModel.release = 2\n")
    monkeypatch.setattr(registration, "_LOADER", later_release)
    later = register(registry, pipeline, features)
    releases = [getattr(load_pyfunc(registry, version)._model_impl, "release", 1) for version in (own, later, own)]
    assert releases == [1, 2, 1]


def test_the_loader_travels_under_a_name_that_carries_its_digest(registry, pipeline, features):
    version = register(registry, pipeline, features)
    with registry.as_mlflow_default():
        from mlflow.artifacts import download_artifacts

        root = Path(download_artifacts(f"models:/{NAME}/{version}"))
    (code,) = (root / "code").glob("*.py")
    assert code.stem.startswith("fraud_pyfunc_")
    assert load_pyfunc(registry, version).loader_module == code.stem
    assert "fraud_assets" not in {path.name for path in (root / "code").iterdir()}
    assert (root / "requirements.txt").read_text().split() == [
        f"{package}=={installed_version(package)}" for package in ("mlflow", "numpy", "pandas", "scikit-learn", "skops")
    ]


def test_a_model_that_scores_otherwise_than_its_pipeline_is_not_registered(
    registry, pipeline, other_pipeline, features
):
    with pytest.raises(RegistrationError, match="differently"):
        register(registry, pipeline, features, scorer=Scorer.from_pipeline(other_pipeline))
    assert registry.versions() == {}


def test_versions_carry_their_tags_and_the_run_that_made_them(registry, pipeline, features):
    first = register(registry, pipeline, features, tags={"train_start": "2026-01-01"})
    second = register(registry, pipeline, features)
    assert (first, second, registry.latest_version()) == ("1", "2", "2")
    tags = registry.version_tags("1")
    assert len(tags.pop("files_digest")) == 64
    assert tags == {"train_start": "2026-01-01", "threshold": "0.0", "feed": "simulated"}
    assert list(registry.versions()) == ["1", "2"]
    assert all(registry._client().get_model_version(NAME, version).run_id for version in registry.versions())


def test_prod_is_where_it_was_set_last_by_us_or_by_hand(registry, pipeline, features):
    for _ in range(2):
        register(registry, pipeline, features)
    assert registry.prod_version() is None
    registry.set_prod("1")
    assert registry.prod_version() == "1"
    registry._client().set_registered_model_alias(NAME, "prod", "2")
    assert registry.prod_version() == "2"
    with pytest.raises(NoModelError, match=r"has no version '7'\. Registered: 1, 2"):
        registry.set_prod("7")
    assert registry.prod_version() == "2"


# --- the compiled scorer on disk ---


def test_a_registered_scorer_needs_no_mlflow_scikit_learn_or_pandas(registry, pipeline, features, scorer):
    version = register(registry, pipeline, features, scorer=scorer)
    in_a_new_process(
        f"""
        import sys
        from fraud_assets.resources.models.registry import ModelRegistry

        registry = ModelRegistry(
            source_name="simulated",
            tracking_uri="{registry.tracking_uri}",
            model_name="{NAME}",
            data_dir="{registry.data_dir}",
        )
        registry.scorer("{version}")
        loaded = {{"mlflow", "sklearn", "pandas", "numba"}} & set(sys.modules)
        assert not loaded, loaded
        """
    )


def test_a_copy_on_this_disk_needs_no_dagster_either(registry, pipeline, features, scorer):
    version = register(registry, pipeline, features, scorer=scorer)
    in_a_new_process(
        f"""
        import sys
        from pathlib import Path
        from fraud_assets.resources.models.local_scorers import LocalScorers

        folder = Path("{registry.data_dir}") / "models"
        assert LocalScorers(folder, "mlflow/mlflow.db", "{NAME}").load("{version}") is not None
        loaded = {{"dagster", "mlflow", "sklearn", "pandas", "numba"}} & set(sys.modules)
        assert not loaded, loaded
        """
    )
    assert LocalScorers(Path(registry.data_dir) / "models", "mlflow/mlflow.db", NAME).load("2") is None
    assert LocalScorers(Path(registry.data_dir) / "models", "sqlite:////elsewhere.db", NAME).load("1") is None


def test_a_missing_scorer_is_fetched_from_the_registry(registry, pipeline, features, scorer):
    version = register(registry, pipeline, features, scorer=scorer)
    shutil.rmtree(Path(registry.data_dir) / "models")
    scores = registry.scorer(version).score(features.to_numpy(np.float64))
    assert scores.tobytes() == fraud_score(pipeline, features).tobytes()
    assert [path.name for path in (Path(registry.data_dir) / "models").iterdir() if path.is_dir()] == [version]


def test_a_scorer_left_by_a_model_of_another_name_is_not_used(registry, pipeline, other_pipeline, features, scorer):
    register(registry, pipeline, features, scorer=scorer)
    renamed = registry_in(Path(registry.data_dir), model_name="another")
    register(renamed, other_pipeline, features, scorer=Scorer.from_pipeline(other_pipeline))
    X = features.to_numpy(np.float64)  # noqa: N806  scikit-learn's name
    assert registry.scorer("1").score(X).tobytes() == fraud_score(pipeline, features).tobytes()
    assert renamed.scorer("1").score(X).tobytes() == fraud_score(other_pipeline, features).tobytes()


# --- files that are not what was registered ---


def artifacts_of(registry: ModelRegistry, version: str) -> Path:
    """Where the version's files lie: what someone who can write artifacts would change."""
    uri = registry._client().get_model_version_download_uri(NAME, version)
    return Path(urllib.request.url2pathname(urllib.parse.urlparse(uri).path))


def flip_the_last_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


FILES = [
    "MLmodel",
    "model.skops",
    "scoring.json",
    "files.json",
    "training_distribution.json",
    "requirements.txt",
    "scorer/manifest.json",
    "scorer/nodes.npy",
    "code/*.py",
]


@pytest.fixture(scope="module")
def whole_version(migrated_database, pipeline, features, scorer, tmp_path_factory) -> ModelRegistry:
    """A registry with one version that tests copy and tamper with."""
    data_dir = tmp_path_factory.mktemp("whole")
    (data_dir / "mlflow").mkdir()
    shutil.copy(migrated_database, data_dir / "mlflow" / "mlflow.db")
    registry = registry_in(data_dir)
    register(registry, pipeline, features, scorer=scorer)
    return registry


@pytest.fixture
def tampered(whole_version: ModelRegistry) -> Iterator[Path]:
    """The version's artifacts, to be changed by a test; whole again afterwards, and not on this disk as a scorer."""
    root = artifacts_of(whole_version, "1")
    kept = root.with_name("kept")
    shutil.copytree(root, kept)
    models = Path(whole_version.data_dir) / "models"
    shutil.copytree(models, models.with_name("models kept"))
    yield root
    for folder, original in ((root, kept), (models, models.with_name("models kept"))):
        shutil.rmtree(folder, ignore_errors=True)
        original.rename(folder)


def test_a_version_lists_every_file_it_is_made_of(whole_version):
    root = artifacts_of(whole_version, "1")
    listed = json.loads((root / "files.json").read_text())
    there = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert {name for name in there if "__pycache__" not in name} == {*listed, "files.json", "MLmodel"}
    assert {"model.skops", "scoring.json", "scorer/nodes.npy", "training_distribution.json"} <= set(listed)


@pytest.mark.parametrize("file", FILES)
def test_the_registry_loads_nothing_of_a_version_with_a_changed_file(whole_version, tampered, monkeypatch, file):
    (changed,) = tampered.glob(file)
    flip_the_last_byte(changed)
    shutil.rmtree(Path(whole_version.data_dir) / "models")
    monkeypatch.setattr("mlflow.sklearn.load_model", lambda *_: pytest.fail("it was loaded"))
    monkeypatch.setattr(Scorer, "load", lambda *_: pytest.fail("it was loaded"))
    for load in (
        whole_version.load_pipeline,
        whole_version.scorer,
        whole_version.signature_matches,
        whole_version.training_distribution,
        whole_version.verify,
    ):
        with pytest.raises(TamperedVersionError, match=r"not what was registered.*rollback") as refused:
            load("1")
        if file not in ("MLmodel", "files.json"):
            assert f"{changed.relative_to(tampered).as_posix()} was changed" in str(refused.value)


@pytest.mark.parametrize("file", [file for file in FILES if file not in ("MLmodel", "code/*.py")])
def test_pyfunc_loads_nothing_of_a_version_with_a_changed_file(whole_version, tampered, monkeypatch, file):
    (changed,) = tampered.glob(file)
    flip_the_last_byte(changed)
    monkeypatch.setattr("mlflow.sklearn.load_model", lambda *_: pytest.fail("it was loaded"))
    monkeypatch.setattr(Scorer, "load", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(Exception, match="nothing was loaded") as refused:
        load_pyfunc(whole_version, "1")
    assert type(refused.value).__name__ == "ChangedFilesError"


def test_pyfunc_refuses_a_loader_with_other_code_once_that_code_runs(whole_version, tampered):
    """MLflow imports the loader before it could look at itself: what is not malicious is found, the rest is not."""
    (loader,) = tampered.glob("code/*.py")
    loader.write_text(loader.read_text() + "\n# another line\n")
    sys.modules.pop(loader.stem, None)
    with pytest.raises(Exception, match=r"code/fraud_pyfunc_\w+\.py was changed.*nothing was loaded"):
        load_pyfunc(whole_version, "1")
    with pytest.raises(TamperedVersionError):
        whole_version.load_pipeline("1")


@pytest.mark.parametrize("change", ["missing", "added"])
def test_a_missing_and_an_added_file_are_found_too(whole_version, tampered, change):
    if change == "missing":
        (tampered / "scorer" / "values.npy").unlink()
    else:
        (tampered / "code" / "json.py").write_text("raise SystemExit")
    name = "scorer/values.npy" if change == "missing" else "code/json.py"
    with pytest.raises(TamperedVersionError, match=f"{name} (is missing|was added)"):
        whole_version.load_pipeline("1")
    with pytest.raises(Exception, match=f"{name} (is missing|was added)"):
        load_pyfunc(whole_version, "1")


def test_a_version_without_a_digest_is_foreign_and_not_loaded(whole_version, tampered):
    digest = whole_version.version_tags("1")["files_digest"]
    whole_version.set_version_tag("1", "files_digest", None)
    try:
        with pytest.raises(ForeignVersionError, match=r"not registered by fraud_assets.*rollback.*training_job"):
            whole_version.load_pipeline("1")
    finally:
        whole_version.set_version_tag("1", "files_digest", digest)


@pytest.mark.parametrize("file", ["nodes.npy", "manifest.json", "registered_as.json"])
def test_a_damaged_copy_of_the_scorer_on_this_disk_is_fetched_again(whole_version, tampered, pipeline, features, file):
    copy = Path(whole_version.data_dir) / "models" / "1"
    flip_the_last_byte(copy / file)
    damaged = (copy / file).read_bytes()
    scores = whole_version.scorer("1").score(features.to_numpy(np.float64))
    assert scores.tobytes() == fraud_score(pipeline, features).tobytes()
    assert (copy / file).read_bytes() != damaged


def test_a_scorer_of_other_trees_under_the_same_version_is_not_used(
    whole_version, tampered, pipeline, other_pipeline, features
):
    copy = Path(whole_version.data_dir) / "models" / "1"
    Scorer.from_pipeline(other_pipeline).save(copy)  # whole in itself, and not what was registered
    assert Scorer.load(copy)
    scores = whole_version.scorer("1").score(features.to_numpy(np.float64))
    assert scores.tobytes() == fraud_score(pipeline, features).tobytes()


def test_a_version_keeps_how_its_training_rows_were_distributed(whole_version, features):
    kept = whole_version.training_distribution("1")
    assert kept["rows"] == 600
    assert set(kept["quantiles"]) == {*features.columns, "fraud_score"}
    assert kept["quantiles"]["TransactionAmt"][-1] == features["TransactionAmt"].max()
    run_id = whole_version._client().get_model_version(NAME, "1").run_id
    assert "training_distribution.json" in [file.path for file in whole_version._client().list_artifacts(run_id)]


# --- what MLflow's pages show ---


def test_a_version_is_shown_as_registered_on_the_page_of_its_logged_model(registry, pipeline, features):
    """The tag that MLflow's own `register_model` sets: without it the page offers to register the model again."""
    for _ in range(2):
        version = register(registry, pipeline, features)
    client = registry._client()
    logged = client.get_logged_model(str(client.get_model_version(NAME, version).source).removeprefix("models:/"))
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": int(version)}]
    assert "`fraud_score`" in client.get_registered_model(NAME).description


# --- MLflow's own defaults ---


def test_the_process_keeps_its_own_mlflow_settings(registry, pipeline, features, monkeypatch, tmp_path):
    elsewhere = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", elsewhere)
    version = register(registry, pipeline, features)
    registry.load_pipeline(version)
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert os.environ["MLFLOW_REGISTRY_URI"] == elsewhere
    assert not mlflow.is_tracking_uri_set()


# --- the run that tracks a Dagster run ---


def tracked_definitions(registry: ModelRegistry, failing: str = "") -> dg.Definitions:
    def work(name: str) -> None:
        if name == failing:
            raise RuntimeError(f"{name} fails on purpose")

    @dg.asset(required_resource_keys={"mlflow"}, hooks={mark_mlflow_run_failed})
    def trained(context: dg.AssetExecutionContext) -> None:
        context.resources.mlflow.log_param("trees", 10)
        work("trained")

    @dg.asset(required_resource_keys={"mlflow"}, hooks={mark_mlflow_run_failed}, deps=[trained])
    def measured(context: dg.AssetExecutionContext) -> None:
        context.resources.mlflow.log_metric("roc_auc", 0.8)
        work("measured")

    @dg.asset(deps=[measured])
    def scored() -> None:
        if failing == "interrupted":
            raise dg.DagsterExecutionInterruptedError
        work("scored")

    return dg.Definitions(
        assets=[trained, measured, scored],
        resources={"model_registry": registry, "mlflow": tracked_run},
        jobs=[dg.define_asset_job("training_job", selection=["trained", "measured"])],
        executor=dg.in_process_executor,
    )


def mlflow_runs(registry: ModelRegistry) -> dict[str, Any]:
    """MLflow's runs by the id of the Dagster run; every one must have such an id."""
    client = registry._client()
    experiment = client.get_experiment_by_name("fraud_assets")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    by_dagster_run = {run.data.tags["dagster_run_id"]: run for run in runs}
    assert len(by_dagster_run) == len(runs)
    return by_dagster_run


def test_four_runs_in_one_process_make_four_mlflow_runs_with_the_right_status(registry):
    with dg.DagsterInstance.ephemeral() as instance:
        statuses = {}
        for failing in ("", "trained", "", "measured"):
            job = tracked_definitions(registry, failing).resolve_job_def("training_job")
            result = job.execute_in_process(instance=instance, raise_on_error=False)
            assert result.success is (failing == "")
            statuses[result.run_id] = "FAILED" if failing else "FINISHED"
    assert {run_id: run.info.status for run_id, run in mlflow_runs(registry).items()} == statuses
    assert mlflow.active_run() is None
    assert not mlflow.is_tracking_uri_set()


def test_resources_that_are_opened_after_the_run_has_ended_leave_its_mlflow_run_as_it_ended(registry):
    """As `dagster job execute` opens them, when it looks at the result."""
    job = tracked_definitions(registry, failing="measured").resolve_job_def("training_job")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, raise_on_error=False)
        run, plan = instance.get_run_by_id(result.run_id), create_execution_plan(job)
        assert run is not None
        with scoped_job_context(plan, InMemoryJob(job), {}, run, instance) as context:
            assert context.scoped_resources_builder.build({"mlflow"}).mlflow is None
    (tracked,) = mlflow_runs(registry).values()
    assert tracked.info.status == "FAILED"


def test_a_later_step_that_is_not_tracked_leaves_the_mlflow_run_finished(registry):
    definitions = tracked_definitions(registry, failing="scored")
    job = definitions.resolve_implicit_global_asset_job_def()
    assert not job.execute_in_process(raise_on_error=False).success
    (run,) = mlflow_runs(registry).values()
    assert run.info.status == "FINISHED"
    assert run.data.params == {"trees": "10"}
    assert run.data.metrics == {"roc_auc": 0.8}


def test_an_error_that_is_raised_through_the_run_leaves_the_mlflow_run_failed(registry):
    job = tracked_definitions(registry, failing="trained").resolve_job_def("training_job")
    with pytest.raises(RuntimeError, match="trained fails on purpose"):
        job.execute_in_process(raise_on_error=True)
    (run,) = mlflow_runs(registry).values()
    assert run.info.status == "FAILED"


def test_an_interrupted_run_is_killed_in_mlflow_too(registry):
    job = tracked_definitions(registry, failing="interrupted").resolve_implicit_global_asset_job_def()
    assert not job.execute_in_process(raise_on_error=False).success
    (run,) = mlflow_runs(registry).values()
    assert run.info.status == "KILLED"
    assert mlflow.active_run() is None


def test_a_run_without_tracked_assets_makes_no_mlflow_run(registry):
    registry.prepare()

    @dg.asset
    def alone() -> None: ...

    dg.materialize([alone], resources={"model_registry": registry, "mlflow": tracked_run})
    assert mlflow_runs(registry) == {}


def test_a_version_registered_in_a_tracked_run_links_to_it(tmp_path, pipeline, features):
    registry = registry_in(tmp_path, dagster_url="http://dagster.lan:3100/", mlflow_url="http://mlflow.lan/")

    @dg.asset(hooks={mark_mlflow_run_failed})
    def fraud_isolation_forest(model_registry: ModelRegistry, mlflow: dg.ResourceParam[Any]) -> str:
        mlflow.log_param("trees", 10)
        return model_registry.register(trained_by(pipeline, features), tags={})

    result = dg.materialize(
        [fraud_isolation_forest],
        resources={"model_registry": registry, "mlflow": tracked_run, "io_manager": dg.mem_io_manager},
    )
    run_id = registry._client().get_model_version(NAME, "1").run_id
    run = mlflow_runs(registry)[result.run_id]
    assert run_id == run.info.run_id
    assert f"(http://dagster.lan:3100/runs/{result.run_id})" in run.data.tags["mlflow.note.content"]
    assert str(registry.run_url(run.info)).startswith(f"http://mlflow.lan/#/experiments/{run.info.experiment_id}/runs/")


def test_dagster_mlflow_is_called_with_every_setting_it_insists_on():
    """A characterization: `env` and `extra_tags` are required though they have no use here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        from dagster_mlflow import mlflow_tracking
    config_type: Any = mlflow_tracking.config_schema.config_type
    assert {"experiment_name", "mlflow_tracking_uri", "env", "extra_tags"} <= set(config_type.fields)


def start_python(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)])


def in_a_new_process(code: str) -> None:
    assert start_python(code).wait(timeout=120) == 0
