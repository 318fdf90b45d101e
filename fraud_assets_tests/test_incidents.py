"""What is wrong, and what is said of it: facts given as values, in every order in which they may change."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.incidents import EndedRun, Facts, Incident, Message, SensorTicks, incidents, messages
from fraud_assets.platform_state import Made, PlatformState
from fraud_assets.staleness import Due, Plan
from fraud_assets_tests.depth import cases

NOW = datetime(2026, 3, 1, 2, 10, tzinfo=UTC)
KEY = "2026-02-28"
STATE = PlatformState(
    landed={}, made={"silver": {KEY: Made(40, {})}}, previous_key={KEY: "2026-02-27"}, prod_version="3"
)
HEALTHY = Facts(
    NOW,
    state=STATE,
    sensors=[SensorTicks("landed_partitions_sensor", True, NOW), SensorTicks("dead_runs_sensor", True, NOW)],
    newest_landed=NOW - timedelta(hours=2),
    late_after=timedelta(hours=48),
)


def due(*stages: str) -> Plan:
    return Plan(tuple(Due(stage, KEY, "landed, not built yet", "cause") for stage in stages))


def run(*, failed: bool, cause: str = "asked", stage: str = "silver", key: str = KEY) -> EndedRun:
    return EndedRun("a run", f"{stage}_job", (stage,), (key,), failed, cause)


def said(facts: Facts, before: Iterable[Incident] = ()) -> list[tuple[str, str, str]]:
    return [(one.kind, one.subject, one.key) for one in incidents(facts, tuple(before))]


def ago(**time: float) -> datetime:
    return NOW - timedelta(**time)


def test_a_healthy_platform_has_no_incident() -> None:
    assert said(HEALTHY) == []


@pytest.mark.parametrize(
    ("fault", "incident"),
    [
        ({"plan": due("silver"), "runs": [run(failed=True)]}, ("failed run", "silver", KEY)),
        ({"plan": due("silver"), "runs": [run(failed=True)] * 3}, ("waits for a change", "silver", KEY)),
        ({"runs": [run(failed=True, cause="")]}, ("failed run", "silver_job", KEY)),
        (
            {"failed_checks": {"rows_are_accounted_for": "1 row"}},
            ("stored rows fail a check", "rows_are_accounted_for", ""),
        ),
        ({"sensors": [SensorTicks("a_sensor", False, NOW)]}, ("sensor stopped", "a_sensor", "")),
        ({"sensors": [SensorTicks("a_sensor", True, NOW, "no such table")]}, ("sensor stopped", "a_sensor", "")),
        (
            {"sensors": [SensorTicks("a_sensor", True, ago(minutes=6)), SensorTicks("b_sensor", True, NOW)]},
            ("sensor stopped", "a_sensor", ""),
        ),
        (
            {"sensors": [SensorTicks(name, True, ago(minutes=6)) for name in ("a_sensor", "b_sensor")]},
            ("sensor stopped", "daemon", ""),
        ),
        ({"newest_landed": ago(hours=49)}, ("feed is late", "Landing", "")),
        (
            {"unreadable_files": {f"{KEY}/a.csv": "why", f"{KEY}/b": "why"}},
            ("landed files cannot be read", "Landing", KEY),
        ),
        ({"quarantine_shares": {KEY: (0.2, 10)}}, ("quarantine over its limit", "Quarantine", KEY)),
        ({"refused": ("4", "worse")}, ("candidate refused", "version 4", "")),
        ({"state": replace(STATE, prod_version=None, prod_taken_away=True)}, ("@prod taken away", "@prod", "")),
        ({"state": replace(STATE, prod_problem="not ours")}, ("@prod cannot score", "version 3", "")),
        ({"state": None, "unreadable": "no server"}, ("platform cannot be read", "platform", "")),
    ],
)
def test_each_fault_is_one_incident_with_a_remedy(fault: dict[str, object], incident: tuple[str, str, str]) -> None:
    [found] = incidents(replace(HEALTHY, **fault))

    assert (found.kind, found.subject, found.key) == incident
    assert found.remedy


def test_work_that_is_no_longer_due_is_no_longer_wrong() -> None:
    assert said(replace(HEALTHY, runs=[run(failed=True)])) == []


def test_a_later_run_that_went_well_ends_what_failed_before_even_where_it_is_due_again() -> None:
    facts = replace(HEALTHY, plan=due("silver"), runs=[run(failed=False), run(failed=True)])

    assert said(facts, [Incident("waits for a change", "silver", KEY)]) == []


def test_the_failed_run_and_the_waiting_for_a_change_are_one_incident() -> None:
    first = incidents(replace(HEALTHY, plan=due("silver"), runs=[run(failed=True)]))
    third = incidents(replace(HEALTHY, plan=due("silver"), runs=[run(failed=True)] * 3), first)

    assert messages(first, third) == []


def test_what_waits_for_a_change_is_not_over_because_its_runs_are_long_ago() -> None:
    before = [Incident("waits for a change", "silver", KEY, reason="a broken file")]

    assert said(replace(HEALTHY, plan=due("silver"), runs=[]), before) == [("waits for a change", "silver", KEY)]
    assert said(HEALTHY, before) == []


def test_of_a_range_only_the_partition_that_is_due_still_is_wrong() -> None:
    of_range = EndedRun("a run", "silver_job", ("silver",), ("2026-02-27", KEY), failed=True, cause="asked")

    assert said(replace(HEALTHY, plan=due("silver"), runs=[of_range])) == [("failed run", "silver", KEY)]


def test_scoring_that_fails_because_of_the_version_behind_prod_is_said_once() -> None:
    facts = replace(
        HEALTHY,
        state=replace(STATE, prod_problem="not ours"),
        plan=due("gold"),
        runs=[run(failed=True, stage="gold")],
    )

    assert said(facts) == [("@prod cannot score", "version 3", "")]


def test_a_training_whose_candidate_is_refused_is_said_once() -> None:
    facts = replace(
        HEALTHY,
        state=replace(STATE, prod_version=None),
        refused=("1", "no better than a rule"),
        runs=[EndedRun("a run", "training_job", ("model",), ("",), failed=True)],
    )

    assert said(facts) == [("candidate refused", "version 1", "")]


def test_sensors_that_were_silent_with_the_daemon_are_not_reported_when_it_is_back() -> None:
    stood_still = [SensorTicks("a_sensor", True, ago(hours=8)), SensorTicks("b_sensor", True, ago(hours=8))]

    assert said(replace(HEALTHY, sensors=stood_still, watched_since=ago(minutes=1))) == []
    assert said(replace(HEALTHY, sensors=stood_still, watched_since=ago(minutes=6))) != []


def test_what_is_wrong_stays_wrong_while_nobody_can_look() -> None:
    before = [Incident("quarantine over its limit", "Quarantine", KEY)]
    facts = replace(HEALTHY, state=None, unreadable="no server")

    assert said(facts, before) == [("platform cannot be read", "platform", ""), (before[0].kind, "Quarantine", KEY)]


def test_partitions_that_fail_together_are_one_message_that_names_each() -> None:
    found = [Incident("failed run", "silver", f"2026-01-{day:02}", reason="disk full", rows=7) for day in range(1, 15)]

    [begun], [over] = messages([], found), messages(found, [])

    assert begun.title == "Silver 2026-01-01 and 13 more: failed run"
    assert begun.body.splitlines()[0] == "2026-01-01: disk full (7 rows)"
    assert begun.body.splitlines()[-2:] == ["... and 4 more", f"What to do: {found[0].remedy}"]
    assert over.title == "Over: Silver 2026-01-01 and 13 more: failed run"


_FOUND = st.sets(st.sampled_from([(kind, key) for kind in ("failed run", "feed is late") for key in ("", "a", "b")]))


@given(st.lists(_FOUND, max_size=6))
def test_however_incidents_come_and_go_each_is_said_once_and_its_end_once(history: list[set[tuple[str, str]]]) -> None:
    told: list[Message] = []
    before: list[Incident] = []
    for there in [*history, set[tuple[str, str]]()]:
        now = [Incident(kind, "x", key) for kind, key in there]  # type: ignore[arg-type]
        told += messages(before, now)
        before = now
    for kind, key in {one for there in history for one in there}:
        name = Incident(kind, "x", key).id  # type: ignore[arg-type]
        spells = sum(
            (kind, key) in there and (kind, key) not in (history[at - 1] if at else set())
            for at, there in enumerate(history)
        )
        said_of = [message.is_over for message in told for one in message.incidents if one.id == name]
        assert said_of == [False, True] * spells


def test_thirty_healthy_days_say_nothing() -> None:
    """Every hour of each day: files land, are built and scored, and are corrected; runs are in flight, none fails."""
    runs: list[EndedRun] = []
    for hour in range(cases(10, 30) * 24):
        now = NOW + timedelta(hours=hour)
        lands, landed = hour % 24 == 0, now - timedelta(hours=hour % 24)
        plan = due("silver", "gold") if lands or hour % 7 == 0 else Plan()
        facts = replace(
            HEALTHY,
            now=now,
            plan=plan,
            runs=runs[:100],
            newest_landed=landed,
            sensors=[replace(one, last_tick=now - timedelta(seconds=30)) for one in HEALTHY.sensors],
        )
        assert incidents(facts) == ()
        if plan.due:
            runs = [run(failed=False, stage="gold"), run(failed=False), *runs]
