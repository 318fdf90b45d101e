"""Notifications: faults put into a real platform, and what a real receiver on this machine hears of each."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._utils.error import SerializableErrorInfo
from mlflow import MlflowClient

import fraud_assets.assets.silver as silver_assets
from fraud_assets.automation.notifications import Watch
from fraud_assets.automation.sensors import MAX_ATTEMPTS
from fraud_assets.checks.silver import rows_are_accounted_for
from fraud_assets.cli import main
from fraud_assets.incidents import Incident, incidents
from fraud_assets.platform_state import PlatformState
from fraud_assets.resources.models.promotions import apply_decision
from fraud_assets.resources.tables import PROMOTIONS, QUARANTINED_TRANSACTIONS, RAW_TRANSACTIONS
from fraud_assets.silver.contract import ContractCheck
from fraud_assets_tests.automation.receiver import Receiver, receiving
from fraud_assets_tests.automation.test_sensors import landed, run_requested
from fraud_assets_tests.depth import cases
from fraud_assets_tests.platform import TestPlatform

LAST_DAY, NEXT_DAY = "2026-01-06", "2026-01-07"
Fault = Callable[[TestPlatform], Iterator[None]]


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as receiver:
        monkeypatch.setenv("FRAUD_NOTIFY", receiver.address)
        yield receiver


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """One that records ticks, as the daemon's does."""
    home = tmp_path / "home"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        yield instance


def tick(platform: TestPlatform, *, cursor: str | None = None) -> str:
    """One tick of the sensor, of a daemon that has just started unless it gets a cursor."""
    with dg.build_sensor_context(
        instance=platform.instance,
        repository_def=platform.definitions.get_repository_def(),
        cursor=cursor,
    ) as context:
        skipped = platform.definitions.resolve_sensor_def("notifications_sensor")(context)
    assert isinstance(skipped, dg.SkipReason)
    return skipped.skip_message or ""


def without_end(platform: TestPlatform, folder: Path) -> TestPlatform:
    """The same platform, of a feed that goes on for ever."""
    packaged = Path(silver_assets.__file__).parents[1] / "silver/sources/simulated.toml"
    open_feed = folder / "simulated.toml"
    open_feed.write_text(packaged.read_text().replace('end = "2026-02-10"', ""))
    return replace(platform, source=str(open_feed))


# What can go wrong. Each of these breaks something, and mends it when its block ends.


def _land_garbage(platform: TestPlatform) -> Path:
    broken = platform.landing_zone.folder / NEXT_DAY / "broken.parquet"
    broken.parent.mkdir()
    broken.write_bytes(b"no parquet")
    for _ in range(2):
        landed(platform)
    return broken


def _mend(platform: TestPlatform, broken: Path) -> None:
    broken.unlink()
    platform.simulate(1, start=date.fromisoformat(NEXT_DAY))
    assert [step.problem for step in platform.run()] == [""]


@contextmanager
def a_run_that_failed_once(platform: TestPlatform) -> Iterator[None]:
    broken = _land_garbage(platform)
    [request], _ = landed(platform)
    assert not run_requested(platform, request).success
    yield
    _mend(platform, broken)


@contextmanager
def a_partition_that_waits_for_a_change(platform: TestPlatform) -> Iterator[None]:
    broken = _land_garbage(platform)
    for _ in range(MAX_ATTEMPTS):
        [request], _ = landed(platform)
        run_requested(platform, request)
    yield
    _mend(platform, broken)


@contextmanager
def a_failed_blocking_check(platform: TestPlatform) -> Iterator[None]:
    platform.simulate(1, start=date.fromisoformat(NEXT_DAY))
    for _ in range(2):
        landed(platform)
    [request], _ = landed(platform)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(silver_assets, "check_features", lambda *_: ContractCheck(700, {"a rule": 3}))
        run_requested(platform, request)
    yield
    platform.run()


@contextmanager
def a_check_that_fails_no_run(platform: TestPlatform) -> Iterator[None]:
    def check() -> None:
        [key] = rows_are_accounted_for.check_keys
        job = platform.definitions.resolve_implicit_global_asset_job_def()
        job.get_subset(asset_selection=set(), asset_check_selection={key}).execute_in_process(
            instance=platform.instance
        )

    table = QUARANTINED_TRANSACTIONS
    with platform.lake.connect() as connection:
        rows = connection.sql(f"FROM {platform.lake.select(table, keys=[LAST_DAY])}").to_arrow_table()
    platform.lake.replace_partition(table, LAST_DAY, table.schema.empty_table(), provenance={})
    check()
    yield
    platform.lake.replace_partition(table, LAST_DAY, rows.cast(table.schema), provenance={})
    check()


