"""The jobs that the table of stages makes, and the schedule: off unless someone turns it on."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import dagster as dg

from fraud_assets.staleness import STAGES
from fraud_assets_tests.platform import FIRST_DAY, TestPlatform


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


def test_a_job_covers_the_assets_of_all_its_stages_and_is_described_by_the_first(
    make_platform: Callable[..., TestPlatform],
) -> None:
    definitions = make_platform().definitions
    jobs = {
        name: definitions.resolve_job_def(name) for name in ("silver_job", "landing_job", "training_job", "scoring_job")
    }
    covered = {name: {key.path[-1] for key in job.asset_layer.selected_asset_keys} for name, job in jobs.items()}

    assert covered == {
        "silver_job": {"raw_transactions", "silver_transactions_base"},
        "landing_job": {"raw_transactions", "silver_transactions_base", "fraud_predictions", "fraud_alerts"},
        "training_job": {"fraud_isolation_forest", "evaluation_metrics", "prod_model"},
        "scoring_job": {"fraud_predictions", "fraud_alerts"},
    }
    [model] = [stage for stage in STAGES if stage.name == "model"]
    assert jobs["training_job"].description == model.does


def test_readers_see_the_scores_and_alerts_of_a_landing_before_its_checks_begin(scored_platform: TestPlatform) -> None:
    scored_platform.simulate(1, start=FIRST_DAY + timedelta(days=6))
    scored_platform.run()
    instance = scored_platform.instance
    [run] = instance.get_runs(dg.RunsFilter(job_name="landing_job"))
    begun = {
        entry.dagster_event.step_key: entry.timestamp
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)
        if entry.dagster_event
    }
    with scored_platform.lake.read_views() as views:
        [(published,)] = views.execute("SELECT epoch(max(as_of)) FROM tables").fetchall()
        shown = views.execute("SELECT max(partition_key) FROM gold.alert_lists").fetchall()
    assert shown == [("2026-01-07",)]
    checks = [at for step, at in begun.items() if step and step.startswith("silver_transactions_base_")]
    assert len(checks) == 3
    assert published < min(checks)
