"""The sensor that tells people what is wrong, once, and once when it is over; it decides nothing and starts nothing.

What is an incident: `fraud_assets.incidents`. Who was told: `fraud_assets.resources.notified`. Here stands only how
the facts are had from Dagster and the platform. `fraud-assets incidents` has them the same way, without the daemon.
See docs/adr/0017-nobody-types-a-command.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import dagster as dg
import duckdb
from dagster._core.scheduler.instigation import InstigatorState, InstigatorType, TickStatus

from fraud_assets.assets.partition_runs import covered_keys
from fraud_assets.automation.jobs import job_assets
from fraud_assets.automation.own_runs import CODE_LOCATION, location_of, own_runs
from fraud_assets.automation.sensors import CAUSE_TAG, MAX_ATTEMPTS
from fraud_assets.checks.alerts import ALERT_CHECKS
from fraud_assets.checks.gold import GOLD_CHECKS
from fraud_assets.checks.model import MODEL_CHECKS
from fraud_assets.checks.serve import SERVE_CHECKS
from fraud_assets.checks.silver import SILVER_CHECKS
from fraud_assets.errors import FraudAssetsError
from fraud_assets.incidents import EndedRun, Facts, Incident, Message, SensorTicks, incidents
from fraud_assets.platform_state import PlatformState
from fraud_assets.resources.models.promotions import decisions
from fraud_assets.resources.notified import Notified
from fraud_assets.resources.platform import Platform
from fraud_assets.resources.state import newest_landed
from fraud_assets.resources.tables import PARTITION_BUILDS, PROMOTIONS, RAW_TRANSACTIONS
from fraud_assets.silver.accounting import shares_over_limit
from fraud_assets.staleness import Stage, decide

SENSOR: Final = "notifications_sensor"

_LATE_RUNS: Final = 100
"""Runs looked at: those of hours. Work that failed before them and is due still is known from before."""

_FAILED_TICKS: Final = 3
"""Ticks in a row that fail before anyone is told: one may meet a table that is being replaced, three do not."""

_BREAK_SECONDS: Final = 120
"""Between two ticks of this sensor; longer, and the daemon stood still: then all sensors were silent, and are not."""

_UNREADABLE: Final = (FraudAssetsError, OSError, duckdb.Error)
"""What reading the platform may raise. Whatever stops the other sensors must not silence the one that says so."""


_TIMES: Final = ("last_tick_timestamp", "last_tick_start_timestamp", "last_sensor_start_timestamp")
"""Fields of Dagster's record of a sensor that say when it was alive."""


_CHECKS: Final = (*SILVER_CHECKS, *MODEL_CHECKS, *GOLD_CHECKS, *ALERT_CHECKS, *SERVE_CHECKS)
CHECK_KEYS: Final = [key for check in _CHECKS for key in check.check_keys]
"""The checks that run beside the assets and fail no run."""

ENDED: Final = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
"""States of a run that has ended."""


def ended_run(run: dg.DagsterRun, stages: Sequence[Stage], keys: Iterable[str]) -> EndedRun:
    """Return what an ended run was for: the stages all of whose assets it made, and which of `keys`."""
    assets = {key.to_user_string() for key in run.asset_selection or job_assets(stages).get(run.job_name, ())}
    return EndedRun(
        run_id=run.run_id,
        job=run.job_name,
        stages=tuple(stage.name for stage in stages if {*stage.assets} <= assets),
        keys=tuple(covered_keys(run.tags, keys)) or ("",),
        failed=run.status == dg.DagsterRunStatus.FAILURE,
        cause=run.tags.get(CAUSE_TAG, ""),
    )


