"""Real processes die at any moment, the daemon's whole tree, a run's alone, a command's: everything is done in the end.

`test_killed_runs` kills at each named step; here the moments are random, and the processes are those that people have.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from fraud_assets.automation.sensors import IN_FLIGHT
from fraud_assets.staleness import STAGES
from fraud_assets_tests.automation.test_sensors import run_requested
from fraud_assets_tests.depth import MORE, full_only
from fraud_assets_tests.end_to_end.servers import wait_until
from fraud_assets_tests.end_to_end.shell import ROOT
from fraud_assets_tests.end_to_end.test_killed_runs import DAYS, difference, happen, rebuild
from fraud_assets_tests.platform import FIRST_DAY, TestPlatform

KILLED = {"the daemon's tree": MORE, "a run": MORE, "a command": MORE}


class Processes:
    """`dagster dev` and `fraud-assets run` on a platform, each in a process group of its own."""

    def __init__(self, platform: TestPlatform) -> None:
        self.platform = platform
        self.log = platform.data_dir.parent / "dev.log"
        self._dev: subprocess.Popen[bytes] | None = None

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        executable = Path(sys.executable).with_name(command[0])
        environment = {**os.environ, "FRAUD_DATA_DIR": str(self.platform.data_dir)}
        environment["DAGSTER_HOME"] = self.platform.instance.root_directory
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [executable, *command[1:]], cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def dev(self) -> None:
        """Have a daemon, with its sensors."""
        if self._dev is None:
            self._dev = self._start("dagster", "dev", "--host", "127.0.0.1", "--port", "0")

    def command(self) -> subprocess.Popen[bytes]:
        return self._start("fraud-assets", "run")

    def kill_tree(self) -> None:
        """Kill the daemon with all that it started, as a machine does that loses power."""
        if self._dev is not None:
            os.killpg(self._dev.pid, signal.SIGKILL)
            self._dev.wait()
            self._dev = None

    def runs(self) -> list[int]:
        """Return the processes that hold the lock of a run: nothing in their command lines tells them."""
        held = f"{self.platform.data_dir}/.runs/"
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if any(str(file.readlink()).startswith(held) for file in (process / "fd").iterdir()):
                    found.append(int(process.name))
        return found


@pytest.fixture
def processes(_scored_data: Path, tmp_path: Path) -> Iterator[Processes]:
    """Six scored days, a second registered version, and the Dagster home that users have."""
    shutil.copytree(_scored_data, tmp_path / "data")
    (tmp_path / "home").mkdir()
    shutil.copy(ROOT / "dagster_home" / "dagster.yaml", tmp_path / "home")
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        platform = TestPlatform(tmp_path / "data", instance, stages=STAGES)
        assert run_requested(platform, dg.RunRequest(job_name="training_job")).success
        of_platform = Processes(platform)
        try:
            yield of_platform
        finally:
            of_platform.kill_tree()


def kill(processes: Processes, what: str, chance: random.Random) -> bool:
    """Wait until something runs, and a moment longer, and kill it; return whether it was there to be killed."""
    command = processes.command() if what == "a command" else processes.dev()
    wait_until(lambda: processes.runs() != [] or (command is not None and command.poll() is not None), what,
               log=processes.log, pause=0.1)  # fmt: skip
    time.sleep(chance.uniform(0, 3))
    with suppress(ProcessLookupError, IndexError):  # it ended in the moment
        if command is not None:
            os.killpg(command.pid, signal.SIGKILL)
            command.wait()
        elif what == "a run":
            os.kill(processes.runs()[0], signal.SIGKILL)
        else:
            processes.kill_tree()
        return True
    return False


def settled(processes: Processes) -> bool:
    platform = processes.platform
    if platform.instance.get_runs(dg.RunsFilter(statuses=IN_FLIGHT), limit=1):
        return False
    return platform.plan().due == ()


@full_only("kills real processes")
def test_whatever_processes_die_everything_is_done_once(processes: Processes, tmp_path: Path) -> None:
    platform, chance = processes.platform, random.Random(0)
    kills = [what for what, number in KILLED.items() for _ in range(number)]
    chance.shuffle(kills)
    number = 0
    for what in kills:
        happen(platform, chance)
        is_killed = False
        while not is_killed:
            # Something is always due: of the same day other rows.
            platform.simulate(1, start=FIRST_DAY + timedelta(days=chance.randrange(DAYS)), seed=2_000 + number)
            is_killed, number = kill(processes, what, chance), number + 1
    processes.dev()
    wait_until(lambda: settled(processes), "everything to be done", log=processes.log, seconds=900)

    platform.simulate(DAYS, start=FIRST_DAY, seed=5_000, rows_per_day=40)
    wait_until(lambda: settled(processes), "a correction of every day", log=processes.log, seconds=900)
    processes.kill_tree()
    state = platform.state()
    assert {key: gold.rows for key, gold in state.gold.items()} == {
        key: silver.rows for key, silver in state.silver.items() if silver.rows
    }
    assert list((platform.data_dir / ".runs").glob("*")) == []
    assert list(platform.data_dir.glob(".fraud.duckdb.*.tmp*")) == []

    assert difference(platform, rebuild(platform, tmp_path / "rebuilt")) == []
