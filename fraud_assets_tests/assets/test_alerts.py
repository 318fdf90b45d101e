"""Lists that two runs make at once, on a real platform of hours."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from duckdb import DuckDBPyConnection
from filelock import FileLock, Timeout

from fraud_assets.model.scorer import Scorer
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.tables import ALERT_LISTS, ALERTS, Table
from fraud_assets.silver import source as sources
from fraud_assets_tests.model.test_scorer import fitted, transactions
from fraud_assets_tests.platform import TestPlatform

HOURS = ("2026-01-01-22", "2026-01-01-23")
CAPACITY = 3


@pytest.fixture
def platform(make_platform: Callable[..., TestPlatform], tmp_path: Path) -> TestPlatform:
    """Two built hours and two versions that score here; nothing is scored yet."""
    packaged = Path(sources.__file__).with_name("sources") / "simulated.toml"
    feed = tmp_path / "feed.toml"
    feed.write_text(packaged.read_text().replace('grain = "daily"', 'grain = "hourly"'))
    hourly = make_platform(source=str(feed), alerts_per_day=CAPACITY)
    days = TestPlatform(tmp_path / "days", hourly.instance)
    [day] = days.simulate(1, rows_per_day=6_000)
    with hourly.lake.connect() as connection:
        hourly.landing_zone.land(connection, day)
    rows = transactions(np.random.default_rng(3), 4_000)
    for version in ("1", "2"):
        Scorer.from_pipeline(fitted(rows, random_state=int(version))).save(tmp_path / version)
        hourly.model_registry.local_scorers.put(version, tmp_path / version)
    for hour in HOURS:
        run(hourly, "silver_job", "silver_transactions_base", hour)
    return hourly


def run(platform: TestPlatform, job: str, asset: str, hour: str, version: str = "1") -> None:
    subset = platform.definitions.resolve_job_def(job).get_subset(asset_selection={dg.AssetKey(asset)})
    tags = {"fraud_assets/model_version": version}
    assert subset.execute_in_process(instance=platform.instance, partition_key=hour, tags=tags).success


def score(platform: TestPlatform, hour: str, version: str = "1") -> None:
    run(platform, "scoring_job", "fraud_predictions", hour, version)


def list_(platform: TestPlatform, hour: str) -> None:
    run(platform, "scoring_job", "fraud_alerts", hour)


@pytest.fixture
def once_begun(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Let another run be done between the start of the next one and its first partition."""

    def then(other: Callable[[], None]) -> None:
        real: Callable[[Lake], AbstractContextManager[DuckDBPyConnection]] = Lake.connect
        waiting = [other]

        @contextmanager
        def connect(lake: Lake) -> Iterator[DuckDBPyConnection]:
            with real(lake) as connection:
                if waiting:
                    waiting.pop()()
                yield connection

        monkeypatch.setattr(Lake, "connect", connect)

    return then


def test_hours_of_one_day_that_two_runs_list_at_once_share_its_alerts(
    platform: TestPlatform, once_begun: Callable[[Callable[[], None]], None]
) -> None:
    for hour in HOURS:
        score(platform, hour)
    once_begun(lambda: list_(platform, HOURS[0]))
    list_(platform, HOURS[1])

    lists = platform.rows("SELECT partition_key, anomalies > 3, alerts FROM {l} ORDER BY ALL", l=ALERT_LISTS)
    assert lists == [(HOURS[0], True, CAPACITY), (HOURS[1], True, 0)]


def test_a_day_is_held_while_one_of_its_lists_is_made(platform: TestPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    score(platform, HOURS[0])
    real, written = Lake.replace_partition, list[str]()

    def replace_partition(lake: Lake, table: Table, *args: Any, **options: Any) -> None:
        with pytest.raises(Timeout), FileLock(platform.data_dir / ".locks" / "alerts-2026-01-01.lock", timeout=0):
            pass
        written.append(table.address)
        real(lake, table, *args, **options)

    monkeypatch.setattr(Lake, "replace_partition", replace_partition)
    list_(platform, HOURS[0])
    assert written == ["gold.withdrawn_alerts", "gold.fraud_alerts", "gold.alert_lists"]


def test_a_partition_that_is_scored_anew_meanwhile_has_the_reasons_of_its_new_version(
    platform: TestPlatform, once_begun: Callable[[Callable[[], None]], None]
) -> None:
    def told() -> list[tuple[Any, ...]]:
        return platform.rows("SELECT model_version, TransactionID, reasons FROM {a} ORDER BY rank", a=ALERTS)

    score(platform, HOURS[0])
    once_begun(lambda: score(platform, HOURS[0], "2"))
    list_(platform, HOURS[0])

    meanwhile = told()
    assert {version for version, *_ in meanwhile} == {"2"}
    list_(platform, HOURS[0])
    assert told() == meanwhile
