"""`python -m benchmarks [rows]`: print every table and write all figures to build/bench.json.

Features and the scorer are measured on that many rows; features and a stored partition on ten times as many. The
service, the latency of a landing, a backlog and Spark, where it is installed, take many minutes whatever the rows:
fewer than 100,000 leave them out, and the shares of imports.
"""

import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks import attribution, backlog, features, formats, latency, runs, scoring, serving, spark
from benchmarks.measuring import Timing, as_json, as_lines

most_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
with_operations = most_rows >= 100_000
served, landings, backlogs, spark_runs = [], [], [], []
feature_runs = features.measure(rows=most_rows)
feature_runs += features.measure(rows=10 * most_rows, ways=("polars", "fraud_assets", "the whole partition"))
print("\n".join(features.lines(feature_runs)), flush=True)
of_formats = formats.measure(rows=most_rows)
print("\n".join(as_lines(of_formats)), flush=True)
timings: list[Timing] = []
for comparison in scoring.measure(most_rows=most_rows):
    timings += comparison
    print("\n".join(as_lines(comparison)), flush=True)
explained, agreement = attribution.measure(rows=min(most_rows, 100_000))
timings += explained
print("\n".join(as_lines(explained) + [f"  {what}: {share:.0%}" for what, share in agreement.items()]), flush=True)
with runs.platform_with_partitions(10 * most_rows) as scoring_runs:
    cold, imports = scoring_runs.cold(with_imports=with_operations)
    print("\n".join(as_lines(cold) + runs.cold_lines(imports)), flush=True)
    large = scoring_runs.large()
    print("\n".join(runs.partition_lines(large)), flush=True)
    if with_operations:
        served = serving.measure(scoring_runs.folder)
        print("\n".join(serving.lines(served)), flush=True)
if with_operations:
    landings = latency.measure()
    print("\n".join(latency.lines(landings)), flush=True)
    backlogs = backlog.measure()
    print("\n".join(backlog.lines(backlogs)), flush=True)
    spark_runs = spark.measure(rows=(most_rows, 10 * most_rows))
    print("\n".join(spark.lines(spark_runs)), flush=True)

machine = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
figures = {
    "machine": machine,
    "features": [asdict(one) for one in feature_runs],
    "formats": as_json(of_formats),
    "scoring": as_json(timings + cold),
    "imports": [asdict(one) for one in imports],
    "partition": [asdict(one) for one in large],
    "serving": [asdict(one) for one in served],
    "latency": [asdict(one) for one in landings],
    "backlog": [asdict(one) for one in backlogs],
    "spark": [asdict(one) for one in spark_runs],
}
report = Path("build", "bench.json")
report.parent.mkdir(exist_ok=True)
report.write_text(json.dumps(figures, indent=2) + "\n")
print(f"\nWritten to {report}")
