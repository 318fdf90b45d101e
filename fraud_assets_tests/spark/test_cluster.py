"""Spark on separate executor processes makes the tables that the local producer makes, whatever is killed meanwhile."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from deltalake import DeltaTable
from pyarrow import Table as ArrowTable

from fraud_assets.resources.lake import Lake, open_lake
from fraud_assets.resources.tables import PREDICTIONS, RAW_TRANSACTIONS, SILVER_TRANSACTIONS
from fraud_assets.spark.jobs import SparkJobError, SparkJobs, summary
from fraud_assets.spark.producer import Producer
from fraud_assets.spark.silver import build_with_spark
from fraud_assets_tests.depth import MORE
from fraud_assets_tests.end_to_end.servers import wait_until
from fraud_assets_tests.platform import TestPlatform
from fraud_assets_tests.spark import slow
from fraud_assets_tests.spark.conftest import require_cluster, takes_minutes
from fraud_assets_tests.spark.feeds import SmallFeed, differences
from fraud_assets_tests.spark.test_silver import built_here

pytestmark = takes_minutes


def built_by_spark(session: Any, lake: Lake, feed: SmallFeed, keys: list[str], **options: Any) -> dict[str, str]:
    made = build_with_spark(SparkJobs(session), lake, feed.zone, keys, memory="128MiB", **options)
    made.store(lake, {})
    return {key: str(error) for key, error in made.refused.items()}


@pytest.mark.parametrize("seed", range(100, 100 + 5 * MORE))
def test_histories_give_the_same_rows_reasons_and_versions(session: Any, seed: int, tmp_path: Path) -> None:
    """Of six at a time, which share Spark's jobs: its tasks cost more than their rows."""
    chance = random.Random(seed)
    feed = SmallFeed(tmp_path / "feed", chance, histories=6)
    here, there = open_lake(tmp_path / "here"), open_lake(tmp_path / "there")
    for step in range(2):
        keys = []
        for own in feed.histories:
            for key in chance.sample(own, 3 if step == 0 else 1):
                feed.land(key)
            keys += own if step == 0 else chance.sample(own, chance.randrange(1, 4))

        refused = built_here(here, feed, sorted(keys))

        assert built_by_spark(session, there, feed, keys, bucket_rows=chance.choice((25, 1000))) == refused
        assert differences(here, there) == []


@pytest.fixture
def unmade(scored_platform: TestPlatform, tmp_path: Path) -> TestPlatform:
    """What landed in a scored platform and its models; no table but the promotions."""
    shutil.copytree(scored_platform.data_dir, tmp_path / "unmade")
    for group in ("bronze", "silver", "gold"):
        shutil.rmtree(tmp_path / "unmade" / "lake" / group)
    return replace(scored_platform, data_dir=tmp_path / "unmade")


def scores(platform: TestPlatform) -> ArrowTable:
    with platform.lake.connect() as connection:
        query = (
            f"SELECT * EXCLUDE scored_at FROM {platform.lake.select(PREDICTIONS)} ORDER BY partition_key, TransactionID"
        )
        return connection.sql(query).to_arrow_table()


def test_what_is_due_becomes_the_same_tables_and_nobody_finds_anything_due_after(
    session: Any, scored_platform: TestPlatform, unmade: TestPlatform
) -> None:
    jobs = SparkJobs(session)

    done = list(Producer(unmade.platform, jobs).do_due())

    assert [one.stage for one in done] == ["silver", "gold"]
    assert differences(scored_platform.lake, unmade.lake) == []
    assert scores(unmade).equals(scores(scored_platform))
    bronze = [
        sorted((row["file"], row["landed_rows"], row["content_digest"]) for row in one.lake.rows(RAW_TRANSACTIONS))
        for one in (unmade, scored_platform)
    ]
    assert bronze[0] == bronze[1]
    assert {item.stage for item in unmade.plan().due} <= {"alerts", "evaluation"}
    found = summary(jobs.figures)
    assert found["spark_tasks"] >= 5
    assert found["spark_skew"] >= 1


def test_a_producer_that_takes_over_scores_nothing_anew(session: Any, scored_platform: TestPlatform) -> None:
    before = {table: scored_platform.lake.paths(table) for table in (SILVER_TRANSACTIONS, PREDICTIONS)}

    assert list(Producer(scored_platform.platform, SparkJobs(session)).do_due()) == []
    assert {table: scored_platform.lake.paths(table) for table in before} == before

    scored_platform.simulate(1, rows_per_day=40, seed=99)
    done = list(Producer(scored_platform.platform, SparkJobs(session)).do_due())
    touched = {key for one in done for key in one.keys}
    assert "2026-01-01" in touched
    assert touched <= {"2026-01-01", "2026-01-02"}  # the second looks back on the first
    for table, paths in before.items():
        after = scored_platform.lake.paths(table)
        assert {key: after[key] for key in paths if key not in touched} == {
            key: paths[key] for key in paths if key not in touched
        }
    assert [item for item in scored_platform.plan().due if item.stage in ("silver", "gold")] == []


