"""A data directory that an earlier release made is taken over in place; one of a later release is refused."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable
from deltalake import Schema as DeltaSchema

from fraud_assets.cli import main
from fraud_assets.digests import digest_file
from fraud_assets.resources.data_format import FORMAT
from fraud_assets.resources.models.promotions import decisions
from fraud_assets.resources.tables import (
    EVALUATION_METRICS,
    PARTITION_BUILDS,
    PREDICTIONS,
    PROMOTIONS,
    QUARANTINED_TRANSACTIONS,
    RAW_TRANSACTIONS,
    SILVER_TRANSACTIONS,
    TABLES,
    Table,
)
from fraud_assets.staleness import STAGES
from fraud_assets_tests.depth import full_only
from fraud_assets_tests.end_to_end.shell import ROOT, Shell
from fraud_assets_tests.platform import TestPlatform

RELEASE: Final = "878eb42db50ff6f868ed36b731abdfad90768dca"
"""The last commit before alerts, reports, maintenance, notifications and the HTTP service."""

OLD_TABLES: Final = (
    RAW_TRANSACTIONS,
    SILVER_TRANSACTIONS,
    QUARANTINED_TRANSACTIONS,
    PARTITION_BUILDS,
    PREDICTIONS,
    EVALUATION_METRICS,
    PROMOTIONS,
)
OLD_STAGES: Final = {"silver", "model", "gold", "evaluation"}
DAYS: Final = [f"2026-01-0{day}" for day in range(1, 6)]

[ON_DISK] = re.findall(r"### On disk\n(.*?)\n##", (ROOT / "CHANGELOG.md").read_text(), re.DOTALL)


def git(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, **options)


pytestmark = [
    full_only("an environment of another release"),
    pytest.mark.skipif(
        git("cat-file", "-e", f"{RELEASE}^{{commit}}").returncode != 0,
        reason=f"git does not give {RELEASE[:7]} here, of a shallow clone for one: git fetch --unshallow",
    ),
]


@pytest.fixture(scope="module")
def made_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five days that the earlier release landed, built and scored, by a model that it trained and promoted."""
    folder = tmp_path_factory.mktemp("before")
    (folder / "release").mkdir()
    archive = git("archive", RELEASE, check=True).stdout
    subprocess.run(["tar", "--extract"], input=archive, cwd=folder / "release", check=True)
    shell = Shell(folder / "release")
    shell.environment |= {"FRAUD_DATA_DIR": str(folder / "data"), "DAGSTER_HOME": str(folder / "home")}
    (folder / "home").mkdir()
    uv = f"{sys.prefix}/bin/uv"
    for command in (
        f"{uv} venv --quiet --python {sys.executable} .venv",
        f"{uv} pip sync --quiet --python .venv/bin/python --require-hashes requirements.lock",
        f"{uv} pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .",
        ".venv/bin/fraud-assets simulate --days 5 --rows-per-day 700 --dirt",
        ".venv/bin/fraud-assets run",
    ):
        shell.run(command)
    return folder / "data"


@dataclass(frozen=True)
class Kept:
    """What an upgrade must leave as it is: files and rows of tables, decisions, and what the registry holds."""

    files: dict[str, list[str]]
    rows: dict[str, list[tuple[Any, ...]]]
    decisions: list[dict[str, Any]]
    versions: dict[str, dict[str, str]]
    prod: str | None


def kept(platform: TestPlatform) -> Kept:
    registry = platform.model_registry
    return Kept(
        {table.address: sorted(opened(platform, table).file_uris()) for table in OLD_TABLES},
        {table.address: platform.rows("SELECT * FROM {t} ORDER BY ALL", t=table) for table in OLD_TABLES},
        decisions(platform.lake),
        registry.versions(),
        registry.prod_version(),
    )


def opened(platform: TestPlatform, table: Table) -> DeltaTable:
    return DeltaTable(platform.lake.location(table))


@pytest.fixture
def platform(made_before: Path, tmp_path: Path, instance: dg.DagsterInstance) -> TestPlatform:
    shutil.copytree(made_before, tmp_path / "data")
    return TestPlatform(tmp_path / "data", instance, stages=STAGES)


