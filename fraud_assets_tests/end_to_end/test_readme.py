"""Every command of the README, run in its order in a copy of the project; what it promises is looked at."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fraud_assets_tests.depth import FULL
from fraud_assets_tests.end_to_end.servers import serve, wait_until

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)
_NOT_COPIED = (".git", ".venv", ".dagster", "data", "build", ".hypothesis", "*_cache", "__pycache__", ".env")


def readme_commands() -> list[str]:
    return [line for block in BLOCK.findall((ROOT / "README.md").read_text()) for line in block.splitlines() if line]


class Shell:
    """A user's shell: what one command exports, the next one sees."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # A new user's environment: none of our variables, no activated venv.
        activated = str(Path(sys.prefix) / "bin")
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FRAUD_", "MLFLOW_", "DAGSTER_", "VIRTUAL_ENV"))
        } | {"PATH": os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if p != activated)}

    def run(self, command: str) -> str:
        after = self.folder / ".environment"
        done = subprocess.run(
            ["bash", "-c", f"{command}\nstatus=$?; env -0 > {after}; exit $status"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        self.environment = dict(line.split("=", 1) for line in after.read_text().split("\0") if "=" in line)
        return done.stdout

    @contextmanager
    def serve(self, command: str, address: str) -> Iterator[Path]:
        """Run a server until the block ends; give its log."""
        with serve(command.split(), address, folder=self.folder, environment=self.environment) as log:
            yield log


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A shell in a copy of the project with nothing installed."""
    copy = tmp_path / "fraud_assets"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*_NOT_COPIED))
    return Shell(copy)


@pytest.mark.skipif(not FULL, reason="minutes of the README's commands; `make verify` runs them")
def test_every_command_of_the_readme_does_what_it_says(shell: Shell) -> None:
    said: dict[str, str] = {}
    commands = readme_commands()
    dev, day = "make dev", "fraud-assets simulate --start 2026-01-31 --days 1"
    for command in commands[: commands.index(dev)]:
        said[command] = shell.run(command)
    with shell.serve(dev, "http://127.0.0.1:3000/server_info") as log:
        said[day] = shell.run(day)
        gold = "SELECT 'rows', count(*) FROM gold.fraud_predictions WHERE partition_key = '2026-01-31'"
        wait_until(
            lambda: re.search(r"rows +[1-9]", shell.run(f'fraud-assets sql "{gold}"')) is not None,
            "Gold of the day that landed",
            log=log,
        )
    for command in commands[commands.index(day) + 1 :]:
        said[command] = shell.run(command)

    demo = said["make demo"]
    assert "as many as Silver in 30 of 30 partitions" in demo
    counts = {name: int(n.replace(",", "")) for name, n in re.findall(r"(\w+) +([\d,]+) rows", demo)}
    assert counts["landed"] == counts["Silver"] + counts["quarantined"]
    assert counts["Gold"] == counts["Silver"]
    for words in ("ROC-AUC", "PR-AUC", "plain rule", "base rate", "version 1 behind @prod", "most suspicious"):
        assert words in demo
    assert "Nothing is due." in said["fraud-assets status"]
    assert "to quarantine" in said["fraud-assets try docs/example_feed/shop.toml docs/example_feed/shop.csv"]
    assert "Nothing is due." in shell.run("unset FRAUD_SOURCE; make demo")
    with shell.serve("make mlflow", "http://127.0.0.1:5000/health"):
        pass
    shell.run("make bench ROWS=3000 REPEATS=1")
    measured = json.loads((shell.folder / "build" / "bench.json").read_text())
    assert {"polars", "the whole partition"} <= {one["way"] for one in measured["features"]}
    assert all(one["median_seconds"] > 0 for one in measured["scoring"])  # NaN where a control is not installed
    shell.run("make check")
    shell.run("make clean")
    assert "Nothing landed yet." in shell.run("fraud-assets status")


def test_the_readme_s_own_feed_is_the_example_that_lies_beside_it() -> None:
    [toml] = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)

    assert toml == (ROOT / "docs" / "example_feed" / "shop.toml").read_text()


def test_links_lead_to_files_that_exist() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
