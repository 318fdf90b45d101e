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
from fraud_assets.automation.sensors import build_sensors
from fraud_assets.checks.gold import GOLD_CHECKS
from fraud_assets.checks.model import MODEL_CHECKS
from fraud_assets.checks.silver import SILVER_CHECKS
from fraud_assets.resources.lake import open_lake
from fraud_assets.resources.landing_zone import LandingZone
from fraud_assets.resources.model_registry import ModelRegistry, tracked_run
from fraud_assets.settings import Settings, load_settings


def build_resources(settings: Settings) -> dict[str, Any]:
    """Return the resources of one feed; opens and creates nothing."""
    source = settings.load_source()
    data_dir = settings.resolved_data_dir(source)
    return {
        "lake": open_lake(data_dir),
        "landing_zone": LandingZone(data_dir=str(data_dir), source=settings.source),
        "model_registry": ModelRegistry(
            tracking_uri=settings.resolved_tracking_uri(source),
            registry_uri=settings.mlflow_registry_uri,
            model_name=settings.model_name,
            data_dir=str(data_dir),
        ),
        "mlflow": tracked_run,
    }


def build_definitions(settings: Settings, resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Return the code location of one feed.

    Args:
        settings: which feed, and where it lies.
        resources: take the place of the resources of the same name.
    """
    partitions = partitions_of(settings.load_source())
    partitioned = {asset.key for asset in (raw_transactions, silver_transactions_base, fraud_predictions)}
    assets = dg.map_asset_specs(
        lambda spec: spec.replace_attributes(partitions_def=partitions) if spec.key in partitioned else spec,
        [raw_transactions, silver_transactions_base, *MODEL_ASSETS, fraud_predictions],
    )
    return dg.Definitions(
        assets=assets,
        asset_checks=[*SILVER_CHECKS, *MODEL_CHECKS, *GOLD_CHECKS],
        jobs=JOBS,
        sensors=build_sensors(partitions, rescore_days=settings.rescore_days),
        resources={**build_resources(settings), **(resources or {})},
        # One Dagster run is one MLflow run only when its steps share a process.
        executor=dg.in_process_executor,
    )


defs = build_definitions(load_settings())
