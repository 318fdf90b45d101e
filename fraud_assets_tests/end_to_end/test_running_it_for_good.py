"""The commands of docs/running_it_for_good.md: backup and restore; where PostgreSQL is installed, the services."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from fraud_assets_tests.depth import full_only
from fraud_assets_tests.end_to_end.servers import a_free_port, serve, wait_until
from fraud_assets_tests.end_to_end.shell import ROOT, Shell, copy_of_the_project
from fraud_assets_tests.platform import TestPlatform

pytestmark = full_only("copies, servers and a database")

PAGE = (ROOT / "docs" / "running_it_for_good.md").read_text()
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
[DRIVERS] = re.findall(r"/requirements.lock (dagster-postgres .*)", PAGE)


def commands(heading: str, block: int) -> str:
    """Return one of the page's blocks of commands."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```bash\n(.*?)```", section, re.DOTALL)[block]


def test_what_was_backed_up_and_restored_elsewhere_is_whole_and_nothing_is_due(
    scored_platform: TestPlatform, tmp_path: Path
) -> None:
    shell = Shell(tmp_path)
    shell.environment |= {
        "PATH": f"{Path(sys.prefix) / 'bin'}:{shell.environment['PATH']}",
        "FRAUD_DATA_DIR": str(scored_platform.data_dir),
        "BACKUPS": str(tmp_path),
        "RESTORED": str(tmp_path / "another disk" / "data"),
    }
    shell.run("fraud-assets run")
    before = shell.run(commands("Restore", 2))
    assert before.count("2026-01-0") == 6

    shell.run(commands("Back up", 0))
    shutil.rmtree(scored_platform.data_dir)
    said = shell.run(commands("Restore", 0))

    assert shell.environment["FRAUD_DATA_DIR"] == shell.environment["RESTORED"]
    assert "Nothing is due." in said
    assert shell.run(commands("Restore", 2)) == before


@dataclass(frozen=True)
class Machine:
    """The page's machine at paths and ports of the test: its shell, and what stands for what."""

    shell: Shell
    places: dict[str, str]

    def placed(self, text: str) -> str:
        return re.sub("|".join(self.places), lambda found: self.places[found[0]], text)

    def run(self, block: str) -> str:
        # The folders are the test's already, and its user's.
        lines = [line for line in block.splitlines() if not line.startswith(("apt-get", "chown", "runuser -u fraud"))]
        return self.shell.run(self.placed("set -e\n" + "\n".join(lines)))

    @contextmanager
    def service(self, name: str, answers: str | None = None) -> Iterator[Path]:
        """Run a unit's own command until the block ends; give its log."""
        unit = (self.shell.folder / "deploy" / f"fraud-assets-{name}.service").read_text()
        [command] = re.findall(r"^ExecStart=(.*)", unit, re.MULTILINE)
        address = self.placed(answers) if answers else None
        environment, folder, log = self.shell.environment, self.shell.folder, f"{name}.log"
        with serve(shlex.split(command), address, folder=folder, environment=environment, log=log) as path:
            yield path

    def locations(self) -> list[str]:
        """Return what the UI says of its code locations."""
        query = "{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } } }"
        address, body = self.placed("http://127.0.0.1:3000/graphql"), json.dumps({"query": query}).encode()
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            entries = json.load(answer)["data"]["workspaceOrError"]["locationEntries"]
        return [f"{entry['loadStatus']} {entry['name']}" for entry in entries]

    def count(self, query: str, database: str) -> int:
        return int(self.shell.run(f'psql --no-align --tuples-only --dbname {database} --command "{query}"'))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    copy = copy_of_the_project(tmp_path)
    with tempfile.TemporaryDirectory(prefix="postgres") as cluster:  # a socket's path has at most 107 characters
        as_postgres = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        if as_postgres:
            shutil.chown(cluster, "postgres")

        def run(program: str, *options: str) -> None:
            subprocess.run([*as_postgres, POSTGRES[-1] / program, *options], check=True, stdout=subprocess.DEVNULL)

        run("initdb", "--pgdata", f"{cluster}/data", "--username", "postgres", "--auth", "trust")
        server = f"-c listen_addresses='' -c unix_socket_directories={cluster}"
        run("pg_ctl", "--pgdata", f"{cluster}/data", "--log", f"{cluster}/log", "--options", server, "--wait", "start")
        try:
            machine = Machine(
                Shell(copy),
                {
                    "/opt/fraud_assets/.venv": sys.prefix,
                    "/opt/fraud_assets": str(copy),
                    "/var/lib/fraud_assets": f"{tmp_path}/var",
                    "/etc/fraud_assets": f"{tmp_path}/etc",
                    "/var/run/postgresql": cluster,
                    "runuser -u postgres -- ": "",
                    **{port: str(a_free_port()) for port in ("3000", "4266", "5000")},
                },
            )
            for file in (copy / "deploy").iterdir():
                file.write_text(machine.placed(file.read_text()))
            machine.shell.environment |= {"PGHOST": cluster, "PGUSER": "postgres", "BACKUPS": str(tmp_path)}
            # Drivers beside the environment, not in it: the other tests run without them.
            machine.shell.environment["PYTHONPATH"] = str(tmp_path / "drivers")
            packages = DRIVERS.replace("dagster-postgres", f"dagster-postgres=={version('dagster-duckdb')}")
            machine.shell.run(f"{sys.prefix}/bin/uv pip install --no-deps --target {tmp_path}/drivers {packages}")
            yield machine
        finally:
            run("pg_ctl", "--pgdata", f"{cluster}/data", "--mode", "fast", "stop")