@dataclass(frozen=True)
class Watch:
    """What is looked at: a platform, and Dagster's records of its runs and sensors."""

    platform: Platform
    instance: dg.DagsterInstance
    location: str = CODE_LOCATION

    def facts(self, *, now: datetime, watched_since: datetime | None, but: str = "") -> Facts:
        """Return what is known now; `but` names the sensor that asks. Changes nothing."""
        platform = self.platform
        known = Facts(now, sensors=self._sensors(but), watched_since=watched_since, max_attempts=MAX_ATTEMPTS)
        try:
            landing = platform.landing_zone.look(only_stable=True, remember=False)
            state = platform.state(landing)
            landed = newest_landed(platform.lake, landing)
            builds = platform.lake.partition_states(PARTITION_BUILDS, ("landed_rows", "quarantined_rows"))
            decided = [] if platform.lake.version(PROMOTIONS) is None else decisions(platform.lake)[:1]
        except _UNREADABLE as error:
            return replace(known, unreadable=str(error))
        shares = shares_over_limit(builds, limit=platform.settings.quarantine_limit)
        return replace(
            known,
            state=state,
            plan=decide(state, platform.stages),
            runs=self._runs(state),
            newest_landed=landed,
            late_after=platform.source.partitions.late_after,
            unreadable_files=landing.unreadable,
            quarantine_shares={key: (share, builds[key]["quarantined_rows"]) for key, share in shares.items()},
            failed_checks=self._failed_checks(),
            refused=_refused(decided),
        )

    def explained(self, found: Iterable[Incident], known: Iterable[Incident] = ()) -> list[Incident]:
        """Return incidents with reason, rows and link; those of the known ones are kept, without looking."""
        said = {one.id: one for one in known}
        return [
            replace(one, reason=before.reason, rows=before.rows, link=before.link)
            if (before := said.get(one.id))
            else self._explained(one)
            for one in found
        ]

    def _explained(self, one: Incident) -> Incident:
        if not one.run_id:
            return replace(one, link=self._link(_page(one)))
        one = replace(one, link=self._link(f"/runs/{one.run_id}"))
        said, check = _what_failed(self.instance, one.run_id)
        own = [line.removeprefix(f"{one.key}: ") for line in said.splitlines() if line.startswith(f"{one.key}: ")]
        reason = own[0] if one.key and own else said
        kind = "failed check" if check and one.kind == "failed run" else one.kind
        return replace(one, kind=kind, reason=reason, rows=self._landed_rows(one.key) if one.rows is None else one.rows)

    def _link(self, page: str) -> str:
        return self.platform.settings.dagster_url.rstrip("/") + page

    def _landed_rows(self, key: str) -> int | None:
        if not key or "..." in key:
            return None
        try:
            counted = [row["landed_rows"] for row in self.platform.lake.rows(RAW_TRANSACTIONS, keys=[key])]
        except _UNREADABLE:
            return None
        return sum(rows or 0 for rows in counted) if counted else None

    def _sensors(self, but: str) -> list[SensorTicks]:
        if self.instance.schedule_storage is None:  # An instance that forgets: no daemon has it.
            return []
        watched = {*(stage.sensor for stage in self.platform.stages), "dead_runs_sensor", SENSOR} - {but}
        return [
            SensorTicks(state.name, state.is_running, *self._ticks(state))
            for state in self.instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
            if state.name in watched
        ]

    def _ticks(self, state: InstigatorState) -> tuple[datetime, str]:
        """Return when a sensor was last alive, and the error of its last ticks where they all failed."""
        ticks = self.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=_FAILED_TICKS)
        failed = [tick.error for tick in ticks if tick.status == TickStatus.FAILURE and tick.error]
        error = failed[0].message.strip() if len(failed) == _FAILED_TICKS else ""
        # Ticks that skipped are forgotten after a while, and one that hangs is none yet.
        times = [tick.timestamp for tick in ticks] + [getattr(state.instigator_data, name, None) for name in _TIMES]
        return datetime.fromtimestamp(max(filter(None, times), default=0.0), tz=UTC), error

    def _runs(self, state: PlatformState) -> list[EndedRun]:
        late = own_runs(self.instance, dg.RunsFilter(statuses=ENDED), location=self.location, limit=_LATE_RUNS)
        keys = state.keys
        return [ended_run(run, self.platform.stages, keys) for run in late]

    def _failed_checks(self) -> Mapping[str, str]:
        """Return what the checks say that found an error when they ran last: Dagster fails no run for them."""
        latest = self.instance.event_log_storage.get_latest_asset_check_execution_by_key(CHECK_KEYS)
        found = {}
        for key, record in latest.items():
            event = record.event and record.event.dagster_event
            data = event and getattr(event, "event_specific_data", None)
            if getattr(data, "passed", True) is False and data.severity == dg.AssetCheckSeverity.ERROR:  # type: ignore[union-attr]
                told = "; ".join(f"{name}: {value.value}" for name, value in data.metadata.items())  # type: ignore[union-attr]
                found[key.name] = data.description or told  # type: ignore[union-attr]
        return found


