"""Does now, in the foreground, whatever is due: the sensors' decision and Dagster's own jobs, one stage at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic

import dagster as dg

from fraud_assets.automation.jobs import asset_selection, run_tags
from fraud_assets.resources.platform import Platform
from fraud_assets.resources.promotions import settle
from fraud_assets.staleness import Request, decide, requests


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
    stages = {stage.name: stage for stage in platform.stages}
    partitions = definitions.resolve_job_def("silver_job").partitions_def
    all_keys = [] if partitions is None else partitions.get_partition_keys()
    tried: set[str] = set()
    settle(platform.lake, platform.model_registry)
    while True:
        plan = decide(platform.state(platform.landing_zone.look()), platform.stages)
        untried = [request for request in requests(plan.due, all_keys=all_keys) if request.cause not in tried]
        if not untried:
            break
        stage = stages[untried[0].stage]
        for request in (request for request in untried if request.stage == stage.name):
            tried.add(request.cause)
            yield Started(request)
            began = monotonic()
            result = definitions.resolve_job_def(stage.job).execute_in_process(
                instance=instance,
                tags=run_tags(request),
                asset_selection=asset_selection(stage, platform.stages),
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                raise_on_error=False,
            )
            yield Ended(request, monotonic() - began, _problem(result))


def _problem(result: dg.ExecuteInProcessResult) -> str:
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
