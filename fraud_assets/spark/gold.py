"""Gold by Spark: Silver files become files of scores, and one commit makes them the partitions' scores."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from fraud_assets.errors import FraudAssetsError
from fraud_assets.model.scorer import Scorer
from fraud_assets.resources.data_files import DataFile
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets.resources.tables import PREDICTIONS, SILVER_TRANSACTIONS
from fraud_assets.spark.gold_tasks import Scoring, score_files
from fraud_assets.spark.jobs import SparkJobs


class NoCompiledScorerError(FraudAssetsError):
    """A version can be scored by scikit-learn only, which executors do not load."""


def score_with_spark(
    jobs: SparkJobs,
    lake: Lake,
    registry: ModelRegistry,
    digests: Mapping[str, str],
    version: str,
    *,
    memory: str,
    provenance: Mapping[str, str],
) -> int:
    """Score built partitions by one version and commit all of them or none; return the rows.

    `digests` are the silver_version of each partition when it was built, by key. A partition without rows is emptied.
    """
    if not isinstance(registry.scorer(version), Scorer):  # Fetches it to the data directory, too.
        raise NoCompiledScorerError(
            f"Version {version} has no compiled scorer for this scikit-learn: score it without Spark."
        )
    before = lake.paths(PREDICTIONS)
    silver = lake.paths(SILVER_TRANSACTIONS)
    files = [
        (key, lake.over(SILVER_TRANSACTIONS, [path]), digest)
        for key, digest in sorted(digests.items())
        for path in silver.get(key, [])
    ]
    folder = lake.location(PREDICTIONS)
    scoring = Scoring(registry.local_scorers, version, datetime.now(tz=UTC), folder, memory)
    reports = jobs.each("score", files, partial(score_files, scoring=scoring, files=files))
    written: Sequence[DataFile] = [DataFile(**report["written"]) for report in reports if report["written"] is not None]
    instead_of = {key: before.get(key, []) for key in digests}
    lake.replace_with_files(
        PREDICTIONS, written, instead_of=instead_of, provenance={**provenance, "model_version": version}
    )
    return sum(file.rows for file in written)
