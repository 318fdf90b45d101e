"""How an asset materializes the partitions of one run: each stands alone, one bad partition does not spoil the others.

A run covers one partition or a contiguous range. What a single partition means is the asset's business.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import dagster as dg

from fraud_assets.errors import FraudAssetsError
from fraud_assets.resources.lake import PartitionConflictError

# Partition ranges in one run and dagster-mlflow are beta; what we use of them is pinned by our tests. Every asset
# module imports this one before it declares an asset: no user shall read a dozen warnings at each command.
warnings.filterwarnings("ignore", category=dg.BetaWarning, module=r"(dagster|dagster_mlflow|fraud_assets)\..*")

MODEL_VERSION_TAG = "fraud_assets/model_version"
"""Run tag that pins the model version, so that a scoring run need not ask MLflow."""

_CONFLICTS_BORNE: Final = 2
"""Two writers of one partition are rare, and each attempt takes seconds: three losses in a row mean something else."""


FIRST_PARTITION_TAG = "dagster/asset_partition_range_start"
LAST_PARTITION_TAG = "dagster/asset_partition_range_end"
"""Dagster's own tags of a run over a range of partitions, both ends included."""


def covered_keys(tags: Mapping[str, str], keys: Iterable[str]) -> list[str]:
    """Return those of `keys` that a run with these tags covers; none for a run without partitions."""
    first = tags.get(FIRST_PARTITION_TAG) or tags.get("dagster/partition")
    last = tags.get(LAST_PARTITION_TAG) or first
    return [key for key in keys if first is not None and last is not None and first <= key <= last]


class PartitionRefusedError(FraudAssetsError):
    """A partition cannot be made as things stand; the message says why and what to do. Nothing was written."""


@dataclass(frozen=True)
class PartitionMade:
    """One partition that was written: its rows, its data version, what an operator asks first, and a few rows."""

    rows: int
    data_version: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    preview: str = ""
    """As a Markdown table."""


def provenance(context: dg.AssetExecutionContext, **more: str) -> dict[str, str]:
    """Return what a commit says of its origin: the run, the asset's code version, and `more`."""
    code_version = context.assets_def.code_versions_by_key.get(context.asset_key)
    return {"dagster_run_id": context.run.run_id, "code_version": code_version or "", **more}


def materialize_each(
    context: dg.AssetExecutionContext,
    make: Callable[[str], PartitionMade],
    *,
    gate: Callable[[], dg.AssetCheckResult] | None = None,
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """Make every partition of the run and yield what Dagster is to know of it.

    Args:
        context: of the asset that is materialized.
        make: writes one partition. A FraudAssetsError stops that partition only; any other error stops the run.
        gate: gives the result of the asset's blocking check once all partitions were tried.

    Raises:
        dagster.Failure: a partition was refused. The good ones are materialized before it.
    """
    keys = context.partition_keys
    made: dict[str, PartitionMade] = {}
    refused: dict[str, Exception] = {}
    for number, key in enumerate(keys, start=1):
        try:
            made[key] = _make(make, key)
            context.log.info(f"[{number}/{len(keys)}] {key}: {made[key].rows:,} rows")
        except FraudAssetsError as error:
            refused[key] = error
            context.log.error(f"[{number}/{len(keys)}] {key}: {error}")

    if refused:
        for key, partition in made.items():
            context.log_event(
                dg.AssetMaterialization(
                    asset_key=context.asset_key,
                    partition=key,
                    metadata=partition_metadata(partition),
                    tags={"dagster/data_version": partition.data_version},
                )
            )
        if gate is not None:
            yield gate()
        raise dg.Failure(
            description="\n".join(f"{key}: {error}" for key, error in refused.items()),
            metadata={"refused_partitions": list(refused)},
            allow_retries=False,
        )
    for key, partition in made.items():
        context.add_asset_metadata(partition_metadata(partition), partition_key=key)
    if gate is not None:
        yield gate()
    versions = [partition.data_version for partition in made.values()]
    yield dg.MaterializeResult(
        # Dagster takes one data version for all partitions of a run; each partition's own is in its metadata.
        data_version=dg.DataVersion(
            versions[0] if len(versions) == 1 else sha256("".join(versions).encode()).hexdigest()[:32]
        ),
    )


def _make(make: Callable[[str], PartitionMade], key: str) -> PartitionMade:
    """Make a partition; where another run wrote it meanwhile, make it anew from what lies there now."""
    for _ in range(_CONFLICTS_BORNE):
        try:
            return make(key)
        except PartitionConflictError:
            continue
    return make(key)


def partition_metadata(partition: PartitionMade) -> dict[str, Any]:
    """Return what Dagster shows of a partition."""
    shown = {"preview": dg.MarkdownMetadataValue(partition.preview)} if partition.preview else {}
    return {"dagster/partition_row_count": partition.rows, **partition.metadata, **shown}
