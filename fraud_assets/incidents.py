"""What is wrong, and what is said about it: facts in, incidents out; of two sets of incidents, the messages between.

An incident is a state, not an event: it is there while its facts are, so that whoever compares two moments says each
once, however often he looks. Who looks, and who sends: `fraud_assets.automation.notifications`. No clock, no Dagster.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final, Literal

from fraud_assets.platform_state import PlatformState
from fraud_assets.staleness import PROD_TAKEN_AWAY, Plan

Kind = Literal[
    "failed run",
    "failed check",
    "waits for a change",
    "stored rows fail a check",
    "sensor stopped",
    "feed is late",
    "landed files cannot be read",
    "quarantine over its limit",
    "candidate refused",
    "@prod taken away",
    "@prod cannot score",
    "platform cannot be read",
]

WORK: Final[tuple[Kind, ...]] = ("failed run", "failed check", "waits for a change")
"""Kinds that are one incident: work that failed is tried again, and waits for a change when that did not help."""

SILENT_AFTER: Final = timedelta(minutes=5)
"""Sensors tick every 5 to 30 s. Under load a tick was seen to take half a minute, never minutes."""

_LISTED: Final = 10
"""Incidents that a message spells out; a phone shows no more."""

_REMEDIES: Final[Mapping[Kind, str]] = {
    "failed run": "It is tried again by itself. If it goes on, read the run's log and mend what it names.",
    "failed check": "Nothing of it was written. Read the run's log: what is named there breaks the rules.",
    "stored rows fail a check": "They are in the tables. The check names what is wrong: mend the cause, and "
    "materialize what it names again.",
    "waits for a change": "Mend the cause and land it again, or `fraud-assets run` once it is mended.",
    "sensor stopped": "Turn the sensor on in the Dagster UI, or start the daemon again (`make dev`, or its service).",
    "feed is late": "Ask who delivers. What lands is scored by itself.",
    "landed files cannot be read": "Let the platform's user read them, or take them away. The rest of the partition "
    "counts without them.",
    "quarantine over its limit": '`fraud-assets sql "SELECT reasons, count(*) FROM silver.quarantined_transactions '
    'GROUP BY ALL"` says why; FRAUD_QUARANTINE_LIMIT is the limit.',
    "candidate refused": "`fraud-assets promote VERSION --reason TEXT` overrides; else land more data, or leave it.",
    "@prod taken away": "`fraud-assets promote VERSION`, or `fraud-assets rollback`.",
    "@prod cannot score": "`fraud-assets rollback`, and find out who put it there.",
    "platform cannot be read": "`fraud-assets status` says the same; mend what it names.",
}


@dataclass(frozen=True)
class Incident:
    """One thing that is wrong, as long as it is.

    Attributes:
        kind: what is wrong.
        subject: with what: a stage, a sensor, a version, a check.
        key: the partition; empty where there is none.
        reason: why, in words.
        rows: how many rows are concerned; None where that has no meaning or is not known.
        link: where a person looks at it.
        run_id: the run that failed; empty where there is none.
    """

    kind: Kind
    subject: str
    key: str = ""
    reason: str = ""
    rows: int | None = None
    link: str = ""
    run_id: str = ""

    @property
    def id(self) -> str:
        """What it is the same incident by, whatever its words."""
        return " ".join(("work" if self.kind in WORK else self.kind, self.subject, self.key)).strip()

    @property
    def remedy(self) -> str:
        """What a person does about it."""
        return _REMEDIES[self.kind]


@dataclass(frozen=True)
class EndedRun:
    """A run that ended, well or not.

    Attributes:
        run_id: Dagster's.
        job: name of its job.
        stages: names of the stages that it does.
        keys: its partitions; one empty key where it has none.
        failed: whether it failed.
        cause: what made a sensor ask for it; empty where something else launched it.
    """

    run_id: str
    job: str
    stages: tuple[str, ...]
    keys: tuple[str, ...]
    failed: bool
    cause: str = ""


@dataclass(frozen=True)
class SensorTicks:
    """A sensor: whether it is on, when it ticked last, and the error of ticks that go on failing."""

    name: str
    is_on: bool
    last_tick: datetime
    error: str = ""


@dataclass(frozen=True)
class Facts:
    """What incidents are made of, at one moment.

    Attributes:
        now: the moment.
        state: of partitions and models; None where it cannot be read.
        plan: what is due for that state.
        unreadable: why the state cannot be read.
        runs: those that ended lately, the newest first.
        max_attempts: how often the same cause is tried.
        sensors: those that ticked once, or were turned on or off.
        watched_since: since when somebody looks without a break: before that, silence means nothing.
        newest_landed: when the newest partition's newest file was written, or it was built where its files are gone.
        late_after: how long nothing may land; None for a feed that has an end.
        unreadable_files: those under landing/ that the system does not let us read, with why.
        quarantine_shares: of partitions over the limit, with the quarantined rows.
        failed_checks: words of checks that failed last time, by name, of the severity ERROR.
        refused: version and reason, where the latest decision about a candidate refused it.
    """

    now: datetime
    state: PlatformState | None = None
    plan: Plan = field(default_factory=Plan)
    unreadable: str = ""
    runs: Sequence[EndedRun] = ()
    max_attempts: int = 3
    sensors: Sequence[SensorTicks] = ()
    watched_since: datetime | None = None
    newest_landed: datetime | None = None
    late_after: timedelta | None = None
    unreadable_files: Mapping[str, str] = field(default_factory=dict)
    quarantine_shares: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    failed_checks: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[str, str] | None = None


def incidents(facts: Facts, before: Collection[Incident] = ()) -> tuple[Incident, ...]:
    """Return what is wrong, each incident once.

    Args:
        facts: what is known now.
        before: what was wrong before. Work that failed, is due still and has left the list of late runs goes on being
            wrong; where the state cannot be read, what was wrong of it is so still.
    """
    state = facts.state
    if state is None:
        known = [one for one in before if one.kind not in ("platform cannot be read", "sensor stopped")]
        return (
            Incident("platform cannot be read", "platform", reason=facts.unreadable),
            *known,
            *_silent(facts, before),
        )
    found = [*_prod(state), *_refused(facts), *_failed_work(facts, state, before), *_failed_checks(facts)]
    found += [*_quarantine(facts), *_late(facts), *_unread(facts), *_silent(facts, before), *_failing(facts)]
    return tuple({one.id: one for one in reversed(found)}.values())


def _prod(state: PlatformState) -> Iterable[Incident]:
    if state.prod_taken_away:
        yield Incident("@prod taken away", "@prod", reason=PROD_TAKEN_AWAY)
    if state.prod_problem:
        due = [key for key, built in state.silver.items() if key not in state.gold and built.rows]
        rows = sum(state.silver[key].rows for key in due)
        yield Incident("@prod cannot score", f"version {state.prod_version}", reason=state.prod_problem, rows=rows)


def _refused(facts: Facts) -> Iterable[Incident]:
    if facts.refused is not None:
        version, reason = facts.refused
        yield Incident("candidate refused", f"version {version}", reason=reason)


def _failed_work(facts: Facts, state: PlatformState, before: Collection[Incident]) -> Iterable[Incident]:
    """Yield work whose latest run failed and that is due still; of a run that no sensor asked for, the run itself."""
    due = {(item.stage, item.key) for item in facts.plan.due}
    explained = {"gold"} if state.prod_problem else set[str]()
    if facts.refused is not None and state.prod_version is None:
        explained |= {"model", "training_job"}  # A training whose candidate is refused fails where @prod is nowhere.
    ended = set[tuple[str, str]]()
    for run in facts.runs:
        does = [(stage, key) for stage in run.stages for key in run.keys]
        own = (run.job, _range(run.keys))
        newest = [work for work in does if work not in ended]
        concerned = [work for work in newest if work in due]
        if run.failed and not run.cause and not concerned and own not in ended:
            concerned = [own]
        ended.update(does, [own])
        for subject, key in concerned if run.failed else ():
            if subject not in explained:
                waits = run.cause and _attempts(facts.runs, run.cause) >= facts.max_attempts
                kind: Kind = "waits for a change" if waits else "failed run"
                yield Incident(kind, subject, key, rows=_rows(state, subject, key), run_id=run.run_id)
    for one in before:
        if one.kind in WORK and (one.subject, one.key) in due - ended and one.subject not in explained:
            yield one


def _attempts(runs: Sequence[EndedRun], cause: str) -> int:
    return sum(run.failed and run.cause == cause for run in runs)


def _range(keys: Sequence[str]) -> str:
    return keys[0] if keys[0] == keys[-1] else f"{keys[0]}...{keys[-1]}"


def _rows(state: PlatformState, stage: str, key: str) -> int | None:
    built = None if stage == "silver" else state.silver.get(key)
    return built and built.rows


def _failed_checks(facts: Facts) -> Iterable[Incident]:
    return (Incident("stored rows fail a check", name, reason=reason) for name, reason in facts.failed_checks.items())


def _quarantine(facts: Facts) -> Iterable[Incident]:
    for key, (share, rows) in facts.quarantine_shares.items():
        reason = f"{share:.1%} of its landed rows are in quarantine"
        yield Incident("quarantine over its limit", "Quarantine", key, reason=reason, rows=rows)


def _late(facts: Facts) -> Iterable[Incident]:
    landed, after = facts.newest_landed, facts.late_after
    if landed is not None and after is not None and facts.now - landed > after:
        yield Incident("feed is late", "Landing", reason=f"no new partition landed since {landed:%Y-%m-%d %H:%M} UTC")


def _unread(facts: Facts) -> Iterable[Incident]:
    names = sorted(facts.unreadable_files)
    for key, of_partition in groupby(names, key=lambda name: name.split("/")[0]):
        reason = "; ".join(f"{name} ({facts.unreadable_files[name]})" for name in of_partition)
        yield Incident("landed files cannot be read", "Landing", key, reason=reason)


def _silent(facts: Facts, before: Collection[Incident]) -> Iterable[Incident]:
    """Return the sensors that are off or silent; where all are silent, the daemon is.

    Whoever has just begun to watch calls no sensor silent, but one that was so before is until it ticks.
    """
    known = {one.subject for one in before if one.kind == "sensor stopped"}
    is_new = facts.watched_since is not None and facts.now - facts.watched_since <= SILENT_AFTER
    off = [one for one in facts.sensors if not one.is_on]
    on = [one for one in facts.sensors if one.is_on]
    long_ago = [one for one in on if facts.now - one.last_tick > SILENT_AFTER]
    silent = [one for one in long_ago if not is_new or {one.name, "daemon"} & known]
    if silent and len(silent) == len(on):
        last = max(one.last_tick for one in silent)
        reason = f"no sensor has ticked since {last:%Y-%m-%d %H:%M} UTC: the daemon does not run, or hangs"
        return [Incident("sensor stopped", "daemon", reason=reason)]
    words = {one.name: "it was turned off" for one in off}
    words |= {one.name: f"it has not ticked since {one.last_tick:%Y-%m-%d %H:%M} UTC" for one in silent}
    return [Incident("sensor stopped", name, reason=reason) for name, reason in words.items()]


def _failing(facts: Facts) -> Iterable[Incident]:
    return (Incident("sensor stopped", one.name, reason=one.error) for one in facts.sensors if one.is_on and one.error)


@dataclass(frozen=True)
class Message:
    """What is sent of some incidents: a title of a few words, and lines; whether it says that they are over."""

    incidents: tuple[Incident, ...]
    title: str
    body: str
    is_over: bool = False


def messages(before: Iterable[Incident], now: Iterable[Incident]) -> list[Message]:
    """Return what to say where there were these incidents and now there are those: what began, then what is over.

    Incidents of one kind and subject that begin together are one message.
    """
    known, there = {one.id: one for one in before}, {one.id: one for one in now}
    begun = [one for name, one in there.items() if name not in known]
    over = [one for name, one in known.items() if name not in there]
    return [
        *(Message(group, _title(group), _body(group)) for group in _alike(begun)),
        *(Message(group, f"Over: {_title(group)}", _lines(group, _subject), is_over=True) for group in _alike(over)),
    ]


def _alike(found: Iterable[Incident]) -> Iterable[tuple[Incident, ...]]:
    def of(one: Incident) -> tuple[str, str]:
        return one.kind, one.subject

    return [tuple(sorted(group, key=lambda one: one.key)) for _, group in groupby(sorted(found, key=of), key=of)]


def _title(group: Sequence[Incident]) -> str:
    more = f" and {len(group) - 1} more" if len(group) > 1 else ""
    return f"{_subject(group[0])}{more}: {group[0].kind}"


def _subject(one: Incident) -> str:
    return " ".join(filter(None, (one.subject.capitalize() if one.key else one.subject, one.key)))


def _body(group: Sequence[Incident]) -> str:
    def told(one: Incident) -> str:
        rows = "" if one.rows is None else f" ({one.rows:,} rows)"
        name = f"{one.key}: " if one.key else ""
        return "\n".join(filter(None, (f"{name}{one.reason}{rows}", one.link)))

    return f"{_lines(group, told)}\nWhat to do: {group[0].remedy}"


def _lines(group: Sequence[Incident], words: Callable[[Incident], str]) -> str:
    more = [f"... and {len(group) - _LISTED} more"] if len(group) > _LISTED else []
    return "\n".join([*map(words, group[:_LISTED]), *more])
