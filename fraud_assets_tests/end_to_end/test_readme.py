"""Every command of the README, run in its order in a copy of the project; what it promises is looked at."""

import json
import re
from pathlib import Path

import dagster as dg
import pytest

from fraud_assets_tests.depth import full_only
from fraud_assets_tests.end_to_end.servers import wait_until
from fraud_assets_tests.end_to_end.shell import ROOT, Shell, copy_of_the_project

BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)


def readme_commands() -> list[str]:
    return [line for block in BLOCK.findall((ROOT / "README.md").read_text()) for line in block.splitlines() if line]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A shell in a copy of the project with nothing installed."""
    return Shell(copy_of_the_project(tmp_path))


@full_only("minutes of the README's commands")
def test_every_command_of_the_readme_does_what_it_says(shell: Shell) -> None:
    said: dict[str, str] = {}
    commands = readme_commands()
    dev, day = "make dev", "fraud-assets simulate --start 2026-01-31 --days 1"
    for command in commands[: commands.index(dev)]:
        said[command] = shell.run(command)
    with shell.serve(dev, "http://127.0.0.1:3000/server_info") as log:
        said[day] = shell.run(day)
        # A run that the command line asks for is the daemon's to carry out: both have one home.
        shell.run("""dagster job launch -j silver_job --tags '{"dagster/partition": "2026-01-05", "by": "a person"}'""")
        gold = "SELECT 'rows', count(*) FROM gold.fraud_predictions WHERE partition_key = '2026-01-31'"
        wait_until(
            lambda: re.search(r"rows +[1-9]", shell.run(f'fraud-assets sql "{gold}"')) is not None,
            "Gold of the day that landed",
            log=log,
            pause=10,  # each look is a process that takes a core from what is waited for
        )
        with dg.DagsterInstance.from_config(str(shell.folder / "dagster_home")) as instance:
            asked = dg.RunsFilter(tags={"by": "a person"}, statuses=[dg.DagsterRunStatus.SUCCESS])
            wait_until(lambda: instance.get_runs_count(asked) == 1, "the run that was launched", log=log)
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
    with shell.serve("make mlflow PORT=5123", "http://127.0.0.1:5123/health"):
        pass
    shell.run("SERVING_SECONDS=2 make bench ROWS=3000 REPEATS=1")
    measured = json.loads((shell.folder / "build" / "bench.json").read_text())
    assert {"polars", "the whole partition"} <= {one["way"] for one in measured["features"]}
    assert all(one["median_seconds"] > 0 for one in measured["scoring"])  # NaN where a control is not installed
    shell.run("make clean")
    assert "Nothing landed yet" in shell.run("fraud-assets status")


def test_the_readme_s_own_feed_is_the_example_that_lies_beside_it() -> None:
    [toml] = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)

    assert toml == (ROOT / "docs" / "example_feed" / "shop.toml").read_text()


def test_links_lead_to_files_that_exist() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
