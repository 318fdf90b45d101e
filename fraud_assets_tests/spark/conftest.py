"""One Spark session on separate executor processes, for all tests that ask for it; where it cannot be, they skip."""

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from fraud_assets.spark.session import SparkOptions, open_session
from fraud_assets_tests.depth import FULL

MASTER = "local-cluster[2,1,1024]"
"""Two executors, each a process of its own with one core and 1 GiB."""


def require_cluster() -> None:
    if not FULL:
        pytest.skip("Spark takes minutes: make verify")
    if find_spec("pyspark") is None:
        pytest.skip("Spark is not installed: make spark")
    if shutil.which("java") is None:
        pytest.skip("there is no Java: .ci/packages, or apt-get install openjdk-17-jre-headless")


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
