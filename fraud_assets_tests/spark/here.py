"""Spark's part done in this process: what each task yields, and rows moved to their buckets. Tasks and driver are real.

With it thousands of rows in buckets of a few are compared in seconds; that Spark does the same show `test_cluster` and
its neighbours.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fraud_assets.spark.executor import Batches
from fraud_assets.spark.spread import Spread


class JobsHere:
    """Takes the place of `SparkJobs`."""

    def each(self, name: str, todo: Sequence[Any], task: Callable[..., Batches]) -> list[dict[str, Any]]:
        found = []
        for number in range(len(todo)):
            found += _reports(task(iter([pa.RecordBatch.from_pydict({"id": [number]})])))
        return found

    def by_bucket(
        self, name: str, paths: Sequence[str], schema: pa.Schema, spread: Spread, task: Callable[..., Batches]
    ) -> list[dict[str, Any]]:
        if not paths:
            return []
        rows = pa.concat_tables(pq.read_table(path, schema=schema) for path in paths)
        key, part, hashed = (np.array(rows[name].to_pylist()) for name in ("key_no", "slice", "spread_hash"))
        parts = np.array(spread.parts)[key]
        bucket = np.array(spread.first)[key] + part * parts + hashed % parts
        found = []
        for number in range(spread.buckets):
            batches = rows.take(np.flatnonzero(bucket == number)).to_batches(max_chunksize=7)
            found += _reports(task(iter(batches)))
        return found


def _reports(batches: Batches) -> list[dict[str, Any]]:
    return [json.loads(text) for batch in batches for text in batch.column("report").to_pylist()]
