"""Assembles the code location; implements nothing.

Reads `.env` and the source file, and nothing else: no table, no model, no heavy import.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from fraud_assets.assets.bronze import raw_transactions
from fraud_assets.assets.gold import fraud_predictions
from fraud_assets.assets.model import MODEL_ASSETS
from fraud_assets.assets.silver import silver_transactions_base
from fraud_assets.automation.jobs import JOBS
from fraud_assets.automation.partitions import partitions_of
from fraud_assets.automation.schedules import SCHEDULES
from fraud_assets.automation.sensors import build_sensors
from fraud_assets.checks.gold import GOLD_CHECKS
from fraud_assets.checks.model import MODEL_CHECKS
from fraud_assets.checks.silver import SILVER_CHECKS
from fraud_assets.resources.models.tracked_run import tracked_run
from fraud_assets.resources.platform import Platform
from fraud_assets.settings import Settings, load_settings


def build_definitions(settings: Settings, resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Return the code location of one feed.

    Args:
        settings: which feed, and where it lies.
        resources: take the place of the resources of the same name.
    """
    platform = Platform(settings)
    partitions = partitions_of(platform.source)
    partitioned = {asset.key for asset in (raw_transactions, silver_transactions_base, fraud_predictions)}
    assets = dg.map_asset_specs(
        lambda spec: spec.replace_attributes(partitions_def=partitions) if spec.key in partitioned else spec,
        [raw_transactions, silver_transactions_base, *MODEL_ASSETS, fraud_predictions],
    )
    return dg.Definitions(
        assets=assets,
        asset_checks=[*SILVER_CHECKS, *MODEL_CHECKS, *GOLD_CHECKS],
        jobs=JOBS,
        schedules=SCHEDULES,
        sensors=build_sensors(partitions, rescore_days=settings.rescore_days),
        resources={
            "lake": platform.lake,
            "landing_zone": platform.landing_zone,
            "model_registry": platform.model_registry,
            "mlflow": tracked_run,
            "alerts_per_day": settings.alerts_per_day,
            **(resources or {}),
        },
        # One Dagster run is one MLflow run only when its steps share a process.
        executor=dg.in_process_executor,
    )


defs = build_definitions(load_settings())