def test_dagster_s_runs_let_spark_do_the_work_and_record_what_it_did(
    session: Any, scored_platform: TestPlatform, unmade: TestPlatform
) -> None:
    platform = replace(unmade, engine="spark")

    assert [step.problem for step in platform.run() if step.problem] == []

    assert differences(scored_platform.lake, platform.lake) == []
    assert scores(platform).equals(scores(scored_platform))
    assert platform.plan().due == ()
    for asset, rows in (("silver_transactions_base", SILVER_TRANSACTIONS), ("fraud_predictions", PREDICTIONS)):
        records = platform.instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
        assert len(records) == 6
        for record in records:
            shown = record.asset_materialization.metadata
            [(count,)] = platform.rows(
                f"SELECT count(*) FROM {{rows}} WHERE partition_key = '{record.partition_key}'", rows=rows
            )
            assert shown["dagster/partition_row_count"].value == count
            assert shown["spark_tasks"].value > 0
            assert shown["spark_spilled_bytes"].value == 0
            assert "at most" in str(shown["spark_jobs"].value)
    origin = DeltaTable(platform.lake.location(SILVER_TRANSACTIONS)).history(1)[0]
    assert (origin["producer"], bool(origin["dagster_run_id"])) == ("spark", True)


class KillsAnExecutor(SparkJobs):
    """Kills an executor while the tasks of the second shuffle run, which each take a second."""

    killed = 0

    def by_bucket(self, name: str, paths: Any, schema: Any, spread: Any, task: Callable) -> list[dict[str, Any]]:
        if name == "make windows":
            self.killer = threading.Timer(1.5, self._kill)
            self.killer.start()
            task = partial(slow.after_a_second, task=task)
        return super().by_bucket(name, paths, schema, spread, task)

    def _kill(self) -> None:
        process = executors()[0]
        os.kill(process, signal.SIGKILL)
        self.killed = process


def by_value(module: Any) -> None:
    from pyspark import cloudpickle

    cloudpickle.register_pickle_by_value(module)


def executors() -> list[int]:
    """The processes of the executors that descend from this one."""
    parents, found = {}, []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if b"executor.CoarseGrainedExecutorBackend" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))

    def is_ours(process: int) -> bool:
        return process == os.getpid() or (process in parents and is_ours(parents[process]))

    return [process for process in found if is_ours(process)]


def test_an_executor_that_is_killed_in_the_middle_changes_nothing(session: Any, tmp_path: Path) -> None:
    by_value(slow)
    feed = SmallFeed(tmp_path / "feed", random.Random(7))
    for key in feed.keys * 2:
        feed.land(key)
    here, there = open_lake(tmp_path / "here"), open_lake(tmp_path / "there")
    jobs = KillsAnExecutor(session)

    made = build_with_spark(jobs, there, feed.zone, feed.keys, memory="128MiB", bucket_rows=25)
    made.store(there, {})

    jobs.killer.join()
    assert jobs.killed not in {0, *executors()}
    assert jobs.figures[-3].name == "make windows"
    built_here(here, feed, feed.keys)
    assert differences(here, there) == []


def test_a_task_that_fails_names_the_reason_and_leaves_every_table_as_it_was(
    session: Any, scored_platform: TestPlatform
) -> None:
    by_value(slow)
    before = scores(scored_platform)
    version = scored_platform.lake.version(SILVER_TRANSACTIONS)
    scored_platform.simulate(1, rows_per_day=40, seed=98)

    class Fails(SparkJobs):
        def each(self, name: str, todo: Any, task: Callable) -> list[dict[str, Any]]:
            return super().each(name, todo, slow.fail if name == "write Silver" else task)

    with pytest.raises(SparkJobError, match=r"could not write Silver.*the disk of this executor is full"):
        list(Producer(scored_platform.platform, Fails(session)).do_due())

    assert scored_platform.lake.version(SILVER_TRANSACTIONS) == version
    assert scores(scored_platform).equals(before)
    list(Producer(scored_platform.platform, SparkJobs(session)).do_due())
    assert not scores(scored_platform).equals(before)


def test_a_driver_that_is_killed_before_its_commit_leaves_the_old_versions_and_the_next_does_it_all(
    scored_platform: TestPlatform, unmade: TestPlatform
) -> None:
    require_cluster()
    master = {"FRAUD_DATA_DIR": str(unmade.data_dir), "FRAUD_SPARK_MASTER": "local-cluster[1,1,1024]"}
    command = [str(Path(sys.prefix) / "bin" / "fraud-assets"), "spark", "run"]
    log, written = unmade.data_dir.parent / "spark.log", Path(unmade.lake.location(SILVER_TRANSACTIONS))
    with log.open("w") as out:
        driver = subprocess.Popen(command, env={**os.environ, **master}, stdout=out, stderr=out)
    # Executors have begun to write the files of the new version.
    wait_until(lambda: any(written.rglob("*.parquet")), "files of Silver", log=log, pause=0.01)
    driver.kill()
    driver.wait()

    assert unmade.lake.paths(SILVER_TRANSACTIONS) == {}
    assert "silver" in {item.stage for item in unmade.plan().due}
    subprocess.run(command, env={**os.environ, **master}, check=True, capture_output=True)
    assert differences(scored_platform.lake, unmade.lake) == []
    assert scores(unmade).equals(scores(scored_platform))
