"""The command line as a person meets it: what it says, what it leaves alone, and how it fails."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from fraud_assets.cli import main
from fraud_assets.staleness import STAGES
from fraud_assets_tests.platform import TestPlatform

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in an empty directory, and insist that it never ends in a traceback."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        result = CliRunner().invoke(main, list(arguments))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.output
        return result

    return invoke


@pytest.fixture(scope="module")
def _reported_data(_scored_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The six scored days with their pages, drawn once: the command line knows every stage."""
    data_dir = tmp_path_factory.mktemp("reported") / "data"
    shutil.copytree(_scored_data, data_dir)
    with dg.DagsterInstance.ephemeral() as instance:
        assert [step.problem for step in TestPlatform(data_dir, instance, stages=STAGES).run()] == ["", ""]
    return data_dir


@pytest.fixture
def reported(
    _reported_data: Path, tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> TestPlatform:
    """A platform of its own where nothing is due, pages included."""
    shutil.copytree(_reported_data, tmp_path / "data")
    monkeypatch.setenv("FRAUD_DATA_DIR", str(tmp_path / "data"))
    return TestPlatform(tmp_path / "data", instance, stages=STAGES)


@pytest.fixture
def scored(scored_platform: TestPlatform, monkeypatch: pytest.MonkeyPatch) -> TestPlatform:
    monkeypatch.setenv("FRAUD_DATA_DIR", str(scored_platform.data_dir))
    return scored_platform


SHOP = """
name = "shop"
[partitions]
grain = "daily"
start = "2026-03-01"
[types]
amount = "DOUBLE"
[columns]
TransactionID = "order_no"
event_timestamp = "paid_at"
card_id = "card"
TransactionAmt = "amount"
ProductCD = "category"
is_international_txn = "country <> 'DE'"
[features]
high_value_amount = 250.0
"""

ORDERS = """order_no,paid_at,card,amount,category,country
1,2026-03-01 10:00:00,a,10.00,books,DE
2,2026-03-01 10:01:00,a,n/a,books,DE
3,2026-03-02 09:00:00,b,30.00,toys,FR
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "shop.toml").write_text(SHOP)
    (tmp_path / "orders.csv").write_text(ORDERS)
    monkeypatch.setenv("FRAUD_SOURCE", str(tmp_path / "shop.toml"))
    return tmp_path


def test_status_before_anything_landed_names_the_commands_that_land(run: Run, tmp_path: Path) -> None:
    result = run("status")

    assert result.exit_code == 0
    assert "`fraud-assets simulate`" in result.output
    assert "`fraud-assets land FILE`" in result.output
    assert list(tmp_path.iterdir()) == []


def test_run_before_anything_landed_fails_with_the_same_advice(run: Run) -> None:
    result = run("run")

    assert result.exit_code == 1
    assert "Nothing landed" in result.output
    assert "`fraud-assets simulate`" in result.output


def test_status_shows_what_is_due_and_why(run: Run) -> None:
    run("simulate", "--days", "2", "--rows-per-day", "50")

    result = run("status")

    assert "2026-01-01 to 2026-01-02" in result.output
    assert "Silver: landed, not built yet" in result.output
    assert "2 due. `fraud-assets run` does it now" in result.output


def test_status_of_a_scored_feed_says_that_nothing_is_due(run: Run, reported: TestPlatform) -> None:
    result = run("status")

    assert "2026-01-01 to 2026-01-06" in result.output
    assert "up to date" in result.output
    assert "Model: version 1 behind @prod" in result.output
    assert "Nothing is due." in result.output
    assert f"export MLFLOW_TRACKING_URI={reported.model_registry.tracking_uri}" in result.output


def test_status_as_json_is_for_programs(run: Run, reported: TestPlatform) -> None:
    reported.simulate(1, seed=8)

    status = json.loads(run("status", "--json").output)

    assert status["prod_version"] == "1"
    assert len(status["partitions"]) == 6
    assert [(due["stage"], due["key"], due["why"]) for due in status["due"]] == [
        ("silver", "2026-01-01", "landed files changed")
    ]


def test_run_again_does_nothing_and_still_shows_the_result(run: Run, reported: TestPlatform) -> None:
    result = run("run")

    assert result.exit_code == 0
    assert result.output.startswith("Nothing is due.")
    assert "as many as Silver in 6 of 6 partitions" in result.output
    for words in ("Isolation Forest", "plain rule", "base rate", "ROC-AUC", "PR-AUC", "five most suspicious"):
        assert words in result.output
    assert reported.model_registry.latest_version() == "1"


def test_a_removed_landing_directory_deletes_nothing_and_status_says_so(run: Run, reported: TestPlatform) -> None:
    for file in (reported.landing_zone.folder / "2026-01-03").iterdir():
        file.unlink()

    result = run("status")

    assert "landing/2026-01-03 is gone; its Silver and Gold stay" in result.output
    assert "Nothing is due." in result.output


def test_try_shows_what_becomes_of_the_rows_and_writes_nothing(run: Run, shop: Path) -> None:
    before = sorted(shop.iterdir())

    result = run("try", "shop.toml", "orders.csv")

    assert result.exit_code == 0
    assert "3 records = 2 good + 1 to quarantine" in result.output
    assert "unreadable_amount" in result.output
    assert "labels: none" in result.output
    assert "export FRAUD_SOURCE=shop.toml" in result.output
    assert sorted(shop.iterdir()) == before


def test_a_time_expression_that_reads_no_row_is_refused_with_one_that_does(run: Run, shop: Path) -> None:
    (shop / "shop.toml").write_text(SHOP.replace('"paid_at"', "\"strptime(paid_at, '%d.%m.%Y')\""))

    for arguments in (("try", "shop.toml", "orders.csv"), ("land", "orders.csv")):
        result = run(*arguments)
        assert result.exit_code == 1
        assert "paid_at = '2026-03-01" in result.output
        assert 'event_timestamp = "paid_at::TIMESTAMPTZ"' in result.output
        assert "usable time" in result.output
    assert not list(shop.rglob("landing/2*"))


def test_days_outside_the_source_are_said_with_the_remedy_wherever_they_matter(run: Run, shop: Path) -> None:
    (shop / "shop.toml").write_text(SHOP.replace('"2026-03-01"', '"2026-04-01"'))

    for arguments in (("try", "shop.toml", "orders.csv"), ("land", "orders.csv"), ("run",)):
        result = run(*arguments)
        assert "2026-03-01" in result.output
        assert "outside the days of source shop (2026-04-01 without end): to build it, give its file another start" in (
            " ".join(result.output.split())
        )
    assert "Nothing that can be built landed" in result.output


def test_landing_twice_changes_nothing(run: Run, shop: Path) -> None:
    first = run("land", "orders.csv")
    files = {path: path.stat().st_mtime_ns for path in (shop / "data" / "shop" / "landing").rglob("*.csv")}

    again = run("land", "orders.csv")

    assert "3 records in 2 partitions, 2026-03-01 to 2026-03-02" in first.output
    assert "(2 landed before: nothing changed)" in again.output
    assert {path: path.stat().st_mtime_ns for path in files} == files


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("high_value_amount", "high_value"), "high_value"),
        (lambda text: text.replace('"amount"\nProductCD', '"amount +"\nProductCD'), "is not SQL"),
        (lambda text: text.replace("[columns]", "[columns"), "is not a TOML file"),
        (lambda text: text.replace('"daily"', '"weekly"'), "grain"),
    ],
    ids=["wrong key", "bad SQL", "no TOML", "unknown grain"],
)
def test_a_faulty_source_file_is_named_with_what_is_wrong(
    run: Run, shop: Path, change: Callable[[str], str], words: str
) -> None:
    (shop / "shop.toml").write_text(change(SHOP))

    for arguments in (("try", "shop.toml", "orders.csv"), ("land", "orders.csv")):
        result = run(*arguments)
        assert result.exit_code == 1
        assert words in result.output
        assert "shop" in result.output
    assert not list(shop.rglob("*.csv.tmp"))


def test_a_column_that_the_file_does_not_have_is_named(run: Run, shop: Path) -> None:
    (shop / "shop.toml").write_text(SHOP.replace('"category"', '"kind"'))

    result = run("land", "orders.csv")

    assert result.exit_code == 1
    assert "orders.csv: column kind is missing" in result.output
    assert not (shop / "data").exists() or not list((shop / "data").rglob("*.csv"))


def test_an_unknown_source_lists_the_packaged_ones(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_SOURCE", "nosuch")

    result = run("status")

    assert result.exit_code == 1
    assert "ieee_cis, simulated" in result.output


def test_simulate_feeds_its_own_source_only(run: Run, shop: Path) -> None:
    result = run("simulate")

    assert result.exit_code == 1
    assert "`fraud-assets land FILE`" in result.output


def test_simulated_days_outside_the_source_are_refused(run: Run, tmp_path: Path) -> None:
    result = run("simulate", "--start", "2027-01-01", "--days", "1")

    assert result.exit_code == 1
    assert "2027-01-01 lies outside" in result.output
    assert list(tmp_path.rglob("*.csv")) == []


def test_a_data_directory_of_another_grain_is_refused(
    run: Run, scored: TestPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fraud_assets.resources.grain import record_grain
    from fraud_assets.silver import source

    record_grain(scored.platform.data_dir, scored.landing_zone.source)
    packaged = (Path(source.__file__).with_name("sources") / "simulated.toml").read_text()
    (tmp_path / "hourly.toml").write_text(packaged.replace('"daily"', '"hourly"'))
    monkeypatch.setenv("FRAUD_SOURCE", str(tmp_path / "hourly.toml"))

    result = run("run")

    assert result.exit_code == 1
    assert "holds daily partitions and source simulated is hourly" in result.output
    assert "FRAUD_DATA_DIR" in result.output


def test_a_data_directory_that_cannot_be_written_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a directory")
    monkeypatch.setenv("FRAUD_DATA_DIR", str(tmp_path / "file" / "data"))

    result = run("simulate", "--days", "1")

    assert result.exit_code == 1
    assert "FRAUD_DATA_DIR" in result.output


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FRAUD_RESCORE_DAYS", "-1"),
        ("FRAUD_LABEL_DELAY_DAYS", "36501"),
        ("FRAUD_HISTORY_DAYS", "36501"),
        ("FRAUD_RETENTION_HOURS", "876001"),
        ("FRAUD_SERVE_KEEP_DAYS", "36501"),
        ("FRAUD_SERVE_LATENESS_MINUTES", "inf"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    result = run("status")

    assert result.exit_code == 1
    assert f"Settings cannot be used. {name}: Input should be" in result.output


def test_a_century_can_be_set(run: Run, scored: TestPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LABEL_DELAY_DAYS", "36500"), ("HISTORY_DAYS", "36500"), ("RETENTION_HOURS", "876000")):
        monkeypatch.setenv(f"FRAUD_{name}", value)
    Path("dagster_home").mkdir()  # without records of Dagster's there is nothing to maintain
    for command in ("status", "maintain"):
        assert run(command).exit_code == 0


def test_sql_shows_rows_and_explains_mistakes_in_one_line(run: Run, scored: TestPlatform) -> None:
    good = run("sql", "SELECT count(*) AS scored FROM gold.fraud_predictions")
    bad = run("sql", "FROM gold.no_such_table")
    write = run("sql", "DELETE FROM tables")

    assert good.output.splitlines()[0].strip() == "scored"
    assert bad.exit_code == 1
    assert "no_such_table" in bad.output
    assert write.exit_code == 1
    assert "read-only" in write.output


def _artifacts(platform: TestPlatform) -> Path:
    registry = platform.model_registry
    experiment = registry._client().get_experiment_by_name(registry.experiment_name)
    assert experiment is not None
    return Path(experiment.artifact_location.removeprefix("file://"))


def test_promote_and_rollback_move_prod_on_the_record(run: Run, scored: TestPlatform) -> None:
    nothing = run("rollback")
    unknown = run("promote", "9")
    job = scored.definitions.resolve_job_def("training_job")
    config = {"ops": {"fraud_isolation_forest": {"config": {"random_state": 1}}}}
    assert job.execute_in_process(instance=scored.instance, run_config=config).success
    run("promote", "1", "--by", "ana", "--reason", "set back for a test")

    promoted = run("promote", "2", "--by", "ana", "--reason", "looks good")
    back = run("rollback", "--by", "ben")
    history = run(
        "sql", "SELECT model_version, decision, decided_by FROM model.promotions ORDER BY decided_at DESC LIMIT 2"
    )
    of_version_2 = max(_artifacts(scored).rglob("scoring.json"), key=lambda file: file.stat().st_mtime)
    of_version_2.write_text(of_version_2.read_text() + " ")
    tampered, no_way_back = run("promote", "2"), run("rollback")

    assert no_way_back.exit_code == 1
    assert "A rollback leads to version 2, which cannot be used: nothing was moved" in no_way_back.output
    assert "`fraud-assets promote VERSION` puts another one behind @prod" in no_way_back.output
    assert "is not what was registered (scoring.json was changed)" in no_way_back.output
    assert tampered.exit_code == 1
    assert "Version 2 of fraud_isolation_forest" in tampered.output
    assert "is not what was registered (scoring.json was changed)" in tampered.output
    assert nothing.exit_code == 1
    assert "no version to go back to" in nothing.output
    assert unknown.exit_code == 1
    assert "Registered: 1" in unknown.output
    assert "version 2 (before: 1)" in promoted.output
    assert "version 1 (before: 2)" in back.output
    assert [line.split() for line in history.output.splitlines()[1:]] == [
        ["1", "rolled", "back", "ben"],
        ["2", "promoted", "ana"],
    ]
    assert scored.model_registry.prod_version() == "1"


def test_errors_of_a_run_are_told_without_a_trace(run: Run, scored: TestPlatform) -> None:
    (scored.landing_zone.folder / "2026-01-03" / "torn.parquet").write_bytes(b"PAR1 not really")

    result = run("run")

    assert result.exit_code == 1
    assert "Silver     1 partition, 2026-01-03 to 2026-01-03: failed" in result.output
    assert "2026-01-03/torn.parquet: it cannot be read as Parquet" in result.output


@pytest.mark.parametrize(("name", "meant"), [("FRAUD_SOURCES", "FRAUD_SOURCE"), ("FRAUD_DATADIR", "FRAUD_DATA_DIR")])
def test_a_variable_that_looks_like_a_setting_and_is_none_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "shop.toml")
    assert f"Note: {name} is no setting; did you mean {meant}?" in run("status").output
    monkeypatch.delenv(name)
    (tmp_path / ".env").write_text(f"{name}=shop.toml\nOTHER=1\n")
    assert f"Note: {name} is no setting; did you mean {meant}?" in run("status").output
    (tmp_path / ".env").write_text(f"{meant}={tmp_path}\n")
    assert "is no setting" not in run("--help").output


def test_status_begins_with_the_feed_its_source_file_and_its_data(run: Run, shop: Path, tmp_path: Path) -> None:
    first = run("status").output.splitlines()[0]
    assert first == f"Feed shop ({shop / 'shop.toml'}), data in data/shop"
    status = json.loads(run("status", "--json").output)
    assert (status["feed"], status["source"], status["data_dir"]) == (
        "shop",
        str(shop / "shop.toml"),
        str(tmp_path / "data/shop"),
    )


def test_synthetic_days_are_proposed_to_no_other_feed(run: Run, shop: Path) -> None:
    for command in ("status", "run"):
        assert "`fraud-assets land FILE`" in run(command).output
        assert "simulate" not in run(command).output


def test_nothing_stands_below_the_message_of_an_error(shop: Path, tmp_path: Path) -> None:
    (shop / "shop.toml").write_text(SHOP.replace('card_id = "card"\n', ""))
    done = subprocess.run(
        [sys.executable, "-m", "fraud_assets.cli", "land", "orders.csv"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert "missing: card_id; add card_id =" in done.stderr.splitlines()[-1]
