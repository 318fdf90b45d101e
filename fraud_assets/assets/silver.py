"""Silver: a landed partition becomes features and quarantine. `fraud_assets.silver` says what a row must be."""

from collections.abc import Iterator, Mapping, Sequence
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
    partition_metadata,
    provenance,
)
from fraud_assets.partition_keys import previous_key
from fraud_assets.resources.lake import Lake, batches
from fraud_assets.resources.landing_zone import LandingZone
from fraud_assets.resources.tables import PARTITION_BUILDS, QUARANTINED_TRANSACTIONS, SILVER_TRANSACTIONS
from fraud_assets.silver.build import SilverBuild, build_partition
from fraud_assets.silver.contract import CONTRACT_DIGEST, FEATURE_NAMES, ContractCheck

FEATURES_MATCH_CONTRACT = "features_match_contract"


class ContractViolationError(PartitionRefusedError):
    """Features that break the contract; nothing of the partition was written."""

    def __init__(self, check: ContractCheck) -> None:
        super().__init__(check.summary())
        self.violations = check.violations


@dg.asset(
    deps=[raw_transactions],
    group_name="silver",
    kinds={"duckdb", "deltalake"},
    owners=OWNERS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    metadata=table_metadata(QUARANTINED_TRANSACTIONS),
)
def quarantined_transactions(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[dg.MaterializeResult]:
    """Landed rows that cannot be used, each with all its reasons.

    Silver's build writes them and reports them here; materialized by itself, this asset only counts them again.
    """
    builds = lake.partition_states(PARTITION_BUILDS, ("landed_rows", "input_version"))

    def make(key: str) -> PartitionMade:
        if key not in builds:
            raise PartitionRefusedError(f"Silver of {key} is not built yet. `fraud-assets run` does whatever is due.")
        with lake.connect() as connection:
            relation = lake.select(QUARANTINED_TRANSACTIONS, keys=[key])
            return _quarantine(connection, relation, builds[key]["landed_rows"], builds[key]["input_version"])

    yield from materialize_each(context, make)  # type: ignore[misc]


def _quarantine(connection: DuckDBPyConnection, relation: str, landed_rows: int, input_version: str) -> PartitionMade:
    """Return what an operator asks of a partition's quarantine: how many rows have which reason, and a few of them."""
    [(rows,)] = connection.execute(f"SELECT count(*) FROM {relation}").fetchall()
    reasons = connection.execute(
        f"SELECT reason, count(*) FROM (SELECT unnest(reasons) AS reason FROM {relation}) GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    return PartitionMade(
        rows=rows,
        data_version=input_version,
        metadata={
            "share_of_landed": rows / max(landed_rows, 1),
            **{f"rows with {reason}": count for reason, count in reasons},
        },
        preview=_preview(connection, relation, ["file", "line", "reasons", "raw_row"]),
    )


@dg.asset(
    deps=[raw_transactions],
    group_name="silver",
    kinds={"duckdb", "deltalake"},
    owners=OWNERS,
    code_version=CONTRACT_DIGEST,
    backfill_policy=dg.BackfillPolicy.single_run(),
    metadata=table_metadata(SILVER_TRANSACTIONS),
    check_specs=[
        dg.AssetCheckSpec(
            FEATURES_MATCH_CONTRACT,
            asset="silver_transactions_base",
            blocking=True,
            description="The eight features have the contract's names, order, types and rules. "
            "Checked before a partition is written: features that break it are never stored.",
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
    violations: dict[str, Mapping[str, int]] = {}

    def make(key: str) -> PartitionMade:
        # Three tables change together: of two runs over one partition, the second builds when the first is done.
        # Each partition has a connection of its own, so that the rows of only one are held.
        with lake.hold(f"silver-{key}"), lake.connect() as connection:
            try:
                built = _build(lake, landing_zone, connection, key)
            except ContractViolationError as error:
                violations[key] = error.violations
                raise
            _store(lake, connection, built, provenance(context, input_version=str(built.input_digest)))
            good = _preview(connection, "silver_rows", ["TransactionID", "event_timestamp", *FEATURE_NAMES])
            refused = _quarantine(connection, "quarantine_rows", built.landed_rows, str(built.input_digest))
        context.log_event(
            dg.AssetMaterialization(quarantined_transactions.key, partition=key, metadata=partition_metadata(refused))
        )
        return PartitionMade(
            rows=built.silver_rows,
            data_version=built.silver_digest,
            metadata={
                "landed_rows": built.landed_rows,
                "quarantined_rows": built.quarantined_rows,
                "quarantine_reasons": dict(built.quarantine_reasons),
                **built.stored_digests,
            },
            preview=good,
        )

    yield from materialize_each(
        context,
        make,
        gate=lambda: dg.AssetCheckResult(
            check_name=FEATURES_MATCH_CONTRACT,
            passed=not violations,
            metadata={
                "violations": {key: dict(found) for key, found in violations.items()},
                "partitions": len(context.partition_keys),
            },
        ),
    )


def _build(lake: Lake, landing_zone: LandingZone, connection: DuckDBPyConnection, key: str) -> SilverBuild:
    """Make the rows of a partition, all of which keep the contract."""
    source, files = landing_zone.source, landing_zone.files(key)
    built = build_partition(
        connection,
        source,
        key,
        [file.raw for file in files],
        lookback=lake.select(SILVER_TRANSACTIONS, keys=[previous_key(key, source.partitions.grain)]),
        input_digest=landing_zone.input_digest(files),
    )
    if not built.check.passed:
        raise ContractViolationError(built.check)
    return built


def _store(lake: Lake, connection: DuckDBPyConnection, built: SilverBuild, origin: dict[str, str]) -> None:
    """Write a partition's quarantine, its record, and then its Silver rows, since by them it counts as built."""
    key = built.partition_key
    quarantined = batches(connection, "quarantine_rows", QUARANTINED_TRANSACTIONS.schema)
    lake.replace_partition(QUARANTINED_TRANSACTIONS, key, quarantined, provenance=origin)
    record = {name: getattr(built, name, None) for name in PARTITION_BUILDS.schema.names} | built.stored_digests
    builds = pa.Table.from_pylist([record | {"built_at": datetime.now(tz=UTC)}], schema=PARTITION_BUILDS.schema)
    lake.replace_partition(PARTITION_BUILDS, key, builds, provenance=origin)
    silver = batches(connection, "silver_rows", SILVER_TRANSACTIONS.schema)
    lake.replace_partition(SILVER_TRANSACTIONS, key, silver, provenance=origin)


def _preview(connection: DuckDBPyConnection, relation: str, columns: Sequence[str]) -> str:
    return markdown_table(
        columns, connection.execute(f"SELECT {', '.join(columns)} FROM {relation} LIMIT 5").fetchall()
    )
