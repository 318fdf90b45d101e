"""What Spark's tasks make of landed files, in buckets of a few rows, is what the local build makes of them."""

import random
from pathlib import Path
from typing import Any

import pytest

from fraud_assets.assets.silver import build_here
from fraud_assets.resources.lake import Lake, open_lake
from fraud_assets.resources.state import silver_states
from fraud_assets.resources.tables import PARTITION_BUILDS, RAW_TRANSACTIONS, SILVER_TRANSACTIONS
from fraud_assets.spark.silver import build_with_spark
from fraud_assets_tests.depth import cases
from fraud_assets_tests.spark.feeds import SmallFeed, differences
from fraud_assets_tests.spark.here import JobsHere


def built_here(lake: Lake, feed: SmallFeed, keys: list[str]) -> dict[str, str]:
    """Build as the local producer does; return why partitions were refused."""
    with lake.connect() as connection:
        made = build_here(lake, feed.zone, connection, keys, {})
    return {key: str(error) for key, error in made.refused.items()}


def built_in_buckets(lake: Lake, feed: SmallFeed, keys: list[str], bucket_rows: int) -> dict[str, str]:
    """Build as Spark does; return why partitions were refused."""
    jobs: Any = JobsHere()
    made = build_with_spark(jobs, lake, feed.zone, keys, memory="64MiB", bucket_rows=bucket_rows)
    made.observe(lake, {})
    made.store(lake, {})
    return {key: str(error) for key, error in made.refused.items()}


@pytest.mark.parametrize("seed", range(cases(3, 12)))
def test_any_history_in_any_buckets_gives_the_same_rows_reasons_and_versions(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    feed = SmallFeed(tmp_path / "feed", chance)
    here, there = open_lake(tmp_path / "here"), open_lake(tmp_path / "there")
    for step in range(3):
        for key in chance.sample(feed.keys, 3 if step == 0 else 1):
            feed.land(key)
        if broken := chance.random() < 0.3:
            feed.break_a_file(feed.keys[1])
        keys = feed.keys if step == 0 else chance.sample(feed.keys, chance.randrange(1, 4))

        refused = built_here(here, feed, sorted(keys))

        assert built_in_buckets(there, feed, keys, chance.choice((7, 20, 1000))) == refused
        assert differences(here, there) == []
        if broken:
            feed.mend(feed.keys[1])
    assert silver_states(here) == silver_states(there)


def test_bronze_says_what_landed_as_the_asset_does(tmp_path: Path) -> None:
    feed = SmallFeed(tmp_path / "feed", random.Random(5))
    lake = open_lake(tmp_path / "lake")
    for _ in range(3):
        feed.land(feed.keys[0])
    feed.break_a_file(feed.keys[0])

    built_in_buckets(lake, feed, feed.keys[:1], bucket_rows=20)

    counted = {file.name: feed.zone.count_records(file) for file in feed.zone.files(feed.keys[0])}
    assert {row["file"]: (row["landed_rows"], row["problem"]) for row in lake.rows(RAW_TRANSACTIONS)} == counted


def test_a_bucket_that_breaks_the_contract_refuses_its_partition_alone(tmp_path: Path) -> None:
    feed = SmallFeed(tmp_path / "feed", random.Random(6))
    lake = open_lake(tmp_path / "lake")
    for key in feed.keys[:2]:
        feed.land(key)
        feed.land(key)
    jobs: Any = Faulty(feed.keys[0])

    made = build_with_spark(jobs, lake, feed.zone, feed.keys[:2], memory="64MiB", bucket_rows=20)
    made.store(lake, {})

    assert "break the feature contract" in str(made.refused[feed.keys[0]])
    assert [*lake.partition_states(SILVER_TRANSACTIONS, ())] == feed.keys[1:2]
    assert [*lake.partition_states(PARTITION_BUILDS, ())] == feed.keys[1:2]


class Faulty(JobsHere):
    """Reports of one bucket of the first partition that it breaks a rule."""

    def __init__(self, key: str) -> None:
        self.key = key

    def each(self, name: str, todo: Any, task: Any) -> list[dict[str, Any]]:
        found = super().each(name, todo, task)
        if name == "write Silver":
            next(report for report in found if report["key_no"] == 0)["violations"] = {"a rule": 1}
        return found
