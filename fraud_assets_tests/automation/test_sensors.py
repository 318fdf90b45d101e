"""The sensors, tick by tick, on a real instance and real files."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from random import randrange

import dagster as dg
import pytest
from dagster._core.utils import make_new_run_id
from mlflow import MlflowClient

from fraud_assets.automation import dead_runs
from fraud_assets.automation.sensors import CAUSE_TAG, MAX_ATTEMPTS
from fraud_assets.resources.models.promotions import apply_decision
from fraud_assets.resources.run_locks import hold_run_lock
from fraud_assets.resources.tables import PREDICTIONS
from fraud_assets.staleness import PROD_TAKEN_AWAY
from fraud_assets_tests.depth import full_only
from fraud_assets_tests.platform import TestPlatform

MakePlatform = Callable[..., TestPlatform]


def tick(platform: TestPlatform, sensor: str) -> tuple[list[dg.RunRequest], str | None]:
    definitions = platform.definitions
    resources = {
        "lake": platform.lake,
        "landing_zone": platform.landing_zone,
        "model_registry": platform.model_registry,
    }
    with dg.build_sensor_context(
        instance=platform.instance, resources=resources, repository_def=definitions.get_repository_def()
    ) as context:
        result = definitions.resolve_sensor_def(sensor)(context)
    assert isinstance(result, dg.SensorResult)
    reason = result.skip_reason
    return list(result.run_requests or []), reason.skip_message if isinstance(reason, dg.SkipReason) else reason


def landed(platform: TestPlatform) -> tuple[list[dg.RunRequest], str | None]:
    return tick(platform, "landed_partitions_sensor")


def unscored(platform: TestPlatform) -> tuple[list[dg.RunRequest], str | None]:
    return tick(platform, "unscored_partitions_sensor")


def end_dead_runs(platform: TestPlatform) -> str | None:
    with dg.build_sensor_context(
        instance=platform.instance,
        resources={"lake": platform.lake},
        repository_def=platform.definitions.get_repository_def(),
    ) as context:
        return platform.definitions.resolve_sensor_def("dead_runs_sensor")(context).skip_message


def ranges(requests: list[dg.RunRequest]) -> list[tuple[str, str]]:
    return [
        (request.tags["dagster/asset_partition_range_start"], request.tags["dagster/asset_partition_range_end"])
        for request in requests
    ]


def record_run(platform: TestPlatform, request: dg.RunRequest, status: dg.DagsterRunStatus) -> dg.DagsterRun:
    """Store a run as the daemon would have made it for the request."""
    assert request.job_name is not None
    run = dg.DagsterRun(request.job_name, run_id=make_new_run_id(), tags=dict(request.tags), status=status)
    platform.instance.add_run(run)
    platform.instance.report_engine_event("Recorded.", run)  # of which nothing was ever heard is dead
    return run


def run_requested(platform: TestPlatform, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    assert request.job_name is not None
    return platform.definitions.resolve_job_def(request.job_name).execute_in_process(
        instance=platform.instance,
        tags=dict(request.tags),
        asset_selection=request.asset_selection,
        raise_on_error=False,
    )


def test_a_file_that_was_put_in_place_whole_counts_at_once(make_platform: MakePlatform) -> None:
    platform = make_platform()
    platform.simulate(3)

    requests, reason = landed(platform)

    assert reason is None
    assert ranges(requests) == [("2026-01-01", "2026-01-03")]
    assert requests[0].job_name == "silver_job"
    assert requests[0].tags["fraud_assets/why"] == "landed, not built yet"


def test_a_file_that_grows_waits_until_it_holds_still(make_platform: MakePlatform) -> None:
    platform = make_platform()
    [day] = platform.simulate(1)
    for _ in range(2):  # in its place, where no rename says that it is whole
        day.write_text(day.read_text() + "\n")
        assert landed(platform)[0] == []

    assert len(landed(platform)[0]) == 1


def test_a_repeated_tick_asks_with_the_same_run_key(make_platform: MakePlatform) -> None:
    platform = make_platform()
    platform.simulate(1)
    landed(platform)

    [first], [again] = landed(platform)[0], landed(platform)[0]

    assert first.run_key == again.run_key


def test_days_that_are_not_contiguous_are_asked_for_in_two_runs(make_platform: MakePlatform) -> None:
    platform = make_platform()
    platform.simulate(2)
    platform.simulate(1, start=date(2026, 1, 5))
    landed(platform)

    requests, _ = landed(platform)

    assert ranges(requests) == [("2026-01-01", "2026-01-02"), ("2026-01-05", "2026-01-05")]
    assert len({request.run_key for request in requests}) == 2


@pytest.mark.parametrize(
    "status",
    [
        dg.DagsterRunStatus.NOT_STARTED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
        dg.DagsterRunStatus.CANCELING,
    ],
)
def test_nothing_is_asked_for_twice_while_a_run_is_in_flight(
    make_platform: MakePlatform, status: dg.DagsterRunStatus
) -> None:
    platform = make_platform()
    platform.simulate(2)
    landed(platform)
    [request], _ = landed(platform)
    record_run(platform, request, status)

    assert landed(platform) == ([], "2 due, and in flight already or behind a run that is")


def test_a_failed_run_is_tried_again_with_a_fresh_run_key_three_times_in_all(make_platform: MakePlatform) -> None:
    platform = make_platform()
    platform.simulate(1)
    landed(platform)
    keys = set()
    for _ in range(MAX_ATTEMPTS):
        [request], _ = landed(platform)
        keys.add(request.run_key)
        record_run(platform, request, dg.DagsterRunStatus.FAILURE)

    assert len(keys) == MAX_ATTEMPTS == 3
    assert landed(platform) == ([], "silver 2026-01-01 failed 3 times and waits for a change")

    [day] = platform.simulate(1)
    day.write_text(day.read_text() + "\n")
    landed(platform)
    assert len(landed(platform)[0]) == 1


def test_what_became_due_again_after_a_success_is_asked_for_again(make_platform: MakePlatform) -> None:
    platform = make_platform()
    platform.simulate(1)
    landed(platform)
    [request], _ = landed(platform)
    record_run(platform, request, dg.DagsterRunStatus.SUCCESS)

    [again], _ = landed(platform)

    assert again.tags[CAUSE_TAG] == request.tags[CAUSE_TAG]
    assert again.run_key != request.run_key


def test_what_a_dead_run_left_is_due_again_at_the_tick_that_ends_it(
    make_platform: MakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_runs, "QUIET_SECONDS", 0.0)
    platform = make_platform()
    platform.simulate(1)
    landed(platform)
    [request], _ = landed(platform)
    run = record_run(platform, request, dg.DagsterRunStatus.STARTED)
    with hold_run_lock(str(platform.data_dir), run.run_id):
        assert end_dead_runs(platform) == "no started run is dead"
        assert landed(platform)[0] == []

    [again], _ = landed(platform)

    assert again.run_key != request.run_key
    record_run(platform, again, dg.DagsterRunStatus.STARTED)
    assert end_dead_runs(platform) == "1 runs were dead"


def test_a_new_feed_gets_silver_then_a_model_then_gold(make_platform: MakePlatform) -> None:
    platform = make_platform()
    platform.simulate(3)
    assert unscored(platform) == ([], "nothing is due")
    landed(platform)
    assert unscored(platform) == ([], "nothing is due")

    launched = []
    for _ in range(6):
        for sensor in ("landed_partitions_sensor", "unscored_partitions_sensor"):
            for request in tick(platform, sensor)[0]:
                assert run_requested(platform, request).success
                launched.append(request.job_name)

    assert launched == ["silver_job", "training_job", "scoring_job"]
    assert {gold.of["model_version"] for gold in platform.state().gold.values()} == {"1"}
    assert platform.lake.views_are_current()


@full_only("trains by itself")
def test_a_partition_that_failed_for_good_holds_neither_the_first_training_nor_scoring_up(
    make_platform: MakePlatform,
) -> None:
    platform = make_platform()
    _, broken, _ = platform.simulate(3)
    broken.write_text("no,such,columns\n1,2,3\n")
    landed(platform)
    while requests := landed(platform)[0]:
        assert unscored(platform)[0] == []
        for request in requests:
            run_requested(platform, request)

    [training], _ = unscored(platform)
    run_requested(platform, training)
    scoring, _ = unscored(platform)

    assert training.job_name == "training_job"
    assert ranges(scoring) == [("2026-01-01", "2026-01-01"), ("2026-01-03", "2026-01-03")]


def scored(platform: TestPlatform) -> dict[str, str]:
    return {key: gold.of["model_version"] for key, gold in platform.state().gold.items()}


def test_once_a_version_is_behind_prod_one_run_builds_and_scores_what_landed(scored_platform: TestPlatform) -> None:
    scored_platform.simulate(2, start=date(2026, 1, 7))

    [request], _ = landed(scored_platform)
    assert (request.job_name, request.asset_selection) == ("landing_job", None)
    assert request.tags["fraud_assets/model_version"] == "1"
    assert run_requested(scored_platform, request).success

    assert scored(scored_platform)["2026-01-08"] == "1"
    assert scored_platform.lake.views_are_current()
    assert (landed(scored_platform), unscored(scored_platform)) == (([], "nothing is due"), ([], "nothing is due"))


@full_only("trains once more")
def test_days_of_two_model_versions_that_are_corrected_together_keep_their_versions(
    scored_platform: TestPlatform,
) -> None:
    registry = scored_platform.model_registry
    run_requested(scored_platform, dg.RunRequest(job_name="training_job"))
    if registry.prod_version() != "2":
        said = {"decided_by": "somebody", "reason": "for a test"}
        apply_decision(scored_platform.lake, registry, "2", move="promoted", **said, provenance={})
    scored_platform.simulate(1, start=date(2026, 1, 7))
    run_requested(scored_platform, landed(scored_platform)[0][0])
    before = scored(scored_platform)
    assert (before["2026-01-06"], before["2026-01-07"]) == ("1", "2")
    scored_platform.simulate(2, start=date(2026, 1, 6), seed=8)

    requests, _ = landed(scored_platform)

    assert [request.tags["fraud_assets/model_version"] for request in requests] == ["1", "2"]
    for request in requests:
        assert run_requested(scored_platform, request).success
    for request in landed(scored_platform)[0]:  # where the days' last five minutes changed, too
        assert run_requested(scored_platform, request).success
    assert scored(scored_platform) == before
    assert [item for item in scored_platform.plan().due if item.key] == []


def test_what_a_broken_day_holds_up_is_scored_at_the_next_tick(scored_platform: TestPlatform) -> None:
    _, broken, _ = scored_platform.simulate(3, start=date(2026, 1, 7))
    broken.write_text("no,such,columns\n1,2,3\n")
    landed(scored_platform)
    [request], _ = landed(scored_platform)
    assert not run_requested(scored_platform, request).success

    requests, _ = unscored(scored_platform)

    assert ranges(requests) == [("2026-01-07", "2026-01-07"), ("2026-01-09", "2026-01-09")]


def test_a_correction_that_leaves_the_rows_as_they_were_scores_nothing_again(scored_platform: TestPlatform) -> None:
    def scored_at() -> list[tuple[object]]:
        question = "SELECT DISTINCT scored_at FROM {gold} WHERE partition_key = '2026-01-06'"
        return scored_platform.rows(question, gold=PREDICTIONS)

    before = scored_at()
    [day] = scored_platform.landing_zone.folder.glob("2026-01-06/*.csv")
    day.write_text(day.read_text() + "\n")
    landed(scored_platform)
    [request], _ = landed(scored_platform)
    assert request.job_name == "landing_job"

    assert run_requested(scored_platform, request).success

    assert scored_at() == before


def test_the_first_training_does_not_wait_for_a_feed_that_always_corrects(make_platform: MakePlatform) -> None:
    platform = make_platform()
    platform.simulate(3)
    run_requested(platform, landed(platform)[0][0])
    platform.simulate(1, start=date(2026, 1, 3), seed=8)
    assert len(landed(platform)[0]) == 1

    [training], _ = unscored(platform)

    assert training.job_name == "training_job"


def test_a_tick_that_has_nothing_to_ask_for_waits_for_a_file_to_land(make_platform: MakePlatform) -> None:
    platform = replace(make_platform(), watch_seconds=60)
    platform.landing_zone.folder.mkdir(parents=True)
    with ThreadPoolExecutor(1) as later:
        done = later.submit(landed, platform)
        while not (platform.data_dir / "fraud.duckdb").exists():  # the first look, which found nothing, publishes it
            assert not done.done()
            time.sleep(0.05)
        while not done.done():
            platform.simulate(1, seed=randrange(1_000))
            time.sleep(0.2)

    assert ranges(done.result()[0]) == [("2026-01-01", "2026-01-01")]


def test_a_scoring_run_is_pinned_to_the_version_that_the_tick_saw(scored_platform: TestPlatform) -> None:
    scored_platform.simulate(1, start=date(2026, 1, 7))
    scored_platform.definitions.resolve_job_def("silver_job").execute_in_process(
        instance=scored_platform.instance,
        tags={
            "dagster/asset_partition_range_start": "2026-01-07",
            "dagster/asset_partition_range_end": "2026-01-07",
        },
    )
    landed(scored_platform)

    [request], _ = unscored(scored_platform)

    assert request.tags["fraud_assets/model_version"] == "1"
    assert ranges([request]) == [("2026-01-07", "2026-01-07")]


def drop_labels(platform: TestPlatform, text: str) -> None:
    path = platform.landing_zone.folder / "labels" / "some.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"TransactionID,isFraud\n{text}\n")


def test_labels_that_landed_ask_for_one_run_of_the_evaluation_alone(scored_platform: TestPlatform) -> None:
    landed(scored_platform)
    assert unscored(scored_platform) == ([], "nothing is due")
    drop_labels(scored_platform, "202601060000001,1")
    assert landed(scored_platform) == ([], "nothing is due")
    assert unscored(scored_platform) == ([], "nothing is due"), "the file has to hold still for a tick"
    assert landed(scored_platform) == ([], "nothing is due")

    [request], _ = unscored(scored_platform)

    assert (request.job_name, request.asset_selection) == ("training_job", [dg.AssetKey("evaluation_metrics")])
    assert request.tags["fraud_assets/why"] == "labels landed or changed since version 1 was evaluated"
    record_run(scored_platform, request, dg.DagsterRunStatus.STARTED)
    assert unscored(scored_platform) == ([], "1 due, and in flight already or behind a run that is")
    for run in scored_platform.instance.get_runs():
        scored_platform.instance.delete_run(run.run_id)

    result = run_requested(scored_platform, request)

    made = {event.asset_key for event in result.all_events if event.is_step_materialization}
    assert result.success
    assert made == {dg.AssetKey("evaluation_metrics")}
    assert unscored(scored_platform) == ([], "nothing is due")


def test_an_evaluation_that_failed_three_times_waits_for_other_labels(scored_platform: TestPlatform) -> None:
    drop_labels(scored_platform, "1,1")
    for _ in range(2):
        landed(scored_platform)
    for _ in range(MAX_ATTEMPTS):
        [request], _ = unscored(scored_platform)
        record_run(scored_platform, request, dg.DagsterRunStatus.FAILURE)

    assert unscored(scored_platform) == ([], "evaluation failed 3 times and waits for a change")

    drop_labels(scored_platform, "22,1")
    for _ in range(2):
        landed(scored_platform)
    assert len(unscored(scored_platform)[0]) == 1


def test_an_evaluation_waits_while_silver_is_being_built(scored_platform: TestPlatform) -> None:
    drop_labels(scored_platform, "1,1")
    scored_platform.simulate(1, start=date(2026, 1, 7))
    for _ in range(2):
        landed(scored_platform)
    assert unscored(scored_platform) == ([], "nothing is due")


def test_where_a_person_took_prod_away_nothing_trains_until_a_person_sets_it_and_then_all_goes_on(
    scored_platform: TestPlatform,
) -> None:
    registry = scored_platform.model_registry
    MlflowClient(registry.tracking_uri).delete_registered_model_alias(registry.model_name, "prod")
    scored_platform.simulate(1, start=date(2026, 1, 7))
    for _ in range(2):
        landed(scored_platform)

    assert {step.request.stage for step in scored_platform.run()} == {"silver"}
    assert unscored(scored_platform) == ([], "nothing is due")
    notes = scored_platform.status()["notes"]
    assert [note for note in notes if "`fraud-assets rollback`" in note] == [PROD_TAKEN_AWAY]
    assert registry.latest_version() == "1"

    said = {"decided_by": "somebody", "reason": "for a test"}
    apply_decision(scored_platform.lake, registry, None, move="rolled back", **said, provenance={})

    assert ranges(unscored(scored_platform)[0]) == [("2026-01-07", "2026-01-07")]
    assert scored_platform.plan().notes == ()


def test_all_sensors_run_from_the_start_and_say_what_they_do(make_platform: MakePlatform) -> None:
    sensors = list(make_platform().definitions.sensors or [])

    assert [sensor.name for sensor in sensors] == [
        "landed_partitions_sensor",
        "unscored_partitions_sensor",
        "dead_runs_sensor",
        "notifications_sensor",
    ]
    assert {sensor.default_status for sensor in sensors} == {dg.DefaultSensorStatus.RUNNING}
    assert all(sensor.description for sensor in sensors)
