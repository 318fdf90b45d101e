"""Whatever is killed wherever: what is due is done in the end, once, and nothing waits for a person.

Histories of landings, corrections, late files, late labels, promotions, rollbacks, lost and doubled ticks, and two
processes that do the same work at once, in which processes that do what is due, or move `@prod`, are killed at every
named step. Afterwards the platform equals one that was built anew from what landed, quarantine included, and scored and
evaluated by the same versions.
"""

import random
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from fraud_assets.assets.partition_runs import MODEL_VERSION_TAG
from fraud_assets.automation.dead_runs import QUIET_SECONDS, end_dead_runs
from fraud_assets.automation.jobs import run_tags
from fraud_assets.automation.sensors import IN_FLIGHT
from fraud_assets.gold.predictions import score_partition
from fraud_assets.model.promotion import prod_after
from fraud_assets.platform_state import EvaluationState
from fraud_assets.resources.models.promotions import apply_decision, decisions
from fraud_assets.resources.models.registry import NoModelError
from fraud_assets.resources.row_batches import BATCH_ROWS
from fraud_assets.resources.tables import (
    EVALUATION_METRICS,
    PREDICTIONS,
    QUARANTINED_TRANSACTIONS,
    SILVER_TRANSACTIONS,
)
from fraud_assets.run_requests import requests
from fraud_assets_tests.automation.test_sensors import landed, record_run, run_requested, unscored
from fraud_assets_tests.depth import MORE, cases, full_only
from fraud_assets_tests.killed import STEPS, killed_at, move_prod, start
from fraud_assets_tests.platform import FIRST_DAY, TestPlatform
from fraud_assets_tests.resources.test_promotions import unrecorded
from fraud_assets_tests.simulator.truth import write_labels

DAYS = 9
"""Six are scored when a history begins; three more land."""

HOME = """
telemetry: {enabled: false}
compute_logs: {module: dagster._core.storage.noop_compute_log_manager, class: NoOpComputeLogManager}
"""
"""No copy of what runs print: it costs each of them four processes."""