SENSORS = ("landed_partitions_sensor", "unscored_partitions_sensor", "dead_runs_sensor")


def _sensor_state(name: str, status: InstigatorStatus, last_tick: float) -> InstigatorState:
    location = RegisteredCodeLocationOrigin("fraud_assets")
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), name)
    data = SensorInstigatorData(last_tick_timestamp=last_tick)
    return InstigatorState(origin, InstigatorType.SENSOR, status, data)


def _sensors_tick(platform: TestPlatform, *, silent: str = "", off: str = "") -> None:
    known = {state.name: state for state in platform.instance.all_instigator_state()}
    for name in SENSORS:
        status = InstigatorStatus.STOPPED if name == off else InstigatorStatus.DECLARED_IN_CODE
        state = _sensor_state(name, status, time.time() - (600 if name == silent else 5))
        (platform.instance.update_instigator_state if name in known else platform.instance.add_instigator_state)(state)


@contextmanager
def a_sensor_that_was_turned_off(platform: TestPlatform) -> Iterator[None]:
    _sensors_tick(platform, off=SENSORS[0])
    yield
    _sensors_tick(platform)


@contextmanager
def a_sensor_that_is_silent(platform: TestPlatform) -> Iterator[None]:
    _sensors_tick(platform, silent=SENSORS[1])
    yield
    _sensors_tick(platform)


@contextmanager
def a_sensor_whose_ticks_fail(platform: TestPlatform) -> Iterator[None]:
    _sensors_tick(platform)
    state = _sensor_state(SENSORS[0], InstigatorStatus.DECLARED_IN_CODE, 0.0)

    def ticks(status: TickStatus) -> None:
        error = SerializableErrorInfo("no such table\n", [], None) if status == TickStatus.FAILURE else None
        for _ in range(3):
            platform.instance.create_tick(
                TickData(
                    state.instigator_origin_id,
                    state.name,
                    InstigatorType.SENSOR,
                    status,
                    time.time(),
                    error=error,
                    selector_id=state.selector_id,
                )
            )

    ticks(TickStatus.FAILURE)
    yield
    ticks(TickStatus.SKIPPED)


@contextmanager
def a_feed_that_stopped_landing(platform: TestPlatform) -> Iterator[None]:
    [newest] = (platform.landing_zone.folder / LAST_DAY).iterdir()
    long_ago = (datetime.now(tz=UTC) - timedelta(days=3)).timestamp()
    os.utime(newest, (long_ago, long_ago))
    yield
    newest.touch()


@contextmanager
def much_in_quarantine(platform: TestPlatform) -> Iterator[None]:
    [day] = platform.simulate(1, start=date.fromisoformat(NEXT_DAY))
    good = day.read_text()
    header, *rows = good.splitlines()
    at = header.split(",").index("TransactionDT")
    bad = [",".join([*cells[:at], "not a time", *cells[at + 1 :]]) for cells in (row.split(",") for row in rows[:100])]
    day.write_text("\n".join([header, *rows[100:], *bad]) + "\n")
    platform.run()
    yield
    day.write_text(good)
    platform.run()


@contextmanager
def a_refused_candidate(platform: TestPlatform) -> Iterator[None]:
    lake, registry = platform.lake, platform.model_registry
    by = {"decided_by": "gate", "provenance": {}}
    apply_decision(lake, registry, "1", move="refused", reason="no better than a rule", **by)
    yield
    apply_decision(lake, registry, "1", move="promoted", reason="it will do", **by)


@contextmanager
def prod_taken_away(platform: TestPlatform) -> Iterator[None]:
    registry = platform.model_registry
    client = MlflowClient(registry.tracking_uri)
    client.delete_registered_model_alias(registry.model_name, "prod")
    yield
    client.set_registered_model_alias(registry.model_name, "prod", "1")


@contextmanager
def a_foreign_version_behind_prod(platform: TestPlatform) -> Iterator[None]:
    registry = platform.model_registry
    client = MlflowClient(registry.tracking_uri)
    version = client.create_model_version(registry.model_name, source=str(platform.data_dir))
    client.set_registered_model_alias(registry.model_name, "prod", version.version)
    yield
    client.set_registered_model_alias(registry.model_name, "prod", "1")


@contextmanager
def a_data_directory_of_another_grain(platform: TestPlatform) -> Iterator[None]:
    grain = platform.data_dir / ".grain"
    grain.write_text("hourly")
    yield
    grain.write_text("daily")


@contextmanager
def a_damaged_table(platform: TestPlatform) -> Iterator[None]:
    latest = max(Path(platform.lake.location(PROMOTIONS), "_delta_log").glob("*.json"))
    log = latest.read_text()
    latest.write_text("{ damaged")
    yield
    latest.write_text(log)


