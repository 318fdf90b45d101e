"""The schedules: what is done because time passed, not because something on disk is due."""

import dagster as dg

from fraud_assets.automation.jobs import training_job

retraining_schedule = dg.ScheduleDefinition(
    name="retraining_schedule",
    job=training_job,
    cron_schedule="0 3 * * 1",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Trains a new version every Monday at 03:00 UTC, evaluates it and puts it behind @prod if it passes. "
    "Off until someone turns it on: a model is replaced when a person wants that.",
)

SCHEDULES = [retraining_schedule]
