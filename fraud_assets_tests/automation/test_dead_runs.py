"""Runs whose process is gone: real processes are killed, and what the run table says of them is put right."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import GRPC_INFO_TAG

from fraud_assets.automation import sensors
from fraud_assets.automation.dead_runs import QUIET_SECONDS, TAKING_SECONDS, end_dead_runs
from fraud_assets.automation.sensors import IN_FLIGHT
from fraud_assets.resources.run_locks import hold_run_lock
from fraud_assets_tests.killed import killed_at
from fraud_assets_tests.platform import TestPlatform

SUCCESS, FAILURE, CANCELED = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance that other processes share."""
    home = tmp_path / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def later() -> float:
    return time.time() + QUIET_SECONDS


@pytest.mark.parametrize(
    ("step", "ends"),
    [
        ("the run began, no lock yet", FAILURE),
        ("the lock is gone, the end not stored", FAILURE),
        ("the end is stored, the run table not", SUCCESS),
    ],
)
def test_a_killed_run_ends_as_it_was_going_to_whatever_it_held_when_it_was_killed(
    make_platform: Callable[..., TestPlatform], instance: dg.DagsterInstance, step: str, ends: dg.DagsterRunStatus
) -> None:
    platform = make_platform()
    platform.simulate(1, rows_per_day=20)
    assert killed_at(platform, step)
    [run] = instance.get_runs()
    assert run.status is dg.DagsterRunStatus.STARTED

    assert end_dead_runs(instance, str(platform.data_dir), now=time.time()) == [], "it may still live"
    [said] = end_dead_runs(instance, str(platform.data_dir), now=later())

    assert run.run_id in said
    assert instance.get_runs(dg.RunsFilter(statuses=IN_FLIGHT)) == []
    [found] = instance.get_run_records()
    assert found.dagster_run.status is ends
    assert found.end_time is not None
    assert end_dead_runs(instance, str(platform.data_dir), now=later()) == []
    assert list((platform.data_dir / ".runs").glob("*")) == []


@pytest.mark.parametrize(("location", "ends"), [("another_project", False), ("fraud_assets", True)])
def test_a_run_of_another_code_location_is_none_of_ours(
    make_platform: Callable[..., TestPlatform], instance: dg.DagsterInstance, location: str, ends: bool
) -> None:
    platform = make_platform()
    job = platform.definitions.resolve_job_def("silver_job")
    origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), "__repository__")
    instance.create_run_for_job(
        job, status=dg.DagsterRunStatus.STARTED, remote_job_origin=RemoteJobOrigin(origin, job.name)
    )
    with dg.build_sensor_context(
        instance=instance, repository_def=platform.definitions.get_repository_def()
    ) as context:
        busy = "silver_job" in sensors._in_flight(context, platform.stages, [])[1]

    assert busy is ends
    assert len(end_dead_runs(instance, str(platform.data_dir), now=later())) == ends
    assert [run.status for run in instance.get_runs()] == [FAILURE if ends else dg.DagsterRunStatus.STARTED]


def test_a_lock_that_a_killed_process_left_tells_at_once(
    make_platform: Callable[..., TestPlatform], instance: dg.DagsterInstance
) -> None:
    platform = make_platform()
    platform.simulate(1, rows_per_day=20)
    assert killed_at(platform, "before a materialization is told")
    [lock] = (platform.data_dir / ".runs").iterdir()
    made = lock.stat().st_mtime
    assert end_dead_runs(instance, str(platform.data_dir), now=made + TAKING_SECONDS / 2) == [], (
        "it may be taken just now"
    )
    assert len(end_dead_runs(instance, str(platform.data_dir), now=made + TAKING_SECONDS)) == 1
    assert [run.status for run in instance.get_runs()] == [FAILURE]
    assert list((platform.data_dir / ".runs").iterdir()) == []


def test_a_lock_goes_with_its_run_whoever_closed_it(
    make_platform: Callable[..., TestPlatform], instance: dg.DagsterInstance
) -> None:
    platform = make_platform()
    platform.simulate(1, rows_per_day=20)
    assert killed_at(platform, "before a materialization is told")
    [run] = instance.get_runs()
    left = [path.name for path in (platform.data_dir / ".runs").iterdir()]
    assert left == [f"{run.run_id}.lock"]
    instance.report_run_failed(run)  # as a code server does whose child was killed
    (platform.data_dir / ".runs" / "of-another-home.lock").touch()
    with hold_run_lock(str(platform.data_dir), "living"):
        assert end_dead_runs(instance, str(platform.data_dir), now=time.time()) == []
        kept = {path.name for path in (platform.data_dir / ".runs").iterdir()}
    assert kept == {"living.lock", "of-another-home.lock"}


def test_a_run_that_was_to_be_canceled_and_is_gone_is_canceled(
    make_platform: Callable[..., TestPlatform], instance: dg.DagsterInstance
) -> None:
    platform = make_platform()
    job = platform.definitions.resolve_job_def("silver_job")
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    instance.report_run_canceling(run)

    end_dead_runs(instance, str(platform.data_dir), now=later())

    assert [run.status for run in instance.get_runs()] == [CANCELED]


@pytest.mark.parametrize("by", ["socket", "port"])
def test_a_run_that_was_launched_waits_for_the_code_server_that_begins_it_and_ends_with_it(
    make_platform: Callable[..., TestPlatform], instance: dg.DagsterInstance, tmp_path: Path, by: str
) -> None:
    platform = make_platform()
    job = platform.definitions.resolve_job_def("silver_job")
    family, address = (socket.AF_UNIX, str(tmp_path / "s")) if by == "socket" else (socket.AF_INET, ("127.0.0.1", 0))

    def dead() -> list[str]:
        return end_dead_runs(instance, str(platform.data_dir), now=later() + 3600)

    with socket.socket(family) as server:
        server.bind(address)
        server.listen()
        where = {"host": "127.0.0.1", by: server.getsockname() if by == "socket" else server.getsockname()[1]}
        tags = {"launched": {GRPC_INFO_TAG: json.dumps(where)}, "not yet": {}}
        runs = {
            name: instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTING, tags=its).run_id
            for name, its in tags.items()
        }
        assert dead() == []
    [said] = dead()

    assert runs["launched"] in said
    found = {run.run_id: run.status for run in instance.get_runs()}
    assert found == {runs["launched"]: FAILURE, runs["not yet"]: dg.DagsterRunStatus.STARTING}
    if by == "socket":
        Path(str(address)).unlink()  # a machine that begins anew has an empty /tmp
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTING, tags=tags["launched"])
        assert len(dead()) == 1


def test_a_run_whose_lock_is_held_lives_however_long_it_is_quiet(
    make_platform: Callable[..., TestPlatform], instance: dg.DagsterInstance
) -> None:
    platform = make_platform()
    job = platform.definitions.resolve_job_def("silver_job")
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    script = (
        "import sys, time; from fraud_assets.resources.run_locks import hold_run_lock\n"
        "with hold_run_lock(*sys.argv[1:]): print(flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", script, str(platform.data_dir), run.run_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert end_dead_runs(instance, str(platform.data_dir), now=later() + 3600) == []
        os.kill(process.pid, signal.SIGKILL)

    assert len(end_dead_runs(instance, str(platform.data_dir), now=later())) == 1
    with hold_run_lock(str(platform.data_dir), run.run_id):
        pass
    assert [run.status for run in instance.get_runs()] == [FAILURE]
