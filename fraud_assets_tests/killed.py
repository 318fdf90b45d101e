"""Processes that do what is due, or move `@prod`, and kill themselves at a named step, as a lost machine stops them.

The product knows nothing of it: the steps are its own functions, wrapped in the process that is going to die.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import dagster as dg
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage

from fraud_assets.resources import lake, reader_views
from fraud_assets.resources.models.promotions import apply_decision
from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets.resources.tables import (
    ALERT_LISTS,
    ALERTS,
    EVALUATION_METRICS,
    PARTITION_BUILDS,
    PREDICTIONS,
    PROMOTIONS,
    QUARANTINED_TRANSACTIONS,
    RAW_TRANSACTIONS,
    SILVER_TRANSACTIONS,
    Table,
)
from fraud_assets_tests.platform import TestPlatform

PRELOADED: Final = (
    "fraud_assets_tests.killed",
    "dagster_mlflow",
    "mlflow.pyfunc",
    "mlflow.sklearn",
    "fraud_assets.model.comparison",
    "fraud_assets.model.pictures",
    "fraud_assets.model.scorer_kernels",
    "fraud_assets.model.training",
)
"""What takes seconds to import, and each process that dies would import anew."""

Step = tuple[Any, str, Literal["before", "after"], Callable[..., bool]]


def _is(kind: dg.DagsterEventType) -> Callable[..., bool]:
    def matches(*arguments: Any, **_: Any) -> bool:
        events = [getattr(one, "dagster_event", one) for one in arguments]
        return any(getattr(event, "event_type", None) is kind for event in events)

    return matches


def _always(*_: Any, **__: Any) -> bool:
    return True


def _events() -> dict[str, Step]:
    success, began = _is(dg.DagsterEventType.RUN_SUCCESS), _is(dg.DagsterEventType.RUN_START)
    made = _is(dg.DagsterEventType.ASSET_MATERIALIZATION)
    return {
        "before the run began": (dg.DagsterInstance, "handle_new_event", "before", began),
        "the beginning is stored, the run table not": (SqlRunStorage, "handle_run_event", "before", began),
        "the run began, no lock yet": (lake, "hold_run_lock", "before", _always),
        "before a materialization is told": (dg.DagsterInstance, "handle_new_event", "before", made),
        "after a materialization was told": (dg.DagsterInstance, "handle_new_event", "after", made),
        "the lock is gone, the end not stored": (dg.DagsterInstance, "handle_new_event", "before", success),
        "the end is stored, the run table not": (SqlRunStorage, "handle_run_event", "before", success),
    }


def _commits(*tables: Table) -> dict[str, Step]:
    whens: tuple[Literal["before", "after"], ...] = ("before", "after")
    return {
        f"{when} {table.address} is committed": (
            lake.Lake,
            "replace_partitions",
            when,
            lambda _, written, *__, table=table, **___: written is table,
        )
        for table in tables
        for when in whens
    }


MOVES: Final[dict[str, Step]] = {
    "before a decision is noted on its version": (ModelRegistry, "set_version_tag", "before", _always),
    "before @prod is moved": (ModelRegistry, "set_prod", "before", _always),
    "after @prod was moved": (ModelRegistry, "set_prod", "after", _always),
    **_commits(PROMOTIONS),
}
"""Steps of a move of `@prod`, from the decision to its record."""

STEPS: Final[dict[str, Step]] = {
    **_events(),
    **_commits(RAW_TRANSACTIONS, QUARANTINED_TRANSACTIONS, PARTITION_BUILDS, SILVER_TRANSACTIONS),
    **_commits(PREDICTIONS, ALERTS, ALERT_LISTS, EVALUATION_METRICS),
    **MOVES,
    "before the views are published": (lake, "publish", "before", _always),
    "the views are written and not in place": (reader_views, "_write", "after", _always),
    "after the views were published": (lake, "publish", "after", _always),
}
"""By name: whose function, its name, whether the process ends before or after it, and at which of its calls."""


def _arm(step: str, nth: int) -> None:
    """Make this process kill itself at the nth time that it comes to a step."""
    owner, name, when, matches = STEPS[step]
    real, left = getattr(owner, name), [nth]

    def wrapped(*arguments: Any, **named: Any) -> Any:
        hit = matches(*arguments, **named)
        left[0] -= hit
        dies = hit and left[0] == 0
        if dies and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **named)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapped)


def _work(data_dir: Path, home: str, step: str | None, nth: int) -> None:
    with dg.DagsterInstance.from_config(home) as instance:
        platform = TestPlatform(data_dir, instance)
        if step is not None:
            _arm(step, nth)
        if step in MOVES:
            move_prod(platform)
        else:
            platform.run()


def move_prod(platform: TestPlatform) -> None:
    """Put the other one of two versions behind `@prod`, as a person does."""
    registry = platform.model_registry
    version = "2" if registry.prod_version() == "1" else "1"
    said = {"decided_by": "somebody", "reason": "for a test", "provenance": {}}
    apply_decision(platform.lake, registry, version, move="promoted", **said)


def start(platform: TestPlatform, step: str | None = None, nth: int = 1) -> Any:
    """Let another process do what is due, or the move that a step is of, and die there where one is named."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([*PRELOADED])
    home = platform.instance.root_directory
    process = processes.Process(target=_work, args=(platform.data_dir, home, step, nth))
    process.start()
    return process


def killed_at(platform: TestPlatform, step: str, nth: int = 1) -> bool:
    """Do what is due, or the move that a step is of, in another process, which dies there; return whether it did."""
    process = start(platform, step, nth)
    process.join()
    assert process.exitcode in {0, -signal.SIGKILL}
    return process.exitcode != 0
