"""Commands that people type out of habit, in the activated environment: they answer, and without a trace."""

import json
import re
import sys
import tomllib
from pathlib import Path

import dagster as dg
import pytest
import yaml
from packaging.specifiers import SpecifierSet

from fraud_assets.cli import _instance
from fraud_assets_tests.depth import full_only
from fraud_assets_tests.end_to_end.shell import ROOT, Shell, copy_of_the_project

ACTIVATE = Path(sys.prefix) / "bin" / "activate"


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell in a copy of the project with two landed days, activated as `make install` would have it."""
    shell = Shell(copy_of_the_project(tmp_path_factory.mktemp("commands")))
    shell.environment["DAGSTER_HOME"] = str(shell.folder / "dagster_home")
    shell.run(f". {ACTIVATE}")
    shell.run("fraud-assets simulate --days 2 --rows-per-day 300")
    return shell


def said(shell: Shell, command: str) -> str:
    """Return what the command says in both streams; nothing of it is a trace or a wall of text."""
    text = shell.run(f"{command} 2>&1")
    assert "Traceback" not in text
    assert len([line for line in text.splitlines() if "Warning" in line]) <= 1, text
    return text


def test_the_activated_shell_knows_dagster_s_home_and_forgets_it_again(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    home = 'echo "$VIRTUAL_ENV ${DAGSTER_HOME:-none}"'

    assert shell.run(f". {ACTIVATE}; . {ACTIVATE}; {home}; deactivate; {home}") == (
        f"{sys.prefix} {Path(sys.prefix).parent}/dagster_home\n none\n"
    )
    assert shell.run(f"export DAGSTER_HOME=/mine; . {ACTIVATE}; deactivate; {home}") == " /mine\n"


@pytest.mark.parametrize(("server", "port"), [("dev", 3000), ("mlflow", 5000)])
def test_the_port_of_a_server_is_an_option_of_make(tmp_path: Path, server: str, port: int) -> None:
    shell = Shell(tmp_path)
    say = f"make --directory {ROOT} --dry-run --old-file .venv/.installed {server}"

    assert "--port 3123" in shell.run(f"{say} PORT=3123")
    assert f"--port {port}" in shell.run(f"PORT=3123 {say}")  # another program's variable
    links = "FRAUD_DAGSTER_URL=http://127.0.0.1:3123 "
    assert (links in shell.run(f"{say} PORT=3123")) == (server == "dev")
    assert "FRAUD_DAGSTER_URL" not in shell.run(say)


def test_the_command_line_says_its_version(shell: Shell) -> None:
    assert said(shell, "fraud-assets --version") == "fraud-assets, version 0.1.0\n"


def test_commands_that_demand_dagster_home_answer(shell: Shell) -> None:
    assert "Sensor: landed_partitions_sensor [RUNNING]" in said(shell, "dagster sensor list")


def test_runs_are_kept_in_the_project_without_dagster_home_too(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shell.folder)

    with _instance() as instance:
        assert instance.root_directory == f"{shell.folder}/dagster_home"


def test_dg_knows_the_project(shell: Shell) -> None:
    assert "All definitions loaded successfully." in said(shell, "dg check defs")


@full_only("a minute of commands that the two above stand for")
def test_dagster_s_own_commands_do_what_they_say(shell: Shell) -> None:
    listed = json.loads(shell.run("dg list defs --json"))
    assert {"raw_transactions", "fraud_predictions"} <= {asset["asset_key"] for asset in listed["assets"]}
    assert "landed, not built yet" in said(shell, "dagster sensor preview landed_partitions_sensor")
    assert "RUN_SUCCESS" in said(shell, "dg launch --job silver_job --partition 2026-01-01")
    said(shell, """dagster job launch -j silver_job --tags '{"dagster/partition": "2026-01-02"}'""")
    assert "Launched backfill job" in said(
        shell, "dagster job backfill -j silver_job --partitions 2026-01-01,2026-01-02 --noprompt"
    )

    with dg.DagsterInstance.from_config(shell.environment["DAGSTER_HOME"]) as instance:
        statuses = [run.status.value for run in instance.get_runs()]
    assert statuses == ["QUEUED", "QUEUED", "QUEUED", "SUCCESS"]  # the daemon's, which does not run here; ours
    assert "silver_job" in shell.run("cd docs; dagster run list")  # every directory leads to the same runs


def test_the_workflow_calls_what_exists_on_every_python_that_the_project_is_for() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    for job in workflow["jobs"].values():
        for command in (step["run"] for step in job["steps"] if "run" in step):
            assert command.removeprefix("make ") in targets or (ROOT / command).exists(), command
    versions = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    minors = [f"3.{minor}" for minor in range(30)]
    assert versions == list(SpecifierSet(project["requires-python"]).filter(minors))


def test_the_hooks_are_the_commands_of_make_check() -> None:
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    check = (ROOT / "Makefile").read_text().split("\ncheck:")[1].split("\n\n")[0]

    assert {hook["language"] for hook in repository["hooks"]} == {"system"}  # nothing is downloaded
    hooks = [hook["entry"].replace(".venv/bin", "$(BIN)") for hook in repository["hooks"]]
    commands = [line.strip() for line in check.splitlines()[1:]]
    # What no file of a commit decides by itself is left to make.
    without = [line for line in commands if "uv pip check" not in line and "dagster definitions" not in line]
    assert len(hooks) == len(without)
    assert all(command.startswith(hook) for hook, command in zip(sorted(hooks), sorted(without), strict=True))
