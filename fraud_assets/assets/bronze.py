"""Bronze: what landed. Observes the landing zone and copies nothing; `fraud_assets.silver.reading` reads the files."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from fraud_assets.assets.descriptions import OWNERS, markdown_table, table_metadata
from fraud_assets.assets.partition_runs import PartitionMade, materialize_slices, provenance, slices
from fraud_assets.columns import table_of
from fraud_assets.errors import FraudAssetsError
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandedFile, LandingZone
from fraud_assets.resources.tables import RAW_TRANSACTIONS


@dg.asset(
    group_name="bronze",
    kinds={"csv", "parquet"},
    owners=OWNERS,
    code_version="1",
    backfill_policy=dg.BackfillPolicy.single_run(),
    metadata=table_metadata(RAW_TRANSACTIONS),
)
def raw_transactions(
    context: dg.AssetExecutionContext, lake: Lake, landing_zone: LandingZone
) -> Iterator[dg.MaterializeResult]:
    """What landed in a partition: its files, their records and digests. One row per landed file.

    The files stay as the source wrote them, in `landing/<partition key>/`; this asset observes them and copies nothing.
    A file that cannot be read is observed with its problem: whether its partition can be built is Silver's to say.
    """

    def make(keys: Sequence[str]) -> dict[str, PartitionMade | FraudAssetsError]:
        files = landing_zone.files_of(keys)
        observed = {key: [_observe(landing_zone, key, file) for file in files[key]] for key in keys if files[key]}
        if observed:
            rows = table_of((row for rows in observed.values() for row in rows), RAW_TRANSACTIONS.schema)
            lake.replace_partitions(RAW_TRANSACTIONS, [*observed], rows, provenance=provenance(context))
        return {
            key: _made(observed[key], str(landing_zone.input_digest(files[key])))
            if key in observed
            else landing_zone.nothing_landed(key)
            for key in keys
        }

    cut = slices(context.partition_keys, lambda _: 0, most=0)
    yield from materialize_slices(context, cut, make)  # type: ignore[misc]


def _observe(landing_zone: LandingZone, key: str, file: LandedFile) -> dict[str, Any]:
    landed_rows, problem = landing_zone.count_records(file)
    return {
        "file": file.name,
        "bytes": file.size,
        "landed_rows": landed_rows,
        "problem": problem,
        "content_digest": file.digest,
        "observed_at": datetime.now(tz=UTC),
        "partition_key": key,
    }


def _made(rows: Sequence[Mapping[str, Any]], data_version: str) -> PartitionMade:
    columns = ["file", "landed_rows", "problem"]
    return PartitionMade(
        rows=len(rows),
        data_version=data_version,
        metadata={"files": len(rows), "landed_rows": sum(row["landed_rows"] or 0 for row in rows)},
        preview=markdown_table(columns, [[row[name] for name in columns] for row in rows[:5]]),
    )
