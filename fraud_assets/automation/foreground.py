"""Does now, in the foreground, whatever is due: the sensors' decision and Dagster's own jobs, one stage at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic

import dagster as dg

from fraud_assets.automation.jobs import JOB_NAMES, PART_OF_JOB, run_tags
from fraud_assets.automation.sensors import cause_of
from fraud_assets.resources.models.promotions import reconcile
from fraud_assets.resources.platform import Platform
from fraud_assets.staleness import Due, Request, decide, requests


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

    Silver first, then the model, then Gold, then the evaluation; after each stage what is due is decided anew from what
    is on disk.
    """
    partitions = definitions.resolve_job_def("silver_job").partitions_def
    all_keys = [] if partitions is None else partitions.get_partition_keys()
    tried: set[str] = set()
    reconcile(platform.lake, platform.model_registry)
    while True:
        state = platform.state(platform.landing_zone.look())
        plan = decide(state)
        stages: tuple[tuple[Due, ...], ...] = (plan.silver, plan.model, plan.gold, plan.evaluation)
        untried = (
            [
                (request, cause)
                for request in requests(stage, all_keys=all_keys)
                if (cause := cause_of(request, state)) not in tried
            ]
            for stage in stages
        )
        stage = next(filter(None, untried), None)
        if stage is None:
            break
        for request, cause in stage:
            tried.add(cause)
            yield Started(request)
            began = monotonic()
            result = definitions.resolve_job_def(JOB_NAMES[request.layer]).execute_in_process(
                instance=instance,
                tags=run_tags(request),
                asset_selection=PART_OF_JOB.get(request.layer),
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
