"""`python -m benchmarks.pandas_run FOLDER PARTITION PIPELINE`: the control, a partition scored as a notebook would.

What belongs here: the same job by pandas and scikit-learn alone, without Dagster, on the same Delta tables. What does
not: what it is compared with. Prints its seconds, the imports not counted, and the process's peak memory.
"""

import sys
from datetime import UTC, datetime
from time import perf_counter

import joblib
import pandas as pd
import pyarrow as pa
import sklearn.ensemble  # noqa: F401 loaded before the clock starts
from deltalake import DeltaTable, write_deltalake

from benchmarks.memory import say
from fraud_assets.gold.predictions import GOLD_SCHEMA, SCORED_COLUMNS
from fraud_assets.silver.contract import FEATURE_NAMES


def main(folder: str, key: str, pipeline_file: str) -> None:
    """Read Silver, score it, write Gold, and say how long that took."""
    began = perf_counter()
    pipeline = joblib.load(pipeline_file)
    silver = DeltaTable(f"{folder}/lake/silver/silver_transactions_base").to_pandas(
        partitions=[("partition_key", "=", key)], columns=[*SCORED_COLUMNS, "silver_version", "partition_key"]
    )
    scores = -pipeline.decision_function(silver[list(FEATURE_NAMES)])
    gold = silver.assign(
        fraud_score=scores,
        is_anomaly=scores > 0.0,
        score_percentile=pd.NA,
        model_version="1",
        scored_at=datetime.now(tz=UTC),
    )
    write_deltalake(
        f"{folder}/gold_by_pandas",
        pa.Table.from_pandas(gold, schema=GOLD_SCHEMA, preserve_index=False),
        mode="overwrite",
        partition_by=["partition_key"],
    )
    say(perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
