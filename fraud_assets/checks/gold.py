"""Claims about the stored Gold tables, to run at will."""

import dagster as dg

from fraud_assets.assets.gold import fraud_predictions
from fraud_assets.assets.partition_runs import covered_keys
from fraud_assets.gold.completeness import compare_scored
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.state import silver_states
from fraud_assets.resources.tables import PREDICTIONS, SILVER_TRANSACTIONS


@dg.asset_check(asset=fraud_predictions)
def every_transaction_is_scored_once(context: dg.AssetCheckExecutionContext, lake: Lake) -> dg.AssetCheckResult:
    """Every Silver row of a scored partition has exactly one score, and no score is without its row."""
    keys = covered_keys(context.run.tags, silver_states(lake)) or None
    with lake.connect() as connection:
        completeness = compare_scored(
            connection, silver=lake.select(SILVER_TRANSACTIONS, keys=keys), gold=lake.select(PREDICTIONS, keys=keys)
        )
    return dg.AssetCheckResult(
        passed=not completeness.faults, metadata={"rows": completeness.rows, "faults": completeness.faults}
    )


GOLD_CHECKS = [every_transaction_is_scored_once]
