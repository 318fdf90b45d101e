"""The code location: the names that users rely on, and that loading it costs and changes nothing."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml

from fraud_assets.resources.tables import TABLES
from fraud_assets.staleness import STAGES
from fraud_assets_tests.end_to_end.shell import ROOT
from fraud_assets_tests.platform import TestPlatform

_LOOK = """
import json, os, sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
import fraud_assets.definitions
print(json.dumps({"modules": sorted(sys.modules), "opened": opened}))
"""


def test_loading_reads_the_source_file_and_dotenv_only_and_imports_nothing_heavy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOOK],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(done.stdout.splitlines()[-1])

    assert not {"mlflow", "sklearn", "pandas", "numba", "dagster_mlflow", "apprise", "altair", "vl_convert"} & set(
        seen["modules"]
    )
    assert list(tmp_path.iterdir()) == []
    data = [
        Path(name) for name in seen["opened"] if name.endswith((".toml", ".env", ".duckdb", ".db", ".csv", ".json"))
    ]
    assert {path.name for path in data if "site-packages" not in path.parts} <= {"simulated.toml", ".env"}
    assert done.stderr == ""


def test_what_nobody_waits_for_stands_behind_what_landed_and_leaves_it_a_place(
    make_platform: Callable[..., TestPlatform],
) -> None:
    jobs = make_platform(stages=STAGES).definitions.resolve_all_job_defs()
    priorities = {job.name: job.run_tags["dagster/priority"] for job in jobs if "dagster/priority" in job.run_tags}
    queue = yaml.safe_load((ROOT / "dagster_home" / "dagster.yaml").read_text())["run_coordinator"]["config"]

    assert priorities == dict.fromkeys(("report_job", "history_job", "ranker_job"), "-1")
    assert queue["tag_concurrency_limits"] == [{"key": "dagster/priority", "value": "-1", "limit": 1}]
    assert queue["max_concurrent_runs"] > 1


def test_the_names_that_users_rely_on(make_platform: Callable[..., TestPlatform]) -> None:
    definitions = make_platform(stages=STAGES).definitions
    graph = definitions.resolve_asset_graph()
    groups = {key.to_user_string(): graph.get(key).group_name for key in graph.get_all_asset_keys()}

    assert groups == {
        "raw_transactions": "bronze",
        "silver_transactions_base": "silver",
        "quarantined_transactions": "silver",
        "card_history": "silver",
        "fraud_isolation_forest": "model",
        "evaluation_metrics": "model",
        "prod_model": "model",
        "fraud_alert_ranker": "model",
        "fraud_predictions": "gold",
        "fraud_alerts": "gold",
        "alert_reviews": "gold",
        "fraud_report": "gold",
    }
    of_stages = {"silver", "landing", "training", "scoring", "history", "review", "ranker", "report"}
    assert {job.name for job in definitions.jobs or []} == {f"{name}_job" for name in of_stages | {"maintenance"}}
    assert {key.name for key in graph.asset_check_keys} == {
        "answers_match_gold",
        "features_match_contract",
        "stored_features_match_contract",
        "rows_are_accounted_for",
        "quarantine_share_is_within_limit",
        "signature_matches_contract",
        "candidate_was_promoted",
        "every_transaction_is_scored_once",
        "every_alert_has_its_score",
    }


def test_the_graph_runs_from_landing_to_gold(make_platform: Callable[..., TestPlatform]) -> None:
    graph = make_platform().definitions.resolve_asset_graph()
    parents = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }

    assert parents == {
        "raw_transactions": set(),
        "silver_transactions_base": {"raw_transactions"},
        "quarantined_transactions": {"raw_transactions"},
        "card_history": {"silver_transactions_base"},
        "fraud_isolation_forest": {"silver_transactions_base"},
        "evaluation_metrics": {"fraud_isolation_forest", "silver_transactions_base"},
        "prod_model": {"evaluation_metrics"},
        "fraud_predictions": {"silver_transactions_base", "prod_model"},
        "fraud_alerts": {"silver_transactions_base", "fraud_predictions"},
        "fraud_alert_ranker": {
            "silver_transactions_base",
            "fraud_predictions",
            "card_history",
            "alert_reviews",
        },
        "alert_reviews": {"fraud_alerts", "silver_transactions_base"},
        "fraud_report": {"fraud_alerts", "alert_reviews", "evaluation_metrics"},
    }


def test_every_asset_says_what_it_is_and_who_owns_it(make_platform: Callable[..., TestPlatform]) -> None:
    graph = make_platform().definitions.resolve_asset_graph()

    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description, key
        assert node.owners, key
        assert node.kinds, key
        assert not node.is_materializable or node.backfill_policy == dg.BackfillPolicy.single_run(), key


def test_every_table_says_where_it_lies(make_platform: Callable[..., TestPlatform]) -> None:
    platform = make_platform()
    specs = {spec.key.to_user_string(): spec for spec in platform.definitions.resolve_all_asset_specs()}
    addresses = {name: spec.metadata.get("dagster/table_name") for name, spec in specs.items()}
    for table in TABLES:
        for name in (name for name, address in addresses.items() if address == table.address):
            uri = specs[name].metadata["dagster/uri"]
            assert uri == f"file://{platform.data_dir}/lake/{table.group}/{table.name}"
    assert {name for name, spec in specs.items() if "dagster/uri" not in spec.metadata} == {"fraud_isolation_forest"}


@pytest.mark.parametrize(("grain", "count", "last"), [("daily", 40, "2026-02-09"), ("hourly", 960, "2026-02-09-23")])
def test_partitions_come_from_the_source_file(
    make_platform: Callable[..., TestPlatform], tmp_path: Path, grain: str, count: int, last: str
) -> None:
    from fraud_assets.silver import source

    packaged = Path(source.__file__).with_name("sources") / "simulated.toml"
    copy = tmp_path / "feed.toml"
    copy.write_text(packaged.read_text().replace('grain = "daily"', f'grain = "{grain}"'))

    graph = make_platform(source=str(copy)).definitions.resolve_asset_graph()
    partitions = graph.get(dg.AssetKey("fraud_predictions")).partitions_def
    assert partitions is not None
    keys = partitions.get_partition_keys()

    assert (len(keys), keys[-1]) == (count, last)


@pytest.mark.parametrize(
    ("partitions", "hours"),
    [
        ('grain = "daily"\nstart = "2026-01-01"', 48),
        ('grain = "hourly"\nstart = "2026-01-01"', 2),
        ('grain = "daily"\nstart = "2026-01-01"\nlate_after_hours = 30', 30),
        ('grain = "daily"\nstart = "2026-01-01"\nend = "2026-02-01"', None),
    ],
)
def test_an_open_feed_that_stops_landing_is_late_and_a_closed_one_never(
    make_platform: Callable[..., TestPlatform], tmp_path: Path, partitions: str, hours: int | None
) -> None:
    from fraud_assets.silver import source

    packaged = (Path(source.__file__).with_name("sources") / "simulated.toml").read_text()
    before, after = packaged.split('grain = "daily"')
    _, _, rest = after.partition("\n\n")
    copy = tmp_path / "feed.toml"
    copy.write_text(f"{before}{partitions}\n\n{rest}")

    policies = {
        spec.key.to_user_string(): spec.freshness_policy
        for spec in make_platform(source=str(copy)).definitions.resolve_all_asset_specs()
        if spec.freshness_policy is not None
    }

    expected = hours and dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=hours))
    assert policies == ({"raw_transactions": expected} if expected else {})
