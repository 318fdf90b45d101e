"""Timing side by side: ways that are compared run in turns, so that a busy machine is busy for all of them.

What belongs here: clocks, medians and tables. What does not: anything about what is measured.
"""

import math
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

REPEATS: Final = int(os.environ.get("REPEATS", "7"))
# Seven are the fewest of which a median and a spread say something; one shows that everything runs.


@dataclass(frozen=True)
class Timing:
    """Seconds of one way of doing a piece of work; NaN where it is not installed.

    `cpu_seconds` counts all threads and child processes: it hardly depends on who else uses the cores.
    """

    subject: str
    way: str
    median_seconds: float
    fastest_seconds: float
    slowest_seconds: float
    cpu_seconds: float
    times_faster: float
    """Than the first way, by the median time that passed."""
    times_less_cpu: float
    """Than the first way, which is the ratio per core."""


def compare(subject: str, ways: Mapping[str, Callable[[], Any] | None], *, calls: int = 1) -> list[Timing]:
    """Return a timing of one call per way, the first being the control; None as a way is one not installed here.

    Ways take turns of some calls: more than one where the caches shall be warm. Each is called once before, unless it
    is only tried.
    """
    installed = {name: way for name, way in ways.items() if way is not None}
    for way in installed.values() if REPEATS > 1 else ():
        way()
    wall: dict[str, list[float]] = {name: [] for name in installed}
    cpu: dict[str, list[float]] = {name: [] for name in installed}
    for _ in range(REPEATS):
        for name, way in installed.items():
            wall_start, cpu_start = time.perf_counter(), _cpu_seconds()
            for _ in range(calls):
                way()
            cpu[name].append((_cpu_seconds() - cpu_start) / calls)
            wall[name].append((time.perf_counter() - wall_start) / calls)
    control = next(iter(installed))
    nan = float("nan")
    timings = []
    for name in ways:
        walls, cpus = wall.get(name, [nan]), cpu.get(name, [nan])
        median, cpu_median = statistics.median(walls), statistics.median(cpus)
        timings.append(
            Timing(
                subject=subject,
                way=name,
                median_seconds=median,
                fastest_seconds=min(walls),
                slowest_seconds=max(walls),
                cpu_seconds=cpu_median,
                times_faster=statistics.median(wall[control]) / median,
                times_less_cpu=statistics.median(cpu[control]) / cpu_median,
            )
        )
    return timings


def as_lines(timings: list[Timing]) -> list[str]:
    """Return a table for people, one line per timing under its subject."""
    heads = ("median", "fastest", "slowest", "CPU", "x faster", "x less CPU")
    lines, subject = [" " * 46 + "".join(f"{head:>12}" for head in heads)], ""
    for timing in timings:
        if timing.subject != subject:
            subject = timing.subject
            lines.append(subject)
        seconds = (timing.median_seconds, timing.fastest_seconds, timing.slowest_seconds, timing.cpu_seconds)
        cells = [*map(_readable, seconds), f"{timing.times_faster:.1f}", f"{timing.times_less_cpu:.1f}"]
        installed = not math.isnan(timing.median_seconds)
        lines.append(
            f"  {timing.way:44}" + ("".join(f"{cell:>12}" for cell in cells) if installed else "  not installed")
        )
    return lines


def as_json(timings: list[Timing]) -> list[dict[str, Any]]:
    """Return the timings as plain values; what was not measured is null."""
    return [{key: None if value != value else value for key, value in asdict(timing).items()} for timing in timings]


def _cpu_seconds() -> float:
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def _readable(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"
