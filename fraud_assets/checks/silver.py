"""Claims about the stored Silver tables, to run at will. The evaluators are the ones that build and gate Silver."""

import dagster as dg

from fraud_assets.assets.partition_runs import covered_keys
from fraud_assets.assets.silver import silver_transactions_base
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.state import silver_states
from fraud_assets.resources.tables import PARTITION_BUILDS, QUARANTINED_TRANSACTIONS, SILVER_TRANSACTIONS
from fraud_assets.silver.accounting import account_for_rows, shares_over_limit
from fraud_assets.silver.contract import check_features


@dg.asset_check(asset=silver_transactions_base)
def stored_features_match_contract(context: dg.AssetCheckExecutionContext, lake: Lake) -> dg.AssetCheckResult:
    """The stored features have the contract's names, order, types and rules."""
    keys = covered_keys(context.run.tags, silver_states(lake)) or None
    with lake.connect() as connection:
        check = check_features(connection, lake.select(SILVER_TRANSACTIONS, keys=keys))
    return dg.AssetCheckResult(
        passed=check.passed,
        description=check.summary(),
        metadata={"rows": check.rows, "violations": dict(check.violations)},
    )


@dg.asset_check(asset=silver_transactions_base)
def rows_are_accounted_for(context: dg.AssetCheckExecutionContext, lake: Lake) -> dg.AssetCheckResult:
    """Every landed row is in Silver or in quarantine: landed = Silver + quarantined, partition by partition."""
    keys = covered_keys(context.run.tags, silver_states(lake)) or None
    with lake.connect() as connection:
        accounting = account_for_rows(
            connection,
            builds=lake.select(PARTITION_BUILDS, keys=keys),
            silver=lake.select(SILVER_TRANSACTIONS, keys=keys),
            quarantined=lake.select(QUARANTINED_TRANSACTIONS, keys=keys),
        )
    return dg.AssetCheckResult(
        passed=not accounting.faults, metadata={"partitions": accounting.partitions, "faults": accounting.faults}
    )


@dg.asset_check(asset=silver_transactions_base)
def quarantine_share_is_within_limit(
    context: dg.AssetCheckExecutionContext, lake: Lake, quarantine_limit: dg.ResourceParam[float]
) -> dg.AssetCheckResult:
    """Of no partition's landed rows more than FRAUD_QUARANTINE_LIMIT are in quarantine. A warning: a person looks."""
    builds = lake.partition_states(PARTITION_BUILDS, ("landed_rows", "quarantined_rows"))
    keys = covered_keys(context.run.tags, builds) or builds
    over = shares_over_limit({key: builds[key] for key in keys}, limit=quarantine_limit)
    return dg.AssetCheckResult(
        passed=not over,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"limit": quarantine_limit, "partitions": len(keys), "share_by_partition_over_limit": over},
    )


SILVER_CHECKS = [stored_features_match_contract, rows_are_accounted_for, quarantine_share_is_within_limit]
