"""Gold: Silver rows and a model version become scores. How a row is scored is `fraud_assets.gold`'s business."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from fraud_assets.assets.descriptions import OWNERS, markdown_table, table_metadata
from fraud_assets.assets.model import prod_model
from fraud_assets.assets.partition_runs import (
    MODEL_VERSION_TAG,
    PartitionMade,
    PartitionRefusedError,
    materialize_each,
    provenance,
)
from fraud_assets.assets.silver import silver_transactions_base
from fraud_assets.gold.predictions import count_anomalies, most_suspicious, score_partition
from fraud_assets.resources.lake import BATCH_ROWS, Lake
from fraud_assets.resources.models.registry import ModelRegistry, NoModelError
from fraud_assets.resources.tables import PARTITION_BUILDS, PREDICTIONS, SILVER_TRANSACTIONS


@dg.asset(
    deps=[silver_transactions_base, prod_model],
    group_name="gold",
    kinds={"deltalake"},
    owners=OWNERS,
    code_version="1",
    backfill_policy=dg.BackfillPolicy.single_run(),
    metadata=table_metadata(PREDICTIONS, copied_from=SILVER_TRANSACTIONS),
)
def fraud_predictions(
    context: dg.AssetExecutionContext, lake: Lake, model_registry: ModelRegistry
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """One score per Silver transaction, by one model version per partition. Higher is more suspicious.

    The version is the one that the run's tags pin, else the one behind `@prod` when the run starts.
    """
    version = context.run.tags.get(MODEL_VERSION_TAG) or model_registry.prod_version()
    if version is None:
        raise NoModelError(
            "No model version is behind @prod. `fraud-assets run` trains the first one; "
            "`fraud-assets promote VERSION` sets one that was refused."
        )
    scorer = model_registry.scorer(version)
    built = lake.partition_states(PARTITION_BUILDS, ("silver_version",))

    def make(key: str) -> PartitionMade:
        if key not in built:
            raise PartitionRefusedError(f"Silver of {key} is not built yet. `fraud-assets run` does whatever is due.")
        scored, silver_digest = score_partition(
            connection,
            lake.select(SILVER_TRANSACTIONS, keys=[key]),
            batch_rows=BATCH_ROWS,
            built_digest=built[key]["silver_version"],
            scorer=scorer,
            scored_at=datetime.now(tz=UTC),
            model_version=version,
            partition_key=key,
        )
        lake.replace_partition(PREDICTIONS, key, scored, provenance=provenance(context, model_version=version))
        rows, anomalies = count_anomalies(connection, lake.select(PREDICTIONS, keys=[key]))
        _, top = most_suspicious(connection, lake.select(PREDICTIONS, keys=[key]))
        return PartitionMade(
            rows=rows,
            data_version=f"{silver_digest}-{version}",
            metadata={"anomalies": anomalies, "model_version": version, "silver_version": silver_digest},
            preview=markdown_table(
                ["TransactionID", "time (UTC)", "amount", "fraud_score", "score_percentile"],
                [[name, f"{time:%H:%M:%S}", f"{amount:,.2f}", *scores] for name, time, amount, _, *scores in top],
            ),
        )

    with lake.connect() as connection:
        # One thread reads, one scores, one writes: on two cores a second reader would hold up the writer, the slowest.
        connection.execute("SET threads = 1")
        yield from materialize_each(context, make)
