"""The jobs that do what is due, made from the table of stages, and the schedule that retrains."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import dagster as dg

from fraud_assets.assets.partition_runs import FIRST_PARTITION_TAG, LAST_PARTITION_TAG, MODEL_VERSION_TAG
from fraud_assets.staleness import Request, Stage

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

retraining_schedule = dg.ScheduleDefinition(
    name="retraining_schedule",
    job_name="training_job",
    cron_schedule="0 3 * * 1",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Trains a new version every Monday at 03:00 UTC, evaluates it and puts it behind @prod if it passes. "
    "Off until someone turns it on: a model is replaced when a person wants that.",
)


def job_assets(stages: Iterable[Stage]) -> dict[str, list[dg.AssetKey]]:
    """Return by job what it materializes: the assets of all its stages."""
    assets: dict[str, dict[str, None]] = {}
    for stage in stages:
        assets.setdefault(stage.job, {}).update(dict.fromkeys(stage.assets))
    return {job: [dg.AssetKey(name) for name in names] for job, names in assets.items()}


def build_jobs(stages: Iterable[Stage]) -> "list[UnresolvedAssetJobDefinition]":
    """Return the jobs of the stages; one that several share is described by the first of them."""
    does = {stage.job: stage.does for stage in reversed(tuple(stages))}
    return [
        dg.define_asset_job(job, selection=dg.AssetSelection.assets(*assets), description=does[job])
        for job, assets in job_assets(stages).items()
    ]


def asset_selection(stage: Stage, stages: Iterable[Stage]) -> list[dg.AssetKey] | None:
    """Return what a run of the stage's job materializes for it; None for the whole job."""
    own = [dg.AssetKey(name) for name in stage.assets]
    return None if own == job_assets(stages)[stage.job] else own


def run_tags(request: Request) -> dict[str, str]:
    """Return the tags that tell a run why it is made, its partitions and, where it is pinned, its model version."""
    tags = {"fraud_assets/why": "; ".join(dict.fromkeys(request.whys))}
    if request.keys[0]:
        tags |= {FIRST_PARTITION_TAG: request.keys[0], LAST_PARTITION_TAG: request.keys[-1]}
    if request.model_version:
        tags[MODEL_VERSION_TAG] = request.model_version
    return tags
