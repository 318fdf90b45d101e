"""Bronze: what landed. Observes the landing zone and copies nothing; `fraud_assets.silver.reading` reads the files."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pyarrow as pa

from fraud_assets.assets.descriptions import OWNERS, markdown_table, table_metadata
from fraud_assets.assets.partition_runs import PartitionMade, materialize_each, provenance
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandingZone
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

    def make(key: str) -> PartitionMade:
        observed_at = datetime.now(tz=UTC)
        files = landing_zone.files(key)
        rows = []
        for file in files:
            landed_rows, problem = landing_zone.count_records(file)
            rows.append(
                {
                    "file": file.name,
                    "bytes": file.size,
                    "landed_rows": landed_rows,
                    "problem": problem,
                    "content_digest": file.digest,
                    "observed_at": observed_at,
                    "partition_key": key,
                }
            )
        table = pa.Table.from_pylist(rows, schema=RAW_TRANSACTIONS.schema)
        lake.replace_partition(RAW_TRANSACTIONS, key, table, provenance=provenance(context))
        columns = ["file", "landed_rows", "problem"]
        return PartitionMade(
            rows=len(rows),
            data_version=str(landing_zone.input_digest(files)),
            metadata={"files": len(rows), "landed_rows": sum(row["landed_rows"] or 0 for row in rows)},
            preview=markdown_table(columns, [[row[name] for name in columns] for row in rows[:5]]),
        )

    yield from materialize_each(context, make)  # type: ignore[misc]
