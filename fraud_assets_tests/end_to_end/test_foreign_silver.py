"""Silver that something else wrote into the table: found, compared with the contract, scored; never rebuilt."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from fraud_assets.automation.notifications import Watch
from fraud_assets.incidents import WORK, Incident, incidents
from fraud_assets.resources.tables import PARTITION_BUILDS, PREDICTIONS, SILVER_TRANSACTIONS
from fraud_assets.silver import source
from fraud_assets.silver.contract import VERSIONS
from fraud_assets.silver.features import EMPTY_TAIL
from fraud_assets.staleness import STAGES
from fraud_assets_tests.automation.test_sensors import landed, run_requested
from fraud_assets_tests.depth import full_only
from fraud_assets_tests.end_to_end.shell import ROOT
from fraud_assets_tests.platform import FIRST_DAY, TestPlatform

MakePlatform = Callable[..., TestPlatform]

[SNIPPET] = re.findall(
    r"## Writing Silver\n.*?```python\n(.*?)```", (ROOT / "docs" / "reading_the_tables.md").read_text(), re.DOTALL
)

DAY = "2026-01-07"
"""The day after those that landed."""


def rows_of_another_day(platform: TestPlatform, **changes: str) -> pa.Table:
    """Return the rows of the last landed day as if they were DAY's, by who knows nothing of our versions."""
    later = {"event_timestamp": "event_timestamp + INTERVAL 1 DAY", "partition_key": f"'{DAY}'"}
    changes = dict.fromkeys((field.name for field in VERSIONS), "NULL::VARCHAR") | later | changes
    replaced = ", ".join(f"{value} AS {name}" for name, value in changes.items())
    with platform.lake.connect() as connection:
        relation = platform.lake.select(SILVER_TRANSACTIONS, keys=["2026-01-06"])
        rows = connection.sql(f"SELECT * REPLACE ({replaced}) FROM {relation}").to_arrow_table()
    return rows.cast(SILVER_TRANSACTIONS.schema)


def write(platform: TestPlatform, rows: pa.Table, key: str = DAY) -> None:
    """Write a partition as somebody does who has nothing of ours, in two files."""
    table, half = platform.lake.location(SILVER_TRANSACTIONS), len(rows) // 2
    write_deltalake(table, rows.slice(0, half), mode="overwrite", predicate=f"partition_key = '{key}'")
    write_deltalake(table, rows.slice(half), mode="append")


def files(platform: TestPlatform, key: str = DAY) -> str:
    return platform.lake.partition_states(SILVER_TRANSACTIONS, ())[key]["files"]


def due(platform: TestPlatform) -> list[tuple[str, str, str]]:
    return [(item.stage, item.key, item.why) for item in platform.plan().due]


def done(platform: TestPlatform) -> list[tuple[str, str]]:
    return [(step.request.stage, step.problem) for step in platform.run()]


def scores(platform: TestPlatform, key: str) -> list[tuple[str, float]]:
    query = "SELECT TransactionID, fraud_score FROM {gold} WHERE partition_key = '" + key + "' ORDER BY ALL"
    return platform.rows(query, gold=PREDICTIONS)


def wrong(platform: TestPlatform) -> list[Incident]:
    """Return what is wrong of the work, as people are told."""
    watch = Watch(platform.platform, platform.instance)
    found = watch.explained(incidents(watch.facts(now=datetime.now(tz=UTC), watched_since=None)))
    return [one for one in found if one.kind in WORK]


def test_rows_that_something_else_wrote_are_scored_once_and_again_only_when_they_changed(
    scored_platform: TestPlatform,
) -> None:
    platform = scored_platform
    write(platform, rows_of_another_day(platform))
    written = files(platform)

    assert due(platform) == [("adoption", DAY, "something else wrote its Silver rows")]
    assert done(platform) == [("adoption", ""), ("gold", "")]

    assert scores(platform, DAY) == scores(platform, "2026-01-06")
    assert files(platform) == written
    assert platform.run() == []
    assert not [note for note in platform.status()["notes"] if DAY in note]
    at = platform.lake.version(PREDICTIONS)

    # Other files with the same rows, and other labels: looked at, and not scored again.
    DeltaTable(platform.lake.location(SILVER_TRANSACTIONS)).optimize.compact([("partition_key", "=", DAY)])
    assert files(platform) != written
    assert done(platform) == [("adoption", "")]
    write(platform, rows_of_another_day(platform, isFraud="1::INTEGER"))
    assert done(platform) == [("adoption", "")]
    assert platform.lake.version(PREDICTIONS) == at

    write(platform, rows_of_another_day(platform, is_international_txn="1 - is_international_txn"))
    assert done(platform) == [("adoption", ""), ("gold", "")]
    assert scores(platform, DAY) != scores(platform, "2026-01-06")
    assert platform.run() == []

    trained = run_requested(platform, dg.RunRequest(job_name="training_job"))
    assert trained.success, "a training sees them as any other rows"


