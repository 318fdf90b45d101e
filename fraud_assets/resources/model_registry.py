"""The only module that imports MLflow: versions, the `@prod` alias, and the run that tracks a training.

Belongs here: everything said to MLflow, and the export of a version's compiled scorer to the data directory.
Does not belong here: whether to promote (`model.promotion`), what to train on, any table. MLflow and
dagster_mlflow take seconds to import, so they are imported inside functions, and scoring needs neither.
"""

import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version as installed_version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
from filelock import FileLock

from fraud_assets.errors import FraudAssetsError
from fraud_assets.gold.predictions import RowScorer
from fraud_assets.resources.pyfunc_loader import FILES, changed_files, file_digests, write_file_list
from fraud_assets.silver.contract import FEATURES, as_features

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import RunInfo
    from mlflow.models import ModelSignature
    from sklearn.pipeline import Pipeline

    from fraud_assets.model.scorer import Scorer

FEED_TAG: Final = "feed"
"""Tag of a version: the name of the source that it was trained on."""

RUN_TAG: Final = "dagster_run_id"
"""Tag of a version: the Dagster run that registered it."""

MLFLOW_RUN_TAG: Final = "fraud_assets/mlflow_run_id"
"""Tag of a Dagster run: the MLflow run that tracks it."""

SILVER_DATA_TAG: Final = "silver_data_version"
"""Tag of a version: digest of all Silver partitions when it was trained."""

FILES_TAG: Final = "files_digest"
"""Tag of a version: digest over all its files, checked before any of them is loaded."""

PROD_ALIAS: Final = "prod"
"""The alias whose version scores; MLflow shows it as `@prod`."""

SKOPS_TRUSTED_TYPES: Final = ["sklearn.tree._tree.Tree"]
"""The one type inside an IsolationForest that skops does not trust by itself."""

SERVED_PACKAGES: Final = ("mlflow", "numpy", "pandas", "scikit-learn", "skops")
"""What a version needs to be loaded and served; named, since inferring it takes MLflow a quarter of a minute."""

_MLFLOW_TYPES: Final = {"double": "double", "int": "integer", "long": "long"}
_MISSING: Final = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_PARAMETER_VALUE")


class RegistryError(FraudAssetsError):
    """MLflow cannot be reached, or answers with an error; the message names the address."""


class AnotherFeedError(RegistryError):
    """The registry holds a model of that name which was trained on another feed."""


class NoModelError(FraudAssetsError):
    """The registry holds no such model version."""


class RegistrationError(RuntimeError):
    """A logged model does not do what its version would promise, so it was not registered."""


class TamperedVersionError(RegistryError):
    """The files of a version are not those that were registered; nothing of it was loaded."""


@dataclass(frozen=True)
class RegisteredVersion:
    """One version in the registry."""

    version: str
    run_id: str | None
    tags: Mapping[str, str]


