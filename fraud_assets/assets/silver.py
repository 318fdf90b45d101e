"""Silver: a landed partition becomes features and quarantine. `fraud_assets.silver` says what a row must be."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pyarrow as pa
from duckdb import DuckDBPyConnection

from fraud_assets.assets.bronze import raw_transactions
from fraud_assets.assets.descriptions import OWNERS, markdown_table, table_metadata
from fraud_assets.assets.partition_runs import (
    PartitionMade,
    PartitionRefusedError,
    materialize_each,
    provenance,
)
from fraud_assets.resources.lake import Lake, batches
from fraud_assets.resources.landing_zone import LandingZone
from fraud_assets.resources.tables import (
    PARTITION_BUILDS,
    QUARANTINED_TRANSACTIONS,
    SILVER_TRANSACTIONS,
)
from fraud_assets.silver.build import SilverBuild, build_partition
from fraud_assets.silver.contract import CONTRACT_VERSION, FEATURE_NAMES

FEATURES_MATCH_CONTRACT = "features_match_contract"


class ContractViolationError(PartitionRefusedError):
    """Features that break the contract; nothing of the partition was written."""


@dg.asset(
    deps=[raw_transactions],
    group_name="silver",
    kinds={"duckdb", "deltalake"},
    owners=OWNERS,
    code_version=CONTRACT_VERSION,
    backfill_policy=dg.BackfillPolicy.single_run(),
    metadata=table_metadata(SILVER_TRANSACTIONS),
    check_specs=[
        dg.AssetCheckSpec(
            FEATURES_MATCH_CONTRACT,
            asset="silver_transactions_base",
            blocking=True,
            description="The eight features have the contract's names, order, types and rules. "
            "Evaluated before a partition is written: features that break it are never stored.",
        )
    ],
)
def silver_transactions_base(
    context: dg.AssetExecutionContext, lake: Lake, landing_zone: LandingZone
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """Good transactions with their eight features over trailing five-minute windows per card.

    One row per transaction. Rows that cannot be used stand in `silver.quarantined_transactions` with all their reasons:
    landed = Silver + quarantined.
    """
    violations: dict[str, dict[str, int]] = {}

    def make(key: str) -> PartitionMade:
        # Three tables change together: of two runs over one partition, the second builds when the first is done.
        # Each partition has a connection of its own, so that the rows of only one are held.
        with lake.hold(f"silver-{key}"), lake.connect() as connection:
            return build(key, connection)

    def build(key: str, connection: DuckDBPyConnection) -> PartitionMade:
        files = landing_zone.files(key)
        built = build_partition(
            connection,
            landing_zone.feed,
            key,
            [file.raw for file in files],
            lookback=lake.select(SILVER_TRANSACTIONS, keys=[landing_zone.feed.previous_key(key)]),
            input_digest=landing_zone.input_digest(files),
        )
        if not built.evaluation.passed:
            violations[key] = dict(built.evaluation.violations)
            raise ContractViolationError(built.evaluation.summary())
        origin = provenance(context, input_version=str(built.input_digest))
        quarantined = batches(connection, "quarantine_rows", QUARANTINED_TRANSACTIONS.schema)
        lake.replace_partition(QUARANTINED_TRANSACTIONS, key, quarantined, provenance=origin)
        lake.replace_partition(PARTITION_BUILDS, key, _build_record(built), provenance=origin)
        # Last, since a partition counts as built by its Silver rows.
        silver = batches(connection, "silver_rows", SILVER_TRANSACTIONS.schema)
        lake.replace_partition(SILVER_TRANSACTIONS, key, silver, provenance=origin)
        return PartitionMade(
            rows=built.silver_rows,
            data_version=built.silver_version,
            metadata={
                "landed_rows": built.landed_rows,
                "quarantined_rows": built.quarantined_rows,
                "quarantine_reasons": dict(built.quarantine_reasons),
                "input_version": str(built.input_digest),
                "lookback_version": built.lookback_version,
                "tail_version": built.tail_version,
                "silver_version": built.silver_version,
            },
        )

    def preview() -> str:
        columns = ["TransactionID", "event_timestamp", *FEATURE_NAMES]
        shown = ", ".join(f'"{column}"' for column in columns)
        silver = lake.select(SILVER_TRANSACTIONS, keys=context.partition_keys)
        with lake.connect() as connection:
            rows = connection.execute(f"SELECT {shown} FROM {silver} LIMIT 5").fetchall()
        return markdown_table(columns, rows)

    yield from materialize_each(
        context,
        make,
        gate=lambda: dg.AssetCheckResult(
            check_name=FEATURES_MATCH_CONTRACT,
            passed=not violations,
            metadata={"violations": violations, "partitions": len(context.partition_keys)},
        ),
        preview=preview,
    )


def _build_record(build: SilverBuild) -> pa.Table:
    record = {name: getattr(build, name, None) for name in PARTITION_BUILDS.schema.names}
    record["input_version"] = str(build.input_digest)
    return pa.Table.from_pylist([{**record, "built_at": datetime.now(tz=UTC)}], schema=PARTITION_BUILDS.schema)
