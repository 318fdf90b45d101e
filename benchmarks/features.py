"""How fast canonical rows become rows with features, beside polars, each in a process of its own.

What belongs here: the rows of a large day and the comparison. What does not: what each way does (`features_run`).
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.features_run import DAY, WAYS
from benchmarks.measuring import REPEATS

ROWS_PER_CARD: Final = 30
"""On average; a few cards have hundreds."""
_SPREAD_OF_CARDS: Final = 1.3
"""Of the logarithm of a card's activity, as in the simulated feed."""


@dataclass(frozen=True)
class FeatureRun:
    """One way on one file, by the median run; ratios are to polars', from the same turns."""

    way: str
    rows: int
    median_seconds: float
    fastest_seconds: float
    slowest_seconds: float
    peak_mebibytes: float
    of_its_time: float
    of_its_memory: float


def measure(*, rows: int, ways: Sequence[str] = tuple(WAYS)) -> list[FeatureRun]:
    """Compare ways of `features_run` on a day of so many rows, in turns; polars only where it is installed."""
    ways = [way for way in ways if way != "polars" or find_spec("polars") is not None]
    said: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as scratch:
        canonical = Path(scratch, "canonical.parquet")
        write_skewed_day(canonical, rows)
        for _ in range(REPEATS):
            for way in ways:
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.features_run",
                    way,
                    str(canonical),
                    f"{scratch}/out.parquet",
                ]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-5_000:]}")
                said[way].append(json.loads(done.stdout.splitlines()[-1]))
    nan = float("nan")
    medians = {way: statistics.median(run["seconds"] for run in runs) for way, runs in said.items()}
    peaks = {way: max(run["peak_bytes"] for run in runs) / 2**20 for way, runs in said.items()}
    return [
        FeatureRun(
            way=way,
            rows=rows,
            median_seconds=medians[way],
            fastest_seconds=min(run["seconds"] for run in said[way]),
            slowest_seconds=max(run["seconds"] for run in said[way]),
            peak_mebibytes=peaks[way],
            of_its_time=medians[way] / medians.get("polars", nan),
            of_its_memory=peaks[way] / peaks.get("polars", nan),
        )
        for way in ways
    ]


def lines(runs: list[FeatureRun]) -> list[str]:
    """Return the table, for people."""
    heads = ("median", "fastest", "slowest", "peak", "x its time", "x its memory")
    table = [f"{'eight features, Parquet to Parquet':46}" + "".join(f"{head:>14}" for head in heads)]
    for run in runs:
        cells = [f"{one:.2f} s" for one in (run.median_seconds, run.fastest_seconds, run.slowest_seconds)]
        cells += [f"{run.peak_mebibytes:,.0f} MiB", f"{run.of_its_time:.2f}", f"{run.of_its_memory:.2f}"]
        table.append(f"  {f'{run.way}, {run.rows:,} rows':44}" + "".join(f"{cell:>14}" for cell in cells))
    return table


def write_skewed_day(path: Path, rows: int) -> None:
    """Write a day's canonical rows in order of time: bursts of transactions, a few cards with far more than most."""
    random = np.random.default_rng(1)
    cards = max(rows // ROWS_PER_CARD, 10)
    activity = np.exp(random.normal(0, _SPREAD_OF_CARDS, cards))
    sessions = int(rows * 0.6)
    sizes = 1 + random.geometric(0.6, sessions) * (random.random(sessions) < 0.5)
    session = np.repeat(np.arange(sessions), sizes)[:rows]
    n = len(session)
    place = np.arange(n) - np.searchsorted(session, session)
    second = random.uniform(0, 86_000, sessions)[session] + place * random.exponential(40, n)
    time_us = np.minimum(second * 1e6, 86_399e6).astype(np.int64)
    order = np.argsort(time_us, kind="stable")
    card = random.choice(cards, sessions, p=activity / activity.sum())[session][order]
    midnight = int(datetime.fromisoformat(DAY).replace(tzinfo=UTC).timestamp()) * 1_000_000
    names = pa.array([f"{1000 + i}-{i % 600}-150-visa-{i % 500}" for i in range(cards)])
    table = pa.table(
        {
            "TransactionID": pa.array(np.arange(3_000_000, 3_000_000 + n)).cast(pa.string()),
            "event_timestamp": pa.array(time_us[order] + midnight).cast(pa.timestamp("us", "UTC")),
            "card_id": names.take(pa.array(card)),
            "ProductCD": pa.array(list("WCHRS")).take(pa.array(random.choice(5, n, p=[0.7, 0.12, 0.06, 0.06, 0.06]))),
            "TransactionAmt": np.round(np.exp(random.normal(4.3, 1.1, n)), 2),
            "is_international_txn": (random.random(n) < 0.1).astype(np.int32),
            "isFraud": (random.random(n) < 0.035).astype(np.int32),
        }
    )
    pq.write_table(table, path)
