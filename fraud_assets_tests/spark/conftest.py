"""One Spark session on separate executor processes, for all tests that ask for it; where it cannot be, they skip."""

from collections.abc import Iterator
from typing import Any

import pytest

from fraud_assets.spark.session import SparkNotInstalledError, SparkOptions, open_session, require_spark
from fraud_assets_tests.depth import full_only

MASTER = "local-cluster[2,1,1024]"
"""Two executors, each a process of its own with one core and 1 GiB."""


takes_minutes = full_only("Spark takes minutes")


def require_cluster() -> None:
    try:
        require_spark()
    except SparkNotInstalledError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def session() -> Iterator[Any]:
    require_cluster()
    session = open_session(SparkOptions(is_asked_for=True, master=MASTER))
    session.sparkContext.setLogLevel("OFF")
    yield session
    gateway = session.sparkContext._gateway
    session.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait(timeout=60)
