"""Schedules: off unless someone turns them on, and what they would request."""

from collections.abc import Callable
from datetime import UTC, datetime

import dagster as dg

from fraud_assets_tests.platform import TestPlatform


def test_retraining_is_off_by_default_and_would_request_one_training(
    make_platform: Callable[..., TestPlatform], instance: dg.DagsterInstance
) -> None:
    schedule = make_platform().definitions.resolve_schedule_def("retraining_schedule")

    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    assert (schedule.job_name, schedule.cron_schedule) == ("training_job", "0 3 * * 1")
    monday = datetime(2026, 1, 5, 3, tzinfo=UTC)
    with dg.build_schedule_context(instance=instance, scheduled_execution_time=monday) as context:
        requested = schedule.evaluate_tick(context).run_requests
    assert requested is not None
    assert len(requested) == 1
