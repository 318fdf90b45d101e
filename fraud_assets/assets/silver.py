"""Silver: a landed partition becomes features and quarantine. `fraud_assets.silver` says what a row must be."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import Any, Final

import dagster as dg
import pyarrow as pa
from duckdb import DuckDBPyConnection

from fraud_assets.assets.bronze import raw_transactions
from fraud_assets.assets.descriptions import OWNERS, markdown_table, table_metadata
from fraud_assets.assets.partition_runs import (
    PartitionMade,
    PartitionRefusedError,
    materialize_each,
    materialize_slices,
    provenance,
    report_partitions,
    slices,
)
from fraud_assets.columns import table_of
from fraud_assets.errors import FraudAssetsError
from fraud_assets.partition_keys import previous_key
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandedFile, LandingZone
from fraud_assets.resources.row_batches import batches
from fraud_assets.resources.state import silver_partitions
from fraud_assets.resources.tables import PARTITION_BUILDS, QUARANTINED_TRANSACTIONS, SILVER_TRANSACTIONS, Table
from fraud_assets.silver.adoption import Adoption, adopt_partition, is_adopted
from fraud_assets.silver.build import SilverBuild, build_partition
from fraud_assets.silver.cleaning import count_reasons
from fraud_assets.silver.contract import CONTRACT_DIGEST, FEATURE_NAMES, ContractViolationError, check_features
from fraud_assets.spark.session import SparkOptions, open_session

FEATURES_MATCH_CONTRACT = "features_match_contract"

_SHOWN: Final = ("TransactionID", "event_timestamp", *FEATURE_NAMES)
"""Columns of a few rows that Dagster shows."""

_SLICE_BYTES: Final = 8 * 2**20
"""Landed bytes that are built and written together: some hundred thousand rows, held as about as many megabytes."""

_SPARK_SLICE_BYTES: Final = 64 * 2**30
"""The same where a cluster holds the rows: each slice costs a few seconds of Spark's own."""


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
            [(rows,)] = connection.execute(f"SELECT count(*) FROM {relation}").fetchall()
            return _quarantine(
                connection,
                relation,
                rows=rows,
                reasons=count_reasons(connection, relation),
                landed_rows=builds[key]["landed_rows"],
                input_version=builds[key]["input_version"],
            )

    yield from materialize_each(context, make)  # type: ignore[misc]


