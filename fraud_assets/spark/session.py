"""The Spark session: the one that is there, or a new one with what our tasks need. Says what to install where it fails.

Importing this module imports no Spark. Settings of a cluster are Spark's own: `spark-defaults.conf`, `SPARK_CONF_DIR`,
what `spark-submit` or Databricks gives; here stand only those without which the results would not be the same.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fraud_assets.errors import FraudAssetsError
from fraud_assets.resources.lake import DUCKDB_MEMORY
from fraud_assets.resources.row_batches import BATCH_ROWS
from fraud_assets.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession  # pyright: ignore[reportMissingImports]

NEEDED: Final[Mapping[str, str]] = {
    "spark.sql.session.timeZone": "UTC",
    # Rows handed to Python at a time, as many as everywhere.
    "spark.sql.execution.arrow.maxRecordsPerBatch": str(BATCH_ROWS),
    # A bucket is a task: it is of about as many rows as the next one already.
    "spark.sql.adaptive.enabled": "false",
}
"""Set on every session, also on one that was there."""

_AT_START: Final[Mapping[str, str]] = {
    "spark.ui.showConsoleProgress": "false",
    # By default glibc keeps of each thread's heap what large batches left free, 168 MiB of a worker after forty tasks;
    # with a fixed limit what is larger goes back to the system at once.
    "spark.executorEnv.MALLOC_MMAP_THRESHOLD_": str(2**20),
}


class SparkNotInstalledError(FraudAssetsError):
    """Spark is asked for, and is not here; the message says what to install."""


@dataclass(frozen=True)
class SparkOptions:
    """Whether Spark makes the tables, and on which cluster."""

    is_asked_for: bool = False
    master: str = ""
    """Spark's own word for where it runs; empty for what Spark's settings say, else all cores of this machine."""
    memory: str = DUCKDB_MEMORY
    """What DuckDB may use in a task."""


def spark_options(settings: Settings) -> SparkOptions:
    """Return what the settings say of Spark."""
    return SparkOptions(settings.engine == "spark", settings.spark_master, settings.duckdb_memory)


def open_session(options: SparkOptions) -> "SparkSession":
    """Return the session of this process; start one where there is none.

    Raises SparkNotInstalledError where Spark or Java is missing.
    """
    require_spark()
    from pyspark.sql import SparkSession  # pyright: ignore[reportMissingImports]

    # Executors on this machine run the Python that has this package.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    was_there = SparkSession.getActiveSession() is not None
    builder = SparkSession.builder.appName("fraud_assets")
    for name, value in (NEEDED | _AT_START).items():
        builder = builder.config(name, value)
    session = (builder.master(options.master) if options.master else builder).getOrCreate()
    for name, value in NEEDED.items():
        session.conf.set(name, value)
    if not was_there:  # Of a retried task Spark's own pages tell; what fails in the end comes out as an error.
        session.sparkContext.setLogLevel("ERROR")
    return session


def require_spark() -> None:
    """Raise SparkNotInstalledError, with what to install, where Spark cannot start here."""
    found = find_spec("pyspark")
    if found is None or found.origin is None:  # A folder that was left when it was uninstalled is none.
        raise SparkNotInstalledError(
            "Spark is not installed. `make spark` installs it beside a checkout, `pip install 'fraud-assets[spark]'` "
            "elsewhere; it needs Java 17 (Debian: apt-get install openjdk-17-jre-headless)."
        )
    home = os.environ.get("JAVA_HOME")
    if shutil.which("java") is None and not (home and Path(home, "bin", "java").exists()):
        raise SparkNotInstalledError(
            "Spark needs Java 17 or 21, and there is none: apt-get install openjdk-17-jre-headless, or set JAVA_HOME."
        )
