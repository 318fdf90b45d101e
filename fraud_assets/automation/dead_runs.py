"""Ends the runs whose process is gone, so that what they left is due again and their place in the queue is free.

Dagster's default launcher has no health check: what the run table says of a killed run stays as it was.
"""

import json
import socket
import time
from typing import Final

import dagster as dg
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._time import datetime_from_timestamp

from fraud_assets.automation.own_runs import CODE_LOCATION, location_of, own_runs
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.run_locks import forget, is_held, locked_runs, made_at

QUIET_SECONDS: Final = 25.0
"""A living run has no lock for moments only: before it opens the lake, and after it has closed it. A training may
import MLflow before, which took up to 20 s on a busy machine. A suspended one wakes to a retry, no worse."""

TAKING_SECONDS: Final = 1.0
"""A lock that exists and is not held was left by a process that is gone, or is being taken at this moment."""

_ANSWER_SECONDS: Final = 1.0
"""So long a code server may take to accept a connection: it is on this machine, or near."""

_ENDS: Final = {
    dg.DagsterEventType.RUN_SUCCESS,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.RUN_CANCELED,
}
"""Events after which a run does nothing more."""


def end_dead_runs(
    instance: dg.DagsterInstance, data_dir: str, *, now: float, location: str = CODE_LOCATION
) -> list[str]:
    """End the runs of a code location that only the run table takes for alive; return a sentence about each.

    A run is dead where no process holds the lock that it made, or where it has none and nothing was heard of it for
    `QUIET_SECONDS`. Where its end was stored as an event and the process died before the run table knew, it ends as it
    did. Otherwise it failed, or was canceled if that was asked of it. A run that was launched and has not begun is dead
    where the code server is gone that was to begin it; any other is ended by Dagster's own `run_monitoring`.
    """
    statuses = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    said = []
    for run in own_runs(instance, dg.RunsFilter(statuses=statuses), location=location):
        has_begun = run.status is not dg.DagsterRunStatus.STARTING
        if not (_is_dead(instance, data_dir, run.run_id, now) if has_begun else _never_begins(run)):
            continue
        said.append(f"Run {run.run_id} is gone: its process ended without a word. {_end(instance, run)}")
        forget(data_dir, run.run_id)
    _forget_finished(instance, data_dir)
    return said


def _never_begins(run: dg.DagsterRun) -> bool:
    """Whether nothing listens where the code server did that was to begin a run.

    A process that it did begin, and that outlived it, finds its run closed and does nothing.
    """
    match json.loads(run.tags.get(GRPC_INFO_TAG, "{}")):
        case {"socket": str() as address}:
            family = socket.AF_UNIX
        case {"host": str() as host, "port": int() as port}:
            family, address = socket.AF_INET, (host, port)
        case _:
            return False
    with socket.socket(family) as probe:
        probe.settimeout(_ANSWER_SECONDS)
        try:
            probe.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return True
        except OSError:  # nobody knows
            return False
    return False


def _is_dead(instance: dg.DagsterInstance, data_dir: str, run_id: str, now: float) -> bool:
    if is_held(data_dir, run_id):
        return False
    if (made := made_at(data_dir, run_id)) is not None:
        return now - made >= TAKING_SECONDS
    last = instance.get_records_for_run(run_id, limit=1, ascending=False).records
    return not last or now - last[0].timestamp >= QUIET_SECONDS


def _forget_finished(instance: dg.DagsterInstance, data_dir: str) -> None:
    """Remove the locks of runs that others have closed: a code server reports a child of its own that was killed."""
    for run_id in locked_runs(data_dir):
        run = instance.get_run_by_id(run_id)
        if run is not None and run.is_finished and not is_held(data_dir, run_id):
            forget(data_dir, run_id)


def _end(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Close a dead run, and say how."""
    for record in instance.get_records_for_run(run.run_id, of_type=_ENDS, limit=1, ascending=False).records:
        event = record.event_log_entry.get_dagster_event()
        instance.handle_run_event(run.run_id, event, datetime_from_timestamp(record.timestamp))
        return f"Its last event was {event.event_type_value}: closed as that."
    if run.status is dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, "The process of this run was gone before it could cancel.")
        return "Reported canceled."
    instance.report_run_failed(run, "The process of this run is gone; what it left is due again.")
    return "Reported failed."


def end_dead_runs_of(context: dg.SensorEvaluationContext, lake: Lake) -> int:
    """End the runs that are dead at a sensor's tick, log a sentence about each, and return how many they were."""
    said = end_dead_runs(context.instance, lake.data_dir, now=time.time(), location=location_of(context))
    for sentence in said:
        context.log.warning(sentence)
    return len(said)


@dg.sensor(
    description="Ends runs whose process is gone, so that what they left is due again.",
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def dead_runs_sensor(context: dg.SensorEvaluationContext, lake: Lake) -> dg.SkipReason:
    """End the runs that only the run table takes for alive, also where no other sensor is on that does it first."""
    dead = end_dead_runs_of(context, lake)
    return dg.SkipReason(f"{dead} runs were dead" if dead else "no started run is dead")
