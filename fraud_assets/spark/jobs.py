"""Spark jobs as the driver sees them: so many tasks over numbers or buckets of rows, reports back, and their figures.

Here alone Spark is told to do something. What a task does is `silver_tasks` and `gold_tasks`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import pyarrow as pa

from fraud_assets.errors import FraudAssetsError
from fraud_assets.spark.executor import Batches
from fraud_assets.spark.spread import Spread

if TYPE_CHECKING:
    from pyspark.core.context import SparkContext  # pyright: ignore[reportMissingImports]
    from pyspark.sql import DataFrame, SparkSession  # pyright: ignore[reportMissingImports]

Report = dict[str, Any]

_REPORT: Final = "report string"


class SparkJobError(FraudAssetsError):
    """Spark gave a job up after its own retries; nothing of it is visible."""


@dataclass(frozen=True)
class JobFigures:
    """What one Spark job did: its tasks, the rows of all and of the largest of them, what Spark spilled, the time."""

    name: str
    tasks: int
    rows: int
    most_rows: int
    buckets: int
    """What was reported of: a task may have several buckets of small partitions."""
    spilled_bytes: int | None
    """None where the session does not tell, as with Spark Connect."""
    seconds: float

    @property
    def skew(self) -> float:
        """The rows of the largest bucket, as a multiple of their mean."""
        return self.most_rows * self.buckets / self.rows if self.rows else 1.0


@dataclass
class SparkJobs:
    """Submits jobs to a session, and keeps what they did."""

    session: "SparkSession"
    figures: list[JobFigures] = field(default_factory=list)

    def each(self, name: str, todo: Sequence[Any], task: Callable[..., Batches]) -> list[Report]:
        """Run a task for each of what is to do; it gets the numbers, which `todo`'s own order gives."""
        if not todo:
            return []
        numbers = self.session.range(0, len(todo), 1, len(todo))
        return self._collect(name, numbers, len(todo), task)

    def by_bucket(
        self, name: str, paths: Sequence[str], schema: pa.Schema, spread: Spread, task: Callable[..., Batches]
    ) -> list[Report]:
        """Run a task for each bucket of the rows of some files; Spark moves the rows to where they go together."""
        if not paths:
            return []
        from pyspark.sql import functions as f  # pyright: ignore[reportMissingImports]
        from pyspark.sql.pandas.types import from_arrow_schema  # pyright: ignore[reportMissingImports]

        def of_key(numbers: Sequence[int]) -> Any:
            return f.element_at(f.array(*map(f.lit, numbers)), f.col("key_no") + 1)

        bucket = of_key(spread.first) + f.col("slice") * of_key(spread.parts)
        bucket += f.pmod(f.col("spread_hash"), of_key(spread.parts)).cast("int")
        rows = self.session.read.schema(from_arrow_schema(schema)).parquet(*paths)
        return self._collect(name, rows.repartitionById(spread.buckets, bucket), spread.buckets, task)

    def _collect(self, name: str, rows: "DataFrame", tasks: int, task: Callable[..., Batches]) -> list[Report]:
        from py4j.protocol import Py4JError  # pyright: ignore[reportMissingImports]
        from pyspark.errors import PySparkException  # pyright: ignore[reportMissingImports]

        began, group = monotonic(), f"fraud_assets {name} {uuid4()}"
        context = getattr(self.session, "_jsc", None) and self.session.sparkContext
        if context is not None:
            context.setJobGroup(group, f"fraud_assets: {name}")
        try:
            found = [json.loads(row.report) for row in rows.mapInArrow(task, _REPORT).collect()]
        except (PySparkException, Py4JError) as error:
            raise SparkJobError(f"Spark could not {name}. {last_words(str(error))}") from error
        spilled = None if context is None else _spilled(context, group)
        counts = [report.get("rows", 0) for report in found]
        seconds = monotonic() - began
        self.figures.append(JobFigures(name, tasks, sum(counts), max(counts, default=0), len(counts), spilled, seconds))
        return found


def _spilled(context: "SparkContext", group: str) -> int:
    """Return the bytes that the stages of a job group put on disk, as Spark counted them."""
    java: Any = context._jsc  # noqa: SLF001 - there is no public way in Python
    tracker, store = context.statusTracker(), java.sc().statusStore()
    jobs = (tracker.getJobInfo(job) for job in tracker.getJobIdsForGroup(group))
    stages = {stage for job in jobs if job is not None for stage in job.stageIds}
    known = [stage for stage in stages if tracker.getStageInfo(stage) is not None]
    return sum(store.lastStageAttempt(stage).diskBytesSpilled() for stage in known)


def last_words(message: str) -> str:
    """Return of a Python or Java trace the line that says what was wrong."""
    lines = [line.strip() for line in message.splitlines() if line.strip() and not line.startswith(("\tat ", "  "))]
    named = [line for line in lines if "Error: " in line or "Exception: " in line]
    return (named or lines or ["No reason given."])[-1]


def summary(figures: Sequence[JobFigures]) -> dict[str, Any]:
    """Return what an operator asks of Spark's part: tasks, rows of the largest, skew, spill, seconds, by job."""
    spilled = [one.spilled_bytes for one in figures if one.spilled_bytes is not None]
    return {
        "spark_tasks": sum(one.tasks for one in figures),
        "spark_seconds": round(sum(one.seconds for one in figures), 1),
        "spark_skew": round(max((one.skew for one in figures), default=1.0), 2),
        "spark_spilled_bytes": sum(spilled) if spilled else 0,
        "spark_jobs": {
            one.name: f"{one.tasks:,} tasks, {one.rows:,} rows, at most {one.most_rows:,} together, {one.seconds:.1f} s"
            for one in figures
        },
    }
