"""A stream whose driver is killed again and again: each transaction is scored once, as the sensors would do it."""

import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fraud_assets.resources.tables import PREDICTIONS
from fraud_assets.spark.stream import ResetRefusedError, checkpoint_of, last_batch, reset
from fraud_assets_tests.depth import MORE
from fraud_assets_tests.platform import FIRST_DAY, TestPlatform
from fraud_assets_tests.spark.conftest import require_cluster, takes_minutes
from fraud_assets_tests.spark.feeds import differences
from fraud_assets_tests.spark.test_cluster import scores

BATCHES = 8 * MORE
KILLS = MORE


def stream(platform: TestPlatform, *options: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "FRAUD_DATA_DIR": str(platform.data_dir),
        "FRAUD_SPARK_MASTER": "local-cluster[1,1,1024]",
    }
    command = [str(Path(sys.prefix) / "bin" / "fraud-assets"), "spark", "stream", *options]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, f"{out[-1000:]}\n{err[-3000:]}"
    return out


def batches_done(platform: TestPlatform) -> int:
    last = last_batch(checkpoint_of(platform.data_dir, "landing"))
    return 0 if last is None else last + 1


def land_something(platform: TestPlatform, chance: random.Random) -> None:
    """Land a day anew, or beside what landed, at once and whole."""
    day = FIRST_DAY + timedelta(days=chance.randrange(8))
    [made] = platform.simulate(1, start=day, seed=chance.randrange(1000), rows_per_day=chance.choice((30, 60)))
    # Spark knows a file by its name alone.
    made.rename(made.with_name(f"{chance.randrange(10**9)}.csv"))


@takes_minutes
def test_a_kill_at_a_random_point_of_many_batches_changes_nothing(
    scored_platform: TestPlatform, tmp_path: Path
) -> None:
    require_cluster()
    platform, chance = scored_platform, random.Random(11)
    kills = sorted(chance.sample(range(3, BATCHES - 3), KILLS))
    running = stream(platform, "--every", "0")
    while (done := batches_done(platform)) < BATCHES:
        land_something(platform, chance)
        if kills and done >= kills[0]:
            kills.pop(0)
            time.sleep(chance.random())
            running.kill()
            running.communicate()
            running = stream(platform, "--every", "0")
        until = time.monotonic() + 300
        while batches_done(platform) == done:
            assert running.poll() is None, running.communicate()[1][-3000:]
            assert time.monotonic() < until
            time.sleep(0.1)
    running.kill()
    running.communicate()
    assert kills == []
    last = said(stream(platform, "--once"))
    assert "Batch" in last or "0 rows: nothing new since checkpoint" in last
    assert f"0 rows: nothing new since checkpoint {batches_done(platform) - 1}" in said(stream(platform, "--once"))

    by_sensors = rebuilt(platform, tmp_path / "by_sensors")
    assert differences(by_sensors.lake, platform.lake) == []
    assert scores(platform).equals(scores(by_sensors))
    [(rows, keys)] = platform.rows(
        "SELECT count(*), count(DISTINCT (partition_key, TransactionID)) FROM {gold}", gold=PREDICTIONS
    )
    assert rows == keys


def rebuilt(platform: TestPlatform, folder: Path) -> TestPlatform:
    """What Dagster's runs make of what landed, with the same models."""
    shutil.copytree(platform.data_dir, folder)
    for group in ("bronze", "silver", "gold"):
        shutil.rmtree(folder / "lake" / group)
    made = replace(platform, data_dir=folder)
    assert [step.problem for step in made.run() if step.problem] == []
    return made


@takes_minutes
def test_a_stream_over_silver_scores_what_was_built(scored_platform: TestPlatform) -> None:
    require_cluster()
    before = scores(scored_platform)
    shutil.rmtree(scored_platform.data_dir / "lake" / "gold")

    out = said(stream(scored_platform, "--over", "silver", "--once"))

    assert "by version 1" in out
    assert scores(scored_platform).equals(before)


def test_a_checkpoint_is_forgotten_only_by_who_says_yes(tmp_path: Path) -> None:
    with pytest.raises(ResetRefusedError, match="nothing to reset"):
        reset(tmp_path, "landing", yes=True)
    commits = checkpoint_of(tmp_path, "landing") / "commits"
    commits.mkdir(parents=True)
    for name in ("0", "1", ".2.tmp"):
        (commits / name).touch()

    with pytest.raises(ResetRefusedError, match=r"remembers 2 batches.*--yes"):
        reset(tmp_path, "landing", yes=False)
    assert last_batch(checkpoint_of(tmp_path, "landing")) == 1

    assert reset(tmp_path, "landing", yes=True) == 2
    assert not checkpoint_of(tmp_path, "landing").exists()
