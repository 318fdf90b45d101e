"""The registered versions of one model: their tags, the alias `@prod`, and what is loaded of them.

Belongs here: the one Dagster resource that assets use. Does not belong here: whether to promote (`model.promotion`) and
the record of it (`promotions`), what to train on, any table.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, TypeVar

import dagster as dg

from fraud_assets.errors import FraudAssetsError
from fraud_assets.gold.predictions import RowScorer
from fraud_assets.model.ranker import Ranker
from fraud_assets.resources.models.local_scorers import LocalScorers
from fraud_assets.resources.models.mlflow_process import another_was_first, client, mlflow_default, sqlite_file
from fraud_assets.resources.models.own_store import (
    StoreError,
    artifacts_uri,
    follow_move,
    is_own_store,
    local_path,
    refuse_another_store,
)
from fraud_assets.resources.models.registration import (
    DISTRIBUTION_FILE,
    MODEL_DESCRIPTION,
    RANKER_DESCRIPTION,
    SCORER_FOLDER,
    contract_signature,
    log_model,
    log_ranker,
    ranker_signature,
)
from fraud_assets.resources.models.version_files import download, files_digest, verify_files
from fraud_assets.resources.tables import PROMOTIONS, RANKER_PROMOTIONS, Table
from fraud_assets.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import RunInfo
    from mlflow.models.model import ModelInfo
    from sklearn.pipeline import Pipeline

    from fraud_assets.model.ranker_training import TrainedRanker
    from fraud_assets.model.training import Trained

FEED_TAG: Final = "feed"
"""Tag of a version: the name of the source that it was trained on."""

RUN_TAG: Final = "dagster_run_id"
"""Tag of a version: the Dagster run that registered it."""

SILVER_DATA_TAG: Final = "silver_data_version"
"""Tag of a version: digest of all Silver partitions as its training read them."""

FILES_TAG: Final = "files_digest"
"""Tag of a version: digest over all its files, checked before any of them is loaded."""

THRESHOLD_TAG: Final = "threshold"
"""Tag of a version: a row whose score lies above it is an anomaly."""

PROD_ALIAS: Final = "prod"
"""The alias whose version scores; MLflow shows it as `@prod`."""

_DESCRIPTION_LENGTH: Final = 5_000
"""Characters of a description that every database of MLflow keeps."""

_MISSING: Final = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_PARAMETER_VALUE")
_Answer = TypeVar("_Answer")
_LOG: Final = logging.getLogger(__name__)


class RegistryError(FraudAssetsError):
    """MLflow cannot be reached, or answers with an error; the message names the address."""


class AnotherFeedError(RegistryError):
    """The registry holds a model of that name which was trained on another feed."""


class ForeignVersionError(RegistryError):
    """Somebody else registered the version, so that nobody can say what it is; nothing of it was loaded."""


class NoModelError(FraudAssetsError):
    """The registry holds no such model version."""


class ModelRegistry(dg.ConfigurableResource):
    """The registered versions of one model, and the alias `@prod`.

    A version that does not exist raises NoModelError, and a store that does not answer RegistryError. Whatever loads
    files of a version refuses one that was registered elsewhere (ForeignVersionError), and compares the files with what
    was registered (TamperedVersionError).
    """

    tracking_uri: str
    registry_uri: str | None = None
    model_name: str
    experiment_name: str = "fraud_assets"
    data_dir: str
    source_name: str
    is_ranker: bool = False
    dagster_url: str = Settings.model_fields["dagster_url"].default
    mlflow_url: str = Settings.model_fields["mlflow_url"].default

    # Versions, their tags, and the alias

    def prepare(self) -> None:
        """Make sure that the database and the experiment exist; safe to call from several processes at once."""
        local = sqlite_file(self.tracking_uri) is not None
        ours = artifacts_uri(Path(self.data_dir)) if local else None  # a server decides by itself
        found = self._client().get_experiment_by_name(self.experiment_name)
        if found is None:
            with another_was_first():
                self._client().create_experiment(self.experiment_name, artifact_location=ours)
        elif local and found.artifact_location != ours:
            self._require_there(f"The experiment {self.experiment_name}", found.artifact_location)

    def prod_version(self) -> str | None:
        """Return the version behind `@prod`, whoever set it, or None; AnotherFeedError for one of another feed."""
        found = self._ask(lambda client: client.get_model_version_by_alias(self.model_name, PROD_ALIAS))
        if found is None:
            return None
        trained_on = found.tags.get(FEED_TAG, self.source_name)
        if trained_on != self.source_name:
            raise AnotherFeedError(
                f"Version {found.version} of {self.model_name} in {self.tracking_uri} was trained on the feed "
                f"{trained_on}, and this feed is {self.source_name}. `unset MLFLOW_TRACKING_URI`, or set "
                "FRAUD_MODEL_NAME."
            )
        return str(found.version)

    def versions(self) -> dict[str, dict[str, str]]:
        """Return the tags of every registered version, oldest first; empty when there is none."""
        named = f"name = '{self.model_name}'"
        found = self._ask(lambda client: client.search_model_versions(named, max_results=10_000)) or ()
        return {str(one.version): dict(one.tags) for one in sorted(found, key=lambda one: int(one.version))}

    def latest_version(self, *, of_run: str | None = None) -> str | None:
        """Return the version registered last, or None; the one that a Dagster run registered, where it did."""
        versions = self.versions()
        of_this_run = [version for version, tags in versions.items() if of_run and tags.get(RUN_TAG) == of_run]
        return next(reversed(of_this_run or [*versions]), None)

    def version_tags(self, version: str) -> dict[str, str]:
        """Return the version's tags."""
        versions = self.versions()
        if version not in versions:
            known = ", ".join(versions) or "none; `fraud-assets run` trains the first"
            raise NoModelError(f"{self.model_name} has no version {version!r}. Registered: {known}.")
        return versions[version]

    def problem_with(self, version: str) -> str:
        """Return why nothing of the version may be loaded, by its tags alone; empty where nothing speaks against it."""
        if FILES_TAG in self.version_tags(version):
            return ""
        return (
            f"Version {version} of {self.model_name} was not registered by fraud_assets (no tag {FILES_TAG}): it "
            "is neither scored with nor promoted. `fraud-assets rollback` puts the version before it behind @prod; or "
            "train anew (`dagster job execute -m fraud_assets.definitions -j training_job`) and `fraud-assets promote` "
            "the new version."
        )

    def set_prod(self, version: str) -> None:
        """Point `@prod` at the version, in one step."""
        self.version_tags(version)
        self._client().set_registered_model_alias(self.model_name, PROD_ALIAS, version)

    def remove_prod(self) -> None:
        """Leave no version behind `@prod`, in one step."""
        self._client().delete_registered_model_alias(self.model_name, PROD_ALIAS)

    def set_version_tag(self, version: str, name: str, value: str | None) -> None:
        """Say something of the version, or take it back, in one step."""
        if value is None:
            self._client().delete_model_version_tag(self.model_name, version, name)
        else:
            self._client().set_model_version_tag(self.model_name, version, name, value)

    def append_to_description(self, version: str, text: str) -> None:
        """Add a paragraph to the version's description, where it is not there yet; a full one loses its oldest."""
        described = self._client().get_model_version(self.model_name, version).description
        paragraphs = [*(described.split("\n\n") if described else ()), text]
        while sum(len(one) + 2 for one in paragraphs) > _DESCRIPTION_LENGTH and len(paragraphs) > 2:
            del paragraphs[1]
        if text not in paragraphs[:-1]:
            self._client().update_model_version(self.model_name, version, "\n\n".join(paragraphs))

    def register(self, trained: "Trained", *, tags: Mapping[str, str]) -> str:
        """Return the new version of a model that was logged to the active MLflow run, and seen to work: see there."""
        with self.as_mlflow_default(), TemporaryDirectory() as scratch:
            logged, folder = log_model(trained, Path(scratch))
            return self._register(logged, folder, MODEL_DESCRIPTION, {**tags, THRESHOLD_TAG: repr(trained.threshold)})

    def register_ranker(self, trained: "TrainedRanker", *, tags: Mapping[str, str]) -> str:
        """Return the new version of a ranker that was logged to the active MLflow run, and seen to work: see there."""
        with self.as_mlflow_default(), TemporaryDirectory() as scratch:
            logged, folder = log_ranker(trained, Path(scratch))
            return self._register(logged, folder, RANKER_DESCRIPTION, tags)

    def _register(self, logged: "ModelInfo", folder: Path, description: str, tags: Mapping[str, str]) -> str:
        """Make the registry's entry of a logged model, and a local copy of its compiled form."""
        said = {**tags, FEED_TAG: self.source_name, FILES_TAG: files_digest(folder)}
        with another_was_first():
            self._client().create_registered_model(self.model_name, description=description)
        registered = self._client().create_model_version(
            self.model_name, logged.model_uri, logged.run_id, tags=said, model_id=logged.model_id
        )
        version = str(registered.version)
        # As MLflow's own `register_model` does, so that the page of the logged model shows its version.
        named = json.dumps([{"name": self.model_name, "version": registered.version}])
        self._client().set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": named})
        if (folder / SCORER_FOLDER).is_dir():
            self.local_scorers.put(version, folder / SCORER_FOLDER)
        return version

    # What a version is made of

    def verify(self, version: str) -> None:
        """Return where the version's files are those that were registered."""
        with self._verified(version):
            pass

    def load_pipeline(self, version: str) -> "Pipeline":
        """Return the fitted pipeline of the version."""
        with self._verified(version) as folder:
            from mlflow.sklearn import load_model

            pipeline: Any = load_model(str(folder))
        return pipeline

    def training_distribution(self, version: str) -> dict[str, Any]:
        """Return the distribution of features and score over the rows that trained the version."""
        with self._verified(version) as folder:
            return json.loads((folder / DISTRIBUTION_FILE).read_text())

    def signature_matches(self, version: str) -> bool:
        """Return whether the version's signature is exactly the contract's."""
        with self._verified(version) as folder:
            from mlflow.models import Model

            return Model.load(str(folder)).signature == (ranker_signature() if self.is_ranker else contract_signature())

    def scorer(self, version: str) -> RowScorer:
        """Return what scores as the version does: its compiled scorer, without MLflow once that is on this disk.

        A version without a compiled scorer, or with one of another scikit-learn, is scored by its pipeline: the same
        bits, slower. A copy on this disk that is not what was put there for this version is fetched again.
        """
        local = self.local_scorers
        if (scorer := local.load(version)) is not None:
            return scorer
        with self._verified(version) as folder:
            if (folder / SCORER_FOLDER).is_dir():
                local.put(version, folder / SCORER_FOLDER)
                if (scorer := local.load(version)) is not None:
                    return scorer
            from mlflow.sklearn import load_model

            from fraud_assets.model.training import PipelineScorer

            _LOG.warning("Version %s scores through scikit-learn: no compiled scorer can be used here.", version)
            pipeline: Any = load_model(str(folder))
            return PipelineScorer(pipeline, threshold=float(self.version_tags(version)[THRESHOLD_TAG]))

    def ranker(self, version: str) -> Ranker:
        """Return the compiled ranker of the version, without MLflow once that is on this disk."""
        if (ranker := self.local_scorers.load_ranker(version)) is not None:
            return ranker
        with self._verified(version) as folder:
            self.local_scorers.put(version, folder / SCORER_FOLDER)
            return Ranker.load(folder / SCORER_FOLDER)

    # The run that is tracked

    def run_url(self, run: "RunInfo") -> str | None:
        """Return where MLflow's UI shows the run, `mlflow_url` for a local store; None where none is known."""
        server = (self.mlflow_url if sqlite_file(self.tracking_uri) is not None else self.tracking_uri).rstrip("/")
        page = f"{server}/#/experiments/{run.experiment_id}/runs/{run.run_id}?workflowType=machine_learning"
        return page if server.startswith("http") else None

    def as_mlflow_default(self) -> AbstractContextManager[None]:
        """Make this store the one that MLflow logs to and loads from while the block runs."""
        self._look_after_store()
        return mlflow_default(self.tracking_uri, self.registry_uri)

    @contextmanager
    def _verified(self, version: str) -> Iterator[Path]:
        """Give a verified copy of the version's files; MLflow's defaults are ours meanwhile."""
        if problem := self.problem_with(version):
            raise ForeignVersionError(problem)
        registered_digest = self.version_tags(version)[FILES_TAG]
        if sqlite_file(self._address) is not None:
            location = self._client().get_model_version_download_uri(self.model_name, version)
            self._require_there(f"Version {version} of {self.model_name}", location)
        with self.as_mlflow_default(), TemporaryDirectory() as scratch:
            folder = download(f"models:/{self.model_name}/{version}", Path(scratch))
            verify_files(
                folder, registered_digest, version=f"Version {version} of {self.model_name} in {self._address}"
            )
            yield folder

    def _require_there(self, what: str, location: str) -> None:
        folder = local_path(location)
        if folder is not None and not folder.exists():
            raise StoreError(
                f"{what} has its files in {folder}, says {self._address}, and they are not there. Put them back; where "
                f"they were moved, `ln -s PLACE {folder}` lets MLflow find them."
            )

    @property
    def local_scorers(self) -> LocalScorers:
        """The compiled scorers of this model on this disk."""
        # The own store by no path, so that its scorers stay what they are where the directory is moved.
        is_own = is_own_store(sqlite_file(self._address), Path(self.data_dir))
        registry = "mlflow/mlflow.db" if is_own else self._address
        return LocalScorers(
            Path(self.data_dir) / ("rankers" if self.is_ranker else "models"), registry, self.model_name
        )

    @property
    def record(self) -> Table:
        """The table of decisions about this model's versions."""
        return RANKER_PROMOTIONS if self.is_ranker else PROMOTIONS

    @property
    def _address(self) -> str:
        return self.registry_uri or self.tracking_uri

    def _client(self) -> "MlflowClient":
        self._look_after_store()
        return client(self.tracking_uri, self.registry_uri)

    def _look_after_store(self) -> None:
        store, data_dir = sqlite_file(self.tracking_uri), Path(self.data_dir)
        if is_own_store(store, data_dir):
            follow_move(data_dir, experiment=self.experiment_name)
        elif store is not None:
            refuse_another_store(store, data_dir)

    def _ask(self, question: "Callable[[MlflowClient], _Answer]") -> "_Answer | None":
        """Return MLflow's answer; None where there is no such thing, or no database: asking would create it."""
        self._look_after_store()
        file = sqlite_file(self._address)
        if file is not None and not file.exists():
            return None
        from mlflow.exceptions import MlflowException

        try:
            return question(client(self.tracking_uri, self.registry_uri))
        except MlflowException as error:
            if error.error_code in _MISSING:
                return None
            first_line = str(error).splitlines()[0]
            raise RegistryError(f"MLflow at {self._address} does not answer as it should: {first_line}") from error
