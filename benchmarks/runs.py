"""How fast whole scoring runs are, Silver to committed Gold, each in a process of its own: a small one and a large one.

What belongs here: runs of `scoring_job` and their control. What does not: the speed of the scorer alone (`scoring`).
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import duckdb
import joblib
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.measuring import REPEATS, Timing, compare
from benchmarks.scoring import FIRST_DAY, ROWS_PER_DAY
from fraud_assets.model.training import train
from fraud_assets.model.training_facts import TrainingParameters
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets.resources.platform import Platform
from fraud_assets.resources.row_batches import BATCH_ROWS
from fraud_assets.resources.tables import PARTITION_BUILDS, SILVER_TRANSACTIONS
from fraud_assets.settings import Settings
from fraud_assets.silver.build import InputDigest, build_partition
from fraud_assets.silver.contract import FEATURE_NAMES
from fraud_assets.silver.raw_files import RawFile
from fraud_assets.silver.source import load_source
from fraud_assets.simulator.writing import write_day

_DIGEST = InputDigest("benchmark", "", "")

SMALL_ROWS: Final = 3_000
# A day of the simulated feed.
DISTINCT_ROWS: Final = 500_000
# Simulated for the large partition and repeated until it is full: far more than are ever scored together.
CONTROL_SHARE: Final = 50
# pandas and scikit-learn get one in so many rows, and are compared by the row.
COMPILED: Final = "1"
BY_PIPELINE: Final = "2"
# Registered versions of the same fitted pipeline, with a compiled scorer and without.
HEAVY_PACKAGES: Final = ("mlflow", "sklearn", "scipy", "pandas", "numba")
# Those that a scoring run of few rows can do without.


@dataclass(frozen=True)
class ColdRun:
    """What of a new process's scoring run is spent importing; a run of its own, since tracing imports costs time."""

    way: str
    seconds: float
    import_seconds: float
    heavy_imports: tuple[str, ...]


@dataclass(frozen=True)
class PartitionRun:
    """One way of scoring a stored partition, by the median run of its process; the imports at its start not counted."""

    way: str
    rows: int
    median_seconds: float
    fastest_seconds: float
    slowest_seconds: float
    process_seconds: float
    """Of the median process, from its start to its end."""
    rows_per_second: float
    peak_mebibytes: float
    times_faster: float
    """Than the first way, by the row."""


@contextmanager
def platform_with_partitions(large_rows: int) -> Iterator["ScoringRuns"]:
    """Give a platform in a temporary folder, with a small, a large and a control partition and a registered model."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        (folder / "dagster_home").mkdir()
        (folder / "dagster_home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        given: dict[str, Any] = {
            "_env_file": None,
            "source": "simulated",
            "data_dir": folder,
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow/mlflow.db",
            "MLFLOW_REGISTRY_URI": None,
        }
        platform = Platform(Settings(**given))
        silver = _simulated_silver(min(large_rows, DISTINCT_ROWS))
        keys = [(FIRST_DAY + timedelta(days=n)).isoformat() for n in range(3)]
        sizes = (SMALL_ROWS, large_rows, max(large_rows // CONTROL_SHARE, SMALL_ROWS))
        for key, rows in zip(keys, sizes, strict=True):
            _store(platform.lake, key, silver, rows)
        pipeline_file = folder / "pipeline.joblib"
        _register(platform.model_registry, silver, pipeline_file)
        yield ScoringRuns(folder, pipeline_file, dict(zip(keys, sizes, strict=True)))


@dataclass(frozen=True)
class ScoringRuns:
    """The runs that are compared, on the partitions that were stored for them: small, large, control."""

    folder: Path
    pipeline_file: Path
    sizes: Mapping[str, int]

    def cold(self, *, with_imports: bool) -> tuple[list[Timing], list[ColdRun]]:
        """Compare a small partition's run, from process start to end, and show each way's share of imports if asked."""
        small, *_ = self.sizes
        ways = {
            "scikit-learn, loaded from the registry": ("scoring_run", "commit", small, BY_PIPELINE),
            "scikit-learn, unpickled, without MLflow": (
                "scoring_run",
                "commit",
                small,
                BY_PIPELINE,
                str(self.pipeline_file),
            ),
            "compiled scorer": ("scoring_run", "commit", small, COMPILED),
        }
        runs: dict[str, Callable[[], Any]] = {way: lambda run=run: self._run(*run) for way, run in ways.items()}
        subject = f"a new process scores a partition of {self.sizes[small]:,} rows through Dagster and commits it"
        timings = compare(subject, runs)
        return timings, [self._imports(way, *run) for way, run in ways.items() if with_imports]

    def large(self) -> list[PartitionRun]:
        """Compare a large partition's run with pandas and scikit-learn on a small one, in turns."""
        _, large, control = self.sizes
        ways = {
            "pandas and scikit-learn": (control, ("pandas_run", str(self.folder), control, str(self.pipeline_file))),
            "until the commit": (large, ("scoring_run", "commit", large, COMPILED)),
            "with the check after it": (large, ("scoring_run", "check", large, COMPILED)),
            "with its alerts and their checks": (large, ("scoring_run", "alerts", large, COMPILED)),
        }
        said: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        self._run(*ways["until the commit"][1])  # the first run in a folder makes Dagster's database
        for _ in range(REPEATS):
            for way, (_, run) in ways.items():
                began = perf_counter()
                answer = json.loads(self._run(*run).stdout.splitlines()[-1])
                said[way].append({**answer, "process": perf_counter() - began})
        compared: list[PartitionRun] = []
        for way, (key, _) in ways.items():
            seconds = [one["seconds"] for one in said[way]]
            rows_per_second = self.sizes[key] / statistics.median(seconds)
            compared.append(
                PartitionRun(
                    way=way,
                    rows=self.sizes[key],
                    median_seconds=statistics.median(seconds),
                    fastest_seconds=min(seconds),
                    slowest_seconds=max(seconds),
                    process_seconds=statistics.median(one["process"] for one in said[way]),
                    rows_per_second=rows_per_second,
                    peak_mebibytes=max(one["peak_bytes"] for one in said[way]) / 2**20,
                    times_faster=rows_per_second / (compared[0].rows_per_second if compared else rows_per_second),
                )
            )
        return compared

    def _run(self, module: str, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "FRAUD_SOURCE": "simulated",
            "FRAUD_DATA_DIR": str(self.folder),
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow/mlflow.db",
            "DAGSTER_HOME": str(self.folder / "dagster_home"),
        }
        environment.pop("MLFLOW_REGISTRY_URI", None)
        command = [sys.executable, *options, "-m", f"benchmarks.{module}", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-5_000:]}")
        return done

    def _imports(self, way: str, *run: str) -> ColdRun:
        began = perf_counter()
        said = self._run(*run, options=("-X", "importtime")).stderr
        seconds = perf_counter() - began
        own = re.findall(r"^import time:\s+(\d+) \|", said, re.MULTILINE)
        heavy = tuple(name for name in HEAVY_PACKAGES if re.search(rf"\| +{name}$", said, re.MULTILINE))
        return ColdRun(way, seconds, sum(map(int, own)) / 1e6, heavy)


