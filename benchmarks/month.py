"""Whether a month leaves its traces: days land and are corrected under a real daemon, and maintenance follows each.

    python -m benchmarks.month [days]

What belongs here: a day's round, and what is left of it on disk and in memory. What does not: what maintenance removes,
and that nothing of value goes (tests). No day is waited for: between two of them everything is made older by 24
hours: files, Delta logs and Dagster's records.
"""

import json
import os
import signal
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Final

import dagster as dg
from deltalake import DeltaTable

from benchmarks.latency import FIRST_DAY, SCORED_DAYS, daemon, is_settled, platform_of, scored_days, wait
from fraud_assets.automation.maintenance import maintain
from fraud_assets.resources.platform import Platform
from fraud_assets.resources.tables import TABLES
from fraud_assets.simulator.writing import write_day
from fraud_assets.staleness import decide
from fraud_assets_tests.resources.test_table_maintenance import age

DAYS: Final = 30
ROWS_PER_DAY: Final = 1_000
CORRECTED: Final = 3
# So many of the days before land again, with other rows, on each day.
_KINDS: Final = {"dagster._daemon": "daemon", "dagster_webserver": "webserver", "grpc": "code server"}
_PAGE_KIB: Final = os.sysconf("SC_PAGE_SIZE") // 1024


@dataclass(frozen=True)
class Day:
    """What there is at the end of a day, once maintenance is done."""

    day: int
    disk_times_live: float
    """Bytes of the tables by those of the files that are theirs now."""
    log_entries: int
    """Files of the longest log of a table."""
    dagster_mebibytes: float
    runs: int
    """That Dagster's records hold."""
    look_seconds: float
    """To compare all that landed with all that is stored, as each tick does; median of nine."""
    daemon_mebibytes: dict[str, float]
    """Resident memory by kind of process, the largest of each."""


def measure(days: int = DAYS) -> Iterator[Day]:
    """Live through so many days, and yield what is left at the end of each."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder, home = Path(scratch), Path(scratch, "home")
        environment = scored_days(folder, rows_per_day=ROWS_PER_DAY)
        platform = platform_of(environment)
        with daemon(folder, environment) as group, dg.DagsterInstance.from_config(str(home)) as instance:
            wait(folder / "dev.log", lambda: bool(instance.get_daemon_statuses()), "the daemon")
            for day in range(1, days + 1):
                latest = FIRST_DAY + timedelta(days=SCORED_DAYS + day - 1)
                for back in range(CORRECTED + 1):
                    of = latest - timedelta(days=back)
                    write_day(of, platform.landing_zone.folder, rows_per_day=ROWS_PER_DAY, seed=100 * day + back)
                wait(folder / "dev.log", lambda: is_settled(platform, instance), f"day {day}", pause=1)
                with _stopped(group):  # It would read a log that is half written.
                    _age_tables(platform)
                _age_records(home)
                maintain(platform, instance, retention_hours=24, now=datetime.now(tz=UTC))
                yield _left(day, platform, instance, home, group)


@contextmanager
def _stopped(group: int) -> Iterator[None]:
    os.killpg(group, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(group, signal.SIGCONT)


def _age_tables(platform: Platform) -> None:
    for table in TABLES:
        if platform.lake.version(table) is not None:
            age(platform.lake, table=table, hours=24)


def _age_records(home: Path) -> None:
    """Make what Dagster keeps of runs and ticks older by a day."""
    with sqlite3.connect(home / "history" / "runs.db", timeout=60) as runs:
        for column in ("create_timestamp", "update_timestamp"):
            runs.execute(f"UPDATE runs SET {column} = datetime({column}, '-1 day')")
        runs.execute("UPDATE runs SET start_time = start_time - 86400, end_time = end_time - 86400")
    with sqlite3.connect(home / "schedules" / "schedules.db", timeout=60) as ticks:
        ticks.execute("UPDATE job_ticks SET timestamp = datetime(timestamp, '-1 day')")


def _left(day: int, platform: Platform, instance: dg.DagsterInstance, home: Path, group: int) -> Day:
    used = live = entries = 0
    for table in TABLES:
        if platform.lake.version(table) is None:
            continue
        folder = Path(platform.lake.location(table))
        used += _bytes(folder)
        live += sum(Path(uri.removeprefix("file://")).stat().st_size for uri in DeltaTable(str(folder)).file_uris())
        entries = max(entries, len(list((folder / "_delta_log").iterdir())))
    looks = []
    for _ in range(9):
        began = perf_counter()
        assert decide(platform.state(platform.look()), platform.stages).due == ()
        looks.append(perf_counter() - began)
    return Day(
        day=day,
        disk_times_live=used / live,
        log_entries=entries,
        dagster_mebibytes=_bytes(home) / 2**20,
        runs=instance.get_runs_count(),
        look_seconds=statistics.median(looks),
        daemon_mebibytes=_memory(group),
    )


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _memory(group: int) -> dict[str, float]:
    """Return the resident MiB of the processes of a group, the largest of each kind."""
    found: dict[str, float] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(process.name)) != group:
                continue
            command = (process / "cmdline").read_text()
            resident = int((process / "statm").read_text().split()[1]) * _PAGE_KIB / 1024
        except OSError:
            continue
        kind = next((name for word, name in _KINDS.items() if word in command), "")
        if kind:  # A run's process may be ending still.
            found[kind] = max(found.get(kind, 0), resident)
    return dict(sorted(found.items()))


if __name__ == "__main__":
    for one in measure(int(sys.argv[1]) if len(sys.argv) > 1 else DAYS):
        print(json.dumps(asdict(one)), flush=True)
