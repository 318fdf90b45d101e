"""`python -m benchmarks.spark_run WAY FOLDER`: build the day that landed in a data directory, one way.

What belongs here: the ways. What does not: the rows, and what each process took (`spark`). Prints the seconds, Spark's
own start not among them, and what Spark said of its jobs.
"""

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Final

from benchmarks.features_run import DAY, SOURCE
from fraud_assets.assets.silver import build_here
from fraud_assets.resources.lake import open_lake
from fraud_assets.resources.landing_zone import LandingZone
from fraud_assets.resources.tables import SILVER_TRANSACTIONS
from fraud_assets.spark.jobs import SparkJobs, summary
from fraud_assets.spark.session import SparkOptions, open_session
from fraud_assets.spark.silver import build_with_spark

_DUCKDB: Final = "4GiB"
"""What DuckDB may use where it builds the day by itself: what two executors, their workers and the driver hold."""


def run(way: str, folder: Path) -> None:
    """Build the day, and say how long it took."""
    lake, zone = open_lake(folder, memory=_DUCKDB), LandingZone(data_dir=str(folder), source_file=SOURCE)
    said = {}
    if way == "duckdb":
        began = perf_counter()
        with lake.connect() as connection:
            build_here(lake, zone, connection, [DAY], {})
    else:
        jobs = SparkJobs(open_session(SparkOptions(is_asked_for=True, master=way)))
        began = perf_counter()
        made = build_with_spark(jobs, lake, zone, [DAY], memory="512MiB")
        made.store(lake, {})
        said = summary(jobs.figures)
    [state] = lake.partition_states(SILVER_TRANSACTIONS, ("silver_version",)).values()
    print(json.dumps({"seconds": perf_counter() - began, **state, **said}))


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]))