@pytest.mark.skipif(not POSTGRES, reason="Debian's postgresql is not installed")
def test_a_day_becomes_gold_through_the_services_and_their_databases_are_restored(machine: Machine) -> None:
    shell = machine.shell
    machine.run(commands("Databases", 0) + commands("Databases", 1))
    shell.run(machine.placed("set -a; . /etc/fraud_assets/environment"))
    shell.run("systemd-analyze verify deploy/*.service" if shutil.which("systemd-analyze") else "true")
    with ExitStack() as stack:
        stack.enter_context(machine.service("mlflow", "http://127.0.0.1:5000/health"))
        stack.enter_context(machine.service("code"))
        log = stack.enter_context(machine.service("daemon"))
        stack.enter_context(machine.service("webserver", "http://127.0.0.1:3000/server_info"))
        shell.run("fraud-assets simulate --days 3 --rows-per-day 500")
        scored = "SELECT count(*) FROM runs WHERE pipeline_name = 'scoring_job' AND status = 'SUCCESS'"
        wait_until(lambda: machine.count(scored, "dagster") > 0, "a scoring run in PostgreSQL", log=log)
        assert machine.locations() == ["LOADED fraud_assets"]
        wait_until(lambda: "Nothing is due." in shell.run("fraud-assets status"), "all that follows", log=log, pause=10)
    assert machine.count("SELECT count(*) FROM model_versions", "mlflow") == 1
    question = commands("Restore", 2)
    gold, runs = shell.run(question), machine.count("SELECT count(*) FROM runs", "dagster")
    assert gold.count("2026-01-0") == 3

    machine.run(commands("Back up", 0) + commands("Back up", 1))
    shutil.rmtree(machine.placed("/var/lib/fraud_assets"))
    machine.run(commands("Restore", 1))
    shell.environment["RESTORED"] = machine.placed("/var/lib/fraud_assets/data")
    with machine.service("mlflow", "http://127.0.0.1:5000/health"):
        assert "Nothing is due." in machine.run(commands("Restore", 0))
        shell.run("mlflow artifacts download --artifact-uri models:/fraud_isolation_forest@prod --dst-path got")
        assert (shell.folder / "got" / "MLmodel").exists()
    assert shell.run(question) == gold
    assert machine.count("SELECT count(*) FROM runs", "dagster") == runs
