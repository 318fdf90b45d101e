"""What a child process says of itself to the benchmark that started it: its seconds and its peak memory."""

import json
import resource
import sys
from pathlib import Path


def say(seconds: float) -> None:
    """Print the measured seconds and the most memory that this process ever had resident, in bytes."""
    print(json.dumps({"seconds": seconds, "peak_bytes": peak_bytes()}))


def peak_bytes() -> int:
    """Return the most bytes that were resident in this process.

    Linux lets `getrusage` of a child start at its parent's peak, so there the kernel's own figure is read.
    """
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
