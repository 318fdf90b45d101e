"""Gold: Silver rows and a model version become scores. How a row is scored is `fraud_assets.gold`'s business."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import dagster as dg
import pyarrow as pa
from duckdb import DuckDBPyConnection

from fraud_assets.assets.descriptions import OWNERS, markdown_table, table_metadata
from fraud_assets.assets.model import prod_model
from fraud_assets.assets.partition_runs import (
    MODEL_VERSION_TAG,
    PartitionMade,
    PartitionRefusedError,
    materialize_slices,
    provenance,
    slices,
)
from fraud_assets.assets.silver import silver_transactions_base
from fraud_assets.errors import FraudAssetsError
from fraud_assets.gold.predictions import count_anomalies, most_suspicious, score_partition
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.models.registry import ModelRegistry, NoModelError
from fraud_assets.resources.row_batches import BATCH_ROWS
from fraud_assets.resources.state import silver_states
from fraud_assets.resources.tables import PREDICTIONS, SILVER_TRANSACTIONS
from fraud_assets.spark.session import SparkOptions, open_session

_SLICE_ROWS: Final = 250_000
"""Rows that are scored and written together, if they are of several partitions: they pass through, and are not held."""

_SPARK_SLICE_ROWS: Final = 10**10
"""The same where a cluster scores them."""


@dg.asset(
    deps=[silver_transactions_base, prod_model],
    group_name="gold",
    kinds={"deltalake"},
    owners=OWNERS,
    code_version="1",
    backfill_policy=dg.BackfillPolicy.single_run(),
    op_tags={"dagster/priority": "1"},  # where one run builds and scores, scores come before Silver's checks
    metadata=table_metadata(PREDICTIONS, copied_from=SILVER_TRANSACTIONS),
)
def fraud_predictions(
    context: dg.AssetExecutionContext,
    lake: Lake,
    model_registry: ModelRegistry,
    spark: dg.ResourceParam[SparkOptions],
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """One score per Silver transaction, by one model version per partition. Higher is more suspicious.

    The version is the one that the run's tags pin, else the one behind `@prod` when the run starts.
    """
    version = _version_of(context.run, model_registry)
    scorer = model_registry.scorer(version)
    sizes = {key: made.rows for key, made in silver_states(lake).items()}
    # A run that built Silver, too, scores only what became other rows; a person who asks for Gold alone gets it anew.
    builds_silver = silver_transactions_base.key in context.job_def.asset_layer.selected_asset_keys
    columns = ("silver_version", "model_version")
    states = lake.partition_states(PREDICTIONS, columns) if builds_silver else {}
    scored_before = {key: tuple(state[column] for column in columns) for key, state in states.items()}

    def make(keys: Sequence[str]) -> dict[str, PartitionMade | FraudAssetsError]:
        # What is known and what is read are of one version: whoever writes meanwhile makes the partition due again.
        at = lake.version(SILVER_TRANSACTIONS)
        built = {key: made.of["silver_version"] for key, made in silver_states(lake, at).items()}
        silver = lake.select_each(SILVER_TRANSACTIONS, keys, version=at)
        scoring = {"scorer": scorer, "scored_at": datetime.now(tz=UTC), "model_version": version}

        def scores() -> Iterator[pa.RecordBatch]:
            for key in due:
                constants = {"silver_version": built[key], "partition_key": key, **scoring}
                yield from score_partition(connection, silver[key], batch_rows=BATCH_ROWS, **constants)

        figures: dict[str, Any] = {}
        known = [key for key in keys if key in built]
        due = [key for key in known if scored_before.get(key) != (built[key], version)]
        if due and spark.is_asked_for:
            digests = {key: built[key] for key in due}
            figures = _score_with_spark(spark, lake, model_registry, digests, version, provenance(context))
        elif due:
            rows = pa.RecordBatchReader.from_batches(PREDICTIONS.schema, scores())
            lake.replace_partitions(PREDICTIONS, due, rows, provenance=provenance(context, model_version=version))
        gold = lake.select_each(PREDICTIONS, known)
        return {
            key: _made(connection, gold[key], built[key], version, figures)
            if key in built
            else PartitionRefusedError(
                f"Silver of {key} is not built, or not adopted, yet. `fraud-assets run` does whatever is due."
            )
            for key in keys
        }

    with lake.connect() as connection:
        # One thread reads, one scores, one writes: on two cores a second reader would hold up the writer, the slowest.
        connection.execute("SET threads = 1")
        most = _SPARK_SLICE_ROWS if spark.is_asked_for else _SLICE_ROWS
        cut = slices(context.partition_keys, lambda key: sizes.get(key, 0), most=most)
        yield from materialize_slices(context, cut, make, show=lake.publish_views)


def _version_of(run: dg.DagsterRun, model_registry: ModelRegistry) -> str:
    version = run.tags.get(MODEL_VERSION_TAG) or model_registry.prod_version()
    if version is None:
        raise NoModelError(
            "No model version is behind @prod. `fraud-assets run` trains the first one; "
            "`fraud-assets promote VERSION` sets one that was refused."
        )
    return version


def _score_with_spark(
    options: SparkOptions,
    lake: Lake,
    model_registry: ModelRegistry,
    digests: Mapping[str, str],
    version: str,
    origin: Mapping[str, str],
) -> dict[str, Any]:
    """Let Spark score partitions, commit what its executors wrote, and return what Spark did."""
    from fraud_assets.spark.gold import score_with_spark
    from fraud_assets.spark.jobs import SparkJobs, summary

    jobs, origin = SparkJobs(open_session(options)), {**origin, "producer": "spark"}
    score_with_spark(jobs, lake, model_registry, digests, version, memory=options.memory, provenance=origin)
    return summary(jobs.figures)


def _made(
    connection: DuckDBPyConnection, gold: str, silver_digest: str, version: str, figures: Mapping[str, Any]
) -> PartitionMade:
    """Return what an operator asks of a scored partition first: rows, anomalies, the highest scores."""
    rows, anomalies = count_anomalies(connection, gold)
    _, top = most_suspicious(connection, gold)
    return PartitionMade(
        rows=rows,
        data_version=f"{silver_digest}-{version}",
        metadata={"anomalies": anomalies, "model_version": version, "silver_version": silver_digest, **figures},
        preview=markdown_table(
            ["TransactionID", "time (UTC)", "amount", "fraud_score", "score_percentile"],
            [[name, f"{time:%H:%M:%S}", f"{amount:,.2f}", *scores] for name, time, amount, _, *scores in top],
        ),
    )
