"""Promotions: `@prod` and its record agree, also after a process was killed between any two steps."""

import json
import multiprocessing
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.model.promotion import prod_after, version_before
from fraud_assets.resources.lake import Lake, open_lake
from fraud_assets.resources.models.promotions import DECISION_TAG, apply_decision, decisions, reconcile
from fraud_assets.resources.models.registry import FEED_TAG, FILES_TAG, ModelRegistry, NoModelError
from fraud_assets.resources.tables import PROMOTIONS
from fraud_assets_tests.depth import FULL, cases
from fraud_assets_tests.killed import PRELOADED
from fraud_assets_tests.platform import TestPlatform

NAME = "fraud_isolation_forest"
VERSIONS = ("1", "2", "3")


def registry_in(data_dir: Path) -> ModelRegistry:
    return ModelRegistry(
        source_name="simulated",
        tracking_uri=f"sqlite:///{data_dir}/mlflow/mlflow.db",
        model_name=NAME,
        data_dir=str(data_dir),
    )


@pytest.fixture(scope="module")
def three_versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with three registered versions, none of them decided about; a move needs no trained model."""
    data_dir = tmp_path_factory.mktemp("three")
    client = registry_in(data_dir)._client()
    client.create_registered_model(NAME)
    for _ in VERSIONS:
        client.create_model_version(NAME, source="s3://nowhere/model", tags={FEED_TAG: "simulated", FILES_TAG: "none"})
    return data_dir


@pytest.fixture
def data_dir(three_versions: Path, tmp_path: Path) -> Path:
    shutil.copytree(three_versions, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def lake(data_dir: Path) -> Lake:
    return open_lake(data_dir)


@pytest.fixture
def registry(data_dir: Path) -> ModelRegistry:
    return registry_in(data_dir)


class Moved(NamedTuple):
    """The version behind @prod, and the one before the decision."""

    version: str | None
    previous: str | None


def promote(lake: Lake, registry: ModelRegistry, version: str | None, **arguments: Any) -> Moved:
    said = {"move": "promoted", "decided_by": "ana", "reason": "for a test", "provenance": {}, **arguments}
    row = apply_decision(lake, registry, version, **said)
    assert row in decisions(lake)
    return Moved(registry.prod_version(), row["previous_version"])


def go_back(lake: Lake, registry: ModelRegistry) -> Moved:
    return promote(lake, registry, None, move="rolled back", decided_by="ben")


def tick(platform: TestPlatform, cursor: str | None) -> str | None:
    """Let the scoring sensor look once; return the cursor that it leaves."""
    with dg.build_sensor_context(
        instance=platform.instance,
        cursor=cursor,
        resources={
            "lake": platform.lake,
            "landing_zone": platform.landing_zone,
            "model_registry": platform.model_registry,
        },
    ) as context:
        platform.definitions.resolve_sensor_def("unscored_partitions_sensor")(context)
        return context.cursor


def recorded(lake: Lake) -> list[tuple[str, str, str | None, str]]:
    """The record in the order of time."""
    return [
        (row["decision"], row["model_version"], row["previous_version"], row["decided_by"])
        for row in reversed(decisions(lake))
    ]


def unrecorded(lake: Lake, registry: ModelRegistry) -> list[str]:
    """The versions whose tag tells of a decision that the record does not tell of."""
    rows = [{**row, "decided_at": row["decided_at"].isoformat()} for row in decisions(lake)]
    tags = {version: said[DECISION_TAG] for version, said in registry.versions().items() if DECISION_TAG in said}
    return [version for version, row in tags.items() if json.loads(row) not in rows]


# --- moves and their record ---


def test_every_decision_is_recorded_with_who_from_to_and_why(lake, registry):
    assert promote(lake, registry, "1", decided_by="gate", reason="better than the base rate") == Moved("1", None)
    assert promote(lake, registry, "2", move="refused", decided_by="gate", reason="worse") == Moved("1", "1")
    assert promote(lake, registry, "3") == Moved("3", "1")
    assert go_back(lake, registry) == Moved("1", "3")
    assert recorded(lake) == [
        ("promoted", "1", None, "gate"),
        ("refused", "2", "1", "gate"),
        ("promoted", "3", "1", "ana"),
        ("rolled back", "1", "3", "ben"),
    ]
    assert registry.prod_version() == "1"
    assert unrecorded(lake, registry) == []


def test_a_version_says_in_mlflow_what_was_decided_about_it_and_why(lake, registry):
    client = registry._client()
    client.update_model_version(NAME, "1", "Made by hand.")
    promote(lake, registry, "1", decided_by="gate", reason="better than the base rate")
    promote(lake, registry, "2", move="refused", decided_by="gate", reason="worse; much")
    registry._client().set_registered_model_alias(NAME, "prod", "2")
    for _ in range(2):
        reconcile(lake, registry)
    made, decided = str(client.get_model_version(NAME, "1").description).split("\n\n")
    assert made == "Made by hand."
    assert re.fullmatch(r"Promoted by gate, 20\d\d-\d\d-\d\d [\d:]{8} UTC: better than the base rate", decided)
    refused, moved = str(client.get_model_version(NAME, "2").description).split("\n\n")
    assert (refused.endswith("UTC: worse; much"), moved.endswith("UTC: moved in MLflow itself")) == (True, True)


def test_a_description_stays_within_what_every_database_keeps(lake, registry):
    registry._client().update_model_version(NAME, "1", "Made by hand.")
    for turn in range(4):
        promote(lake, registry, "1", reason=f"reason {turn} " + "x" * 1_500)
    first, *decided = str(registry._client().get_model_version(NAME, "1").description).split("\n\n")
    assert first == "Made by hand."
    assert [turn for text in decided for turn in range(4) if f"reason {turn} " in text] == [1, 2, 3]


def test_rolling_back_twice_goes_back_two_versions_and_then_no_further(lake, registry):
    for version in VERSIONS:
        promote(lake, registry, version)
    assert [go_back(lake, registry).version, go_back(lake, registry).version] == ["2", "1"]
    with pytest.raises(NoModelError, match="no version to go back to"):
        go_back(lake, registry)
    assert registry.prod_version() == "1"


def test_an_unknown_version_is_refused_and_nothing_recorded(lake, registry):
    with pytest.raises(NoModelError, match="no version '9'"):
        promote(lake, registry, "9")
    assert recorded(lake) == []
    assert registry.prod_version() is None


def test_a_move_made_in_mlflow_itself_is_recorded_once_and_can_be_rolled_back(lake, registry):
    promote(lake, registry, "1")
    registry._client().set_registered_model_alias(NAME, "prod", "3")
    for _ in range(2):
        reconcile(lake, registry)
    assert recorded(lake)[1:] == [("promoted", "3", "1", "unknown")]
    assert decisions(lake)[0]["reason"] == "moved in MLflow itself"
    assert go_back(lake, registry) == Moved("1", "3")


@pytest.mark.parametrize("face", ["run", "sensor"])
def test_a_run_and_a_tick_of_the_sensor_record_a_move_made_in_mlflow_itself(lake, registry, data_dir, instance, face):
    promote(lake, registry, "1")
    platform, cursor = TestPlatform(data_dir, instance), None
    for moved_to in ("3", None):
        if moved_to is None:
            registry._client().delete_registered_model_alias(NAME, "prod")
        else:
            registry._client().set_registered_model_alias(NAME, "prod", moved_to)
        for _ in range(2):
            if face == "run":
                platform.run()
            else:
                cursor = tick(platform, cursor)
    assert recorded(lake)[1:] == [("promoted", "3", "1", "unknown"), ("withdrawn", "3", "3", "unknown")]


def test_a_tick_reconciles_only_where_prod_moved_since_it_last_did(lake, registry, data_dir, instance, monkeypatch):
    promote(lake, registry, "1")
    platform = TestPlatform(data_dir, instance)
    cursor = tick(platform, None)
    reconciled: list[str] = []
    monkeypatch.setattr("fraud_assets.automation.sensors.reconcile", lambda *_: reconciled.append("once"))
    assert tick(platform, cursor) == cursor
    assert reconciled == []
    registry._client().set_registered_model_alias(NAME, "prod", "2")
    assert tick(platform, cursor) != cursor
    assert reconciled == ["once"]


def test_a_rollback_sees_a_move_that_was_made_in_mlflow_a_moment_ago(lake, registry):
    promote(lake, registry, "1")
    promote(lake, registry, "2")
    registry._client().set_registered_model_alias(NAME, "prod", "3")
    assert go_back(lake, registry) == Moved("2", "3")


def test_an_alias_taken_away_in_mlflow_is_recorded_and_a_rollback_puts_it_back(lake, registry):
    promote(lake, registry, "1")
    promote(lake, registry, "2")
    registry._client().delete_registered_model_alias(NAME, "prod")
    for _ in range(2):
        reconcile(lake, registry)
    assert recorded(lake)[2:] == [("withdrawn", "2", "2", "unknown")]
    assert go_back(lake, registry) == Moved("2", None)
    assert go_back(lake, registry) == Moved("1", "2")


def test_a_registry_that_lost_its_versions_begins_anew_and_so_does_the_record(lake, registry, three_versions, tmp_path):
    promote(lake, registry, "1")
    promote(lake, registry, "2")
    for _ in range(2):
        reconcile(lake, registry_in(tmp_path / "lost"))
    assert recorded(lake) == []
    *_, told = sorted(lake.rows(PROMOTIONS), key=lambda row: row["decided_at"])
    assert (told["decision"], told["previous_version"]) == ("lost", "2")
    assert len(lake.rows(PROMOTIONS)) == 3

    trained_anew = registry_in(Path(shutil.copytree(three_versions, tmp_path / "anew")))
    reconcile(lake, trained_anew)
    with pytest.raises(NoModelError, match="no version to go back to"):
        go_back(lake, trained_anew)
    assert promote(lake, trained_anew, "1") == Moved("1", None)
    assert recorded(lake) == [("promoted", "1", None, "ana")]


def test_a_registry_that_was_out_of_sight_keeps_its_prod_and_what_its_versions_tell(lake, registry, tmp_path):
    promote(lake, registry, "1")
    promote(lake, registry, "2")
    told = {version: tags.get(DECISION_TAG) for version, tags in registry.versions().items()}
    reconcile(lake, registry_in(tmp_path / "another"))
    for _ in range(2):
        reconcile(lake, registry)
    assert registry.prod_version() == "2"
    assert recorded(lake) == [("promoted", "2", None, "unknown")]
    assert {version: tags.get(DECISION_TAG) for version, tags in registry.versions().items()} == told
    assert len(lake.rows(PROMOTIONS)) == 4


def test_reconciling_before_there_is_a_model_leaves_nothing_behind(tmp_path):
    reconcile(open_lake(tmp_path / "data"), registry_in(tmp_path / "data"))
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".locks"]


@settings(max_examples=cases(200, 1_000))
@given(
    moves=st.lists(
        st.one_of(
            st.tuples(st.just("promoted"), st.sampled_from(VERSIONS)),
            st.tuples(st.just("refused"), st.sampled_from(VERSIONS)),
            st.just(("rolled back", "")),
            st.just(("withdrawn", "")),
        ),
        max_size=12,
    )
)
def test_a_rollback_undoes_the_last_move_that_was_not_undone(moves):
    """Against an oracle that keeps whole states of the past, as an editor's undo does."""
    undo: list[str | None] = []
    prod: str | None = None
    history: list[dict[str, str]] = []
    for move, version in moves:
        if move == "refused":
            history.insert(0, {"decision": move, "model_version": version})
            continue
        if move == "rolled back":
            while undo and undo[-1] is None:
                undo.pop()
            assert version_before(history) == (undo[-1] if undo else None)
            if not undo:
                continue
            prod = undo.pop()
        elif move == "withdrawn":
            if prod is None:
                continue
            undo.append(prod)
            history.insert(0, {"decision": move, "model_version": prod})
            prod = None
            continue
        else:
            undo.append(prod)
            prod = version
        history.insert(0, {"decision": move, "model_version": str(prod)})
        assert prod_after(history) == prod


