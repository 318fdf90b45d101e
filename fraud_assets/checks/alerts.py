"""Claims about the stored lists of alerts, to run at will."""

import dagster as dg

from fraud_assets.alerts.soundness import compare_alerts
from fraud_assets.assets.alerts import fraud_alerts
from fraud_assets.assets.partition_runs import covered_keys
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.tables import ALERT_LISTS, ALERTS, PREDICTIONS


@dg.asset_check(asset=fraud_alerts)
def every_alert_has_its_score(context: dg.AssetCheckExecutionContext, lake: Lake) -> dg.AssetCheckResult:
    """Every alert has its score in Gold, the forest's are anomalies, ranks have no gap, and counts of lists hold."""
    keys = covered_keys(context.run.tags, lake.partition_states(ALERT_LISTS, ())) or None
    with lake.connect() as connection:
        faults = compare_alerts(
            connection,
            alerts=lake.select(ALERTS, keys=keys),
            lists=lake.select(ALERT_LISTS, keys=keys),
            scored=lake.select(PREDICTIONS, keys=keys),
        )
    return dg.AssetCheckResult(passed=not faults, metadata={"faults": faults})


ALERT_CHECKS = [every_alert_has_its_score]
