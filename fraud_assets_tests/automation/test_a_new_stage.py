"""How much it takes to add a stage behind Gold: one table entry, one asset and one pure function."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import dagster as dg
import pyarrow as pa
import pytest
from dagster._core.utils import make_new_run_id

from fraud_assets.assets.partition_runs import PartitionMade, materialize_each, provenance
from fraud_assets.platform_state import PlatformState
from fraud_assets.resources import state as state_reader
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.tables import PREDICTIONS, TABLES, Table
from fraud_assets.staleness import Due, Stage, decide
from fraud_assets_tests.automation.test_sensors import landed, ranges, run_requested, tick, unscored
from fraud_assets_tests.platform import WITHOUT_PAGES, TestPlatform

TOP_SCORES = Table(
    group="gold",
    name="top_scores",
    grain="one scored partition",
    schema=pa.schema(
        [
            pa.field("top_score", pa.float64(), nullable=False),
            pa.field("silver_version", pa.string(), nullable=False),
            pa.field("model_version", pa.string(), nullable=False),
            pa.field("partition_key", pa.string(), nullable=False),
        ]
    ),
)
MADE_OF = ("silver_version", "model_version")


def due_top_scores(state: PlatformState) -> Iterator[Due]:
    """The pure function."""
    for key, gold in sorted(state.gold.items()):
        made = state.made["top"].get(key)
        if made is None or made.of != gold.of:
            yield Due("top", key, "scored, its top is not known" if made is None else "scored anew", str(gold.of))


@dg.asset(deps=["fraud_predictions"], backfill_policy=dg.BackfillPolicy.single_run())
def top_scores(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[dg.MaterializeResult]:
    """The asset."""

    def make(key: str) -> PartitionMade:
        with lake.connect() as connection:
            query = f"SELECT max(fraud_score) AS top_score, {', '.join(MADE_OF)}, partition_key "
            gold = lake.select(PREDICTIONS, keys=[key])
            rows = connection.sql(f"{query} FROM {gold} GROUP BY ALL").to_arrow_table().cast(TOP_SCORES.schema)
        lake.replace_partition(TOP_SCORES, key, rows, provenance=provenance(context))
        return PartitionMade(rows=len(rows), data_version=str(rows["silver_version"][0]))

    yield from materialize_each(context, make)  # type: ignore[misc]


STAGE = Stage(  # The table entry.
    name="top",
    does="Keeps the top score of each partition.",
    job="top_job",
    assets=("top_scores",),
    due=due_top_scores,
    table=TOP_SCORES.address,
    made_of=MADE_OF,
)


@pytest.fixture
def with_top_scores(scored_platform: TestPlatform, monkeypatch: pytest.MonkeyPatch) -> TestPlatform:
    monkeypatch.setattr(state_reader, "TABLES", (*TABLES, TOP_SCORES))
    return replace(scored_platform, stages=(*WITHOUT_PAGES, STAGE), more_assets=(top_scores,))


def test_a_stage_is_seen_in_status_run_and_a_tick(with_top_scores: TestPlatform) -> None:
    platform = with_top_scores
    days = sorted(platform.state().gold)
    why = "scored, its top is not known"

    assert [(due["stage"], due["key"], due["why"]) for due in platform.status()["due"]] == [
        ("top", day, why) for day in days
    ]
    [request], _ = unscored(platform)
    assert (request.job_name, ranges([request])) == ("top_job", [(days[0], days[-1])])
    assert request.tags["fraud_assets/why"] == why

    [step] = platform.run()
    assert (step.request.stage, step.request.keys, step.problem) == ("top", tuple(days), "")
    assert platform.status()["due"] == []
    assert platform.status()["partitions"][days[0]]["top"]["rows"] == 1
    assert unscored(platform) == ([], "nothing is due")


def test_a_corrected_day_goes_through_all_stages_in_their_order(with_top_scores: TestPlatform) -> None:
    platform = with_top_scores
    platform.run()
    platform.simulate(1, start=date(2026, 1, 3), seed=8)

    steps = platform.run()

    assert {step.problem for step in steps} == {""}
    assert list(dict.fromkeys(step.request.stage for step in steps if step.request.stage != "evaluation")) == [
        "silver",  # and Gold with it
        "top",
    ]
    assert "2026-01-03" in steps[-1].request.keys
    assert decide(platform.state(), platform.stages).due == ()


def test_a_stage_that_follows_gold_is_made_in_the_run_that_builds_silver(
    with_top_scores: TestPlatform,
) -> None:
    platform = replace(with_top_scores, stages=(*WITHOUT_PAGES, replace(STAGE, follows="gold")))
    platform.run()
    platform.simulate(1, start=date(2026, 1, 3), seed=8)
    [request], _ = landed(platform)
    assert request.job_name == "landing_job"

    assert run_requested(platform, request).success

    due = {item.key for item in decide(platform.state(), platform.stages).due}
    assert due <= {"", "2026-01-04"}, "the evaluation, and the day after"


def test_the_job_of_a_new_stage_runs_by_itself(with_top_scores: TestPlatform) -> None:
    [request], _ = tick(with_top_scores, "unscored_partitions_sensor")
    assert run_requested(with_top_scores, request).success
    assert with_top_scores.rows("SELECT count(*) FROM {top}", top=TOP_SCORES) == [(6,)]


def test_what_nobody_waits_for_is_done_together_once_a_run_in_flight_has_ended(with_top_scores: TestPlatform) -> None:
    patient = replace(with_top_scores, stages=(*WITHOUT_PAGES, replace(STAGE, priority=-1)))
    days = sorted(patient.state().gold)
    first = {"dagster/asset_partition_range_start": days[0], "dagster/asset_partition_range_end": days[0]}
    for platform, waits in ((with_top_scores, False), (patient, True)):
        run = platform.instance.add_run(
            dg.DagsterRun("top_job", run_id=make_new_run_id(), tags=first, status=dg.DagsterRunStatus.STARTED)
        )
        platform.instance.report_engine_event("Recorded.", run)  # of which nothing was ever heard is dead
        requested, reason = unscored(platform)
        assert ranges(requested) == ([] if waits else [(days[1], days[-1])])
        assert reason == ("6 due, and in flight already or behind a run that is" if waits else None)
        platform.instance.delete_run(run.run_id)
    assert ranges(unscored(patient)[0]) == [(days[0], days[-1])]
