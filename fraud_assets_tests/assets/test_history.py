"""The history of cards on a real platform: what stands in the table is what an oracle says, and what is due is made."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from fraud_assets.partition_keys import Grain
from fraud_assets.resources.tables import CARD_HISTORY, PREDICTIONS, SILVER_TRANSACTIONS
from fraud_assets.silver import source as sources
from fraud_assets.silver.history import HISTORY_FEATURES
from fraud_assets.staleness import STAGES
from fraud_assets_tests.depth import full_only
from fraud_assets_tests.platform import TestPlatform
from fraud_assets_tests.silver.test_history import Row, assert_as_told

ONLY = tuple(stage for stage in STAGES if stage.name in ("silver", "history", "evaluation"))
"""Without a model nothing is evaluated; the schedule wants its job."""
LATE = date(2026, 1, 2)


def assert_histories_are_right(platform: TestPlatform, grain: Grain) -> None:
    columns = "TransactionID || partition_key, event_timestamp, card_id, ProductCD, TransactionAmt"
    silver = [Row(*values) for values in platform.rows(f"SELECT {columns} FROM {{s}}", s=SILVER_TRANSACTIONS)]
    told = platform.rows(
        f"SELECT TransactionID || partition_key, {', '.join(HISTORY_FEATURES)} FROM {{h}}", h=CARD_HISTORY
    )
    assert_as_told({id_: tuple(values) for id_, *values in told}, silver, grain)


@pytest.mark.parametrize(
    "grain",
    ["daily", pytest.param("hourly", marks=full_only("24 partitions"))],
)
def test_every_silver_row_has_its_history_and_a_correction_touches_what_follows_it(
    make_platform: Callable[..., TestPlatform], tmp_path: Path, grain: Grain
) -> None:
    packaged = Path(sources.__file__).with_name("sources") / "simulated.toml"
    copy = tmp_path / "feed.toml"
    copy.write_text(packaged.read_text().replace('grain = "daily"', f'grain = "{grain}"'))
    platform = make_platform(source=str(copy), stages=ONLY)
    if grain == "daily":
        platform.simulate(4, rows_per_day=150, dirt=True)
    else:
        hours = tmp_path / "hours"
        TestPlatform(hours, platform.instance).simulate(1, rows_per_day=150)
        with platform.lake.connect() as connection:
            for file in (hours / "landing").rglob("*.csv"):
                platform.landing_zone.land(connection, file)

    # An hour without a row parts a range: there may be several runs of a stage.
    steps = platform.run()
    done = dict.fromkeys((step.request.stage, step.problem) for step in steps)
    assert list(done) == [("silver", ""), ("history", "")]
    assert_histories_are_right(platform, grain)
    assert platform.plan().due == ()
    if grain == "hourly":
        return

    before = platform.state().made["history"]
    platform.simulate(1, start=LATE, rows_per_day=150, seed=8)
    corrected = [(step.request.stage, step.request.keys) for step in platform.run() if not step.problem]

    assert [step for step in corrected if step[0] == "history"] == [
        ("history", ("2026-01-02",)),
        ("history", ("2026-01-03", "2026-01-04")),
    ]
    assert_histories_are_right(platform, grain)
    assert platform.plan().due == ()
    assert platform.state().made["history"]["2026-01-01"] == before["2026-01-01"]


def test_an_existing_lake_gets_its_histories_by_one_run_and_nothing_else_is_built(
    scored_platform: TestPlatform,
) -> None:
    tables = (SILVER_TRANSACTIONS, PREDICTIONS)
    before = [scored_platform.lake.version(table) for table in tables]
    platform = TestPlatform(
        scored_platform.data_dir, scored_platform.instance, stages=(*scored_platform.stages, ONLY[1])
    )

    assert [(step.request.stage, step.problem) for step in platform.run()] == [("history", "")]
    assert [platform.lake.version(table) for table in tables] == before
    assert platform.plan().due == ()