def test_rows_that_break_the_contract_are_refused_in_its_words_and_are_an_incident_until_they_are_mended(
    scored_platform: TestPlatform,
) -> None:
    platform = scored_platform
    write(platform, rows_of_another_day(platform, txn_count_5min="0::BIGINT", product_diversity_5min="0::BIGINT"))
    written = files(platform)
    platform.simulate(1, start=FIRST_DAY + timedelta(days=7))

    steps = {step.request.stage: step.problem for step in platform.run()}

    [(rows,)] = platform.rows("SELECT count(*) FROM {t} WHERE partition_key = '" + DAY + "'", t=SILVER_TRANSACTIONS)
    words = f"Of {rows} rows, some break the feature contract. txn_count_5min >= 1: {rows}; "
    assert steps["silver"] == ""
    assert steps["adoption"].startswith(f"{DAY}: {words}")
    assert scores(platform, DAY) == []
    assert files(platform) == written
    assert len(scores(platform, "2026-01-08")) > 600, "the day after is not held up"
    assert platform.state().silver["2026-01-08"].of["lookback_version"] == EMPTY_TAIL
    [found] = wrong(platform)
    assert (found.kind, found.subject, found.key) == ("failed check", "adoption", DAY)
    assert found.reason.startswith(words)

    write(platform, rows_of_another_day(platform))
    assert done(platform) == [("adoption", ""), ("silver", ""), ("gold", "")], "the day after looks back on it now"
    assert scores(platform, DAY) == scores(platform, "2026-01-06")
    assert wrong(platform) == []


@full_only("two platforms")
def test_a_day_that_landed_looks_back_on_adopted_rows_as_on_built_ones(
    make_platform: MakePlatform, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    stages = tuple(stage for stage in STAGES if stage.name in {"silver", "adoption", "evaluation"})  # nothing trains
    built, other = make_platform(stages=stages), TestPlatform(tmp_path / "other", instance, stages=stages)
    built.simulate(2, rows_per_day=3_000)
    built.run()
    other.simulate(1, start=date(2026, 1, 5), rows_per_day=3_000)
    other.run()
    with built.lake.connect() as connection:
        without = ", ".join(f"NULL::VARCHAR AS {field.name}" for field in VERSIONS)
        relation = built.lake.select(SILVER_TRANSACTIONS, keys=["2026-01-01"])
        rows = connection.sql(f"SELECT * REPLACE ({without}) FROM {relation}").to_arrow_table()
    write(other, rows.cast(SILVER_TRANSACTIONS.schema), "2026-01-01")
    other.simulate(1, start=date(2026, 1, 2), rows_per_day=3_000)

    assert {problem for _, problem in done(other)} == {""}

    assert other.plan().due == ()
    second = "SELECT * FROM {t} WHERE partition_key = '2026-01-02' ORDER BY ALL"
    assert built.state().silver["2026-01-02"].of["lookback_version"] != EMPTY_TAIL
    assert other.rows(second, t=SILVER_TRANSACTIONS) == built.rows(second, t=SILVER_TRANSACTIONS)


def test_what_landed_is_the_truth_where_something_else_wrote_into_its_partition(scored_platform: TestPlatform) -> None:
    platform, everything = scored_platform, "SELECT * FROM {t} ORDER BY ALL"
    before = platform.rows(everything, t=SILVER_TRANSACTIONS)
    gold = platform.lake.version(PREDICTIONS)
    rows = rows_of_another_day(platform, partition_key="'2026-01-06'", event_timestamp="event_timestamp")
    write_deltalake(platform.lake.location(SILVER_TRANSACTIONS), rows, mode="append")

    assert ("silver", "2026-01-06", "landed, not built yet") in due(platform)
    assert done(platform)[0] == ("silver", "")

    assert platform.rows(everything, t=SILVER_TRANSACTIONS) == before
    assert platform.lake.version(PREDICTIONS) == gold


def test_a_partition_that_something_else_wrote_is_never_rebuilt(scored_platform: TestPlatform, tmp_path: Path) -> None:
    write(scored_platform, rows_of_another_day(scored_platform))
    assert done(scored_platform) == [("adoption", ""), ("gold", "")]

    packaged = (Path(source.__file__).with_name("sources") / "simulated.toml").read_text()
    (tmp_path / "changed.toml").write_text(packaged.replace("high_value_amount = 500", "high_value_amount = 400"))
    changed = TestPlatform(scored_platform.data_dir, scored_platform.instance, source=str(tmp_path / "changed.toml"))

    assert [key for stage, key, _ in due(changed) if stage == "silver"] == sorted(changed.state().landed)
    assert DAY not in changed.state().landed


def test_the_sensor_asks_for_an_adoption_alone_and_what_is_no_partition_is_left_alone(
    scored_platform: TestPlatform,
) -> None:
    platform = scored_platform
    demo = "data/simulated/lake/silver/silver_transactions_base"
    snippet = SNIPPET.replace("2026-02-09", DAY).replace(demo, platform.lake.location(SILVER_TRANSACTIONS))
    exec(snippet, {"day": rows_of_another_day(platform)})
    nobodys = rows_of_another_day(platform, partition_key="'someday'")
    write_deltalake(platform.lake.location(SILVER_TRANSACTIONS), nobodys, mode="append")

    [request], _ = landed(platform)

    assert (request.job_name, request.asset_selection) == ("silver_job", [dg.AssetKey("silver_transactions_base")])
    assert request.tags["dagster/asset_partition_range_end"] == DAY
    assert run_requested(platform, request).success
    assert landed(platform)[0] == []
    [record] = platform.lake.rows(PARTITION_BUILDS, keys=[DAY])
    assert record["silver_version"] == platform.state().silver[DAY].of["silver_version"]