def notified_of(platform: Platform) -> Notified:
    """Return who is told of a platform's incidents."""
    targets = tuple(platform.settings.notify.get_secret_value().split())
    return Notified(platform.data_dir, targets, feed=platform.source.name)


def build_notifications_sensor(platform: Platform) -> dg.SensorDefinition:
    """Return the sensor that looks for incidents and tells people; it requests nothing."""

    @dg.sensor(
        name=SENSOR,
        description="Says what is wrong, once, and once when it is over: in the log, and to FRAUD_NOTIFY.",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        now = datetime.now(tz=UTC)
        watch, notified = Watch(platform, context.instance, location_of(context)), notified_of(platform)
        known = notified.known()
        facts = watch.facts(now=now, watched_since=_watched_since(context, now), but=SENSOR)
        found = watch.explained(incidents(facts, known), known)

        def log(message: Message) -> None:
            (context.log.info if message.is_over else context.log.warning)(f"{message.title}\n{message.body}")

        for problem in notified.tell(found, log):
            context.log.warning(f"{problem}. It is tried again at the next tick.")
        return dg.SkipReason("; ".join(one.id for one in found) or "nothing is wrong")

    return sensor


def _watched_since(context: dg.SensorEvaluationContext, now: datetime) -> datetime:
    """Return since when this sensor ticks without a break; its cursor holds that, and its last tick."""
    since, last = map(float, (context.cursor or "0 0").split())
    if now.timestamp() - last > _BREAK_SECONDS:
        since = now.timestamp()
    context.update_cursor(f"{since} {now.timestamp()}")
    return datetime.fromtimestamp(since, tz=UTC)


def _refused(decided: Iterable[Mapping[str, Any]]) -> tuple[str, str] | None:
    refused = [(row["model_version"], row["reason"]) for row in decided if row["decision"] == "refused"]
    return refused[0] if refused else None


def _page(one: Incident) -> str:
    """Return the page of the Dagster UI that shows what an incident is about."""
    if one.kind == "sensor stopped":
        return "/deployment/daemons" if one.subject == "daemon" else "/automation"
    if one.kind in ("feed is late", "landed files cannot be read"):
        return "/assets/raw_transactions"
    if one.kind == "stored rows fail a check":
        assets = {key.name: key.asset_key.to_user_string() for key in CHECK_KEYS}
        return f"/assets/{assets[one.subject]}?view=checks"
    if one.kind == "quarantine over its limit":
        return f"/assets/quarantined_transactions?partition={one.key}"
    return "/assets/prod_model" if one.kind != "platform cannot be read" else "/overview"


def _what_failed(instance: dg.DagsterInstance, run_id: str) -> tuple[str, bool]:
    """Return what a failed run says of itself, and whether a blocking check of it failed."""
    types = {
        dg.DagsterEventType.STEP_FAILURE,
        dg.DagsterEventType.RUN_FAILURE,
        dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    }
    said, check = [], False
    for entry in instance.all_logs(run_id, of_type=types):
        event = entry.dagster_event
        data = event and event.event_specific_data
        if getattr(data, "passed", True) is False and getattr(data, "blocking", False):
            check = True
        user, error = getattr(data, "user_failure_data", None), getattr(data, "error", None)
        if user is not None and user.description:
            said.append(user.description)
        elif error is not None:
            while error.cause is not None:
                error = error.cause
            said.append(error.message.strip())
        elif event is not None and event.is_failure and event.message:
            said.append(event.message)
    return next(iter(said), "the run ended without a word"), check
