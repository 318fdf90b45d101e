"""The list of alerts: Gold scores become what an analyst works through. How is `fraud_assets.alerts`'s business."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any

import dagster as dg

from fraud_assets.alerts.lists import AlertList, earlier_keys, list_alerts, most_alerts
from fraud_assets.assets.descriptions import OWNERS, markdown_table, table_metadata
from fraud_assets.assets.gold import fraud_predictions
from fraud_assets.assets.partition_runs import PartitionMade, PartitionRefusedError, materialize_each, provenance
from fraud_assets.assets.silver import silver_transactions_base
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandingZone
from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets.resources.tables import (
    ALERT_LISTS,
    ALERTS,
    PARTITION_BUILDS,
    PREDICTIONS,
    SILVER_TRANSACTIONS,
    WITHDRAWN_ALERTS,
)


@dg.asset(
    deps=[silver_transactions_base, fraud_predictions],
    group_name="gold",
    kinds={"deltalake"},
    owners=OWNERS,
    code_version="1",
    backfill_policy=dg.BackfillPolicy.single_run(),
    metadata=table_metadata(ALERTS, copied_from=PREDICTIONS),
)
def fraud_alerts(
    context: dg.AssetExecutionContext,
    lake: Lake,
    landing_zone: LandingZone,
    model_registry: ModelRegistry,
    alerts_per_day: dg.ResourceParam[int],
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """The most suspicious anomalies of a partition, in the order of work, each with its reasons and its card's day.

    What was shown and is no alert any more moves to `gold.withdrawn_alerts`.
    """
    grain = landing_zone.source.partitions.grain
    scored = lake.partition_states(PREDICTIONS, ("model_version",))
    built = lake.partition_states(PARTITION_BUILDS, ("silver_rows",))
    lists = lake.partition_states(ALERT_LISTS, ("alerts", "alerts_per_day"))
    shown = {other: one["alerts"] for other, one in lists.items() if one["alerts_per_day"] == alerts_per_day}
    scorer = cache(model_registry.scorer)

    def make(key: str) -> PartitionMade:
        if key not in scored and (key not in built or built[key]["silver_rows"]):
            raise PartitionRefusedError(f"{key} is not scored yet. `fraud-assets run` does whatever is due.")
        version = scored[key]["model_version"] if key in scored else ""
        made = list_alerts(
            connection,
            scored=lake.select(PREDICTIONS, keys=[key]),
            silver=lake.select(SILVER_TRANSACTIONS, keys=[key]),
            earlier=lake.select(SILVER_TRANSACTIONS, keys=earlier_keys(key, scored, grain)),
            shown=lake.select(ALERTS, keys=[key]),
            withdrawn=lake.select(WITHDRAWN_ALERTS, keys=[key]),
            scorer=scorer(version) if version else None,
            most=most_alerts(key, grain, alerts_per_day, shown),
            alerts_per_day=alerts_per_day,
            alerted_at=datetime.now(tz=UTC),
        )
        origin = provenance(context, model_version=version)
        # The list's row last: only with it is the partition done, and a run that dies before is repeated.
        for table, rows in (
            (WITHDRAWN_ALERTS, made.withdrawn),
            (ALERTS, made.alerts),
            (ALERT_LISTS, made.summary),
        ):
            lake.replace_partition(table, key, rows, provenance=origin)
        shown[key] = len(made.alerts)
        return _shown(made, f"{version}-{alerts_per_day}")

    with lake.connect() as connection:
        yield from materialize_each(context, make)


def _shown(made: AlertList, made_by: str) -> PartitionMade:
    """Return what Dagster shows of a list: how long it is, of how many rows, how much is at risk, and its head."""
    # Not the times: to make Python's of them, pyarrow imports pandas first.
    figures: dict[str, Any] = (made.summary.drop_columns(["alerted_at"]).to_pylist() or [{}])[0]
    names = ("below_the_cut", "alerted_cards", "usual_bursts", "amount_at_risk", "model_version", "silver_version")
    head = made.alerts.select(["rank", "card_id", "ProductCD", "reason"]).slice(0, 5).to_pylist()
    return PartitionMade(
        rows=len(made.alerts),
        data_version=f"{figures.get('silver_version', '')}-{made_by}",
        metadata={
            "alerts": len(made.alerts),
            "alert_rate": len(made.alerts) / figures.get("scored_rows", 1),
            **{name: figures[name] for name in names if name in figures},
            "withdrawn": len(made.withdrawn),
        },
        preview=markdown_table(["rank", "card", "product", "why"], [[*row.values()] for row in head]),
    )
