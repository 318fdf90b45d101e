"""The whole way, as a user goes it: land, run, look; correct, break, and look again."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraud_assets.assets import silver as silver_assets
from fraud_assets.checks.gold import GOLD_CHECKS
from fraud_assets.checks.model import MODEL_CHECKS
from fraud_assets.checks.silver import SILVER_CHECKS
from fraud_assets.resources.lake import Lake, PartitionConflictError
from fraud_assets.resources.models.promotions import apply_decision, decisions
from fraud_assets.resources.models.registry import FILES_TAG, SILVER_DATA_TAG, AnotherFeedError
from fraud_assets.resources.models.version_files import files_digest
from fraud_assets.resources.tables import (
    EVALUATION_METRICS,
    PARTITION_BUILDS,
    PREDICTIONS,
    QUARANTINED_TRANSACTIONS,
    SILVER_TRANSACTIONS,
    Table,
)
from fraud_assets.silver.contract import as_features
from fraud_assets_tests.depth import full_only
from fraud_assets_tests.platform import TestPlatform

MakePlatform = Callable[..., TestPlatform]

SIX_DAYS = [f"2026-01-0{day}" for day in range(1, 7)]


def test_a_first_run_takes_a_feed_from_landing_to_gold(scored_platform: TestPlatform) -> None:
    state = scored_platform.state()

    assert list(state.landed) == SIX_DAYS
    assert state.prod_version == "1"
    assert {key: gold.rows for key, gold in state.gold.items()} == {
        key: silver.rows for key, silver in state.silver.items()
    }
    assert {gold.of["model_version"] for gold in state.gold.values()} == {"1"}
    [(landed, silver, quarantined)] = scored_platform.rows(
        "SELECT sum(landed_rows), sum(silver_rows), sum(quarantined_rows) FROM {builds}", builds=PARTITION_BUILDS
    )
    assert landed == silver + quarantined
    assert scored_platform.rows("SELECT count(*) FROM {t}", t=SILVER_TRANSACTIONS) == [(silver,)]
    assert scored_platform.rows("SELECT count(*) FROM {t}", t=QUARANTINED_TRANSACTIONS) == [(quarantined,)]
    assert quarantined > 0


def test_a_second_run_finds_nothing_due(scored_platform: TestPlatform) -> None:
    assert scored_platform.plan().due == ()
    assert scored_platform.run() == []


def test_gold_equals_pyfunc_and_the_pipeline_to_the_bit(scored_platform: TestPlatform) -> None:
    registry = scored_platform.model_registry
    with scored_platform.lake.connect() as connection:
        joined = connection.sql(
            f"SELECT silver.*, fraud_score, is_anomaly, score_percentile "
            f"FROM {scored_platform.lake.select(SILVER_TRANSACTIONS)} AS silver "
            f"JOIN {scored_platform.lake.select(PREDICTIONS)} AS gold USING (partition_key, TransactionID)"
        ).df()
    features = as_features(joined)
    with registry.as_mlflow_default():
        import mlflow

        predicted = mlflow.pyfunc.load_model("models:/fraud_isolation_forest@prod").predict(features)
    decided = -registry.load_pipeline("1").decision_function(features)

    np.testing.assert_array_equal(joined["fraud_score"], predicted["fraud_score"])
    np.testing.assert_array_equal(joined["is_anomaly"], predicted["is_anomaly"])
    np.testing.assert_array_equal(joined["fraud_score"], decided)
    assert 0.005 < joined["is_anomaly"].mean() < 0.1
    assert joined["score_percentile"].between(0, 1).all()


def test_a_correction_redoes_only_what_depends_on_it(scored_platform: TestPlatform) -> None:
    before = scored_platform.state()
    [day] = scored_platform.simulate(1, start=date(2026, 1, 3), dirt=True)
    lines = day.read_text().splitlines(keepends=True)
    day.write_text("".join([lines[0], *lines[2:]]))

    steps = scored_platform.run()

    after = scored_platform.state()
    assert [(step.request.stage, step.request.keys) for step in steps] == [
        ("silver", ("2026-01-03",)),  # and Gold with it
    ]
    assert [key for key in SIX_DAYS if before.silver[key] != after.silver[key]] == ["2026-01-03"]
    assert after.silver["2026-01-03"].rows == before.silver["2026-01-03"].rows - 1


def test_rows_landed_late_near_midnight_make_the_next_day_due(scored_platform: TestPlatform) -> None:
    before = scored_platform.state()
    [day] = scored_platform.simulate(1, start=date(2026, 1, 3), dirt=True)
    header, first, *_ = day.read_text().splitlines()
    columns = dict(zip(header.split(","), first.split(","), strict=True))
    late = columns | {"TransactionID": "late", "TransactionDT": str(86_400 * 4 - 60), "isFraud": ""}
    (day.parent / "late.csv").write_text(f"{header}\n{','.join(late.values())}\n")

    steps = scored_platform.run()

    after = scored_platform.state()
    assert [step.request.keys for step in steps if step.request.stage == "silver"] == [
        ("2026-01-03",),
        ("2026-01-04",),
    ]
    assert after.silver["2026-01-04"].of["lookback_version"] == after.silver["2026-01-03"].of["tail_version"]
    assert before.silver["2026-01-04"].of["silver_version"] == after.silver["2026-01-04"].of["silver_version"]
    changed = [key for key in SIX_DAYS if before.gold[key] != after.gold[key]]
    assert changed == ["2026-01-03"]


def test_a_correction_is_scored_by_the_version_that_scored_the_day_first(scored_platform: TestPlatform) -> None:
    result = scored_platform.definitions.resolve_job_def("training_job").execute_in_process(
        instance=scored_platform.instance,
        run_config={"ops": {"fraud_isolation_forest": {"config": {"random_state": 7}}}},
    )
    assert result.success
    apply_decision(
        scored_platform.lake,
        scored_platform.model_registry,
        "2",
        move="promoted",
        decided_by="a test",
        reason="to move @prod",
        provenance={},
    )
    assert scored_platform.plan().due == ()
    [day] = scored_platform.simulate(1, start=date(2026, 1, 3), dirt=True)
    day.write_text("".join(day.read_text().splitlines(keepends=True)[:-5]))
    scored_platform.simulate(1, start=date(2026, 1, 7))

    scored_platform.run()

    versions = {key: gold.of["model_version"] for key, gold in scored_platform.state().gold.items()}
    assert versions == dict.fromkeys(SIX_DAYS, "1") | {"2026-01-07": "2"}


@full_only("trains once more")
def test_what_a_person_set_is_not_decided_about_again(scored_platform: TestPlatform) -> None:
    training = scored_platform.definitions.resolve_job_def("training_job")
    assert training.execute_in_process(instance=scored_platform.instance).success
    assert scored_platform.model_registry.prod_version() == "2"
    arguments = {"decided_by": "a person", "reason": "version 2 is worse", "provenance": {}}
    apply_decision(scored_platform.lake, scored_platform.model_registry, "1", move="rolled back", **arguments)

    again = dg.Definitions.merge(
        scored_platform.definitions, dg.Definitions(jobs=[dg.define_asset_job("again", selection=["prod_model"])])
    )
    assert again.resolve_job_def("again").execute_in_process(instance=scored_platform.instance).success
    assert scored_platform.model_registry.prod_version() == "1"
    assert len(decisions(scored_platform.lake)) == 3


def test_a_feed_never_takes_the_model_of_another_feed(
    scored_platform: TestPlatform, simulated_source: Callable[..., str]
) -> None:
    other = simulated_source(lambda text: text.replace('name = "simulated"', 'name = "shop"'))

    with pytest.raises(AnotherFeedError, match="was trained on the feed simulated, and this feed is shop"):
        replace(scored_platform, source=other).state()


@full_only("trains once more")
def test_rescore_days_move_the_latest_days_to_the_present_version(scored_platform: TestPlatform) -> None:
    scored_platform.definitions.resolve_job_def("training_job").execute_in_process(instance=scored_platform.instance)
    scored_platform.model_registry.set_prod("2")
    moving = replace(scored_platform, rescore_days=2)

    moving.run()

    versions = [gold.of["model_version"] for _, gold in sorted(moving.state().gold.items())]
    assert versions == ["1", "1", "1", "1", "2", "2"]


def rename_a_column(content: bytes) -> tuple[str, bytes]:
    return "csv", content.replace(b"card1", b"card_one", 1)


def truncate_gzip(content: bytes) -> tuple[str, bytes]:
    return "csv.gz", gzip.compress(content)[:-200]


def truncate_parquet(content: bytes) -> tuple[str, bytes]:
    return "parquet", b"PAR1" + content[:500]


def empty(content: bytes) -> tuple[str, bytes]:
    return "csv", b""


def test_broken_files_stop_their_partitions_and_no_other(make_platform: MakePlatform) -> None:
    platform = make_platform()
    broken = {}
    for day, break_it in zip(
        platform.simulate(6)[1:5], [rename_a_column, truncate_gzip, truncate_parquet, empty], strict=True
    ):
        suffix, content = break_it(day.read_bytes())
        broken[day.parent.name] = f"{day.parent.name}/broken.{suffix}"
        day.unlink()
        (day.parent / f"broken.{suffix}").write_bytes(content)

    [step, *_] = platform.run()

    assert step.request.keys == tuple(SIX_DAYS)
    assert [key for key, file in broken.items() if file in step.problem] == SIX_DAYS[1:5]
    assert sorted(platform.state().silver) == [SIX_DAYS[0], SIX_DAYS[5]]


def test_the_last_good_version_of_a_partition_stays_when_its_correction_is_broken(
    scored_platform: TestPlatform,
) -> None:
    before = scored_platform.state()
    (scored_platform.landing_zone.folder / "2026-01-03" / "worse.csv").write_text("no,such,columns\n1,2,3\n")

    [step] = scored_platform.run()

    assert "worse.csv" in step.problem
    assert scored_platform.state().silver == before.silver
    assert scored_platform.state().gold == before.gold


def test_a_partition_without_a_good_row_is_built_once(make_platform: MakePlatform) -> None:
    platform = make_platform()
    only_bad, header_only = platform.simulate(2)
    [no_rows] = platform.simulate(1, start=date(2026, 1, 3), format="parquet")
    header, first, *_ = only_bad.read_text().splitlines()
    columns = dict(zip(header.split(","), first.split(","), strict=True))
    only_bad.write_text(f"{header}\n{','.join((columns | {'TransactionAmt': 'n/a'}).values())}\n")
    header_only.write_text(f"{header}\n")
    pq.write_table(pq.ParquetFile(no_rows).read().slice(0, 0), no_rows)

    [step] = platform.run()

    assert step.problem == ""
    assert platform.plan().due == ()
    assert [state.rows for _, state in sorted(platform.state().silver.items())] == [0, 0, 0]
    assert platform.rows("SELECT reasons FROM {t}", t=QUARANTINED_TRANSACTIONS) == [(["unreadable_TransactionAmt"],)]


def test_features_that_break_the_contract_are_never_stored(
    make_platform: MakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = make_platform()
    platform.simulate(3)
    real = silver_assets.build_partition

    def faulty(connection: Any, source: Any, key: str, *args: Any, **kwargs: Any) -> Any:
        build = real(connection, source, key, *args, **kwargs)
        if key != "2026-01-02":
            return build
        connection.execute("CREATE OR REPLACE TEMP TABLE made AS FROM featured_transactions")
        connection.execute(
            "CREATE OR REPLACE TEMP VIEW featured_transactions AS"
            " SELECT * REPLACE (0::BIGINT AS txn_count_5min) FROM made"
        )
        return build

    monkeypatch.setattr(silver_assets, "build_partition", faulty)
    result = platform.definitions.resolve_job_def("silver_job").execute_in_process(
        instance=platform.instance,
        tags={
            "dagster/asset_partition_range_start": "2026-01-01",
            "dagster/asset_partition_range_end": "2026-01-03",
        },
        raise_on_error=False,
    )

    checks = {event.check_name: event.passed for event in result.get_asset_check_evaluations()}
    assert not result.success
    assert checks["features_match_contract"] is False
    made = platform.instance.get_materialized_partitions(dg.AssetKey("silver_transactions_base"))
    assert made == {"2026-01-01", "2026-01-03"}
    assert sorted(platform.state().silver) == ["2026-01-01", "2026-01-03"]
    assert platform.rows("SELECT DISTINCT partition_key FROM {t} ORDER BY 1", t=PARTITION_BUILDS) == [
        ("2026-01-01",),
        ("2026-01-03",),
    ]


@pytest.mark.parametrize(("conflicts", "succeeds"), [(1, True), (2, True), (3, False)])
def test_a_partition_that_another_run_wrote_meanwhile_is_made_anew(
    make_platform: MakePlatform, monkeypatch: pytest.MonkeyPatch, conflicts: int, succeeds: bool
) -> None:
    platform = make_platform()
    platform.simulate(1)
    left = [conflicts]
    real = Lake.replace_partitions

    def contended(lake: Lake, table: Any, *args: Any, **kwargs: Any) -> int:
        if table is SILVER_TRANSACTIONS and left[0]:
            left[0] -= 1
            raise PartitionConflictError("another run wrote it meanwhile")
        return real(lake, table, *args, **kwargs)

    monkeypatch.setattr(Lake, "replace_partitions", contended)
    result = platform.definitions.resolve_job_def("silver_job").execute_in_process(
        instance=platform.instance, partition_key="2026-01-01", raise_on_error=False
    )

    assert result.success is succeeds
    assert list(platform.state().silver) == (["2026-01-01"] if succeeds else [])


def test_a_run_shows_readers_what_it_wrote(make_platform: MakePlatform) -> None:
    platform = make_platform()
    platform.simulate(1)

    platform.definitions.resolve_job_def("silver_job").execute_in_process(
        instance=platform.instance, partition_key="2026-01-01"
    )

    assert platform.lake.views_are_current()


def run_checks(platform: TestPlatform) -> dict[str, bool]:
    claims = [*SILVER_CHECKS, *MODEL_CHECKS, *GOLD_CHECKS]
    job = dg.define_asset_job("checks", selection=dg.AssetSelection.checks(*claims))
    definitions = dg.Definitions.merge(platform.definitions, dg.Definitions(jobs=[job]))
    result = definitions.resolve_job_def("checks").execute_in_process(instance=platform.instance, raise_on_error=False)
    return {event.check_name: event.passed for event in result.get_asset_check_evaluations()}


def replaced(table: Table, change: str) -> Callable[[TestPlatform], None]:
    """Return what stores other rows of one day, as something that is not ours might."""

    def store(platform: TestPlatform) -> None:
        with platform.lake.connect() as connection:
            changed = connection.sql(change.format(rows=platform.lake.select(table, keys=["2026-01-02"])))
            rows = pa.Table.from_batches(
                [pa.record_batch(batch.columns, schema=table.schema) for batch in changed.to_arrow_reader()],
                schema=table.schema,
            )
        platform.lake.replace_partition(table, "2026-01-02", rows, provenance={})

    return store


def sign_otherwise(platform: TestPlatform) -> None:
    """Make the version one of another contract, registered as ours are."""
    registry = platform.model_registry
    [model] = (platform.data_dir / "mlflow").rglob("MLmodel")
    text = model.read_text()
    model.write_text(text.replace('"long"', '"integer"', 1))
    assert model.read_text() != text
    registry._client().set_model_version_tag(registry.model_name, "1", FILES_TAG, files_digest(model.parent))


FAULTS = {
    "stored_features_match_contract": replaced(
        SILVER_TRANSACTIONS, "SELECT * REPLACE (-1.0::DOUBLE AS avg_amount_5min) FROM {rows}"
    ),
    "rows_are_accounted_for": replaced(QUARANTINED_TRANSACTIONS, "FROM {rows} LIMIT 0"),
    "quarantine_share_is_within_limit": lambda platform: None,  # the limit is another
    "signature_matches_contract": sign_otherwise,
    "every_transaction_is_scored_once": replaced(PREDICTIONS, "FROM {rows} UNION ALL (FROM {rows} LIMIT 1)"),
}


def test_the_checks_of_what_is_stored_hold(scored_platform: TestPlatform) -> None:
    assert run_checks(scored_platform) == dict.fromkeys(FAULTS, True)


@pytest.mark.parametrize("check", FAULTS)
def test_each_check_of_what_is_stored_fails_for_its_own_fault_alone(scored_platform: TestPlatform, check: str) -> None:
    FAULTS[check](scored_platform)
    limit = 0.0 if check == "quarantine_share_is_within_limit" else scored_platform.quarantine_limit

    passed = run_checks(replace(scored_platform, quarantine_limit=limit))

    assert passed == dict.fromkeys(FAULTS, True) | {check: False}


def without_labels(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if not line.startswith("isFraud"))


@pytest.fixture
def simulated_source(tmp_path: Path) -> Callable[..., str]:
    """Write a changed copy of the packaged source and return its path."""

    def write(change: Callable[[str], str]) -> str:
        from fraud_assets.silver import source

        packaged = Path(source.__file__).with_name("sources") / "simulated.toml"
        path = tmp_path / "changed.toml"
        path.write_text(change(packaged.read_text()))
        return str(path)

    return write


def test_what_a_training_sees_is_not_less_where_the_source_ends_earlier(
    scored_platform: TestPlatform, simulated_source: Callable[..., str]
) -> None:
    shorter = simulated_source(lambda text: text.replace('end = "2026-02-10"', 'end = "2026-01-04"'))

    state = replace(scored_platform, source=shorter).state()

    assert len(state.silver) < len(scored_platform.state().silver)
    assert state.silver_data_digest == scored_platform.model_registry.version_tags("1")[SILVER_DATA_TAG]


@full_only("trains by itself")
def test_a_feed_without_labels_is_scored_and_its_quality_is_not_measurable(
    make_platform: MakePlatform, simulated_source: Callable[..., str]
) -> None:
    platform = make_platform(source=simulated_source(without_labels))
    platform.simulate(4)

    assert [step.problem for step in platform.run()] == ["", "", ""]

    metrics = platform.rows(
        "SELECT DISTINCT value, not_measurable FROM {t} WHERE metric = 'roc_auc'", t=EVALUATION_METRICS
    )
    assert metrics == [(None, "no row has a label")]
    assert platform.state().prod_version == "1"
    assert "not measurable" in decisions(platform.lake)[0]["reason"]


def test_a_changed_source_makes_its_partitions_due_and_says_so(
    scored_platform: TestPlatform, simulated_source: Callable[..., str]
) -> None:
    source = simulated_source(lambda text: text.replace("high_value_amount = 500", "high_value_amount = 400"))
    changed = replace(scored_platform, source=source)

    plan = changed.plan()

    assert {due.why for due in plan.due} == {"source file changed"}
    assert [due.key for due in plan.due] == SIX_DAYS


@full_only("24 partitions")
def test_an_hourly_feed_goes_the_same_way(make_platform: MakePlatform, simulated_source: Callable[..., str]) -> None:
    platform = make_platform(source=simulated_source(lambda text: text.replace('grain = "daily"', 'grain = "hourly"')))
    days = make_platform(source="simulated").simulate(1, rows_per_day=1500)
    landed_elsewhere = days[0].rename(platform.data_dir.parent / "day.csv")
    with platform.lake.connect() as connection:
        pieces = platform.landing_zone.land(connection, landed_elsewhere).pieces
    days[0].parent.rmdir()

    assert [step.problem for step in platform.run()] == ["", "", ""]

    state = platform.state()
    assert len(pieces) == len(state.silver) == len(state.gold) == 24
    assert sorted(state.gold)[5] == "2026-01-01-05"
    assert platform.plan().due == ()


def test_too_few_rows_to_train_on_is_said_with_what_to_do(make_platform: MakePlatform) -> None:
    platform = make_platform()
    platform.simulate(2, rows_per_day=20)

    *_, training = platform.run()

    assert training.request.stage == "model"
    assert "rows are too few to train on" in training.problem
    assert "fraud-assets land" in training.problem
    assert platform.state().prod_version is None


@full_only("trains three times")
def test_a_refused_first_candidate_is_not_trained_again_until_silver_changes(
    make_platform: MakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fraud_assets.model import promotion

    platform = make_platform()
    platform.simulate(4)
    monkeypatch.setattr(promotion, "ALERT_DRIFT_BAND", (25.0, 28.0))

    steps = platform.run()

    assert "was refused" in steps[-1].problem
    assert "fraud-assets promote 1" in steps[-1].problem
    assert platform.run() == []
    assert [row["decision"] for row in decisions(platform.lake)] == ["refused"]
    platform.simulate(1, start=date(2026, 1, 5))
    assert [due.why for due in platform.plan().due if due.stage == "silver"] == ["landed, not built yet"]
    assert [step.request.stage for step in platform.run()] == ["silver", "model"]


def test_materializing_gold_without_silver_names_the_command_that_helps(scored_platform: TestPlatform) -> None:
    scored_platform.simulate(1, start=date(2026, 1, 8))

    result = scored_platform.definitions.resolve_job_def("scoring_job").execute_in_process(
        instance=scored_platform.instance, partition_key="2026-01-08", raise_on_error=False
    )

    assert not result.success
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert "`fraud-assets run`" in str(failure.step_failure_data.user_failure_data)
