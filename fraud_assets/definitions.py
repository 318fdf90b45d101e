"""Assembles the code location; implements nothing.

Reads `.env` and the source file, and nothing else: no table, no model, no heavy import.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from fraud_assets.assets.alerts import fraud_alerts
from fraud_assets.assets.bronze import raw_transactions
from fraud_assets.assets.gold import fraud_predictions
from fraud_assets.assets.history import card_history
from fraud_assets.assets.model import MODEL_ASSETS
from fraud_assets.assets.ranker import fraud_alert_ranker
from fraud_assets.assets.report import fraud_report
from fraud_assets.assets.reviews import alert_reviews
from fraud_assets.assets.silver import quarantined_transactions, silver_transactions_base
from fraud_assets.automation.jobs import build_jobs, retraining_schedule
from fraud_assets.automation.maintenance import build_maintenance_job, maintenance_schedule
from fraud_assets.automation.notifications import build_notifications_sensor
from fraud_assets.automation.sensors import WATCH_SECONDS, build_sensors
from fraud_assets.checks.alerts import ALERT_CHECKS
from fraud_assets.checks.gold import GOLD_CHECKS
from fraud_assets.checks.model import MODEL_CHECKS
from fraud_assets.checks.serve import SERVE_CHECKS
from fraud_assets.checks.silver import SILVER_CHECKS
from fraud_assets.partition_keys import KEY_FORMATS
from fraud_assets.resources.models.tracked_run import tracked_run
from fraud_assets.resources.platform import Platform
from fraud_assets.resources.tables import TABLES
from fraud_assets.settings import Settings, load_settings
from fraud_assets.silver.source import Source
from fraud_assets.spark.session import spark_options
from fraud_assets.staleness import STAGES, Stage

ASSETS = (
    raw_transactions,
    silver_transactions_base,
    quarantined_transactions,
    card_history,
    *MODEL_ASSETS,
    fraud_predictions,
    fraud_alerts,
    alert_reviews,
    fraud_alert_ranker,
    fraud_report,
)
"""Every asset of the code location, from landing to the report."""


def build_definitions(
    settings: Settings,
    resources: Mapping[str, Any] | None = None,
    *,
    stages: Sequence[Stage] = STAGES,
    assets: Sequence[dg.AssetsDefinition] = ASSETS,
    watch_seconds: float = WATCH_SECONDS,
) -> dg.Definitions:
    """Return the code location of one feed; `resources` take the place of those of the same name.

    Stages with a table have the feed's partitions; `assets` are what the stages materialize; a tick waits for
    `watch_seconds` for a file to land.
    """
    platform = Platform(settings, tuple(stages))
    partitions = partitions_of(platform.source)
    jobs = build_jobs(stages)
    return dg.Definitions(
        assets=_assets_of_feed(assets, platform, partitions),
        asset_checks=[*SILVER_CHECKS, *MODEL_CHECKS, *GOLD_CHECKS, *ALERT_CHECKS, *SERVE_CHECKS],
        jobs=[*jobs, build_maintenance_job(platform)],
        schedules=[retraining_schedule, maintenance_schedule],
        sensors=[
            *build_sensors(
                partitions,
                stages,
                jobs,
                watch_seconds=watch_seconds,
                rescore_days=settings.rescore_days,
                alerts_per_day=settings.alerts_per_day,
                label_delay_days=settings.label_delay_days if settings.rank_by_labels else None,
            ),
            build_notifications_sensor(platform),
        ],
        resources={
            "lake": platform.lake,
            "landing_zone": platform.landing_zone,
            "model_registry": platform.model_registry,
            "ranker_registry": platform.ranker_registry,
            "mlflow": tracked_run,
            "alerts_per_day": settings.alerts_per_day,
            "review_sample_per_day": settings.review_sample_per_day,
            "ranks_by_labels": settings.rank_by_labels,
            "label_delay_days": settings.label_delay_days,
            "spark": spark_options(settings),
            "quarantine_limit": settings.quarantine_limit,
            **(resources or {}),
        },
        # One Dagster run is one MLflow run only when its steps share a process.
        executor=dg.in_process_executor,
    )


def _assets_of_feed(
    assets: Sequence[dg.AssetsDefinition], platform: Platform, partitions: dg.PartitionsDefinition
) -> Sequence[dg.AssetsDefinition]:
    """Return the assets with what only the feed knows: its partitions, where tables lie, how late is too late."""
    partitioned = {dg.AssetKey(name) for stage in platform.stages if stage.table for name in stage.assets}
    tables = {table.address: table for table in TABLES}
    late_after = platform.source.partitions.late_after

    def of_feed(spec: dg.AssetSpec) -> dg.AssetSpec:
        if table := tables.get(spec.metadata.get("dagster/table_name", "")):
            location = Path(platform.lake.location(table)).as_uri()
            spec = spec.replace_attributes(metadata={**spec.metadata, "dagster/uri": location})
        if spec.key in {*partitioned, quarantined_transactions.key}:
            spec = spec.replace_attributes(partitions_def=partitions)
        if spec.key == raw_transactions.key and late_after is not None:
            spec = spec.replace_attributes(freshness_policy=dg.FreshnessPolicy.time_window(fail_window=late_after))
        return spec

    return dg.map_asset_specs(of_feed, assets)


def partitions_of(source: Source) -> dg.TimeWindowPartitionsDefinition:
    """Return the partitions of `source`, the running day or hour included: it is scored while it fills."""
    hourly = source.partitions.grain == "hourly"
    return (dg.HourlyPartitionsDefinition if hourly else dg.DailyPartitionsDefinition)(
        start_date=source.first_key,
        end_date=source.end_key,
        fmt=KEY_FORMATS[source.partitions.grain],
        timezone="UTC",
        end_offset=1,
    )


defs = build_definitions(load_settings())
