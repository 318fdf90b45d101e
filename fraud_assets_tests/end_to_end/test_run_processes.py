"""A run's process as the daemon starts it: what it imports decides how soon it begins."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget

from fraud_assets.assets.partition_runs import FIRST_PARTITION_TAG, LAST_PARTITION_TAG, MODEL_VERSION_TAG
from fraud_assets_tests.platform import FIRST_DAY, TestPlatform

AT_EXIT = """
import atexit, os, sys

def say() -> None:
    with open(os.path.join(os.environ["SEEN"], str(os.getpid())), "w") as file:
        file.write("\\n".join(sys.modules))

atexit.register(say)
"""
"""Every Python that starts with this on its path says when it ends what it imported."""

HEAVY = {"mlflow", "dagster_mlflow", "sklearn", "scipy", "pandas"}
"""Packages that cost a process seconds before it does anything."""


@dataclass(frozen=True)
class CodeServer:
    """A code server as the daemon has one; it starts a process for each run."""

    process: WorkspaceProcessContext
    instance: dg.DagsterInstance
    seen: Path

    def modules_of_a_run(self, platform: TestPlatform, job_name: str, tags: Mapping[str, str]) -> set[str]:
        """Return what the process of a run imported, by its end."""
        workspace = self.process.create_request_context()
        [repository] = workspace.get_code_location("fraud_assets").get_repositories().values()
        origin = repository.get_full_job(job_name).get_remote_origin()
        job = platform.definitions.resolve_job_def(job_name)
        run = self.instance.create_run_for_job(job_def=job, tags=dict(tags), remote_job_origin=origin)
        self.instance.launch_run(run.run_id, workspace)
        until = time.monotonic() + 240
        while len(list(self.seen.iterdir())) == 0:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert self.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.SUCCESS  # type: ignore[union-attr]
        [path] = self.seen.iterdir()
        modules = {*path.read_text().split("\n")}
        path.unlink()
        return modules


@pytest.fixture
def code_server(scored_platform: TestPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CodeServer]:
    for folder in ("home", "seen", "path"):
        (tmp_path / folder).mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (tmp_path / "path" / "sitecustomize.py").write_text(AT_EXIT)
    monkeypatch.setenv("FRAUD_DATA_DIR", str(scored_platform.data_dir))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    target = ModuleTarget("fraud_assets.definitions", None, None, "fraud_assets")
    with (
        dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance,
        WorkspaceProcessContext(instance, target) as process,
    ):
        yield CodeServer(process, instance, tmp_path / "seen")


def test_a_run_that_builds_and_scores_imports_neither_mlflow_nor_scikit_learn_nor_pandas(
    scored_platform: TestPlatform, code_server: CodeServer
) -> None:
    new = FIRST_DAY + timedelta(days=6)
    scored_platform.simulate(1, start=new)
    pinned = {MODEL_VERSION_TAG: "1"}
    for job, day in (("landing_job", new), ("scoring_job", FIRST_DAY)):
        tags = {FIRST_PARTITION_TAG: day.isoformat(), LAST_PARTITION_TAG: day.isoformat()}
        modules = code_server.modules_of_a_run(scored_platform, job, tags | pinned)
        assert "fraud_assets.assets.gold" in modules
        assert HEAVY & modules == set(), job
