"""Without Spark everything else works, and who asks for it reads what to install."""

from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fraud_assets.cli import main
from fraud_assets.definitions import build_definitions
from fraud_assets.settings import Settings
from fraud_assets.spark import session
from fraud_assets.spark.jobs import JobFigures, last_words, summary
from fraud_assets.spark.session import SparkNotInstalledError, SparkOptions, open_session


@pytest.fixture(params=[None, ModuleSpec("pyspark", None)], ids=["nothing", "a folder that was left"])
def nothing_installed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "find_spec", lambda _: request.param)


@pytest.mark.parametrize("command", [["run"], ["stream", "--once"]])
def test_a_command_without_spark_says_what_to_install(
    nothing_installed: None, command: list[str], tmp_path: Path
) -> None:
    done = CliRunner().invoke(main, ["spark", *command], env={"FRAUD_DATA_DIR": str(tmp_path)})

    assert done.exit_code == 1
    assert "pip install 'fraud-assets[spark]'" in done.output
    assert "openjdk-17-jre-headless" in done.output


def test_a_run_without_spark_says_what_to_install(nothing_installed: None) -> None:
    with pytest.raises(SparkNotInstalledError, match="make spark"):
        open_session(SparkOptions(is_asked_for=True))


def test_spark_without_java_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "find_spec", lambda _: ModuleSpec("pyspark", None, origin="its __init__.py"))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("JAVA_HOME", raising=False)

    with pytest.raises(SparkNotInstalledError, match="needs Java 17"):
        open_session(SparkOptions(is_asked_for=True))


def test_definitions_load_without_spark_where_it_is_asked_for(nothing_installed: None, tmp_path: Path) -> None:
    settings: Any = {"_env_file": None, "data_dir": tmp_path, "engine": "spark", "spark_master": "spark://host:7077"}
    definitions = build_definitions(Settings(**settings))

    assert definitions.resources is not None
    assert definitions.resources["spark"] == SparkOptions(
        is_asked_for=True, master="spark://host:7077", memory="512MiB"
    )


def test_the_summary_says_how_uneven_the_largest_bucket_was() -> None:
    even = JobFigures("read", tasks=2, rows=100, most_rows=50, buckets=2, spilled_bytes=0, seconds=1.0)
    uneven = JobFigures("make windows", tasks=4, rows=100, most_rows=70, buckets=4, spilled_bytes=5, seconds=2.0)

    assert summary([even, uneven]) == {
        "spark_tasks": 6,
        "spark_seconds": 3.0,
        "spark_skew": 2.8,
        "spark_spilled_bytes": 5,
        "spark_jobs": {
            "read": "2 tasks, 100 rows, at most 50 together, 1.0 s",
            "make windows": "4 tasks, 100 rows, at most 70 together, 2.0 s",
        },
    }


def test_of_a_trace_the_line_that_says_what_was_wrong_is_shown() -> None:
    trace = "An exception was thrown:\nTraceback (most recent call last):\n  File x, line 1\nOSError: full\n\tat java\n"

    assert last_words(trace) == "OSError: full"
