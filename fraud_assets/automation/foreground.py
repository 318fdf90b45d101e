"""Does now, in the foreground, whatever is due: the sensors' decision and Dagster's own jobs, one stage at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import monotonic, time

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from fraud_assets.automation.dead_runs import end_dead_runs
from fraud_assets.automation.jobs import job_and_selection, run_tags
from fraud_assets.automation.own_runs import CODE_LOCATION
from fraud_assets.resources.models.promotions import reconcile
from fraud_assets.resources.platform import Platform
from fraud_assets.run_requests import Request, requests
from fraud_assets.staleness import decide


@dataclass(frozen=True)
class Started:
    """A run begins."""

    request: Request


@dataclass(frozen=True)
class Ended:
    """A run has ended; `problem` says why it failed, and is empty where it did not."""

    request: Request
    seconds: float
    problem: str


def run_due(definitions: dg.Definitions, instance: dg.DagsterInstance, platform: Platform) -> Iterator[Started | Ended]:
    """Run what is due, stage by stage, until nothing is due that was not tried; yield as runs begin and end.

    One stage after the other: what is due is decided anew, from what is on disk, when a stage is done.
    """
    partitions = definitions.resolve_job_def("silver_job").partitions_def
    all_keys = [] if partitions is None else partitions.get_partition_keys()
    tried: set[str] = set()
    end_dead_runs(instance, str(platform.data_dir), now=time())
    for registry in (platform.model_registry, platform.ranker_registry):
        reconcile(platform.lake, registry)
    while True:
        plan = decide(platform.state(platform.landing_zone.look()), platform.stages)
        untried = [request for request in requests(plan.due, all_keys=all_keys) if request.cause not in tried]
        if not untried:
            break
        for request in (request for request in untried if request.stage == untried[0].stage):
            tried.add(request.cause)
            yield Started(request)
            began = monotonic()
            result = _execute(definitions, instance, request, *job_and_selection(request, platform.stages))
            yield Ended(request, monotonic() - began, _problem(result))


def _execute(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    request: Request,
    job_name: str,
    selection: Sequence[dg.AssetKey] | None,
) -> dg.JobExecutionResult:
    """Execute one run in this process, as one of the code location: else the UI shows it under no job."""
    job = definitions.resolve_job_def(job_name)
    repository = definitions.get_repository_def().name
    origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(CODE_LOCATION), repository)
    run = instance.create_run_for_job(
        job_def=job if selection is None else job.get_subset(asset_selection=set(selection)),
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags={**job.run_tags, **run_tags(request)},
        asset_selection=None if selection is None else frozenset(selection),
        remote_job_origin=RemoteJobOrigin(origin, job.name),
    )
    return execute_run(InMemoryJob(job), run, instance)


def _problem(result: dg.JobExecutionResult) -> str:
    """Return what a failed run says of itself: the words of the error, never its trace."""
    if result.success:
        return ""
    for event in result.all_events:
        data = event.event_specific_data
        said = getattr(data, "user_failure_data", None)
        if said is not None and said.description:
            return said.description
        error = getattr(data, "error", None)
        if event.is_failure and error is not None:
            while error.cause is not None:
                error = error.cause
            return error.message.strip()
    return "the run failed; `make dev` shows its log"