@contextmanager
def a_landing_zone_that_cannot_be_listed(platform: TestPlatform) -> Iterator[None]:
    digests = platform.data_dir / ".landing_digests.json"
    aside = digests.rename(digests.with_suffix(".aside"))
    digests.mkdir()
    yield
    digests.rmdir()
    aside.rename(digests)


@contextmanager
def a_file_that_cannot_be_read(platform: TestPlatform) -> Iterator[None]:
    file = platform.landing_zone.folder / "2026-01-07" / "loop.csv"
    file.parent.mkdir(exist_ok=True)
    file.symlink_to(file)
    yield
    file.unlink()


RUN, ASSETS = "http://127.0.0.1:3000/runs/", "http://127.0.0.1:3000/assets/"
FAULTS = {
    a_run_that_failed_once: ("Silver 2026-01-07: failed run", ("broken.parquet", RUN)),
    a_partition_that_waits_for_a_change: ("Silver 2026-01-07: waits for a change", ("broken.parquet", RUN)),
    a_failed_blocking_check: ("Silver 2026-01-07: failed check", ("a rule: 3", "(705 rows)", RUN)),
    a_check_that_fails_no_run: (
        "rows_are_accounted_for: stored rows fail a check",
        (LAST_DAY, "They are in the tables.", f"{ASSETS}silver_transactions_base?view=checks"),
    ),
    a_sensor_that_was_turned_off: ("landed_partitions_sensor: sensor stopped", ("turned off", "/automation")),
    a_sensor_that_is_silent: ("unscored_partitions_sensor: sensor stopped", ("has not ticked since",)),
    a_sensor_whose_ticks_fail: ("landed_partitions_sensor: sensor stopped", ("no such table",)),
    a_feed_that_stopped_landing: ("Landing: feed is late", ("since", f"{ASSETS}raw_transactions")),
    a_file_that_cannot_be_read: (
        "Landing 2026-01-07: landed files cannot be read",
        ("2026-01-07/loop.csv (Too many levels of symbolic links)", f"{ASSETS}raw_transactions"),
    ),
    much_in_quarantine: (
        "Quarantine 2026-01-07: quarantine over its limit",
        ("14.", "(100 rows)", f"{ASSETS}quarantined_transactions?partition=2026-01-07"),
    ),
    a_refused_candidate: ("version 1: candidate refused", ("no better than a rule", f"{ASSETS}prod_model")),
    prod_taken_away: ("@prod: @prod taken away", ("fraud-assets rollback",)),
    a_foreign_version_behind_prod: ("version 2: @prod cannot score", ("not registered by fraud_assets",)),
    a_landing_zone_that_cannot_be_listed: ("platform: platform cannot be read", ("Is a directory",)),
    a_data_directory_of_another_grain: ("platform: platform cannot be read", ("hourly",)),
    a_damaged_table: ("platform: platform cannot be read", ("model/promotions cannot be read", "backup")),
}
"""Each fault with the title of its one message, and what else stands in it: reason, rows concerned, link."""


@pytest.mark.parametrize(
    ("fault", "said"), [*FAULTS.items()][:: cases(3, 1)], ids=lambda one: getattr(one, "__name__", "")
)
def test_a_fault_is_said_once_and_its_end_once_also_after_a_restart(
    scored_platform: TestPlatform, receiver: Receiver, tmp_path: Path, fault: Fault, said: tuple[str, Sequence[str]]
) -> None:
    title, words = said
    platform = without_end(scored_platform, tmp_path)
    watched = f"{time.time() - 3600} {time.time()}"
    for day in platform.landing_zone.folder.iterdir():
        for file in day.iterdir():
            file.touch()
    tick(platform, cursor=watched)
    assert receiver.take() == []

    with fault(platform):  # type: ignore[attr-defined]
        tick(platform, cursor=watched)
        [posted] = receiver.posted
        assert receiver.take() == [f"[simulated] {title}"]
        assert [word for word in (*words, "What to do: ") if word not in posted["message"]] == []
        tick(platform, cursor=watched)
        tick(platform)
        assert receiver.take() == []
    tick(platform, cursor=watched)
    assert receiver.take() == [f"[simulated] Over: {title}"]
    tick(platform)
    assert receiver.take() == []


def test_a_feed_whose_landing_is_empty_is_no_less_late(scored_platform: TestPlatform, tmp_path: Path) -> None:
    platform = without_end(scored_platform, tmp_path)
    watch, later = Watch(platform.platform, platform.instance), datetime.now(tz=UTC) + timedelta(days=3)

    def late() -> list[str]:
        return [one.id for one in incidents(watch.facts(now=later, watched_since=None))]

    assert late() == ["feed is late Landing"]
    platform.landing_zone.folder.rename(tmp_path / "elsewhere")
    platform.landing_zone.folder.mkdir()
    assert late() == ["feed is late Landing"]