def _quarantine(
    connection: DuckDBPyConnection,
    relation: str,
    *,
    rows: int,
    reasons: Mapping[str, int],
    landed_rows: int,
    input_version: str,
) -> PartitionMade:
    """Return what an operator asks of a partition's quarantine: how many rows have which reason, and a few of them."""
    return PartitionMade(
        rows=rows,
        data_version=input_version,
        metadata={
            "share_of_landed": rows / max(landed_rows, 1),
            **{f"rows with {reason}": count for reason, count in reasons.items()},
        },
        preview=_preview(connection, relation, ["file", "line", "reasons", "raw_row"]) if rows else "",
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
    context: dg.AssetExecutionContext, lake: Lake, landing_zone: LandingZone, spark: dg.ResourceParam[SparkOptions]
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """Good transactions with their eight features over trailing five-minute windows per card.

    One row per transaction. Rows that cannot be used stand in `silver.quarantined_transactions` with all their reasons:
    landed = Silver + quarantined. Where nothing landed and something else wrote the rows, they stay as they are, and
    are scored if they keep the contract.
    """
    violations: dict[str, Mapping[str, int]] = {}

    def make(keys: Sequence[str]) -> dict[str, PartitionMade | FraudAssetsError]:
        # Three tables change together: of two runs over one partition, the second builds when the first is done.
        # Each slice has a connection of its own, so that no more rows than its own are held.
        with ExitStack() as held, lake.connect() as connection:
            for key in sorted(keys):
                held.enter_context(lake.hold(f"silver-{key}"))
            build = partial(_build_with_spark, spark) if spark.is_asked_for else build_here
            built = build(lake, landing_zone, connection, keys, provenance(context))
        for key in keys:
            violations.pop(key, None)
            if isinstance(error := built.refused.get(key), ContractViolationError):
                violations[key] = error.violations
        report_partitions(context, quarantined_transactions.key, built.quarantine)
        return {key: built.refused.get(key) or built.made[key] for key in keys}

    landed = landing_zone.files_of(context.partition_keys)
    most = _SPARK_SLICE_BYTES if spark.is_asked_for else _SLICE_BYTES
    yield from materialize_slices(
        context,
        slices(context.partition_keys, lambda key: sum(file.size for file in landed[key]), most=most),
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


@dataclass
class _Slice:
    """Partitions that are written together: their rows, what Dagster is to know, and what was refused."""

    quarantined: dict[str, Iterable[pa.RecordBatch]] = field(default_factory=dict)
    records: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    silver: dict[str, Iterable[pa.RecordBatch]] = field(default_factory=dict)
    made: dict[str, PartitionMade] = field(default_factory=dict)
    quarantine: dict[str, PartitionMade] = field(default_factory=dict)
    refused: dict[str, FraudAssetsError] = field(default_factory=dict)

    def store(self, lake: Lake, origin: Mapping[str, str]) -> None:
        """Write quarantine, records, and then the Silver rows, since by them a partition counts as built."""
        built_at = datetime.now(tz=UTC)
        records = table_of(
            ({**values, "built_at": built_at} for values in self.records.values()), PARTITION_BUILDS.schema
        )
        for table, keys, rows in (
            (QUARANTINED_TRANSACTIONS, self.quarantined, chain.from_iterable(self.quarantined.values())),
            (PARTITION_BUILDS, self.records, records.to_batches()),
            (SILVER_TRANSACTIONS, self.silver, chain.from_iterable(self.silver.values())),
        ):
            if keys:
                together = pa.RecordBatchReader.from_batches(table.schema, rows)
                lake.replace_partitions(table, [*keys], together, provenance=origin)


def build_here(
    lake: Lake,
    landing_zone: LandingZone,
    connection: DuckDBPyConnection,
    keys: Sequence[str],
    origin: Mapping[str, str],
) -> _Slice:
    """Build partitions in this process, and write them."""
    built = _build_slice(lake, landing_zone, connection, keys)
    built.store(lake, origin)
    return built


def _build_with_spark(
    options: SparkOptions,
    lake: Lake,
    landing_zone: LandingZone,
    connection: DuckDBPyConnection,
    keys: Sequence[str],
    origin: Mapping[str, str],
) -> _Slice:
    """Let Spark build partitions, and commit what its executors wrote."""
    from fraud_assets.spark.jobs import SparkJobs, summary
    from fraud_assets.spark.silver import build_with_spark

    jobs = SparkJobs(open_session(options))
    files = build_with_spark(jobs, lake, landing_zone, keys, memory=options.memory)
    files.store(lake, {**origin, "producer": "spark"})
    found = _Slice(refused=files.refused)
    silver, quarantined = (
        lake.select_each(table, files.builds) for table in (SILVER_TRANSACTIONS, QUARANTINED_TRANSACTIONS)
    )
    for key, build in files.builds.items():
        good, found.quarantine[key] = _described(connection, build, silver[key], quarantined[key])
        found.made[key] = replace(good, metadata={**good.metadata, **summary(jobs.figures)})
    return found


def _build_slice(lake: Lake, landing_zone: LandingZone, connection: DuckDBPyConnection, keys: Sequence[str]) -> _Slice:
    """Make the rows of partitions, all of which keep the contract.

    To check many tiny partitions together takes as long as to check one: only where that fails they are made and
    checked again, one by one.
    """
    if len(keys) > 1:
        built = _make_slice(lake, landing_zone, connection, keys, is_checked=False)
        rows = pa.Table.from_batches(chain.from_iterable(built.silver.values()), SILVER_TRANSACTIONS.schema)
        connection.register("silver_slice", rows)
        if check_features(connection, "silver_slice").passed:
            return built
    return _make_slice(lake, landing_zone, connection, keys, is_checked=True)


def _make_slice(
    lake: Lake, landing_zone: LandingZone, connection: DuckDBPyConnection, keys: Sequence[str], *, is_checked: bool
) -> _Slice:
    """Make the rows of partitions. Those of a partition by itself are made as they are written, others are held."""
    files, source, at = landing_zone.files_of(keys), landing_zone.source, lake.version(SILVER_TRANSACTIONS)
    previous = {key: previous_key(key, source.partitions.grain) for key in keys}
    known, foreign = silver_partitions(lake, at)
    foreign |= {key: digest for key, made in known.items() if is_adopted(digest := made.of["input_version"])}
    stored = lake.select_each(SILVER_TRANSACTIONS, {*keys, *previous.values()}, version=at)
    found = _Slice()
    for key, before in previous.items():
        is_known = before in known or before in found.made  # What nobody compared with the contract is not looked at.
        lookback = stored[before] if is_known else None
        if before in found.silver:
            connection.register(
                "silver_before", pa.Table.from_batches(found.silver[before], SILVER_TRANSACTIONS.schema)
            )
            lookback = "silver_before"
        try:
            if not files[key] and key in foreign:
                adopted = adopt_partition(connection, source, key, stored[key])
                found.made[key] = _adopted(connection, stored[key], adopted)
                found.records[key] = _record_of_adoption(key, foreign[key], adopted)
                continue
            if not files[key]:
                raise landing_zone.nothing_landed(key)
            built = _build(landing_zone, connection, key, files[key], lookback, is_checked=is_checked)
        except FraudAssetsError as error:
            found.refused[key] = error
            continue
        found.made[key], found.quarantine[key] = _described(connection, built)
        found.records[key] = built.record
        rows = _stream(connection, "silver_rows", SILVER_TRANSACTIONS)
        refused = _stream(connection, "quarantine_rows", QUARANTINED_TRANSACTIONS) if built.quarantined_rows else ()
        if len(keys) > 1:  # the next partition takes the place of this one in the connection
            rows, refused = list(rows), list(refused)
        found.silver[key], found.quarantined[key] = rows, refused
    return found


def _record_of_adoption(key: str, files_digest: str, adopted: Adoption) -> dict[str, Any]:
    rows = adopted.check.rows
    counts = {"landed_rows": rows, "silver_rows": rows, "quarantined_rows": 0}
    versions = {"input_version": files_digest, "lookback_version": "", "tail_version": adopted.tail_digest}
    return {"partition_key": key, "silver_version": adopted.silver_digest, **versions, **counts}


def _adopted(connection: DuckDBPyConnection, stored: str, adopted: Adoption) -> PartitionMade:
    """Return what Dagster is to know of a partition that something else wrote, all of whose rows keep the contract."""
    if not adopted.check.passed:
        raise ContractViolationError(adopted.check)
    return PartitionMade(
        rows=adopted.check.rows,
        data_version=adopted.silver_digest,
        metadata={"written_by": "something else", "silver_version": adopted.silver_digest},
        preview=_preview(connection, stored, _SHOWN),
    )


def _stream(connection: DuckDBPyConnection, relation: str, table: Table) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a relation, asked for with the first of them: a connection gives one stream at a time."""
    yield from batches(connection, relation, table.schema)


def _build(
    landing_zone: LandingZone,
    connection: DuckDBPyConnection,
    key: str,
    files: Sequence[LandedFile],
    lookback: str | None,
    *,
    is_checked: bool,
) -> SilverBuild:
    """Make the rows of a partition; if they are checked, all of them keep the contract."""
    raw, digest = [file.raw for file in files], landing_zone.input_digest(files)
    built = build_partition(connection, landing_zone.source, key, raw, lookback=lookback, input_digest=digest)
    if is_checked and not (check := check_features(connection, "silver_rows")).passed:
        raise ContractViolationError(check)
    return built


def _described(
    connection: DuckDBPyConnection,
    built: SilverBuild,
    silver: str = "silver_rows",
    quarantined: str = "quarantine_rows",
) -> tuple[PartitionMade, PartitionMade]:
    """Return what Dagster is to know of a partition, and of its quarantine."""
    good = PartitionMade(
        rows=built.silver_rows,
        data_version=built.silver_digest,
        metadata={
            "landed_rows": built.landed_rows,
            "quarantined_rows": built.quarantined_rows,
            "quarantine_reasons": dict(built.quarantine_reasons),
            **built.stored_digests,
        },
        preview=_preview(connection, silver, _SHOWN),
    )
    return good, _quarantine(
        connection,
        quarantined,
        rows=built.quarantined_rows,
        reasons=built.quarantine_reasons,
        landed_rows=built.landed_rows,
        input_version=str(built.input_digest),
    )


def _preview(connection: DuckDBPyConnection, relation: str, columns: Sequence[str]) -> str:
    return markdown_table(
        columns, connection.execute(f"SELECT {', '.join(columns)} FROM {relation} LIMIT 5").fetchall()
    )
