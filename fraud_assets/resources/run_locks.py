"""A lock that a run's process holds while it works: how the living are told from the dead.

Dagster's default launcher has no health check: a run whose process was killed would stay STARTED for ever, and its
partitions would never be due again. Who decides that a run is dead: `fraud_assets.automation.dead_runs`.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock


@contextmanager
def hold_run_lock(data_dir: str, run_id: str) -> Iterator[None]:
    """Hold the lock of a run; the operating system frees it when the process ends, however it ends."""
    path = _path(data_dir, run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield
        path.unlink(missing_ok=True)


def is_held(data_dir: str, run_id: str) -> bool:
    """Whether a process holds the lock of the run. Only looks: the file is never created."""
    try:
        descriptor = os.open(_path(data_dir, run_id), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def made_at(data_dir: str, run_id: str) -> float | None:
    """Return when the lock of the run was made, in seconds since the epoch; None where there is none."""
    try:
        return _path(data_dir, run_id).stat().st_mtime
    except FileNotFoundError:
        return None


def locked_runs(data_dir: str) -> list[str]:
    """Return the runs that have a lock, held or left behind."""
    return [path.stem for path in _path(data_dir, "any").parent.glob("*.lock")]


def forget(data_dir: str, run_id: str) -> None:
    """Remove the lock that a dead run left."""
    _path(data_dir, run_id).unlink(missing_ok=True)


def _path(data_dir: str, run_id: str) -> Path:
    return Path(data_dir) / ".runs" / f"{run_id}.lock"
