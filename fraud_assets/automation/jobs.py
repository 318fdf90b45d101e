"""The jobs that do what is due, made from the table of stages, and the schedule that retrains."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import dagster as dg

from fraud_assets.assets.partition_runs import FIRST_PARTITION_TAG, LAST_PARTITION_TAG, MODEL_VERSION_TAG
from fraud_assets.run_requests import Request
from fraud_assets.staleness import Stage, with_following

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

PRIORITY_TAG = "dagster/priority"
# As Dagster's documentation names it; `dagster_home/dagster.yaml` bounds the runs that have it.

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
    """Return by job what it materializes: the assets of all its stages, and of those that it goes on with."""
    stages, assets = tuple(stages), dict[str, dict[str, None]]()
    for stage in stages:
        assets.setdefault(stage.job, {}).update(dict.fromkeys(stage.assets))
        if stage.goes_on_in:
            together = [name for one in with_following(stage, stages) for name in one.assets]
            assets.setdefault(stage.goes_on_in, {}).update(dict.fromkeys(together))
    return {job: [dg.AssetKey(name) for name in names] for job, names in assets.items()}


def build_jobs(stages: Iterable[Stage]) -> "list[UnresolvedAssetJobDefinition]":
    """Return the jobs of the stages; one that several share is described by the first of them."""
    stages, does, priority = tuple(stages), dict[str, str](), dict[str, int]()
    for stage in stages:
        does.setdefault(stage.job, stage.does)
        priority.setdefault(stage.job, stage.priority)
        if stage.goes_on_in:
            does[stage.goes_on_in] = " Then, in the same run: ".join(one.does for one in with_following(stage, stages))
    return [
        dg.define_asset_job(
            job,
            selection=dg.AssetSelection.assets(*assets),
            description=does[job],
            tags={PRIORITY_TAG: str(priority[job])} if priority.get(job) else None,
        )
        for job, assets in job_assets(stages).items()
    ]


def jobs_of(stage: Stage) -> set[str]:
    """Return the jobs that a request of the stage may run."""
    return {stage.job, stage.goes_on_in} - {""}


def job_and_selection(request: Request, stages: Iterable[Stage]) -> tuple[str, list[dg.AssetKey] | None]:
    """Return the job of a request, and what of the job it materializes; None for the whole job.

    Where the model version is known before the stage is done, the run goes on with what follows.
    """
    stages = tuple(stages)
    [stage] = [stage for stage in stages if stage.name == request.stage]
    if stage.goes_on_in and request.model_version:
        return stage.goes_on_in, None
    own = [dg.AssetKey(name) for name in stage.assets]
    return stage.job, None if own == job_assets(stages)[stage.job] else own


def run_tags(request: Request) -> dict[str, str]:
    """Return the tags that tell a run why it is made, its partitions and, where it is pinned, its model version."""
    tags = {"fraud_assets/why": "; ".join(dict.fromkeys(request.whys))}
    if request.keys[0]:
        tags |= {FIRST_PARTITION_TAG: request.keys[0], LAST_PARTITION_TAG: request.keys[-1]}
    if request.model_version:
        tags[MODEL_VERSION_TAG] = request.model_version
    return tags
