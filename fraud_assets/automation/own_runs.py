"""Which of Dagster's runs are ours: an instance may be shared with other projects, whose runs are their own matter."""

from collections.abc import Sequence
from typing import Final

import dagster as dg

CODE_LOCATION: Final = "fraud_assets"
"""Name of the code location, as `workspace.yaml` and `pyproject.toml` have it."""


def own_runs(
    instance: dg.DagsterInstance, filters: dg.RunsFilter, *, location: str, limit: int | None = None
) -> Sequence[dg.DagsterRun]:
    """Return the runs of a code location among those that the filters find, the newest first.

    One that names no code location counts as its own: so are those that a command executes in its own process.
    """
    found = instance.get_runs(filters, limit=limit)
    return [run for run in found if run.remote_job_origin is None or run.remote_job_origin.location_name == location]


def location_of(context: dg.SensorEvaluationContext) -> str:
    """Return the name under which the code location of a sensor is loaded."""
    origin = context.code_location_origin
    return CODE_LOCATION if origin is None else origin.location_name
