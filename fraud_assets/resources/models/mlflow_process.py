"""MLflow's state in this process: its client, its defaults, and the warnings between libraries.

Does not belong here: what is said to MLflow (`registry`, `registration`, `version_files`, `tracked_run`). MLflow and
dagster_mlflow take seconds to import, so all of these import them inside functions.
"""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from filelock import FileLock

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LIBRARY_NOISE: Final = (
    "The ``noload`` loader strategy is deprecated",  # MLflow's table mapping, on SQLAlchemy 2.1
    ".*Any type hint is inferred as AnyType",  # MLflow's own agent types, read when pyfunc is imported
    ".*`(mlflow_tracking|MlFlow|_create_mlflow_run_hook)` is currently in beta",  # all of dagster_mlflow
    "InitResourceContext.(dagster_run|run_id) is deprecated",  # dagster_mlflow, and Dagster's own replace_config
)
"""What the libraries warn of between themselves; nobody who runs fraud_assets could do anything about it."""


@contextmanager
def without_library_noise() -> Iterator[None]:
    """Keep the libraries' warnings about each other to themselves."""
    with warnings.catch_warnings():
        for message in _LIBRARY_NOISE:
            warnings.filterwarnings("ignore", message)
        yield


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a sqlite URI; None for any other store."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


@cache
def client(tracking_uri: str, registry_uri: str | None) -> "MlflowClient":
    """Return one client per process; a sqlite file gets its schema here, by one process at a time."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    for name in ("mlflow.store", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    file = sqlite_file(tracking_uri)
    if file is None:
        return MlflowClient(tracking_uri=tracking_uri, registry_uri=registry_uri)
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"), without_library_noise():
        opened = MlflowClient(tracking_uri=tracking_uri, registry_uri=registry_uri)
        opened.search_registered_models(max_results=1)
        return opened


@contextmanager
def mlflow_default(tracking_uri: str, registry_uri: str | None) -> Iterator[None]:
    """Make these URIs MLflow's own while the block runs: logging and loading know no other way.

    MLflow exports its defaults to the environment, where the next reader of the settings would find them.
    """
    with without_library_noise():
        import mlflow.pyfunc
        import mlflow.sklearn

    exported = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(tracking_uri)
    if registry_uri:
        mlflow.set_registry_uri(registry_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)  # pyright: ignore[reportArgumentType] None unsets it
        if registry_uri:
            mlflow.set_registry_uri(exported["MLFLOW_REGISTRY_URI"] or "")
        for name, value in exported.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def another_was_first() -> Iterator[None]:
    """Go on where another process made the same thing; of any other error the next call says it, too."""
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):
        yield
