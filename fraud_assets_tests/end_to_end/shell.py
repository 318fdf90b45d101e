"""The shell of a user: commands as they are typed, in a copy of the project."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fraud_assets_tests.end_to_end.servers import serve

ROOT = Path(__file__).parents[2]
_NOT_COPIED = (".git", ".venv", "data", "build", ".hypothesis", "*_cache", "__pycache__", ".env")


def copy_of_the_project(folder: Path) -> Path:
    """Copy what git keeps, and nothing that was installed or made by running."""
    copy = folder / "fraud_assets"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*_NOT_COPIED))
    for made in (copy / "dagster_home").iterdir():
        if made.name != "dagster.yaml":
            shutil.rmtree(made) if made.is_dir() else made.unlink()
    return copy


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