def cold_lines(runs: list[ColdRun]) -> list[str]:
    """Return the table of import shares, for people."""
    return ["of which imports, in a traced run of its own"] * bool(runs) + [
        f"  {run.way:44}{run.seconds:10.2f} s{run.import_seconds:10.2f} s{run.import_seconds / run.seconds:12.0%}"
        f"  {', '.join(run.heavy_imports)}"
        for run in runs
    ]


def partition_lines(runs: list[PartitionRun]) -> list[str]:
    """Return the table of large partitions, for people."""
    heads = ("median", "fastest", "slowest", "process", "rows/s", "peak", "x faster")
    lines = [f"{'stored Silver to committed Gold':46}" + "".join(f"{head:>12}" for head in heads)]
    for run in runs:
        seconds = (run.median_seconds, run.fastest_seconds, run.slowest_seconds, run.process_seconds)
        cells = [f"{one:.2f} s" for one in seconds]
        cells += [f"{run.rows_per_second:,.0f}", f"{run.peak_mebibytes:,.0f} MiB", f"{run.times_faster:.1f}"]
        lines.append(f"  {f'{run.way}, {run.rows:,} rows':44}" + "".join(f"{cell:>12}" for cell in cells))
    return lines


def _simulated_silver(rows: int) -> pa.Table:
    """Return so many Silver rows of simulated days, or a few more."""
    source, days, made = load_source("simulated"), [], 0
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        while made < rows:
            day: date = FIRST_DAY + timedelta(days=len(days))
            path = write_day(day, Path(folder), format="parquet", rows_per_day=ROWS_PER_DAY)
            build_partition(connection, source, day.isoformat(), [RawFile(path, path.name)], None, _DIGEST)
            days.append(connection.sql("FROM silver_rows").to_arrow_table())
            made += days[-1].num_rows
    return pa.concat_tables(days)


def _store(lake: Lake, key: str, silver: pa.Table, rows: int) -> None:
    """Store a Silver partition of exactly so many rows as the Silver asset would: batch after batch, built."""
    versions = {"input_version": str(_DIGEST)}
    versions |= dict.fromkeys(("lookback_version", "tail_version", "silver_version"), "benchmark")

    def batches() -> Iterator[pa.RecordBatch]:
        start = 0
        while start < rows:
            for batch in silver.slice(0, rows - start).to_batches(BATCH_ROWS):
                n = batch.num_rows
                columns = {name: batch.column(name) for name in batch.schema.names}
                columns["TransactionID"] = pc.cast(pa.array(range(start, start + n)), pa.string())
                columns |= {name: pa.repeat(value, n) for name, value in versions.items()}
                columns["partition_key"] = pa.repeat(key, n)
                yield pa.record_batch(
                    [columns[name] for name in SILVER_TRANSACTIONS.schema.names], schema=SILVER_TRANSACTIONS.schema
                )
                start += n

    build = {
        **versions,
        "landed_rows": rows,
        "silver_rows": rows,
        "quarantined_rows": 0,
        "built_at": datetime.now(tz=UTC),
        "partition_key": key,
    }
    record = pa.Table.from_pylist([build], schema=PARTITION_BUILDS.schema)
    lake.replace_partition(PARTITION_BUILDS, key, record, provenance={})
    stream = pa.RecordBatchReader.from_batches(SILVER_TRANSACTIONS.schema, batches())
    lake.replace_partition(SILVER_TRANSACTIONS, key, stream, provenance={})


def _register(registry: ModelRegistry, silver: pa.Table, pipeline_file: Path) -> None:
    """Register one fitted pipeline twice, with its compiled scorer and without, and pickle it."""
    features = silver.select(list(FEATURE_NAMES)).slice(0, 2 * ROWS_PER_DAY).to_pandas()
    trained = train(features, TrainingParameters())
    joblib.dump(trained.pipeline, pipeline_file)
    registry.prepare()
    with registry.as_mlflow_default():
        import mlflow

        mlflow.set_experiment(registry.experiment_name)
        with mlflow.start_run():
            for version, compiled in ((COMPILED, trained.scorer), (BY_PIPELINE, None)):
                made = registry.register(replace(trained, scorer=compiled), tags={})
                assert made == version, f"registered as {made}, expected {version}"
