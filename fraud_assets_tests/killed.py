"""A process of its own that does what is due and kills itself at a named step, as a lost machine would stop it.

    python -m fraud_assets_tests.killed DATA_DIR DAGSTER_HOME STEP NTH

The product knows nothing of it: the steps are its own functions, wrapped here before anything runs.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import dagster as dg
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage

from fraud_assets.resources import lake as lake_module
from fraud_assets_tests.platform import TestPlatform

Matches = Callable[..., bool]


def _is(kind: dg.DagsterEventType) -> Matches:
    def matches(*arguments: Any, **_: Any) -> bool:
        events = [getattr(one, "dagster_event", one) for one in arguments]
        return any(getattr(event, "event_type", None) is kind for event in events)

    return matches


STEPS: Final[dict[str, tuple[Any, str, str, Matches]]] = {
    "the run began, no lock yet": (lake_module, "hold_run_lock", "before", lambda *_, **__: True),
    "the lock is gone, the end not stored": (
        dg.DagsterInstance,
        "handle_new_event",
        "before",
        _is(dg.DagsterEventType.RUN_SUCCESS),
    ),
    "the end is stored, the run table not": (
        SqlRunStorage,
        "handle_run_event",
        "before",
        _is(dg.DagsterEventType.RUN_SUCCESS),
    ),
}
"""By name: whose function, its name, whether the process ends before or after it, and at which of its calls."""


def arm(step: str, nth: int = 1) -> None:
    """Make this process kill itself at the nth time that it comes to a step."""
    owner, name, when, matches = STEPS[step]
    real, left = getattr(owner, name), [nth]

    def wrapped(*arguments: Any, **named: Any) -> Any:
        hit = matches(*arguments, **named)
        left[0] -= hit
        if hit and not left[0] and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **named)
        if hit and not left[0] and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    data_dir, home, step, nth = sys.argv[1:]
    os.environ["DAGSTER_HOME"] = home
    arm(step, int(nth))
    with dg.DagsterInstance.get() as instance:
        TestPlatform(Path(data_dir), instance).run()
