"""The snippets of docs/reading_the_tables.md on a real lake, one partition of which was written twice."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from deltalake import DeltaTable, write_deltalake

from fraud_assets_tests.depth import FULL
from fraud_assets_tests.end_to_end.shell import ROOT
from fraud_assets_tests.platform import TestPlatform

PAGE = (ROOT / "docs" / "reading_the_tables.md").read_text()
SNIPPETS = [
    pytest.param(snippet, id=f"{heading}-{number}")
    for heading, section in re.findall(r"^## (\w+)$(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    for number, snippet in enumerate(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
]
DAY = "2026-01-05"
GOLD = "data/simulated/lake/gold/fraud_predictions"
LAST_LINE = "import json; print(json.dumps([len(df), sorted(set(df['partition_key'])), len(day), list(day.columns)]))"


@pytest.fixture
def folder(scored_platform: TestPlatform, tmp_path: Path) -> Path:
    """A working directory whose demo has six scored days, one of which was written twice."""
    gold = DeltaTable(scored_platform.data_dir / "lake" / "gold" / "fraud_predictions")
    again = gold.to_pyarrow_table(filters=[("partition_key", "=", DAY)])
    write_deltalake(gold, again, mode="overwrite", predicate=f"partition_key = '{DAY}'")
    (tmp_path / "work" / "data").mkdir(parents=True)
    (tmp_path / "work" / "data" / "simulated").symlink_to(scored_platform.data_dir)
    return tmp_path / "work"


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """polars, which the platform does not need, beside the environment and not in it."""
    packages = tmp_path_factory.mktemp("packages")
    uv = Path(sys.prefix) / "bin" / "uv"
    subprocess.run([uv, "pip", "install", "--quiet", "--target", packages, "polars>=2"], check=True)
    return packages


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_reader_that_asks_the_log_gives_the_table(snippet: str, folder: Path, request: pytest.FixtureRequest) -> None:
    path = None
    if "import polars" in snippet:
        if not FULL:
            pytest.skip("polars is fetched for it: make verify")
        path = request.getfixturevalue("packages")

    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", f"{snippet}\n{LAST_LINE}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(path or "")},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    keys = keys_of_gold(folder)
    columns = ["TransactionID", "TransactionAmt", "fraud_score"]
    assert json.loads(done.stdout) == [len(keys), sorted(set(keys)), keys.count(DAY), columns]


def test_all_files_of_the_folder_are_too_many_rows(folder: Path) -> None:
    keys = keys_of_gold(folder)

    assert len(pd.read_parquet(folder / GOLD)) == len(keys) + keys.count(DAY)


def keys_of_gold(folder: Path) -> list[str]:
    return DeltaTable(folder / GOLD).to_pyarrow_table(columns=["partition_key"])["partition_key"].to_pylist()
