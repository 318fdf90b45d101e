"""`python -m benchmarks [rows]`: print every table and write all figures to build/bench.json."""

import json
import os
import platform
import sys
from pathlib import Path

from benchmarks import scoring
from benchmarks.measuring import Timing, as_json, as_lines

timings: list[Timing] = []
for comparison in scoring.measure(most_rows=int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000):
    timings += comparison
    print("\n".join(as_lines(comparison)), flush=True)

machine = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
report = Path("build", "bench.json")
report.parent.mkdir(exist_ok=True)
report.write_text(json.dumps({"machine": machine, "scoring": as_json(timings)}, indent=2) + "\n")
print(f"\nWritten to {report}")