# --- a process that is killed between two steps ---

STEPS = ("announced", "moved", "recorded")
"""What a move does, one after the other; a process is killed before the first and after each."""


def die_after(steps: int) -> None:
    """Make this process kill itself once so many steps of a move are done."""
    left = [steps]

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            result = method(*args, **kwargs)
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return step

    for owner, name in (
        (ModelRegistry, "set_version_tag"),
        (ModelRegistry, "set_prod"),
        (Lake, "replace_partition"),
    ):
        setattr(owner, name, counted(getattr(owner, name)))


def move_and_die(data_dir: str, move: str, steps: int) -> None:
    lake, registry = open_lake(Path(data_dir)), registry_in(Path(data_dir))
    die_after(steps)
    if move == "rolled back":
        go_back(lake, registry)
    else:
        promote(lake, registry, "3", decided_by="gate" if move == "by the gate" else "ana")


@pytest.fixture(scope="module")
def processes() -> Any:
    """Fresh single-threaded processes that need not import everything anew: forked from one that did nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *PRELOADED])
    return context


MOVES = ("by a person", "rolled back", "by the gate") if FULL else ("by a person",)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("steps", range(len(STEPS) + 1) if FULL else [0, STEPS.index("moved") + 1])
def test_a_move_that_is_killed_leaves_one_prod_and_a_truthful_record(lake, registry, data_dir, processes, move, steps):
    promote(lake, registry, "1")
    promote(lake, registry, "2")
    before = recorded(lake)
    child = processes.Process(target=move_and_die, args=(str(data_dir), move, steps))
    child.start()
    child.join(timeout=120)
    assert child.exitcode == -signal.SIGKILL

    prod = registry.prod_version()
    moved = steps >= STEPS.index("moved") + 1
    version, row = {
        "by a person": ("3", ("promoted", "3", "2", "ana")),
        "by the gate": ("3", ("promoted", "3", "2", "gate")),
        "rolled back": ("1", ("rolled back", "1", "2", "ben")),
    }[move]
    assert prod == (version if moved else "2")
    for _ in range(2):  # reconciling again changes nothing
        reconcile(lake, registry)
        assert registry.prod_version() == prod
        assert recorded(lake) == [*before, *([row] if moved else [])]
        assert unrecorded(lake, registry) == []
    assert promote(lake, registry, "3" if prod != "3" else "1").previous == prod


def test_what_a_dead_process_announced_is_reconciled_by_the_next_decision(lake, registry, data_dir, processes):
    promote(lake, registry, "1")
    child = processes.Process(target=move_and_die, args=(str(data_dir), "by a person", 2))
    child.start()
    child.join(timeout=120)
    assert promote(lake, registry, "2", decided_by="ben") == Moved("2", "3")
    assert recorded(lake) == [
        ("promoted", "1", None, "ana"),
        ("promoted", "3", "1", "ana"),
        ("promoted", "2", "3", "ben"),
    ]


@pytest.mark.parametrize("face", ["run", "sensor"])
def test_a_move_killed_once_the_alias_stood_is_recorded_by_the_next_run_or_tick(
    lake, registry, data_dir, processes, instance, face
):
    promote(lake, registry, "1")
    platform = TestPlatform(data_dir, instance)
    cursor = tick(platform, None)
    child = processes.Process(target=move_and_die, args=(str(data_dir), "by a person", STEPS.index("moved") + 1))
    child.start()
    child.join(timeout=120)
    assert (recorded(lake)[1:], registry.prod_version()) == ([], "3")
    if face == "run":
        platform.run()
    else:
        tick(platform, cursor)
    assert recorded(lake)[1:] == [("promoted", "3", "1", "ana")]
    assert unrecorded(lake, registry) == []


def decide_at_once(data_dir: str, version: str, barrier: Any) -> None:
    lake, registry = open_lake(Path(data_dir)), registry_in(Path(data_dir))
    barrier.wait(60)
    promote(lake, registry, version)


def test_decisions_made_at_once_follow_one_another(lake, registry, data_dir, processes):
    barrier = processes.Barrier(len(VERSIONS))
    children = [
        processes.Process(target=decide_at_once, args=(str(data_dir), version, barrier)) for version in VERSIONS
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(timeout=120)
    assert [child.exitcode for child in children] == [0, 0, 0]
    rows = recorded(lake)
    assert [previous for _, _, previous, _ in rows] == [None, *(version for _, version, _, _ in rows[:-1])]
    assert registry.prod_version() == rows[-1][1]
