"""The sensors: every tick compares what is on disk with what should be, and requests the runs that are missing.

What is due is decided in `fraud_assets.staleness`; here only what Dagster must know: which runs are in flight, and
how often the same cause was tried. No cursor and no event decides: a lost run or a stopped daemon loses nothing.
"""

from collections.abc import Iterable
from hashlib import sha256

import dagster as dg

from fraud_assets.assets.partition_runs import covered_keys
from fraud_assets.automation.jobs import (
    JOB_NAMES,
    MODEL_KEYS,
    PART_OF_JOB,
    run_tags,
    scoring_job,
    silver_job,
    training_job,
)
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandingZone
from fraud_assets.resources.model_registry import ModelRegistry
from fraud_assets.resources.promotions import settle
from fraud_assets.resources.run_locks import forget, is_dead
from fraud_assets.resources.state import read_state
from fraud_assets.staleness import Due, PlatformState, Request, decide, requests

CAUSE_TAG = "fraud_assets/cause"
"""Run tag: digest of what made the run due. The same cause is tried `MAX_ATTEMPTS` times."""

MAX_ATTEMPTS = 3
"""A broken file does not mend itself; a full disk or a lost network may."""

IN_FLIGHT = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def build_sensors(partitions: dg.PartitionsDefinition, *, rescore_days: int) -> list[dg.SensorDefinition]:
    """Return the two sensors over the feed's partitions."""

    @dg.sensor(
        description="Requests Silver for partitions whose landed files, source file, feature contract or "
        "neighbouring partition changed.",
        job=silver_job,
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def landed_partitions_sensor(
        context: dg.SensorEvaluationContext,
        lake: Lake,
        landing_zone: LandingZone,
        model_registry: ModelRegistry,
    ) -> dg.SensorResult:
        _fail_dead_runs(context, lake.data_dir)
        landing = landing_zone.look(only_stable=True)
        if not lake.views_are_current():
            lake.publish_views()
        state = read_state(lake, landing_zone, model_registry, landing=landing, rescore_days=rescore_days)
        return _tick(context, state, decide(state).silver, partitions, notes=landing.notes)

    @dg.sensor(
        description="Requests the first training, Gold for Silver partitions that are not scored, or were scored "
        "before they changed, and an evaluation when labels landed.",
        jobs=[scoring_job, training_job],
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def unscored_partitions_sensor(
        context: dg.SensorEvaluationContext,
        lake: Lake,
        landing_zone: LandingZone,
        model_registry: ModelRegistry,
    ) -> dg.SensorResult:
        landing = landing_zone.look(only_stable=True, remember=False)
        state = read_state(lake, landing_zone, model_registry, landing=landing, rescore_days=rescore_days)
        # Settling costs as much as all the rest of a tick: only where @prod is not what it was when last settled.
        if (prod := state.prod_version or "") != (context.cursor or ""):
            settle(lake, model_registry)
            context.update_cursor(prod)
        plan = decide(state)
        # A first model waits for what has landed and is not built yet, unless that failed for good.
        building, _ = _open_requests(context.instance, state, plan.silver, list(partitions.get_partition_keys()))
        unbuilt = {key for request, _, _ in building for key in request.keys} - state.silver.keys()
        # An evaluation waits for all of it: what it would be of is still changing.
        due = [*(() if unbuilt else plan.model), *plan.gold, *(() if building else plan.evaluation)]
        return _tick(context, state, due, partitions, notes=plan.notes)

    return [landed_partitions_sensor, unscored_partitions_sensor]


def _tick(
    context: dg.SensorEvaluationContext,
    state: PlatformState,
    due: Iterable[Due],
    partitions: dg.PartitionsDefinition,
    *,
    notes: Iterable[str] = (),
) -> dg.SensorResult:
    due = tuple(due)
    for note in notes:
        context.log.info(note)
    all_keys = list(partitions.get_partition_keys())
    busy_keys, busy_jobs = _in_flight(context.instance, all_keys)
    free = [item for item in due if item.key not in busy_keys and (item.key or JOB_NAMES[item.layer] not in busy_jobs)]
    asked, waiting = _open_requests(context.instance, state, free, all_keys)
    reasons = [f"{label} failed {MAX_ATTEMPTS} times and waits for a change" for label in waiting]
    if len(free) < len(due):
        reasons.append(f"{len(due) - len(free)} due and in flight already")
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=f"{cause}-{attempt}",
                job_name=JOB_NAMES[request.layer],
                tags={**run_tags(request), CAUSE_TAG: cause},
                asset_selection=PART_OF_JOB.get(request.layer),
            )
            for request, cause, attempt in asked
        ],
        skip_reason=None if asked else "; ".join(reasons) or "nothing is due",
    )


def _open_requests(
    instance: dg.DagsterInstance, state: PlatformState, due: Iterable[Due], all_keys: list[str]
) -> tuple[list[tuple[Request, str, int]], list[str]]:
    """Return what is worth asking for, each with its cause and the number of the attempt; then what failed for good."""
    asked, waiting = [], []
    for request in requests(due, all_keys=all_keys):
        cause = cause_of(request, state)
        ended = instance.get_runs(dg.RunsFilter(tags={CAUSE_TAG: cause}))
        if [run.status for run in ended[:MAX_ATTEMPTS]] == [dg.DagsterRunStatus.FAILURE] * MAX_ATTEMPTS:
            waiting.append(request.label)
        else:
            asked.append((request, cause, len(ended) + 1))
    return asked, waiting


def _fail_dead_runs(context: dg.SensorEvaluationContext, data_dir: str) -> None:
    """Report runs failed whose process is gone, so that their partitions are due again."""
    for run in context.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        if is_dead(data_dir, run.run_id):
            context.log.warning(f"Run {run.run_id} is gone: its process ended without a word. Reported failed.")
            context.instance.report_run_failed(run, "The process of this run is gone; what it left is due again.")
            forget(data_dir, run.run_id)


def _in_flight(instance: dg.DagsterInstance, all_keys: list[str]) -> tuple[set[str], set[str]]:
    """Return the partitions and the jobs of runs that have not ended, whoever launched them."""
    keys, jobs = set[str](), set[str]()
    for run in instance.get_runs(dg.RunsFilter(statuses=IN_FLIGHT)):
        jobs.add(run.job_name)
        if run.asset_selection and MODEL_KEYS & run.asset_selection:
            jobs.add(JOB_NAMES["model"])
        keys.update(covered_keys(run.tags, all_keys))
    return keys, jobs


def cause_of(request: Request, state: PlatformState) -> str:
    """Return a digest of what makes the request due: the same cause gives the same run key."""
    lines = [
        request.layer,
        request.model_version,
        state.silver_data_version if request.layer == "model" else "",
        state.evaluation.labels_version if request.layer == "evaluation" and state.evaluation else "",
    ]
    for key in filter(None, request.keys):
        silver = state.silver.get(key)
        before = state.silver.get(state.previous_key[key])
        lines.append(
            f"{key} {state.landed.get(key)} {before and before.tail_version}"
            if request.layer == "silver"
            else f"{key} {silver and silver.silver_version}"
        )
    return sha256("\n".join(lines).encode()).hexdigest()[:24]
