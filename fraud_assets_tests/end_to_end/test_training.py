"""Training and promotion as a reviewer asks about them: which data, which code, why this version, what if it is bad."""

from datetime import date
from typing import Any

import dagster as dg

from fraud_assets.resources.promotions import decisions, roll_back
from fraud_assets.resources.tables import PREDICTIONS
from fraud_assets_tests.platform import TestPlatform


def train(platform: TestPlatform, **config: Any) -> dg.ExecuteInProcessResult:
    """Run the training job as the UI does, whatever comes of it."""
    return platform.definitions.resolve_job_def("training_job").execute_in_process(
        instance=platform.instance,
        run_config={"ops": {"fraud_isolation_forest": {"config": config}}},
        raise_on_error=False,
    )


def shown(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """What the asset's page shows of the run."""
    [event] = [
        event for event in result.all_events if event.is_step_materialization and event.asset_key == dg.AssetKey(asset)
    ]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_the_same_trees_with_another_threshold_are_a_version_like_any_other(scored_platform: TestPlatform) -> None:
    registry = scored_platform.model_registry

    result = train(scored_platform, same_trees_as="1", alert_share=0.01)

    assert result.success
    [first, second] = registry.versions()
    of_trees = {"threshold", "alert_share", "files_digest", "dagster_run_id", "same_trees_as"}
    kept = {name: value for name, value in first.tags.items() if name not in of_trees}
    assert kept == {name: value for name, value in second.tags.items() if name not in of_trees}
    assert {"train_start", "training_data_version", "silver_table_version", "scikit_learn_version"} <= set(kept)
    assert (second.tags["same_trees_as"], second.tags["alert_share"]) == ("1", "0.01")
    assert registry.training_distribution("2") == registry.training_distribution("1")
    assert registry.prod_version() == "2"  # evaluated, and promoted by the same gate
    assert decisions(scored_platform.lake)[0]["decided_by"] == "gate"

    # The asset, the Dagster run and the MLflow run name one another.
    metadata = shown(result, "fraud_isolation_forest")
    assert second.run_id is not None
    run = registry._client().get_run(second.run_id)
    dagster_run = scored_platform.instance.get_run_by_id(result.run_id)
    assert dagster_run is not None
    assert metadata["mlflow_run_id"] == dagster_run.tags["fraud_assets/mlflow_run_id"] == second.run_id
    assert run.data.tags["dagster_run_id"] == second.tags["dagster_run_id"] == result.run_id
    assert metadata["threshold"] == float(second.tags["threshold"]) > 0.0
    assert run.data.params["training_data_version"] == metadata["training_data_version"]
    [data] = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == (
        "silver.silver_transactions_base",
        second.tags["training_data_version"],
    )
    assert [(tag.key, tag.value) for tag in data.tags] == [("mlflow.data.context", "training")]

    # Gold follows: same scores, fewer anomalies.
    anomalies = "SELECT sum(fraud_score), count(*) FILTER (is_anomaly) FROM {t} WHERE partition_key = '2026-01-03'"
    [before] = scored_platform.rows(anomalies, t=PREDICTIONS)
    scoring = scored_platform.definitions.resolve_job_def("scoring_job")
    assert scoring.execute_in_process(instance=scored_platform.instance, partition_key="2026-01-03").success
    [after] = scored_platform.rows(anomalies, t=PREDICTIONS)
    assert after[0] == before[0]
    assert 0 < after[1] < before[1]


def test_a_refused_candidate_fails_a_check_that_says_why_and_prod_stays(scored_platform: TestPlatform) -> None:
    registry = scored_platform.model_registry
    [unlabelled] = scored_platform.simulate(1, start=date(2026, 1, 7))
    header, *rows = unlabelled.read_text().splitlines()
    label = header.split(",").index("isFraud")
    blank = [",".join([*row.split(",")[:label], "", *row.split(",")[label + 1 :]]) for row in rows]
    unlabelled.write_text("\n".join([header, *blank]))
    scored_platform.run()

    result = train(scored_platform, evaluation_share=0.15, max_rows=1_000)

    assert result.success
    [check] = [check for check in result.get_asset_check_evaluations() if check.check_name == "candidate_was_promoted"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "not measurable" in str(check.metadata["reason"].value)
    assert registry.prod_version() == "1"
    assert [row["decision"] for row in decisions(scored_platform.lake)] == ["refused", "promoted"]
    tags, silver = registry.version_tags("2"), scored_platform.state().silver
    available = sum(state.rows for key, state in silver.items() if key <= tags["train_end"] == "2026-01-06")
    assert (tags["training_rows"], tags["available_rows"]) == ("1000", str(available))


def test_an_alias_moved_in_mlflow_scores_next_and_is_recorded_with_the_next_decision(
    scored_platform: TestPlatform,
) -> None:
    registry = scored_platform.model_registry
    [day] = scored_platform.simulate(1, start=date(2026, 1, 2), dirt=True)
    header, _, *rows = day.read_text().splitlines(keepends=True)
    day.write_text("".join([header, *rows]))
    scored_platform.run()
    assert train(scored_platform, random_state=7).success
    assert registry.prod_version() == "2"
    one, two = registry.version_tags("1"), registry.version_tags("2")
    assert int(two["training_rows"]) == int(one["training_rows"]) - 1
    assert one["training_data_version"] != two["training_data_version"]  # one row less is other data
    registry._client().set_registered_model_alias(registry.model_name, "prod", "1")
    scored_platform.simulate(1, start=date(2026, 1, 7))

    scored_platform.run()

    assert scored_platform.state().gold["2026-01-07"].model_version == "1"
    moved = roll_back(scored_platform.lake, registry, decided_by="ana", reason="back", provenance={})
    assert (moved.version, moved.previous) == ("2", "1")
    assert [(row["decision"], row["model_version"], row["decided_by"]) for row in decisions(scored_platform.lake)] == [
        ("rolled back", "2", "ana"),
        ("promoted", "1", "unknown"),
        ("promoted", "2", "gate"),
        ("promoted", "1", "gate"),
    ]
