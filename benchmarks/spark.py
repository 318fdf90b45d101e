"""What a row costs Spark and DuckDB when a day of many rows is built, and what each kind of process holds.

    python -m benchmarks.spark [rows]...

What belongs here: the rows of the day, and what is seen of every process meanwhile. What does not: the build itself
(`spark_run`). A tenth of the rows are of one card.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.features import write_skewed_day
from benchmarks.features_run import DAY
from fraud_assets.spark.session import SparkNotInstalledError, require_spark

WAYS: Final = ("duckdb", "local-cluster[1,1,1024]", "local-cluster[2,1,1024]")
FILE_ROWS: Final = 500_000
JVM_OPTIONS: Final = "-XX:MaxNewSize=96m -XX:-G1UseAdaptiveIHOP -XX:InitiatingHeapOccupancyPercent=10"
"""Of executors: they collect early, where a JVM else takes of its heap what it may before it does."""

_TICK: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class SparkRun:
    """One way on one day: what passed, what was computed, and the largest process of each kind."""

    way: str
    rows: int
    seconds: float
    cpu_microseconds_per_row: float
    peak_mebibytes: dict[str, float]
    spilled_bytes: int
    skew: float


def measure(*, rows: Sequence[int]) -> list[SparkRun]:
    """Build days of so many rows, each way once; where Spark is not installed nothing is measured."""
    try:
        require_spark()
    except SparkNotInstalledError:
        return []
    return [_run(way, count) for count in rows for way in WAYS]


def _run(way: str, rows: int) -> SparkRun:
    with tempfile.TemporaryDirectory() as folder:
        _land(Path(folder), rows)
        command = [sys.executable, "-m", "benchmarks.spark_run", way, folder]
        asked = f"--conf 'spark.executor.extraJavaOptions={JVM_OPTIONS}' pyspark-shell"
        environment = os.environ | {"PYSPARK_SUBMIT_ARGS": asked}
        with tempfile.TemporaryFile("w+") as out:
            process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.DEVNULL)
            cpu, peaks = _watch(process)
            out.seek(0)
            said: dict[str, Any] = json.loads(out.read().splitlines()[-1])
        assert said["rows"] == rows, said
        return SparkRun(
            way=way,
            rows=rows,
            seconds=said["seconds"],
            cpu_microseconds_per_row=cpu / rows * 1e6,
            peak_mebibytes={kind: peak / 1024 for kind, peak in sorted(peaks.items())},
            spilled_bytes=said.get("spark_spilled_bytes", 0),
            skew=said.get("spark_skew", 1.0),
        )


def _land(folder: Path, rows: int) -> None:
    """Land a day in files of half a million rows, each with cards of its own and one card that all have."""
    landing = folder / "landing" / DAY
    landing.mkdir(parents=True)
    base = folder / "base.parquet"
    write_skewed_day(base, FILE_ROWS)
    table = pq.read_table(base)
    base.unlink()
    hot = pa.array(np.arange(len(table)) % 10 == 0)
    for number, first in enumerate(range(0, rows, FILE_ROWS)):
        part = table.slice(0, min(FILE_ROWS, rows - first))
        ids = pa.array(np.arange(first, first + len(part))).cast(pa.string())
        cards = pc.binary_join_element_wise(part["card_id"], str(number), "-")  # pyright: ignore[reportAttributeAccessIssue]
        cards = pc.if_else(hot.slice(0, len(part)), "hot", cards)  # pyright: ignore[reportAttributeAccessIssue]
        part = part.set_column(0, "TransactionID", ids).set_column(2, "card_id", cards)
        pq.write_table(part, landing / f"{number:04}.parquet")


def _watch(process: subprocess.Popen[Any]) -> tuple[float, dict[str, float]]:
    """Return the CPU seconds of a process and all its descendants, and the peak KiB of the largest of each kind."""
    cpu: dict[tuple[int, str], float] = {}
    peaks: dict[str, float] = {}
    while process.poll() is None:
        for pid in _tree(process.pid):
            try:
                stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                status = Path(f"/proc/{pid}/status").read_text()
                arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            except OSError:
                continue
            cpu[pid, stat[19]] = (int(stat[11]) + int(stat[12])) / _TICK
            kind = _kind(arguments, is_first=pid == process.pid)
            peak = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
            peaks[kind] = max(peaks.get(kind, 0), peak)
        time.sleep(0.2)
    if process.returncode:
        raise RuntimeError(f"{process.args} failed")
    return sum(cpu.values()), peaks


def _kind(arguments: Sequence[str], *, is_first: bool) -> str:
    if is_first:
        return "driver"
    if "java" in arguments[0]:
        return "executor's JVM" if any("CoarseGrainedExecutor" in one for one in arguments) else "driver's JVM"
    return "Python worker"


def _tree(root: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    todo = [root]
    while todo:
        pid = todo.pop()
        yield pid
        todo += children.get(pid, [])


def lines(runs: Sequence[SparkRun]) -> list[str]:
    """Return the table, for people."""
    table = (
        ["a day from landed Parquet to the committed Silver partition, a tenth of its rows of one card"] if runs else []
    )
    for run in runs:
        peaks = ", ".join(f"{kind} {peak:,.0f} MiB" for kind, peak in run.peak_mebibytes.items())
        table.append(
            f"  {run.way:26}{run.rows:>12,} rows{run.seconds:>9.1f} s{run.cpu_microseconds_per_row:>8.1f} µs CPU a row"
            f"   skew {run.skew:.2f}, {run.spilled_bytes:,} bytes spilled; peaks: {peaks}"
        )
    return table


if __name__ == "__main__":
    for _count in map(int, sys.argv[1:] or ["5000000"]):
        for _way in WAYS:
            _one = _run(_way, _count)
            print("\n".join(lines([_one])[1:]), json.dumps(asdict(_one)), flush=True)