@pytest.fixture(scope="module")
def begun(_scored_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scored days and a second registered version, and a Dagster home that processes share."""
    folder = tmp_path_factory.mktemp("begun")
    shutil.copytree(_scored_data, folder / "data")
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text(HOME)
    with dg.DagsterInstance.from_config(str(folder / "home")) as instance:
        platform = TestPlatform(folder / "data", instance)
        assert run_requested(platform, dg.RunRequest(job_name="training_job")).success
    return folder


@pytest.fixture
def platform(begun: Path, tmp_path: Path) -> Iterator[TestPlatform]:
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        yield TestPlatform(tmp_path / "data", instance)


def happen(platform: TestPlatform, chance: random.Random) -> None:
    """Let one thing happen that people or feeds do."""
    day = FIRST_DAY + timedelta(days=chance.randrange(DAYS))
    what = chance.choice(("land", "land", "land", "late", "promote", "roll back", "labels", "lost tick"))
    if what == "land":
        platform.simulate(1, start=day, seed=chance.randrange(1_000), rows_per_day=chance.choice((40, 120)))
    elif what == "late":
        [made] = platform.simulate(1, start=day, seed=chance.randrange(1_000), rows_per_day=30)
        made.rename(made.with_name(f"late-{chance.randrange(3)}.csv"))
    elif what == "promote":
        move_prod(platform)
    elif what == "roll back":
        said = {"decided_by": "somebody", "reason": "for a test", "provenance": {}}
        with suppress(NoModelError):  # nothing was promoted yet
            apply_decision(platform.lake, platform.model_registry, None, move="rolled back", **said)
    elif what == "labels":
        write_labels(day, platform.landing_zone.folder, rows_per_day=chance.choice((40, 120, 700)))
    else:
        landed(platform)


def two_at_once(platform: TestPlatform) -> None:
    """Do what is due in two processes, neither of which knows of the other."""
    other = start(platform)
    assert [step.problem for step in platform.run() if step.problem] == []
    other.join()
    assert other.exitcode == 0


def ask(platform: TestPlatform) -> list[dg.RunRequest]:
    return [*landed(platform)[0], *unscored(platform)[0]]


def ask_twice(platform: TestPlatform) -> list[dg.RunRequest]:
    """Return what the sensors ask for; while that is in flight they ask for nothing more."""
    requests = ask(platform)
    runs = [record_run(platform, request, dg.DagsterRunStatus.NOT_STARTED) for request in requests]
    assert ask(platform) == []
    for run in runs:
        platform.instance.delete_run(run.run_id)
    return requests


def settle(platform: TestPlatform, asked: set[str | None]) -> None:
    """Let the sensors tick, and do what they ask for, until they ask for nothing.

    `asked` are the run keys that were asked for before: Dagster launches a key once and never again.
    """
    end_dead_runs(platform.instance, str(platform.data_dir), now=time.time() + QUIET_SECONDS)
    for run in platform.instance.get_runs(dg.RunsFilter(statuses=IN_FLIGHT)):
        # Dagster's own daemon ends what was launched and never began.
        assert run.status in {dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING}
        platform.instance.report_run_failed(run)
    for _ in range(12):
        requests = ask_twice(platform)
        if not requests and platform.plan().due == ():
            break
        for request in requests:
            if request.run_key not in asked:
                run_requested(platform, request)
        asked |= {request.run_key for request in requests}
    assert platform.plan().due == ()
    assert platform.instance.get_runs(dg.RunsFilter(statuses=IN_FLIGHT)) == []
    assert list((platform.data_dir / ".runs").glob("*")) == []
    assert list(platform.data_dir.glob(".fraud.duckdb.*.tmp*")) == []
    made_of = "SELECT partition_key, silver_version, model_version, count(*) FROM {} GROUP BY ALL ORDER BY ALL"
    with platform.lake.read_views() as connection:
        shown = connection.execute(made_of.format("gold.fraud_predictions")).fetchall()
    assert shown == platform.rows(made_of.format("{gold}"), gold=PREDICTIONS), "readers see what there is"
    registry, decided = platform.model_registry, decisions(platform.lake)
    assert prod_after(decided) == registry.prod_version(), "the record says where @prod is"
    assert unrecorded(platform.lake, registry) == []


def versions(platform: TestPlatform) -> dict[str, str]:
    return {key: gold.of["model_version"] for key, gold in platform.state().gold.items()}


def window_of(platform: TestPlatform, evaluated: EvaluationState) -> dict[str, str]:
    windows = platform.lake.partition_states(EVALUATION_METRICS, ("evaluation_start", "evaluation_end"))
    return {name: value for name, value in windows[evaluated.model_version].items() if name != "rows"}


def difference(platform: TestPlatform, rebuilt: TestPlatform) -> list[tuple[str, int]]:
    """Return where the tables are not what a rebuild from what landed, scored by the same versions, would hold."""
    lake, registry = platform.lake, platform.model_registry
    found = []
    with lake.connect() as connection:

        def compare(what: str, one: str, other: str) -> None:
            for way, query in (("more", f"{one} EXCEPT ALL {other}"), ("less", f"{other} EXCEPT ALL {one}")):
                [(rows,)] = connection.execute(f"SELECT count(*) FROM ({query})").fetchall()
                if rows:
                    found.append((f"{what}: {way}", rows))

        for table in (SILVER_TRANSACTIONS, QUARANTINED_TRANSACTIONS):
            compare(table.address, f"FROM {lake.select(table)}", f"FROM {rebuilt.lake.select(table)}")
        evaluated = platform.state().evaluation
        if evaluated and window_of(platform, evaluated) == window_of(rebuilt, evaluated):  # no day landed after it
            # Beside the forest's own figures stand those of the version that was behind @prod then.
            figures = "SELECT * EXCLUDE evaluated_at FROM {} WHERE scored_by IN ('forest', 'rows')"
            of = [one.lake.select(EVALUATION_METRICS, keys=[evaluated.model_version]) for one in (platform, rebuilt)]
            compare("evaluation", figures.format(of[0]), figures.format(of[1]))
        silver = platform.state().silver
        for key, version in versions(platform).items():
            rows = score_partition(
                connection,
                rebuilt.lake.select(SILVER_TRANSACTIONS, keys=[key]),
                batch_rows=BATCH_ROWS,
                scorer=registry.scorer(version),
                scored_at=datetime.now(tz=UTC),
                model_version=version,
                partition_key=key,
                silver_version=silver[key].of["silver_version"],
            )
            connection.register("again", rows.read_all())
            stored = lake.select(PREDICTIONS, keys=[key])
            columns = "* EXCLUDE scored_at"
            compare(f"gold {key}", f"SELECT {columns} FROM {stored}", f"SELECT {columns} FROM again")
    return found


def rebuild(platform: TestPlatform, folder: Path) -> TestPlatform:
    """Build what landed anew, and evaluate the version that was evaluated, beside the same registry."""
    shutil.copytree(platform.landing_zone.folder, folder / "landing")
    rebuilt = TestPlatform(folder, platform.instance, tracking_uri=platform.model_registry.tracking_uri)
    due = [item for item in rebuilt.plan().due if item.stage == "silver"]
    days = [(FIRST_DAY + timedelta(days=day)).isoformat() for day in range(-1, 31)]
    for request in requests(due, all_keys=days):
        assert run_requested(rebuilt, dg.RunRequest(job_name="silver_job", tags=run_tags(request))).success
    if evaluated := platform.state().evaluation:
        again = dg.RunRequest(
            job_name="training_job",
            tags={MODEL_VERSION_TAG: evaluated.model_version},
            asset_selection=[dg.AssetKey("evaluation_metrics")],
        )
        assert run_requested(rebuilt, again).success
    return rebuilt


@pytest.mark.parametrize("seed", range(MORE * cases(0, 2)))
def test_after_any_history_of_kills_gold_is_what_an_uninterrupted_run_gives(
    platform: TestPlatform, tmp_path: Path, seed: int
) -> None:
    chance, asked = random.Random(seed), set[str | None]()
    steps = [*STEPS]
    for round_ in range(3):
        for _ in range(chance.randrange(1, 4)):
            happen(platform, chance)
        before = versions(platform)
        if chance.random() < 0.2:
            two_at_once(platform)
        # Each step has its turn: seeds that follow each other begin where the last one ended.
        killed_at(platform, steps[(3 * seed + round_) % len(steps)], nth=chance.choice((1, 1, 2)))
        if chance.random() < 0.7:
            settle(platform, asked)
            after = versions(platform)
            assert {key: after.get(key) for key in before} == before, "a partition keeps its model version"
    settle(platform, asked)
    assert difference(platform, rebuild(platform, tmp_path / "rebuilt")) == []

    platform.simulate(DAYS, start=FIRST_DAY, seed=5_000 + seed, rows_per_day=40)
    settle(platform, asked)
    state = platform.state()
    assert {key: gold.rows for key, gold in state.gold.items()} == {
        key: silver.rows for key, silver in state.silver.items() if silver.rows
    }
    days = [(FIRST_DAY + timedelta(days=day)).isoformat() for day in range(DAYS)]
    assert sorted(state.silver) == days  # of a day whose every id came with other content too, no row is good


@pytest.mark.parametrize("steps", [[*STEPS][first::6] for first in range(6)], ids=" | ".join)
@full_only("each step by itself")
def test_kills_at_each_step_leave_nothing_for_a_person(
    platform: TestPlatform, tmp_path: Path, steps: list[str]
) -> None:
    asked = set[str | None]()
    together = {"2026-01-03", "2026-01-04"}  # scored by one version before, so that one run builds both
    for number, step in enumerate(steps):
        before = platform.state().silver
        platform.simulate(2, start=date(2026, 1, 3), seed=8 + number)
        if EVALUATION_METRICS.address in step:
            write_labels(date(2026, 1, 6), platform.landing_zone.folder, rows_per_day=700)
        assert killed_at(platform, step), f"the work never comes to it: {step}"
        after = platform.state().silver
        assert {key for key in together if after[key] != before[key]} in (set(), together), "a slice is written whole"
        settle(platform, asked)
    rebuilt = rebuild(platform, tmp_path / "rebuilt")
    if any(EVALUATION_METRICS.address in step for step in steps):
        evaluated = platform.state().evaluation
        assert evaluated is not None
        assert window_of(platform, evaluated) == window_of(rebuilt, evaluated), "figures are compared"
    assert difference(platform, rebuilt) == []
