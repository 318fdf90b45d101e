"""Gold: Silver rows and a model version become scores. How a row is scored is `fraud_assets.gold`'s business."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pyarrow as pa

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
from fraud_assets.gold.predictions import SCORED_COLUMNS, score_batches
from fraud_assets.resources.lake import BATCH_ROWS, Lake
from fraud_assets.resources.model_registry import ModelRegistry, NoModelError
from fraud_assets.resources.tables import PARTITION_BUILDS, PREDICTIONS, SILVER_TRANSACTIONS

_COPIED_COLUMNS = (
    "TransactionID",
    "event_timestamp",
    "TransactionAmt",
    "card_id",
    "silver_version",
    "partition_key",
)


@dg.asset(
    deps=[silver_transactions_base, prod_model],
    group_name="gold",
    kinds={"deltalake"},
    owners=OWNERS,
    code_version="1",
    backfill_policy=dg.BackfillPolicy.single_run(),
    metadata=table_metadata(
        PREDICTIONS, lineage={column: [("silver_transactions_base", column)] for column in _COPIED_COLUMNS}
    ),
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

    with lake.connect() as connection:
        # One thread reads, one scores, one writes: on two cores a second reader would hold up the writer, the slowest.
        connection.execute("SET threads = 1")

        def make(key: str) -> PartitionMade:
            if key not in built:
                raise PartitionRefusedError(
                    f"Silver of {key} is not built yet. `fraud-assets run` does whatever is due."
                )
            # The files of one version: what is written meanwhile is not among them.
            silver = lake.select(SILVER_TRANSACTIONS, keys=[key])
            versions = connection.execute(f"SELECT silver_version FROM {silver} LIMIT 1").fetchall()
            [(silver_version,)] = versions or [(built[key]["silver_version"],)]
            columns = ", ".join(f'"{column}"' for column in SCORED_COLUMNS)
            gold = score_batches(
                iter(connection.sql(f"SELECT {columns} FROM {silver}").to_arrow_reader(BATCH_ROWS)),
                scorer=scorer,
                model_version=version,
                silver_version=silver_version,
                partition_key=key,
                scored_at=datetime.now(tz=UTC),
            )
            lake.replace_partition(
                PREDICTIONS,
                key,
                pa.RecordBatchReader.from_batches(PREDICTIONS.schema, gold),
                provenance=provenance(context, model_version=version),
            )
            [(rows, anomalies)] = connection.execute(
                f"SELECT count(*), count(*) FILTER (is_anomaly) FROM {lake.select(PREDICTIONS, keys=[key])}"
            ).fetchall()
            return PartitionMade(
                rows=rows,
                data_version=f"{silver_version}-{version}",
                metadata={
                    "anomalies": anomalies,
                    "model_version": version,
                    "silver_version": silver_version,
                },
            )

        def preview() -> str:
            columns = [
                "TransactionID",
                "event_timestamp",
                "TransactionAmt",
                "fraud_score",
                "score_percentile",
            ]
            rows = connection.execute(
                f"SELECT {', '.join(columns)} FROM {lake.select(PREDICTIONS, keys=context.partition_keys)} "
                "ORDER BY fraud_score DESC, TransactionID LIMIT 5"
            ).fetchall()
            return markdown_table(columns, rows)

        yield from materialize_each(context, make, preview=preview)
