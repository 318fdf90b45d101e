"""The sensors: every tick compares what is on disk with what should be, and requests the runs that are missing.

What is due is decided in `fraud_assets.staleness`; here only what Dagster must know: which runs are in flight, and
how often the same cause was tried. No cursor and no event decides: a lost run or a stopped daemon loses nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final

import dagster as dg

from fraud_assets.assets.partition_runs import covered_keys
from fraud_assets.automation.dead_runs import dead_runs_sensor, end_dead_runs_of
from fraud_assets.automation.jobs import job_and_selection, job_assets, jobs_of, run_tags
from fraud_assets.automation.own_runs import location_of, own_runs
from fraud_assets.platform_state import PlatformState
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandingZone
from fraud_assets.resources.models.promotions import reconcile
from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets.resources.state import read_state
from fraud_assets.run_requests import Request, requests
from fraud_assets.staleness import Due, Stage, decide

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

CAUSE_TAG = "fraud_assets/cause"
"""Run tag: digest of what made the run due. The same cause is tried `MAX_ATTEMPTS` times."""

WATCH_SECONDS: Final = 4.0
"""For so long a tick watches landing. Dagster's ticks are five seconds apart, and come one after the other: with this
nearly all of that time is watched, and the other sensors do not wait."""

_SECONDS_BETWEEN_TICKS: Final = 1
"""Less than the five that Dagster's loop takes: a sensor that is a moment early would miss a whole round."""

MAX_ATTEMPTS = 3
"""A broken file does not mend itself; a full disk or a lost network may."""

IN_FLIGHT = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
"""States of a run that has not ended."""


def build_sensors(
    partitions: dg.PartitionsDefinition,
    stages: Sequence[Stage],
    jobs: "Sequence[UnresolvedAssetJobDefinition]",
    *,
    watch_seconds: float = WATCH_SECONDS,
    **settings: int | None,
) -> list[dg.SensorDefinition]:
    """Return the sensors over the feed's partitions: two that request what is due, one that ends dead runs.

    Where nothing is due, a tick that looks at landing watches it for `watch_seconds` and looks again when a file lands.
    `settings` are those that `read_state` takes.
    """
    requesting = partial(
        _requesting_sensor,
        partitions=partitions,
        stages=stages,
        jobs=jobs,
        read=partial(read_state, stages=stages, **settings),
    )
    return [
        requesting(
            "landed_partitions_sensor",
            "Requests Silver for partitions whose landed files, source file, feature contract or partition before "
            "changed.",
            watch_seconds=watch_seconds,
        ),
        requesting(
            "unscored_partitions_sensor",
            "Requests the first training, Gold for Silver partitions that are not scored, or were scored before they "
            "changed, and what follows: alerts, their ranker, reviews, an evaluation when labels landed, pages.",
            watch_seconds=None,
        ),
        dead_runs_sensor,
    ]


