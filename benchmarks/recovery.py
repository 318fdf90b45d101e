"""How long after a kill of `dagster dev`, with all that it started, until everything is done again.

    python -m benchmarks.recovery [kills]

What belongs here: the time from the kill, the daemon's own start included. What does not: that everything is then right
(tests). It says something only where nothing else uses the cores.
"""

import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import dagster as dg

from benchmarks.latency import FIRST_DAY, SCORED_DAYS, daemon, is_settled, platform_of, scored_days, wait
from fraud_assets.automation.sensors import IN_FLIGHT
from fraud_assets.resources.platform import Platform
from fraud_assets.simulator.writing import write_day
from fraud_assets.staleness import decide

KILLS: Final = 10
ROWS_PER_DAY: Final = 1_000
_WORKING_SECONDS: Final = 8.0
"""A kill comes at any moment of so many seconds after a landing: before its run, in it, or in what follows."""


@dataclass(frozen=True)
class Recovery:
    """Seconds from a kill."""

    in_flight: str
    """The runs that were killed, with what the run table said of them."""
    begun: float
    """Until the daemon was there again."""
    scored: float
    """Until no Silver and no Gold was due."""
    settled: float
    """Until nothing was due and no run in flight."""


def measure(kills: int = KILLS) -> list[Recovery]:
    """Correct a day and land another, kill, begin again, and wait; so many times, each on what the one before left."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder, chance, found = Path(scratch), random.Random(0), list[Recovery]()
        environment = scored_days(folder, rows_per_day=ROWS_PER_DAY)
        platform = platform_of(environment)
        with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance:
            for kill in range(kills):
                with daemon(folder, environment):
                    _wait_for_daemon(folder, instance)
                    _wait_until_settled(folder, platform, instance)
                    landed = SCORED_DAYS + kill
                    for day in (landed, chance.randrange(landed)):
                        at = FIRST_DAY + timedelta(days=day)
                        write_day(at, platform.landing_zone.folder, rows_per_day=ROWS_PER_DAY, seed=kill)
                    time.sleep(chance.uniform(0, _WORKING_SECONDS))
                killed = time.time()
                runs = instance.get_runs(dg.RunsFilter(statuses=IN_FLIGHT))
                with daemon(folder, environment):
                    _wait_for_daemon(folder, instance)
                    begun = time.time()
                    wait(folder / "dev.log", lambda: not _due(platform) & {"silver", "gold"}, "scores", pause=0.5)
                    scored = time.time()
                    _wait_until_settled(folder, platform, instance)
                    in_flight = ", ".join(f"{run.job_name} {run.status.value}" for run in runs)
                    found.append(Recovery(in_flight, begun - killed, scored - killed, time.time() - killed))
        return found


def _due(platform: Platform) -> set[str]:
    return {due.stage for due in decide(platform.state(platform.look()), platform.stages).due}


def _wait_for_daemon(folder: Path, instance: dg.DagsterInstance) -> None:
    began = time.time()

    def is_there() -> bool:
        beat = instance.get_daemon_statuses().get("SENSOR")
        return beat is not None and beat.last_heartbeat is not None and beat.last_heartbeat.timestamp > began

    wait(folder / "dev.log", is_there, "the daemon", pause=0.5)


def _wait_until_settled(folder: Path, platform: Platform, instance: dg.DagsterInstance) -> None:
    wait(folder / "dev.log", lambda: is_settled(platform, instance), "everything to be done", pause=0.5)


def lines(found: list[Recovery]) -> list[str]:
    """Return the table of how long it took, for people."""
    rows = [f"{f'{len(found)} kills of the whole tree':44}{'median':>10}{'longest':>10}"]
    for name, seconds in {
        "until the daemon was there again": [one.begun for one in found],
        "until all was scored": [one.scored for one in found],
        "until nothing was due or in flight": [one.settled for one in found],
    }.items():
        rows.append(f"  {name:42}{statistics.median(seconds):8.1f} s{max(seconds):8.1f} s")
    return rows


if __name__ == "__main__":
    recoveries = measure(int(sys.argv[1]) if len(sys.argv) > 1 else KILLS)
    for one in recoveries:
        print(f"{one.begun:6.1f}{one.scored:8.1f}{one.settled:8.1f}  {one.in_flight}")
    print("\n".join(lines(recoveries)))
