"""What analysts decided: files of reviews become one decision per transaction. The rules are `alerts.reviews`'."""

from datetime import UTC, datetime

import dagster as dg
import pyarrow as pa

from fraud_assets.alerts.reviews import (
    OUTCOMES,
    REVIEW_COLUMNS,
    Reviewed,
    join_reviews,
    latest_decisions,
    read_decisions,
)
from fraud_assets.alerts.spreadsheets import SpreadsheetError, read_rows
from fraud_assets.assets.alerts import fraud_alerts
from fraud_assets.assets.descriptions import OWNERS, table_metadata
from fraud_assets.assets.partition_runs import provenance
from fraud_assets.assets.silver import silver_transactions_base
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandedFile, LandingZone
from fraud_assets.resources.state import reviews_digest
from fraud_assets.resources.tables import (
    ALERT_REVIEWS,
    ALERTS,
    REVIEW_FILES,
    REVIEW_SAMPLES,
    SILVER_TRANSACTIONS,
    WITHDRAWN_ALERTS,
)


@dg.asset(
    deps=[silver_transactions_base, fraud_alerts],
    group_name="gold",
    kinds={"deltalake"},
    owners=OWNERS,
    code_version="1",
    backfill_policy=dg.BackfillPolicy.single_run(),
    metadata=table_metadata(ALERT_REVIEWS),
)
def alert_reviews(context: dg.AssetExecutionContext, lake: Lake, landing_zone: LandingZone) -> dg.MaterializeResult:
    """One decision per reviewed transaction, the one made last: fraud, genuine or unsure.

    Ids that no Silver partition has are named, and so is every row that does not count.
    """
    feed, files = landing_zone.source.name, landing_zone.review_files()
    read = [_read(file) for file in files]
    decided = [
        (f"landing/{file.name}", datetime.fromtimestamp(file.path.stat().st_mtime, tz=UTC), reviewed.decisions)
        for file, (reviewed, _) in zip(files, read, strict=True)
    ]
    with lake.connect() as connection:
        rows = join_reviews(
            connection,
            latest_decisions(decided),
            alerts=lake.select(ALERTS),
            withdrawn=lake.select(WITHDRAWN_ALERTS),
            drawn=lake.select(REVIEW_SAMPLES),
            silver=lake.select(SILVER_TRANSACTIONS),
            feed=feed,
        )
    found = zip(rows["TransactionID"].to_pylist(), rows["partition_key"].to_pylist(), strict=True)
    unknown = {transaction for transaction, key in found if key is None}
    described = [
        {
            "review_file": name,
            "decisions": len(reviewed.decisions),
            "undecided": reviewed.undecided,
            "refused": list(reviewed.refused),
            "unknown_ids": [one.transaction for one in reviewed.decisions if one.transaction in unknown],
            "problem": problem,
            "read_at": datetime.now(tz=UTC),
            "reviews_version": reviews_digest(files),
            "feed": feed,
        }
        for (name, _, _), (reviewed, problem) in zip(decided, read, strict=True)
    ]
    # The files last: only with them is it known which were read, and a run that dies before is repeated.
    lake.replace_partition(ALERT_REVIEWS, feed, rows, provenance=provenance(context))
    of_files = pa.Table.from_pylist(described, schema=REVIEW_FILES.schema)
    lake.replace_partition(REVIEW_FILES, feed, of_files, provenance=provenance(context))
    outcomes = rows["outcome"].to_pylist()
    refused = [f"{one['review_file']}: {why}" for one in described for why in (*one["refused"], one["problem"]) if why]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(reviews_digest(files)),
        metadata={
            "dagster/row_count": len(rows),
            **{outcome: outcomes.count(outcome) for outcome in OUTCOMES},
            "unknown_ids": sorted(unknown),
            "refused": refused,
        },
    )


def _read(file: LandedFile) -> tuple[Reviewed, str | None]:
    try:
        return read_decisions(read_rows(file.path, ("TransactionID", REVIEW_COLUMNS[0]))), None
    except SpreadsheetError as error:
        return Reviewed((), 0, ()), str(error)
