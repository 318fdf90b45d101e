"""What a tiny partition costs when many land at once: one run over a range builds Silver, in a process of its own.

    python -m benchmarks.backlog [partitions]...

What belongs here: the cost by partition, and of a tick over them. What does not: large partitions (`runs`).
"""

import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import dagster as dg

from fraud_assets.assets.partition_runs import FIRST_PARTITION_TAG, LAST_PARTITION_TAG
from fraud_assets.definitions import build_definitions
from fraud_assets.partition_keys import key_of
from fraud_assets.resources.platform import Platform
from fraud_assets.settings import Settings
from fraud_assets.staleness import decide

SIZES: Final = (100, 1_000, 5_000)
# The cost of a partition at the last is compared with that at the first.
ROWS: Final = 50
START: Final = datetime(2025, 1, 1, tzinfo=UTC)
SOURCE: Final = """
name = "tiny"
description = "hours of few rows"
[partitions]
grain = "hourly"
start = "2025-01-01"
[features]
high_value_amount = 250.0
[columns]
TransactionID = "id"
event_timestamp = "time::TIMESTAMP"
card_id = "card"
TransactionAmt = "amount"
ProductCD = "product"
is_international_txn = "false"
"""


@dataclass(frozen=True)
class Backlog:
    """One run over so many partitions, and a look at all of them afterwards."""

    partitions: int
    run_milliseconds: float
    """Of one partition."""
    tick_seconds: float
    peak_mebibytes: float


def _build(partitions: int) -> Backlog:
    """Land so many hours and build them in one run, in this process."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        (folder / "tiny.toml").write_text(SOURCE)
        (folder / "home").mkdir()
        (folder / "home" / "dagster.yaml").write_bytes(Path("dagster_home", "dagster.yaml").read_bytes())
        given: dict[str, Any] = {"_env_file": None, "source": str(folder / "tiny.toml"), "data_dir": folder / "data"}
        given |= {"MLFLOW_TRACKING_URI": None, "MLFLOW_REGISTRY_URI": None}
        settings = Settings(**given)
        platform, keys = Platform(settings), []
        for hour in range(partitions):
            begin = START + timedelta(hours=hour)
            keys.append(key_of(begin, "hourly"))
            file = platform.landing_zone.folder / keys[-1] / "some.csv"
            file.parent.mkdir(parents=True)
            rows = (f"{hour}-{n},{begin + timedelta(minutes=n):%Y-%m-%d %H:%M:%S},{n % 7},{n}.5,W" for n in range(ROWS))
            file.write_text("\n".join(["id,time,card,amount,product", *rows, ""]))
        with dg.DagsterInstance.from_config(str(folder / "home")) as instance:
            job = build_definitions(settings).resolve_job_def("silver_job")
            began = perf_counter()
            quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
            tags = {FIRST_PARTITION_TAG: keys[0], LAST_PARTITION_TAG: keys[-1]}
            assert job.execute_in_process(instance=instance, tags=tags, run_config=quiet).success
            ran = perf_counter() - began
        began = perf_counter()
        plan = decide(platform.state(platform.look()), platform.stages)
        tick = perf_counter() - began
        assert "silver" not in {due.stage for due in plan.due}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return Backlog(partitions, 1000 * ran / partitions, tick, peak)


def measure(sizes: tuple[int, ...] = SIZES) -> list[Backlog]:
    """Return what each backlog cost, each in a process of its own."""
    found = []
    for size in sizes:
        command = [sys.executable, "-m", "benchmarks.backlog", "--one", str(size)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found.append(Backlog(**json.loads(done.stdout.splitlines()[-1])))
    return found


def lines(found: list[Backlog]) -> list[str]:
    """Return the table of what a partition costs, for people."""
    return [f"{f'partitions of {ROWS} rows, Silver in one run':44}{'each':>12}{'a tick':>12}{'peak':>12}"] + [
        f"  {one.partitions:<42,}{one.run_milliseconds:9.1f} ms{one.tick_seconds:10.2f} s{one.peak_mebibytes:8.0f} MiB"
        for one in found
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(asdict(_build(int(sys.argv[2])))))
    else:
        print("\n".join(lines(measure(tuple(map(int, sys.argv[1:])) or SIZES))))
