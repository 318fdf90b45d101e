"""A lock that a run's process holds while it lives: how a tick tells the dead from the living.

Dagster's default launcher has no health check: a run whose process was killed would stay STARTED for ever, and its
partitions would never be due again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def hold_run_lock(data_dir: str, run_id: str) -> Iterator[None]:
    """Hold the lock of a run; the operating system frees it when the process ends, however it ends."""
    path = _path(data_dir, run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield
        path.unlink(missing_ok=True)


def is_dead(data_dir: str, run_id: str) -> bool:
    """Whether the run once held its lock here and no process holds it now, although it did not end."""
    path = _path(data_dir, run_id)
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return path.exists()
    except Timeout:
        return False


def _path(data_dir: str, run_id: str) -> Path:
    return Path(data_dir) / ".runs" / f"{run_id}.lock"