def test_what_is_known_to_be_wrong_is_said_also_where_its_rows_cannot_be_counted(
    scored_platform: TestPlatform,
) -> None:
    for entry in Path(scored_platform.lake.location(RAW_TRANSACTIONS), "_delta_log").glob("*.json"):
        entry.write_text("{ damaged")
    failed = Incident("failed run", "silver", LAST_DAY, run_id="a run")

    [said] = Watch(scored_platform.platform, scored_platform.instance).explained([failed])

    assert (said.id, said.rows) == (failed.id, None)


def test_partitions_are_listed_once_however_many_runs_ended(
    make_platform: Callable[..., TestPlatform], instance: dg.DagsterInstance
) -> None:
    class Listed(PlatformState):
        times = 0

        @property
        def keys(self) -> list[str]:
            Listed.times += 1
            return super().keys

    platform = make_platform()
    job = platform.definitions.resolve_job_def("maintenance_job")
    for _ in range(3):
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.SUCCESS)

    state = Listed(landed={}, made={}, previous_key={}, prod_version=None)

    assert len(Watch(platform.platform, instance)._runs(state)) == 3
    assert Listed.times == 1


def test_a_target_that_is_down_is_told_when_it_is_back_and_the_other_hears_it_once(
    scored_platform: TestPlatform, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with receiving() as one, receiving() as other, a_refused_candidate(scored_platform):
        monkeypatch.setenv("FRAUD_NOTIFY", f"{one.address} {other.address}")
        platform = TestPlatform(scored_platform.data_dir, scored_platform.instance)
        one.deaf = True
        for _ in range(2):
            tick(platform)
        assert (len(one.take()), len(other.take())) == (0, 1)
        one.deaf = False
        tick(platform)
        assert (len(one.take()), len(other.take())) == (1, 0)
    written = capfd.readouterr()
    assert "target 1 of FRAUD_NOTIFY did not take: version 1" in written.err + written.out
    assert "sesame" not in written.err + written.out
    assert "sesame" not in (platform.data_dir / ".notified.json").read_text()


def test_without_targets_it_is_logged_and_apprise_is_not_imported(
    scored_platform: TestPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "apprise", None)
    with a_data_directory_of_another_grain(scored_platform):
        assert tick(scored_platform) == "platform cannot be read platform"


def test_days_that_go_well_say_nothing(scored_platform: TestPlatform, receiver: Receiver) -> None:
    for day in range(7, cases(8, 27)):
        scored_platform.simulate(1, start=date(2026, 1, 1) + timedelta(days=day - 1))
        tick(scored_platform)
        assert [step.problem for step in scored_platform.run()] == [""]
        assert tick(scored_platform) == "nothing is wrong"
    assert receiver.take() == []


def test_the_command_says_what_is_wrong_notices_a_dead_daemon_and_sends_once(
    scored_platform: TestPlatform, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FRAUD_DATA_DIR", str(scored_platform.data_dir))
    home = tmp_path / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    monkeypatch.chdir(tmp_path)

    def said_by_command(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["incidents", *arguments])
        return done.exit_code, done.output

    assert said_by_command() == (0, "Nothing is wrong.\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for name in SENSORS:
            state = _sensor_state(name, InstigatorStatus.DECLARED_IN_CODE, time.time() - 600)
            instance.add_instigator_state(state)
    status, said = said_by_command()
    assert (status, receiver.take()) == (1, [])
    assert said.startswith("daemon: sensor stopped\n  no sensor has ticked since ")
    assert [said_by_command("--send")[0] for _ in range(2)] == [1, 1]
    assert receiver.take() == ["[simulated] daemon: sensor stopped"]
    with dg.DagsterInstance.from_config(str(home)) as instance, suppress(KeyError):
        for state in instance.all_instigator_state():
            instance.update_instigator_state(
                _sensor_state(state.name, InstigatorStatus.DECLARED_IN_CODE, time.time() - 1)
            )
    assert said_by_command("--send") == (0, "Nothing is wrong.\n")
    assert receiver.take() == ["[simulated] Over: daemon: sensor stopped"]


@pytest.mark.parametrize("command", ["incidents", "incidents --send", "maintain"])
def test_a_command_that_goes_by_dagsters_records_is_refused_where_there_are_none(
    scored_platform: TestPlatform, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    monkeypatch.setenv("FRAUD_DATA_DIR", str(scored_platform.data_dir))
    monkeypatch.chdir(tmp_path)

    done = CliRunner().invoke(main, command.split())

    assert done.exit_code == 1
    assert "`export DAGSTER_HOME=PLACE`, or `cd` to the clone" in done.output
    assert receiver.take() == []
