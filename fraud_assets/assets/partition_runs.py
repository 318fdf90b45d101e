"""How an asset materializes the partitions of one run: each stands alone, one bad partition does not spoil the others.

A run covers one partition or a contiguous range. What a single partition means is the asset's business.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import dagster as dg
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata, generate_event_batch_id

from fraud_assets.errors import FraudAssetsError
from fraud_assets.resources.lake import PartitionConflictError

# Partition ranges in one run and dagster-mlflow are beta; what we use of them is pinned by our tests. Every asset
# module imports this one before it declares an asset: no user shall read a dozen warnings at each command.
warnings.filterwarnings("ignore", category=dg.BetaWarning, module=r"(dagster|dagster_mlflow|fraud_assets)\..*")

MODEL_VERSION_TAG = "fraud_assets/model_version"
"""Run tag that pins the model version, so that a scoring run need not ask MLflow."""

_SLICE_PARTITIONS: Final = 200
"""Partitions that are written together, at most. Many share the costs of a commit; Delta's writer keeps a file open
for each of them, and still needs little memory."""

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


def slices(keys: Iterable[str], size: Callable[[str], int], *, most: int) -> Iterator[list[str]]:
    """Cut keys, in their order, into slices of at most `most` in size together; a larger one is a slice by itself."""
    cut: list[str] = []
    total = 0
    for key in keys:
        own = size(key)
        if cut and (total + own > most or len(cut) == _SLICE_PARTITIONS):
            yield cut
            cut, total = [], 0
        cut.append(key)
        total += own
    if cut:
        yield cut


def materialize_each(
    context: dg.AssetExecutionContext, make: Callable[[str], PartitionMade], **options: Any
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """Make every partition of the run by itself; `make` writes one. Otherwise as `materialize_slices`."""

    def make_one(keys: Sequence[str]) -> dict[str, PartitionMade | FraudAssetsError]:
        return {keys[0]: make(keys[0])}

    yield from materialize_slices(context, ([key] for key in context.partition_keys), make_one, **options)


def materialize_slices(
    context: dg.AssetExecutionContext,
    cut: Iterable[Sequence[str]],
    make: Callable[[Sequence[str]], Mapping[str, PartitionMade | FraudAssetsError]],
    *,
    gate: Callable[[], dg.AssetCheckResult] | None = None,
    show: Callable[[], object] | None = None,
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """Make every partition of the run, slice after slice, and yield what Dagster is to know of it.

    Args:
        context: of the asset that is materialized.
        cut: the run's partitions, in slices of which each is written in one transaction a table.
        make: writes a slice; gives each partition as it was made, or the error that refused it. A FraudAssetsError
            that it raises refuses the whole slice; any other error stops the run.
        gate: gives the result of the asset's blocking check once all partitions were tried.
        show: lets readers see what was written; else they do when the run is done, its last check included.

    Raises:
        dagster.Failure: a partition was refused. The good ones are materialized before it.
    """
    made: dict[str, PartitionMade] = {}
    refused: dict[str, Exception] = {}
    total = len(context.partition_keys)
    for keys in cut:
        outcomes = _make(make, keys)
        good = {key: outcome for key, outcome in outcomes.items() if isinstance(outcome, PartitionMade)}
        bad = {key: outcome for key, outcome in outcomes.items() if not isinstance(outcome, PartitionMade)}
        made |= good
        refused |= bad
        done = f"[{len(made) + len(refused)}/{total}]"
        for key, error in bad.items():
            context.log.error(f"{done} {key}: {error}")
        if good:  # one line a slice: each is a row of Dagster's, and of tiny partitions there are thousands
            first, last = min(good), max(good)
            which = first if first == last else f"{len(good)} partitions, {first} to {last}"
            context.log.info(f"{done} {which}: {sum(one.rows for one in good.values()):,} rows")

    if show is not None and made:
        show()
    if refused:
        report_partitions(context, context.asset_key, made)  # a failed step materializes nothing by itself
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


def report_partitions(context: dg.AssetExecutionContext, asset: dg.AssetKey, made: Mapping[str, PartitionMade]) -> None:
    """Tell Dagster at once of partitions that were made, where no result of the step does: of another asset, say."""
    batch = generate_event_batch_id()
    for number, (key, partition) in enumerate(made.items(), start=1):
        materialization = dg.AssetMaterialization(
            asset_key=asset,
            partition=key,
            metadata=partition_metadata(partition),
            tags={"dagster/data_version": partition.data_version},
        )
        # What `context.log_event` does, which stores each by itself.
        DagsterEvent.asset_materialization(
            context.get_step_execution_context(), materialization, DagsterEventBatchMetadata(batch, number == len(made))
        )


def _make(
    make: Callable[[Sequence[str]], Mapping[str, PartitionMade | FraudAssetsError]], keys: Sequence[str]
) -> Mapping[str, PartitionMade | FraudAssetsError]:
    """Make a slice; where another run wrote into it meanwhile, make it anew from what lies there now."""
    lost = 0
    while True:
        try:
            return make(keys)
        except PartitionConflictError as error:
            lost += 1
            if lost > _CONFLICTS_BORNE:
                return dict.fromkeys(keys, error)
        except FraudAssetsError as error:
            return dict.fromkeys(keys, error)


def partition_metadata(partition: PartitionMade) -> dict[str, Any]:
    """Return what Dagster shows of a partition."""
    shown = {"preview": dg.MarkdownMetadataValue(partition.preview)} if partition.preview else {}
    return {"dagster/partition_row_count": partition.rows, **partition.metadata, **shown}