def test_nothing_is_made_again_and_only_what_is_new_is_made(platform: TestPlatform) -> None:
    before = kept(platform)
    assert [(row["decision"], row["model_version"]) for row in before.decisions] == [("promoted", "1")]
    assert sorted(platform.state().gold) == DAYS
    assert {item.stage for item in platform.plan().due} & OLD_STAGES == set()

    steps = platform.run()

    assert {step.request.stage for step in steps} & OLD_STAGES == set()
    assert {step.problem for step in steps} == {""}
    assert kept(platform) == before
    state = platform.state()
    assert [sorted(state.made[stage]) for stage in ("alerts", "report")] == [DAYS, DAYS]
    assert platform.run() == []


def test_a_correction_is_built_and_scored_as_it_was_before_and_tables_take_todays_words(platform: TestPlatform) -> None:
    platform.run()
    before = kept(platform)
    platform.simulate(1, start=date(2026, 1, 5), rows_per_day=700, seed=99)

    assert {step.problem for step in platform.run()} == {""}

    after = kept(platform)
    assert (after.prod, after.versions, after.decisions) == (before.prod, before.versions, before.decisions)
    for table in (SILVER_TRANSACTIONS, QUARANTINED_TRANSACTIONS, PARTITION_BUILDS, PREDICTIONS):
        others = [[row for row in one.rows[table.address] if row[-1] != "2026-01-05"] for one in (before, after)]
        assert others[0] == others[1]
        assert opened(platform, table).schema() == DeltaSchema.from_arrow(table.schema)
        assert opened(platform, table).metadata().description == table.description
    assert {gold.of["model_version"] for gold in platform.state().gold.values()} == {"1"}
    assert (platform.data_dir / ".format").read_text() == f"{FORMAT}\n"


def test_the_same_rows_have_the_same_scores_by_a_model_of_before(platform: TestPlatform) -> None:
    query = "SELECT TransactionID, fraud_score, score_percentile FROM {t} ORDER BY ALL"
    before = platform.rows(query, t=PREDICTIONS)
    tags = {"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[-1]}
    scored = platform.definitions.resolve_job_def("scoring_job").execute_in_process(
        instance=platform.instance, tags=tags, asset_selection=[dg.AssetKey("fraud_predictions")]
    )
    assert scored.success
    assert platform.rows(query, t=PREDICTIONS) == before


def test_the_changelog_names_what_is_new_on_disk(platform: TestPlatform, made_before: Path) -> None:
    there = {path.name for path in made_before.iterdir()} | {path.name for path in (made_before / "lake").glob("*/*")}
    new = {table.address for table in TABLES if table.name not in there}
    assert new == {table.address for table in TABLES if table not in OLD_TABLES}
    assert {address for address in new if f"`{address}`" not in ON_DISK} == set()

    platform.run()
    made = {path.name for path in platform.data_dir.iterdir()} - {path.name for path in made_before.iterdir()}
    assert {name for name in made if f"`{name}" not in ON_DISK} == set()
    assert f"`.format` says {FORMAT}" in ON_DISK


@pytest.fixture
def written_later(platform: TestPlatform, monkeypatch: pytest.MonkeyPatch) -> TestPlatform:
    (platform.data_dir / ".format").write_text(f"{FORMAT + 1}\n")
    monkeypatch.setenv("FRAUD_DATA_DIR", str(platform.data_dir))
    return platform


def test_a_downgrade_is_refused_in_words_before_anything_is_changed(written_later: TestPlatform) -> None:
    def everything() -> dict[Path, str]:
        paths = written_later.data_dir.rglob("*")
        return {path: digest_file(path) for path in paths if path.is_file() and path.suffix != ".lock"}

    before = everything()
    commands: list[Callable[[], str]] = [
        lambda words=words: CliRunner().invoke(main, words.split()).output
        for words in ("status", "run", "sql FROM", "maintain", "rollback")
    ]
    for command in commands:
        assert f"was written by a later release of fraud_assets (format {FORMAT + 1}, and this one knows" in command()
    assert everything() == before
