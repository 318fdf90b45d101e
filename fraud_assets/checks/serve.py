"""Claims about what the HTTP service answered, to run at will and with every scoring."""

from pathlib import Path

import dagster as dg

from fraud_assets.assets.gold import fraud_predictions
from fraud_assets.assets.partition_runs import covered_keys
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandingZone
from fraud_assets.resources.state import silver_states
from fraud_assets.resources.tables import PREDICTIONS, SILVER_TRANSACTIONS
from fraud_assets.serve.journal import landed_entries
from fraud_assets.serve.parity import answers_table, compare_answers


@dg.asset_check(asset=fraud_predictions)
def answers_match_gold(
    context: dg.AssetCheckExecutionContext, lake: Lake, landing_zone: LandingZone
) -> dg.AssetCheckResult:
    """What the HTTP service answered is what Gold says, but for what became known later; nothing is missing.

    It only warns of missing ones: what landed a moment ago is scored by the next run.
    """
    keys = covered_keys(context.run.tags, silver_states(lake)) or None
    grain = landing_zone.source.partitions.grain
    answers = answers_table(landed_entries(Path(landing_zone.data_dir) / "serve"), grain)
    with lake.connect() as connection:
        parity = compare_answers(
            connection,
            answers,
            silver=lake.select(SILVER_TRANSACTIONS, keys=keys),
            gold=lake.select(PREDICTIONS, keys=keys),
        )
    return dg.AssetCheckResult(
        passed=not parity.different and not parity.missing,
        severity=dg.AssetCheckSeverity.ERROR if parity.different else dg.AssetCheckSeverity.WARN,
        metadata={"answers": parity.answers, **{f"share_{name}": share for name, share in parity.shares().items()}},
    )


SERVE_CHECKS = [answers_match_gold]
