"""How long a landed file takes until a reader sees its scores: real `dagster dev`, real landings, each of them alone.

    python -m benchmarks.latency [landings]

What belongs here: waiting for readers to see it, and where the time went. What does not: how fast anything computes. It
says something only where nothing else uses the cores.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg
import duckdb

from fraud_assets.automation.sensors import IN_FLIGHT
from fraud_assets.resources.platform import Platform
from fraud_assets.resources.reader_views import READER_DATABASE
from fraud_assets.settings import Settings
from fraud_assets.simulator.writing import write_day
from fraud_assets.staleness import decide

LANDINGS: Final = 20
FIRST_DAY: Final = date(2026, 1, 1)
SCORED_DAYS: Final = 4
# What there is before the first landing that is measured: enough for a model.
ROWS_PER_DAY: Final = 3_000
PATIENCE_SECONDS: Final = 300
_LOOK_SECONDS: Final = 0.05


@dataclass(frozen=True)
class Landing:
    """Seconds from the rename of a file to each moment that is known of the run which scored it."""

    requested: float
    launched: float
    began: float
    visible: float
    alerted: float


@contextmanager
def daemon(folder: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """Run `dagster dev` until the block ends, in a process group of its own, whose number it gives."""
    command = [str(Path(sys.executable).with_name("dagster")), "dev", "--host", "127.0.0.1", "--port", "0"]
    with (folder / "dev.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            yield process.pid
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # it may wait for runs for longer than anybody waits for it
            process.wait()


def scored_days(folder: Path, *, rows_per_day: int) -> dict[str, str]:
    """Land, model and score a few days, with Dagster's home beside them; return the environment of all that follows."""
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text(Path("dagster_home", "dagster.yaml").read_text())
    environment = {
        **os.environ,
        "FRAUD_SOURCE": "simulated",
        "FRAUD_DATA_DIR": str(folder / "data"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/data/mlflow/mlflow.db",
        "DAGSTER_HOME": str(folder / "home"),
    }
    for n in range(SCORED_DAYS):
        write_day(FIRST_DAY + timedelta(days=n), folder / "data" / "landing", rows_per_day=rows_per_day)
    command = [str(Path(sys.executable).with_name("fraud-assets")), "run"]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return environment


def platform_of(environment: Mapping[str, str]) -> Platform:
    """Return the platform of `scored_days`, to look at from this process."""
    given: dict[str, Any] = {"_env_file": None, "source": "simulated", "data_dir": environment["FRAUD_DATA_DIR"]}
    given |= {"MLFLOW_TRACKING_URI": environment["MLFLOW_TRACKING_URI"], "MLFLOW_REGISTRY_URI": None}
    return Platform(Settings(**given))


def is_settled(platform: Platform, instance: dg.DagsterInstance) -> bool:
    """Whether nothing is due and no run in flight."""
    if instance.get_runs(dg.RunsFilter(statuses=IN_FLIGHT), limit=1):
        return False
    return decide(platform.state(platform.look()), platform.stages).due == ()


def measure(landings: int = LANDINGS) -> list[Landing]:
    """Land so many days, each once all that the one before made due is done, and return what each took."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        environment = scored_days(folder, rows_per_day=ROWS_PER_DAY)
        days = [FIRST_DAY + timedelta(days=SCORED_DAYS + n) for n in range(1 + landings)]
        with daemon(folder, environment), dg.DagsterInstance.from_config(str(folder / "home")) as instance:
            wait(folder / "dev.log", lambda: bool(instance.get_daemon_statuses()), "the daemon")
            # The first waits for the daemon.
            _, *measured = [_land(folder, instance, day) for day in days]
            return measured


def _land(folder: Path, instance: dg.DagsterInstance, day: date) -> Landing:
    aside = write_day(day, folder / "aside", rows_per_day=ROWS_PER_DAY)
    target = folder / "data" / "landing" / day.isoformat() / aside.name
    target.parent.mkdir()
    time.sleep(_LOOK_SECONDS)  # longer than a file's clock is coarse: the rename is seen to be one
    aside.rename(target)
    landed = time.time()
    wait(folder / "dev.log", _published(folder, day, "gold.fraud_predictions"), f"{day} in Gold")
    visible = time.time()
    wait(folder / "dev.log", _published(folder, day, "gold.alert_lists"), f"the alerts of {day}")
    alerted = time.time()
    page = folder / "data" / "reports" / f"{day}.html"
    wait(
        folder / "dev.log",
        lambda: page.exists() and not instance.get_runs(dg.RunsFilter(statuses=IN_FLIGHT), limit=1),
        f"page of {day}",
    )
    [record, *_] = instance.get_run_records(dg.RunsFilter(job_name="landing_job"), limit=1)
    stats = instance.get_run_stats(record.dagster_run.run_id)
    return Landing(
        requested=record.create_timestamp.timestamp() - landed,
        launched=(stats.launch_time or landed) - landed,
        began=(record.start_time or landed) - landed,
        visible=visible - landed,
        alerted=alerted - landed,
    )


def _published(folder: Path, day: date, table: str) -> Callable[[], bool]:
    """Return what says whether readers see rows of a day in a table.

    It looks only into a database that is another one than last time: looking takes a core from what is measured.
    """
    database, seen = folder / "data" / READER_DATABASE, [0]

    def is_published() -> bool:
        published = database.stat().st_ino
        is_new, seen[0] = published != seen[0], published
        if not is_new:
            return False
        with duckdb.connect(database, read_only=True) as connection:
            question = f"SELECT count(*) FROM {table} WHERE partition_key = ?"
            [(rows,)] = connection.execute(question, [day.isoformat()]).fetchall()
        return rows > 0

    return is_published


def wait(log: Path, condition: Callable[[], bool], what: str, *, pause: float = _LOOK_SECONDS) -> None:
    """Look until a condition holds; raise TimeoutError, with the end of the log, where it never does."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {PATIENCE_SECONDS} s for {what}\n{log.read_text()[-3_000:]}")
        time.sleep(pause)


def lines(landings: list[Landing]) -> list[str]:
    """Return the table of where the time goes, for people."""
    parts = {
        "until a tick has asked for a run": [one.requested for one in landings],
        "queue": [one.launched - one.requested for one in landings],
        "process start and imports": [one.began - one.launched for one in landings],
        "build, score, publish": [one.visible - one.began for one in landings],
        "landed to visible in Gold": [one.visible for one in landings],
        "landed to visible in the alerts": [one.alerted for one in landings],
    }
    rows = [f"{f'{len(landings)} landings of {ROWS_PER_DAY:,} rows':44}{'median':>10}{'95 %':>10}{'longest':>10}"]
    for name, seconds in parts.items():
        high = statistics.quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[0]
        rows.append(f"  {name:42}{statistics.median(seconds):8.2f} s{high:8.2f} s{max(seconds):8.2f} s")
    return rows


if __name__ == "__main__":
    measured = measure(int(sys.argv[1]) if len(sys.argv) > 1 else LANDINGS)
    print("\n".join(lines(measured)))
    print(json.dumps([asdict(one) for one in measured]))