class ModelRegistry(dg.ConfigurableResource):
    """The registered versions of one model, the alias `@prod`, and their compiled scorers on disk."""

    tracking_uri: str
    registry_uri: str | None = None
    model_name: str
    experiment_name: str = "fraud_assets"
    data_dir: str
    feed: str

    def prepare(self) -> None:
        """Make sure that the database and the experiment exist; safe to call from several processes at once."""
        client = self._client()
        if client.get_experiment_by_name(self.experiment_name) is not None:
            return
        with _already_there_is_fine():
            client.create_experiment(self.experiment_name, artifact_location=self._artifact_location())

    def prod_version(self) -> str | None:
        """Return the version behind `@prod`, whoever set it, or None.

        Raises:
            AnotherFeedError: When that version was trained on another feed.
            RegistryError: When MLflow does not answer.
        """
        if self._nothing_yet():
            return None
        from mlflow.exceptions import MlflowException

        try:
            found = self._client().get_model_version_by_alias(self.model_name, PROD_ALIAS)
        except MlflowException as error:
            if error.error_code not in _MISSING:
                raise self._no_answer(error) from error
            return None
        trained_on = found.tags.get(FEED_TAG, self.feed)
        if trained_on != self.feed:
            raise AnotherFeedError(
                f"Version {found.version} of {self.model_name} in {self.tracking_uri} was trained on the feed "
                f"{trained_on}, and this feed is {self.feed}. Unset MLFLOW_TRACKING_URI, or set FRAUD_MODEL_NAME."
            )
        return str(found.version)

    def versions(self) -> list[RegisteredVersion]:
        """Return every registered version, oldest first; empty when there is none.

        Raises:
            RegistryError: When MLflow does not answer.
        """
        if self._nothing_yet():
            return []
        from mlflow.exceptions import MlflowException

        try:
            found = self._client().search_model_versions(f"name = '{self.model_name}'", max_results=10_000)
        except MlflowException as error:
            raise self._no_answer(error) from error
        return sorted(
            (RegisteredVersion(str(one.version), one.run_id, dict(one.tags)) for one in found),
            key=lambda one: int(one.version),
        )

    def latest_version(self, *, of_run: str | None = None) -> str | None:
        """Return the version registered last, or None; the one that a Dagster run registered, where it did."""
        versions = self.versions()
        of_this_run = [one for one in versions if of_run is not None and one.tags.get(RUN_TAG) == of_run]
        found = of_this_run or versions
        return found[-1].version if found else None

    def _no_answer(self, error: Exception) -> "RegistryError":
        first_line = str(error).splitlines()[0]
        return RegistryError(
            f"MLflow at {self.registry_uri or self.tracking_uri} does not answer as it should: {first_line}"
        )

    def set_prod(self, version: str) -> None:
        """Point `@prod` at the version, in one step.

        Raises:
            NoModelError: When there is no such version.
        """
        self._existing(version)
        self._client().set_registered_model_alias(self.model_name, PROD_ALIAS, version)

    def version_tags(self, version: str) -> dict[str, str]:
        """Return the version's tags."""
        return dict(self._existing(version).tags)

    def set_version_tag(self, version: str, name: str, value: str) -> None:
        """Say something of the version, in one step.

        Raises:
            NoModelError: When there is no such version.
        """
        self._existing(version)
        self._client().set_model_version_tag(self.model_name, version, name, value)

    def delete_version_tag(self, version: str, name: str) -> None:
        """Take back what was said, in one step; a tag that is not there is fine."""
        if name in self.version_tags(version):
            self._client().delete_model_version_tag(self.model_name, version, name)

    def log_training_data(self, *, name: str, location: str, version: int | None, digest: str) -> None:
        """Make a table's version an input of the active MLflow run: its name, where it lies and a digest, no rows."""
        with self.as_mlflow_default():
            import mlflow
            from mlflow.data.delta_dataset_source import DeltaDatasetSource
            from mlflow.data.meta_dataset import MetaDataset

            source = DeltaDatasetSource(path=location, delta_table_version=version)
            mlflow.log_input(MetaDataset(source, name=name, digest=digest), context="training")

    def run_url(self, run: "RunInfo") -> str | None:
        """Return where MLflow's UI shows the run, or None where no server is known that would show it."""
        if not self.tracking_uri.startswith("http"):
            return None
        return f"{self.tracking_uri.rstrip('/')}/#/experiments/{run.experiment_id}/runs/{run.run_id}"

    def register(
        self,
        pipeline: "Pipeline",
        *,
        scorer: "Scorer | None",
        input_example: "pd.DataFrame",
        tags: Mapping[str, str],
        threshold: float = 0.0,
        training_distribution: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the new version of a model that was logged to the active MLflow run, and seen to work.

        Before it is registered, the logged model is loaded as pyfunc: its signature is the contract's, and its
        answer on the example equals `-pipeline.decision_function`, bit for bit, with the compiled scorer too.

        Args:
            pipeline: Scaler and forest, fitted.
            scorer: The compiled scorer; None to score by the pipeline.
            input_example: A few rows of the eight features.
            tags: What is said of the version in the registry.
            threshold: A row whose score lies above it is an anomaly.
            training_distribution: Of features and score, as `training.describe_training` makes it.

        Raises:
            RegistrationError: When the logged model does not pass; nothing is registered then.
        """
        example = as_features(input_example)
        with self.as_mlflow_default(), tempfile.TemporaryDirectory() as scratch:
            import mlflow
            from mlflow.models import Model
            from mlflow.pyfunc import load_model

            if training_distribution is not None:
                mlflow.log_dict(dict(training_distribution), _DISTRIBUTION_FILE)
            logged = Model.log(
                artifact_path=None,
                name="model",
                flavor=SimpleNamespace(save_model=_save_flavours),
                flavor_name="sklearn",
                validate_serving_input=False,
                pipeline=pipeline,
                loader=_loader_copy(Path(scratch)),
                scorer=scorer,
                threshold=threshold,
                training_distribution=training_distribution,
                input_example=example,
            )
            score = -pipeline.decision_function(example)
            folder = _download(logged.model_uri, Path(scratch) / "logged")
            files_digest = _digest(file_digests(folder))
            loaded = load_model(str(folder))
            if loaded.metadata.signature != contract_signature():
                raise RegistrationError(f"Logged with another signature: {loaded.metadata.signature}.")
            answer = loaded.predict(example)
            if not (answer["fraud_score"] == score).all() or not (answer["is_anomaly"] == (score > threshold)).all():
                raise RegistrationError("The logged model and the fitted pipeline score the input example differently.")
            client = self._client()
            with _already_there_is_fine():
                client.create_registered_model(self.model_name)
            registered = client.create_model_version(
                self.model_name,
                logged.model_uri,
                logged.run_id,
                tags={**tags, _THRESHOLD_TAG: repr(threshold), FEED_TAG: self.feed, FILES_TAG: files_digest},
                model_id=logged.model_id,
            )
            version = str(registered.version)
            if scorer is not None:
                self._export(folder / "scorer", version)
        return version

    def load_pipeline(self, version: str) -> "Pipeline":
        """Return the fitted pipeline of the version.

        Raises:
            NoModelError: When there is no such version.
            TamperedVersionError: When its files are not those that were registered.
        """
        with self._verified(version) as folder:
            from mlflow.sklearn import load_model

            pipeline: Any = load_model(str(folder))
        return pipeline

    def verify(self, version: str) -> None:
        """Return where the version's files are those that were registered.

        Raises:
            NoModelError: When there is no such version.
            TamperedVersionError: When they are not.
        """
        with self._verified(version):
            pass

    def training_distribution(self, version: str) -> dict[str, Any]:
        """Return the distribution of features and score over the rows that trained the version.

        Raises:
            NoModelError: When there is no such version, or it does not keep one.
            TamperedVersionError: When its files are not those that were registered.
        """
        with self._verified(version) as folder:
            file = folder / _DISTRIBUTION_FILE
            if not file.exists():
                raise NoModelError(f"Version {version} of {self.model_name} keeps no {_DISTRIBUTION_FILE}: train anew.")
            return json.loads(file.read_text())

    def signature_matches(self, version: str) -> bool:
        """Return whether the version's signature is exactly the contract's.

        Raises:
            NoModelError: When there is no such version.
            TamperedVersionError: When its files are not those that were registered.
        """
        with self._verified(version) as folder:
            from mlflow.models import Model

            return Model.load(str(folder)).signature == contract_signature()

    def scorer(self, version: str) -> RowScorer:
        """Return what scores as the version does: its compiled scorer, without MLflow once that is on this disk.

        A version that was registered without a compiled scorer is scored by its pipeline: the same bits, slower.

        So is one whose compiled scorer is of another scikit-learn. A copy on this disk that is not, file by file, what
        was put there for this version is fetched again.

        Raises:
            NoModelError: When there is no such version.
            TamperedVersionError: When the registry's files are not those that were registered.
        """
        from fraud_assets.model.scorer import Scorer, ScorerArtifactError

        folder = self._scorer_folder(version)
        for fetch in (False, True) if self._is_exported(version) else (True,):
            if fetch and not self._download_scorer(version):
                break
            with suppress(ScorerArtifactError):
                return Scorer.load(folder)
        from fraud_assets.model.training import PipelineScorer

        _LOG.warning(
            "Version %s scores through scikit-learn: it has no compiled scorer that can be used here.", version
        )
        return PipelineScorer(self.load_pipeline(version), threshold=float(self.version_tags(version)[_THRESHOLD_TAG]))

    def _download_scorer(self, version: str) -> bool:
        """Export the version's compiled scorer to this disk; False where it was registered without one."""
        with self._verified(version) as folder:
            if not (folder / "scorer").is_dir():
                return False
            self._export(folder / "scorer", version)
            return True

    @contextmanager
    def _verified(self, version: str) -> Iterator[Path]:
        """Give a copy of the version's files, compared with what was registered; MLflow's defaults are ours meanwhile.

        The digest is a tag in the registry's database, so that whoever can write artifacts alone is found out.
        """
        registered = self._existing(version).tags.get(FILES_TAG)
        with self.as_mlflow_default(), tempfile.TemporaryDirectory() as scratch:
            folder = _download(self._uri(version), Path(scratch))
            if registered is None:
                raise TamperedVersionError(
                    f"Version {version} of {self.model_name} was registered without a digest of its files, so nothing "
                    "of it was loaded. Train anew (`dagster job execute -m fraud_assets.definitions -j training_job`), "
                    "then `fraud-assets promote` the new version."
                )
            if _digest(file_digests(folder)) != registered:
                changed = "; ".join(changed_files(folder)) or f"MLmodel or {FILES} was changed"
                raise TamperedVersionError(
                    f"Version {version} of {self.model_name} in {self.registry_uri or self.tracking_uri} is not what "
                    f"was registered ({changed}), so nothing of it was loaded. Put its artifacts back from a copy; "
                    "else `fraud-assets rollback`, or train anew and `fraud-assets promote` the new version."
                )
            yield folder

    def _export(self, scorer_folder: Path, version: str) -> None:
        """Put a copy where scoring looks for it: whole or not at all, over whatever was there."""
        target = self._scorer_folder(version)
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            FileLock(target.parent / ".lock"),
            tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as scratch,
        ):
            copy = shutil.copytree(scorer_folder, Path(scratch) / "new")
            (copy / _ORIGIN_FILE).write_text(json.dumps(self._origin_of(version, copy)))
            if target.exists():
                target.rename(Path(scratch) / "old")
            copy.rename(target)

    def _uri(self, version: str) -> str:
        return f"models:/{self.model_name}/{version}"

    def _scorer_folder(self, version: str) -> Path:
        return Path(self.data_dir) / "models" / version

    def _is_exported(self, version: str) -> bool:
        """Whether this disk holds what was exported for the version: a folder of other trees or names is not used.

        What this cannot see is a folder of other trees together with an origin that was forged for it: the registry
        alone knows better, and asking it would cost MLflow's import. Who can write there can write tables, too.
        """
        folder = self._scorer_folder(version)
        try:
            return json.loads((folder / _ORIGIN_FILE).read_text()) == self._origin_of(version, folder)
        except (OSError, ValueError):
            return False

    def _origin_of(self, version: str, folder: Path) -> dict[str, str]:
        files = file_digests(folder)
        files.pop(_ORIGIN_FILE, None)
        return {
            "registry": self.registry_uri or self.tracking_uri,
            "model_name": self.model_name,
            "version": version,
            "files_digest": _digest(files),
        }

    def _existing(self, version: str) -> RegisteredVersion:
        for one in self.versions():
            if one.version == version:
                return one
        known = ", ".join(one.version for one in self.versions()) or "none; `fraud-assets run` trains the first"
        raise NoModelError(f"{self.model_name} has no version {version!r}. Registered: {known}.")

    def _nothing_yet(self) -> bool:
        """Whether the database is a file that does not exist: asking MLflow would create it."""
        file = _sqlite_file(self.registry_uri or self.tracking_uri)
        return file is not None and not file.exists()

    def _artifact_location(self) -> str | None:
        """An absolute folder for a local database; a server decides by itself."""
        if _sqlite_file(self.tracking_uri) is None:
            return None
        return (Path(self.data_dir).absolute() / "mlflow" / "artifacts").as_uri()

    def _client(self) -> "MlflowClient":
        return _client(self.tracking_uri, self.registry_uri)

    @contextmanager
    def as_mlflow_default(self) -> Iterator[None]:
        """Make these URIs MLflow's own while the block runs: logging and loading know no other way.

        MLflow exports its defaults to the environment, where the next reader of the settings would find them.
        """
        with _without_library_noise():
            import mlflow.pyfunc
            import mlflow.sklearn

        names = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
        exported = {name: os.environ.get(name) for name in names}
        tracking_uri = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
        mlflow.set_tracking_uri(self.tracking_uri)
        if self.registry_uri:
            mlflow.set_registry_uri(self.registry_uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(tracking_uri)  # pyright: ignore[reportArgumentType] None unsets it
            if self.registry_uri:
                mlflow.set_registry_uri(exported["MLFLOW_REGISTRY_URI"] or "")
            for name, value in exported.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


_LIBRARY_NOISE: Final = (
    "The ``noload`` loader strategy is deprecated",  # MLflow's table mapping, on SQLAlchemy 2.1
    ".*Any type hint is inferred as AnyType",  # MLflow's own agent types, read when pyfunc is imported
    ".*`(mlflow_tracking|MlFlow|_create_mlflow_run_hook)` is currently in beta",  # all of dagster_mlflow
    "InitResourceContext.(dagster_run|run_id) is deprecated",  # dagster_mlflow, and Dagster's own replace_config
)
"""What the libraries warn of between themselves; nobody who runs fraud_assets could do anything about it."""


@contextmanager
def _without_library_noise() -> Iterator[None]:
    with warnings.catch_warnings():
        for message in _LIBRARY_NOISE:
            warnings.filterwarnings("ignore", message)
        yield


_LOG: Final = logging.getLogger(__name__)
_LOADER: Final = Path(__file__).with_name("pyfunc_loader.py")
_ORIGIN_FILE: Final = "registered_as.json"
_DISTRIBUTION_FILE: Final = "training_distribution.json"
_THRESHOLD_TAG: Final = "threshold"


def _download(uri: str, destination: Path) -> Path:
    """Copy a version's files to a folder of our own, without what Python may have cached beside its code."""
    from mlflow.artifacts import download_artifacts

    destination.mkdir(exist_ok=True)
    folder = Path(download_artifacts(artifact_uri=uri, dst_path=str(destination)))
    for cached in list(folder.rglob("__pycache__")):
        shutil.rmtree(cached)
    return folder


def _digest(files: Mapping[str, str]) -> str:
    """Return one digest of many; MLflow's note of the version that was downloaded is none of its files."""
    lines = (f"{digest} {name}\n" for name, digest in sorted(files.items()) if name != "registered_model_meta")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def library_versions() -> dict[str, str]:
    """Return the installed versions of what decides a training's result and its files."""
    packages = ("scikit-learn", "numpy", "mlflow", "fraud_assets")
    return {f"{package.replace('-', '_')}_version": installed_version(package) for package in packages}


@contextmanager
def _already_there_is_fine() -> Iterator[None]:
    """Let another process have been first."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
            raise


def _sqlite_file(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


@cache
def _client(tracking_uri: str, registry_uri: str | None) -> "MlflowClient":
    """Return one client per process; a sqlite file gets its schema here, by one process at a time."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    for name in ("mlflow.store", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    file = _sqlite_file(tracking_uri)
    if file is None:
        return MlflowClient(tracking_uri=tracking_uri, registry_uri=registry_uri)
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"), _without_library_noise():
        client = MlflowClient(tracking_uri=tracking_uri, registry_uri=registry_uri)
        client.search_registered_models(max_results=1)
        return client


@cache
def contract_signature() -> "ModelSignature":
    """Return the contract as an MLflow signature: the eight features in order, then score and decision."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    return ModelSignature(
        inputs=Schema([ColSpec(_MLFLOW_TYPES[feature.type], feature.name) for feature in FEATURES]),
        outputs=Schema([ColSpec("double", "fraud_score"), ColSpec("boolean", "is_anomaly")]),
    )


def _loader_copy(folder: Path) -> Path:
    """Return a copy of the pyfunc loader whose module name carries its digest.

    Python keeps modules by name: under one name, the second version loaded in a process would run the first's code.
    """
    source = _LOADER.read_bytes()
    copy = folder / f"fraud_pyfunc_{hashlib.sha256(source).hexdigest()[:12]}.py"
    copy.write_bytes(source)
    return copy


def _save_flavours(
    *,
    path: str,
    mlflow_model: Any,
    pipeline: "Pipeline",
    loader: Path,
    scorer: "Scorer | None",
    threshold: float,
    training_distribution: Mapping[str, Any] | None,
    input_example: "pd.DataFrame",
    validate_serving_input: bool,
) -> None:
    """Save the model as scikit-learn does, then let pyfunc answer by our loader; `Model.log` calls this."""
    from mlflow.sklearn import SERIALIZATION_FORMAT_SKOPS, save_model

    del validate_serving_input  # meant for `Model.log`, which passes everything on
    save_model(
        pipeline,
        path,
        mlflow_model=mlflow_model,
        code_paths=[str(loader)],
        serialization_format=SERIALIZATION_FORMAT_SKOPS,
        skops_trusted_types=SKOPS_TRUSTED_TYPES,
        signature=contract_signature(),
        input_example=input_example,
        pip_requirements=[f"{package}=={installed_version(package)}" for package in SERVED_PACKAGES],
    )
    root = Path(path)
    (root / "scoring.json").write_text(json.dumps({"threshold": threshold}))
    if training_distribution is not None:
        (root / _DISTRIBUTION_FILE).write_text(json.dumps(training_distribution, indent=2) + "\n")
    if scorer is not None:
        scorer.save(root / "scorer")
    pyfunc = mlflow_model.flavors["python_function"]
    for sklearn_only in ("model_path", "predict_fn"):
        del pyfunc[sklearn_only]
    pyfunc["loader_module"] = loader.stem
    mlflow_model.save(str(root / "MLmodel"))
    write_file_list(root)


@dg.resource(
    required_resource_keys={"model_registry"},
    description="The MLflow run that tracks this Dagster run, opened by dagster_mlflow.",
)
def tracked_run(init_context: dg.InitResourceContext) -> Iterator[Any]:
    """Yield dagster_mlflow's resource for one Dagster run, and close the MLflow run with the status it earned.

    FAILED when a tracked step failed (`mark_mlflow_run_failed` says so) or an exception is on its way,
    KILLED when the run was interrupted, else FINISHED. Steps must run in one process.
    """
    registry: ModelRegistry = init_context.resources.model_registry
    registry.prepare()
    import mlflow

    config = {
        "experiment_name": registry.experiment_name,
        "mlflow_tracking_uri": registry.tracking_uri,
        "env": {},
        "extra_tags": {},
    }
    with registry.as_mlflow_default():
        with _without_library_noise():
            from dagster_mlflow import mlflow_tracking

            open_run: Any = mlflow_tracking.resource_fn
            tracking = open_run(init_context.replace_config(config))
            run = next(tracking)
        run.failed_steps = []
        opened, instance = mlflow.active_run(), init_context.instance
        if opened is not None and instance is not None:
            # dagster_mlflow says in MLflow which Dagster run it was; this is the reverse.
            instance.add_run_tags(run.dagster_run_id, {MLFLOW_RUN_TAG: opened.info.run_id})
        try:
            yield run
        finally:
            error = sys.exc_info()[1]
            if isinstance(error, KeyboardInterrupt | dg.DagsterExecutionInterruptedError):
                status = "KILLED"
            else:
                status = "FAILED" if error or run.failed_steps else "FINISHED"
            mlflow.end_run(status)
            tracking.close()


@dg.failure_hook(required_resource_keys={"mlflow"})
def mark_mlflow_run_failed(context: dg.HookContext) -> None:
    """Remember that a tracked step failed; attach it to every asset that requires `mlflow`."""
    context.resources.mlflow.failed_steps.append(context.step_key)
