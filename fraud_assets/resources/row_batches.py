"""Rows on their way from a query to a writer, a few at a time, so that a partition of any size passes through.

What belongs here: batches and the thread that makes them. What does not: where rows come from or go to.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import pyarrow as pa
from duckdb import DuckDBPyConnection

BATCH_ROWS: Final = 65_536
"""Rows handed over at a time: a few MB, so that a partition of any size passes through bounded memory."""

_PREFETCHED: Final = 2
"""Batches that wait for the writer: enough that neither side waits for the other, few enough to hold."""


def batches(connection: DuckDBPyConnection, relation: str, schema: pa.Schema) -> pa.RecordBatchReader:
    """Stream `relation` in record batches of exactly `schema`; a type that does not match is an error, never a cast."""
    reader = connection.sql(f"FROM {relation}").to_arrow_reader(BATCH_ROWS)
    if [(field.name, field.type) for field in reader.schema] != [(field.name, field.type) for field in schema]:
        raise TypeError(f"{relation} has\n{reader.schema}\nwhere the table has\n{schema}")
    return pa.RecordBatchReader.from_batches(schema, (pa.record_batch(one.columns, schema=schema) for one in reader))


@contextmanager
def prefetched(rows: pa.RecordBatchReader | pa.Table) -> Iterator[pa.RecordBatchReader]:
    """Give the batches of `rows`; another thread makes the next ones while one is written.

    An error of theirs comes out with the batch that it was made for. No thread is left behind.
    """
    reader = rows.to_reader() if isinstance(rows, pa.Table) else rows
    with ThreadPoolExecutor(1, "batches-ahead") as maker:

        def batches_in_order() -> Iterator[pa.RecordBatch]:
            ahead = deque(maker.submit(next, reader, None) for _ in range(_PREFETCHED))
            while (batch := ahead.popleft().result()) is not None:
                ahead.append(maker.submit(next, reader, None))
                yield batch

        try:
            yield pa.RecordBatchReader.from_batches(reader.schema, batches_in_order())
        finally:
            maker.shutdown(cancel_futures=True)