def _requesting_sensor(
    name: str,
    description: str,
    *,
    partitions: dg.PartitionsDefinition,
    stages: Sequence[Stage],
    jobs: "Sequence[UnresolvedAssetJobDefinition]",
    read: Callable[..., PlatformState],
    watch_seconds: float | None,
) -> dg.SensorDefinition:
    """Return a sensor that requests what is due of its stages; the one that watches landing publishes for both."""
    watches = watch_seconds is not None

    @dg.sensor(
        name=name,
        description=description,
        jobs=[job for job in jobs if any(job.name in jobs_of(stage) for stage in stages if stage.sensor == name)],
        minimum_interval_seconds=_SECONDS_BETWEEN_TICKS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(
        context: dg.SensorEvaluationContext, lake: Lake, landing_zone: LandingZone, model_registry: ModelRegistry
    ) -> dg.SensorResult:
        def look(*, remember: bool) -> dg.SensorResult:
            # Or what they left would be taken for in flight until another tick has ended them.
            end_dead_runs_of(context, lake)
            landing = landing_zone.look(only_stable=True, remember=remember)
            state = read(lake, landing_zone, model_registry, landing=landing)
            plan = decide(state, stages)
            prod = f"version behind @prod: {state.prod_version or 'none'}"
            is_news = _log_news(context, landing.notes if watches else (prod, *plan.notes))
            if watches:
                lake.publish_views()
            # To reconcile costs as much as all the rest of a tick: only where @prod is not what it was then.
            if is_news and not watches:
                reconcile(lake, model_registry)
            return _tick(context, name, plan.due, stages, partitions.get_partition_keys())

        until = monotonic() + (watch_seconds or 0)
        with landing_zone.watched() as wait_for_landing:
            result = look(remember=watches)
            while not result.run_requests and wait_for_landing(until - monotonic()):
                result = look(remember=False)
        return result

    return sensor


def _log_news(context: dg.SensorEvaluationContext, lines: Iterable[str]) -> bool:
    """Log the lines and return True where they are not those of the last tick: what stays is not said again."""
    text = "\n".join(lines)
    if is_news := text != (context.cursor or ""):
        context.log.info(text or "nothing to note any more")
        context.update_cursor(text)
    return is_news


def _tick(
    context: dg.SensorEvaluationContext,
    sensor: str,
    plan: Sequence[Due],
    stages: Sequence[Stage],
    all_keys: Sequence[str],
) -> dg.SensorResult:
    """Request what is due of the sensor's stages, unless it is in flight, failed for good, or has to wait."""
    by_name = {stage.name: stage for stage in stages}

    def waits(stage: Stage) -> bool:
        before = [item for item in plan if item.stage in stage.waits_for and not item.is_correction]
        return bool(_open_requests(context.instance, before, all_keys)[0])

    mine = {item.stage for item in plan if by_name[item.stage].sensor == sensor}
    ready = {name for name in mine if not waits(by_name[name])}
    due = [item for item in plan if item.stage in ready]
    busy_keys, busy_jobs = _in_flight(context, stages, all_keys)
    busy = busy_keys | busy_jobs

    def is_free(item: Due) -> bool:
        stage = by_name[item.stage]
        # What nobody waits for is done together by the run after the one that is in flight: of many partitions that
        # change one after the other, not each has a run of its own.
        waits_for_another = stage.priority < 0 and stage.job in busy_jobs
        return not waits_for_another and (item.key or stage.job) not in busy

    free = [item for item in due if is_free(item)]
    asked, failed = _open_requests(context.instance, free, all_keys)
    for request, _ in asked:
        context.log.info(f"{request.label} requested: {'; '.join(dict.fromkeys(request.whys))}")
    reasons = [f"{request.label} failed {MAX_ATTEMPTS} times and waits for a change" for request in failed]
    if len(free) < len(due):
        reasons.append(f"{len(due) - len(free)} due, and in flight already or behind a run that is")
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=f"{request.cause}-{attempt}",
                job_name=job,
                tags={**run_tags(request), CAUSE_TAG: request.cause},
                asset_selection=selection,
            )
            for request, attempt in asked
            for job, selection in [job_and_selection(request, stages)]
        ],
        skip_reason=None if asked else "; ".join(reasons) or "nothing is due",
    )


def _open_requests(
    instance: dg.DagsterInstance, due: Iterable[Due], all_keys: Sequence[str]
) -> tuple[list[tuple[Request, int]], list[Request]]:
    """Return what is worth asking for, each with the number of the attempt; then what failed for good."""
    asked, failed = [], []
    for request in requests(due, all_keys=all_keys):
        ended = instance.get_runs(dg.RunsFilter(tags={CAUSE_TAG: request.cause}))
        if [run.status for run in ended[:MAX_ATTEMPTS]] == [dg.DagsterRunStatus.FAILURE] * MAX_ATTEMPTS:
            failed.append(request)
        else:
            asked.append((request, len(ended) + 1))
    return asked, failed


def _in_flight(
    context: dg.SensorEvaluationContext, stages: Iterable[Stage], all_keys: Iterable[str]
) -> tuple[set[str], set[str]]:
    """Return the partitions and the jobs of runs that have not ended, whoever launched them.

    A run of any asset of a job, launched from an asset's page, counts as one of the job.
    """
    keys, jobs = set[str](), set[str]()
    filters = dg.RunsFilter(statuses=IN_FLIGHT)
    for run in own_runs(context.instance, filters, location=location_of(context)):
        selected = run.asset_selection or frozenset()
        jobs |= {run.job_name, *(job for job, assets in job_assets(stages).items() if selected & {*assets})}
        keys.update(covered_keys(run.tags, all_keys))
    return keys, jobs
